#!/usr/bin/env python3
"""balancer/beat.lua and its twin in C, test/sim/group.c, must agree: the simulator proves what it
proves about the script only if they do.

    test/sim/lua_agree.py [--sequences N] [--first SEED]

Random sequences of beats, repeated beats, losses, forged records, flushes and steps of the clock go
through both, the script in a redis-server of its own (Redis TIME is replaced by a key, nothing
else is), and every answer is compared. Ends with "lua_agree: N sequences agree", or shows where
they first differ and exits 1.
"""

import argparse
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BEATS, NODES = 120, 60
NAMES = ("epoch", "records", "flight", "meta", "away", "lost", "lost_n", "stat")
KEYS = [f"{{sim}}{name}" for name in NAMES]
CLOCK = "{sim}clock"


class Redis:
    """As much of the protocol as EVALSHA, SET and FLUSHALL need."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.reader = self.socket.makefile("rb")

    def call(self, *words):
        words = [str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"".join(parts))
        return self.reply()

    def reply(self):
        line = self.reader.readline()
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise RuntimeError(rest)
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if int(rest) < 0 else self.reader.read(int(rest) + 2)[:-2].decode()
        return [self.reply() for _ in range(int(rest))]


class Script:
    """The store as the hub uses it."""

    def __init__(self, redis):
        self.redis = redis
        text = (ROOT / "balancer/beat.lua").read_text()
        assert text.count("call('TIME')") == 1
        text = text.replace("call('TIME')", f"call('LRANGE', '{CLOCK}', 0, -1)")
        self.sha = redis.call("SCRIPT", "LOAD", text)

    def begin(self, setting):
        self.setting = setting
        self.redis.call("FLUSHALL")

    def flush(self):
        self.redis.call("FLUSHALL")

    def forge(self, now_ms, name, live, weight):
        self.redis.call("HSET", KEYS[1], name, f"{now_ms} {now_ms} 0 0 {live} 1 {weight} 0 1 2 0")

    def beat(self, now_us, name, b):
        self.redis.call("DEL", CLOCK)
        self.redis.call("RPUSH", CLOCK, now_us // 1000000, now_us % 1000000)
        period, timeout, ppm, per_hour = self.setting
        payload = f"1 {b['weight']} {b['room']} {b['state']} 2 {b['full']}"
        nodes = b["arrived"] + b["released"] + b["refused"]
        answer = self.redis.call(
            "EVALSHA", self.sha, len(KEYS), *KEYS, name, b["seq"], b["acked"], b["quiet"], period,
            timeout, b["live"], payload, b["full"], b["leaving"], b["want"], ppm, per_hour,
            b["counts"], b["lost"], b["unnamed"], b["nonce"], 0, 0, 1000, len(b["arrived"]),
            len(b["released"]), len(b["refused"]), b["bridged"], *(f"n{n:04}" for n in nodes), *b["ages"])
        return self.told(answer)

    @staticmethod
    def told(answer):
        now, epoch, named, anonymous, own, grant, landed, full, bad, records, moved, listed, metas = answer
        since, nonce = epoch.split()
        numbers = [now, nonce, since, named, anonymous, own, grant, landed, full, bad]
        told = []
        for name, value in zip(records[::2], records[1::2]):
            seen, born, seq, granted, live, *payload = value.split()
            told.append((name.split("/")[0], int(born), ":".join(
                [name, seen, born, seq, granted, live, *payload])))
        flights = []
        for node, deadline, meta in zip(listed[::2], listed[1::2], metas):
            refusals, bridged, donor = meta.split()
            flights.append(f"{int(node[1:])}:{deadline}:{refusals}:{bridged}:{donor}")
        return ([int(n) for n in numbers], sorted(record[2] for record in told),
                sorted(moved), flights)


class Model:
    """The twin."""

    def __init__(self):
        program = pathlib.Path(os.environ.get("B", ROOT / "build")) / "balance-sim"
        self.process = subprocess.Popen([program, "--model"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def say(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def begin(self, setting):
        self.say("init", *setting, NODES)
        self.members = {}

    def flush(self):
        self.say("flush")

    def forge(self, now_ms, name, live, weight):
        self.say("forge", now_ms, *name.split("/"), live, weight)

    def beat(self, now_us, name, b):
        if name not in self.members:
            self.say("join", *name.split("/"))
            self.members[name] = self.process.stdout.readline().strip()
        nodes = b["arrived"] + b["released"] + b["refused"]
        self.say("beat", now_us, self.members[name], b["seq"], b["acked"], b["quiet"], b["live"], 1,
                 b["weight"], b["room"], b["state"], 2, b["full"], b["leaving"], b["want"],
                 b["counts"], b["lost"], b["unnamed"], b["nonce"], b["bridged"], len(b["arrived"]),
                 len(b["released"]), len(b["refused"]), *nodes, *b["ages"])
        numbers, records, moved, flights = self.process.stdout.readline().split("|")
        return ([int(n) for n in numbers.split()], sorted(records.split()),
                [int(n) for n in moved.split()], flights.split())


class Replica:
    def __init__(self, name):
        self.name, self.seq, self.acked, self.acked_at, self.last = name, 0, 0, 0, None


def some(rng, most):
    return rng.sample(range(NODES), rng.randrange(most)) if rng.random() < 0.5 else []


def next_beat(rng, replica, now_ms):
    """A new report, or, when the last answer got lost, the same once more."""
    if not replica.last or replica.acked == replica.seq:
        replica.seq += 1
        replica.last = {
            "live": rng.randrange(200), "weight": rng.randrange(1, 5) * 50,
            "room": rng.randrange(1000), "state": rng.randrange(3), "full": rng.randrange(2),
            "want": rng.choice((0, 1, 7, 300)), "counts": int(rng.random() < 0.8),
            "lost": rng.choice((0, 0, 0, 1, 9)), "unnamed": rng.choice((0, 0, 0, 1, 4)),
            "bridged": rng.randrange(12), "arrived": some(rng, 12), "released": some(rng, 12),
            "refused": some(rng, 6), "leaving": int(rng.random() < 0.02)}
        replica.last["ages"] = [rng.randrange(7000) for _ in replica.last["released"]]
    return dict(replica.last, seq=replica.seq, acked=replica.acked,
                quiet=now_ms - replica.acked_at, nonce=rng.randrange(1, 1 << 40))


def run(seed, stores):
    rng = random.Random(seed)
    setting = (5000, rng.choice((90000, 20000)), rng.choice((100000, 500000, 1000000)),
               rng.choice((0, 0, 5, 40)))
    for store in stores:
        store.begin(setting)
    now_ms, step_ms = 1_700_000_000_000 + rng.randrange(5000), 0
    replicas = [Replica(f"r{i % 3}/{i + 1:016x}") for i in range(rng.randrange(1, 6))]
    for number in range(BEATS):
        now_ms += rng.choice((0, 300, 1700, 5000, 5000, 9000, 40000 if rng.random() < 0.1 else 100))
        chance = rng.random()
        if chance < 0.01:
            for store in stores:
                store.flush()
        elif chance < 0.02:
            step_ms += rng.randrange(-20000, 400000)
        elif chance < 0.04:
            skew, live = rng.choice((-30000, 0, 60000)), rng.randrange(100)
            for store in stores:
                store.forge(now_ms + step_ms + skew, f"zz/{number:016x}", live, 100)
        elif chance < 0.06:
            replicas[rng.randrange(len(replicas))] = Replica(f"r{rng.randrange(3)}/{10 + number:016x}")
        replica = rng.choice(replicas)
        beat = next_beat(rng, replica, now_ms)
        sent = (now_ms + step_ms) * 1000 + rng.randrange(1000)
        answers = [store.beat(sent, replica.name, beat) for store in stores]
        if answers[0] != answers[1]:
            print(f"seed {seed}, beat {number} of {replica.name}: {beat}")
            for which, answer in zip(("beat.lua", "group.c"), answers):
                print(f"  {which}:", *answer, sep="\n      ")
            return False
        if beat["leaving"]:
            replicas[replicas.index(replica)] = Replica(f"r{rng.randrange(3)}/{500 + number:016x}")
        elif rng.random() < 0.9:  # else the answer got lost
            replica.acked, replica.acked_at = replica.seq, now_ms
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/redis.sock"
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not os.path.exists(path):
                assert server.poll() is None and time.monotonic() < deadline, "no redis-server"
                time.sleep(0.02)
            stores = (Script(Redis(path)), Model())
            for seed in range(options.first, options.first + options.sequences):
                if not run(seed, stores):
                    sys.exit(1)
        finally:
            server.terminate()
            server.wait()
    print(f"lua_agree: {options.sequences} sequences agree")


if __name__ == "__main__":
    main()
