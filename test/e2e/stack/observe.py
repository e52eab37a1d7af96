"""What watches saw of the nodes: whether each stayed Ready, and how old its lease grew.

Times are those at which an event reached the watch: that is also when the node-lifecycle controller,
which judges by what it sees and when, got to know of it.
"""

from datetime import datetime

from .cluster import ready

# Reasons of Events that say a node was lost or came anew.
LOST = ("NodeNotReady", "NodeNotSchedulable", "Rebooted")


def first_ready(watch, name):
    """When the node was seen Ready for the first time."""
    return next(when for when, _, node in watch.of(name) if ready(node) == "True")


def not_ready(watch, name, since):
    """(when, status) of each event after `since` that did not show the node Ready."""
    return [(when, ready(node)) for when, _, node in watch.of(name)
            if when >= since and ready(node) != "True"]


def lost_events(watch, names, since):
    """(node, reason) of the Events after `since` that say a node was lost."""
    return [(event["involvedObject"]["name"], event["reason"]) for when, _, event in list(watch.events)
            if when > since and event["involvedObject"]["name"] in names and event["reason"] in LOST]


def renewals(watch, name):
    """(when it was seen, the date in it) of each renewal of the node's lease."""
    seen = []
    for when, _, lease in watch.of(name):
        if "renewTime" not in lease["spec"]:
            continue
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"].replace("Z", "+00:00")).timestamp()
        # The controller takes only a later date for a renewal.
        if not seen or renewed > seen[-1][1]:
            seen.append((when, renewed))
    return seen


def renewal_gaps(watch, name, since, slack):
    """Seconds between renewals, as they were dated and as they reached the API server; the larger
    of the two for each. The first gap may begin `slack` seconds before `since`."""
    seen = [renewal for renewal in renewals(watch, name) if renewal[0] > since - slack]
    return [max(b[0] - a[0], b[1] - a[1]) for a, b in zip(seen, seen[1:])]


def oldest_lease(watch, name, since, until):
    """The greatest age, in seconds, that the node's lease reached between two moments."""
    seen = [when for when, _ in renewals(watch, name)]
    before = [when for when in seen if when <= since]
    moments = before[-1:] + [when for when in seen if since < when <= until] + [until]
    if len(moments) == 1:
        return until - since
    return max(b - a for a, b in zip(moments, moments[1:]))
