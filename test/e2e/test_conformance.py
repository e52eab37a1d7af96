"""CloudCore and Isthmus are asked the same questions on the same API server.

What they answer differently is in docs/compatibility.md, each with its reason; the test fails for a
difference that is not there, for one that is there and is none any more, and for one that changed.
"""

import concurrent.futures
import os

import pytest

from stack.asker import Asker, differing
from stack.hub import CloudCore
from stack.questions import NAMESPACE, questions

# Its CloudCore leaves the Secrets of a CA that is not made for joining.
pytestmark = [pytest.mark.cloudcore, pytest.mark.disturbs]

DOCUMENT = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "compatibility.md")


@pytest.fixture(scope="module", name="answers")
def both_answer(cluster, hub, authority, peers, log_dir):
    """{question: {"cloudcore": (said, whole), "isthmus": (said, whole)}}"""
    admin = cluster.admin
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "elsewhere"}})
    # Also what is off by default, so that it is seen what it would answer.
    original = CloudCore(peers, cluster, authority, log_dir,
                         modules=["dynamicController", "router", "taskManager", "deviceController"])
    try:
        original.start()
        asked = {"cloudcore": original, "isthmus": hub}
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running = {name: pool.submit(ask_all, Asker(each, authority, f"conf-{name}", "elsewhere", admin))
                       for name, each in asked.items()}
            answers = {name: future.result() for name, future in running.items()}
    finally:
        original.stop()
    return {question.id: {name: answers[name][question.id] for name in answers} for question in questions()}


def ask_all(asker):
    asker.reconnect()
    try:
        return {question.id: asker.ask(question) for question in questions()}
    finally:
        asker.close()


def differences(answers):
    """{question: (CloudCore said, Isthmus said)} of those that differ; equal words get the paths
    at which the answers differ."""
    found = {}
    for question, each in answers.items():
        (one, first), (other, second) = each["cloudcore"], each["isthmus"]
        if one != other:
            found[question] = (one, other)
        elif paths := differing(first, second):
            found[question] = (one, f"{other}, with another {', '.join(paths)}")
    return found


def documented():
    """{question: (CloudCore says, Isthmus says)} of the table in the document."""
    rows = {}
    with open(DOCUMENT, encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if line.startswith("| ") and len(cells) == 4 and cells[0] != "question":
                assert cells[3], f"{cells[0]}: no reason"
                rows[cells[0]] = (cells[1], cells[2])
    return rows


def test_differences_are_the_documented_ones(answers):
    found = differences(answers)
    print(f"{len(answers)} questions, {len(answers) - len(found)} answered alike")
    for question, (one, other) in found.items():
        print(f"| {question} | {one} | {other} |")
    assert found == documented()
