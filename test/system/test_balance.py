"""Balancing by real processes: hubs behind HAProxy, redis-server, simulated edges, and what happens to a cluster in its life.
Each scenario has its outcome: the load is even again, with how many moves; or nothing is released; or it is futile, and said so.
In planned moves no lease, read at the API server, grows older than the 40 s after which a node counts as NotReady.

Everything that has to do with time runs ten times as fast; --long does it all in real time as well."""

import math
import signal
import time

import pytest

from lab.balancing import Cluster, Redis
from lab.processes import wait_until

NODES = 60
REFUSALS = 3
GRACE_S = 40

pytestmark = pytest.mark.timing


@pytest.fixture(params=[10, pytest.param(1, marks=pytest.mark.long)], ids=["fast", "real-time"])
def scale(request):
    return request.param


@pytest.fixture
def cluster(lab, scale):
    made = []

    def make(replicas, *flags, nodes=NODES, **options):
        made.append(Cluster(lab, replicas, nodes, scale, *flags, **options))
        return made[-1]
    yield make
    for each in made:
        each.end()


def tell(cluster, what, moves, minimum, bound):
    ratio = moves / minimum if minimum else 0
    print(f"{what}: {moves} moves, at least {minimum} were needed ({ratio:.2f}, allowed {bound:.2f}); "
          f"oldest lease {cluster.oldest_lease_s():.1f} s; {cluster.live()}")


def expect_moves(cluster, what, moves, minimum, bound=1.1):
    tell(cluster, what, moves, minimum, bound)
    assert moves <= math.ceil(minimum * bound), f"{moves} moves for {minimum}"
    assert moves >= 0.9 * minimum  # within the tolerance nobody moves


def expect_young_leases(cluster):
    """No older than the grace, plus what the machine itself stood still for, four waits in a row."""
    leases, stall_s = cluster.devapi.leases(), cluster.stalls.worst_s * cluster.scale
    print(f"oldest lease {cluster.oldest_lease_s():.1f} s, the machine stood still for up to {stall_s:.1f} s of edge time")
    assert leases["leases"] == cluster.nodes
    assert cluster.oldest_lease_s() <= GRACE_S + 4 * stall_s, leases


def round_robin_bound(donors, replicas):
    """A released node may land at a donor again, and is refused there a few times."""
    return 1.1 / (1 - (donors / replicas) ** (1 + REFUSALS))


def lose_and_bring_back(cluster, hub):
    """kill -9, and a new start when its nodes have settled elsewhere."""
    cluster.kill(hub)
    cluster.wait_ready()
    cluster.wait_even("the others share what it had")
    before = cluster.released()
    hub.start()
    return before


# ---- replicas come and go ----

def test_kill_one_of_three_and_start_it_again(cluster):
    c = cluster(3)
    c.wait_calm()
    before = lose_and_bring_back(c, c.hubs[1])
    c.wait_even("three again")
    expect_moves(c, "leastconn, one was killed", c.released() - before, NODES // 3)
    assert max(c.live().values()) <= 21, c.live()
    c.wait_ready()
    c.settle()


def test_one_that_is_back_at_once_costs_no_move(cluster):
    c = cluster(3)
    c.wait_calm()
    before = c.released() - c.balance(c.hubs[1])["counters"]["released"]
    c.kill(c.hubs[1])
    c.hubs[1].start()
    c.wait_ready()
    c.wait_even("its nodes came back to it")
    assert c.released() - before <= 1, c.live()


def test_add_a_fourth(cluster):
    c = cluster(3, spare=1)
    c.wait_calm()
    c.reset_leases()
    before = c.released()
    c.hubs[3].start()
    c.wait_even("four")
    expect_moves(c, "leastconn, a fourth", c.released() - before, NODES // 4)
    c.wait_ready()
    expect_young_leases(c)
    c.settle()


def test_rolling_restart(cluster):
    """Each replica drains, ends and comes back; in the end everything is as it was, and nobody has missed anything."""
    c = cluster(3)
    c.wait_calm()
    c.reset_leases()
    before = c.connects()
    for hub in c.hubs:
        c.drain(hub)
        hub.start()
        c.wait_even(f"three, after {hub.name}'s restart")
    # Twenty nodes leave each replica, and as many come to it.
    expect_moves(c, "rolling restart", c.connects() - before, 2 * NODES)
    c.wait_ready()
    expect_young_leases(c)
    c.settle()
    for fleet in c.fleets:
        report = fleet.stop()
        assert report["messages"]["never_answered"] == 0, report["messages"]
        assert report["messages"]["answered_twice"] == 0, report["messages"]


@pytest.mark.long
def test_what_the_manner_of_release_is_worth(cluster):
    """The same rolling restart, once as planned, once with connections that just end, at whatever moment, and no lease bridged.
    The load becomes even either way; what differs is how old leases grow meanwhile."""
    oldest_s = {}
    c = cluster(3, "--moves-per-hour", "1000")  # two restarts of all are more than the fleet's nodes
    c.wait_calm()
    for way in ("planned", "plain"):
        c.reset_leases()
        for hub in c.hubs:
            if way == "planned":
                c.drain(hub)
            else:
                c.kill(hub)
                c.wait_ready()
                c.wait_even("the others share what it had")
            hub.start()
            c.wait_even(f"three, after {hub.name}'s restart")
        c.wait_ready()
        oldest_s[way] = c.oldest_lease_s()
        if way == "planned":
            expect_young_leases(c)
    print(f"oldest lease in a rolling restart: {oldest_s['planned']:.1f} s as planned, "
          f"{oldest_s['plain']:.1f} s with plain closes")
    assert oldest_s["plain"] > oldest_s["planned"]


def test_sigterm_during_a_release(cluster):
    c = cluster(3, spare=1)
    c.wait_calm()
    c.reset_leases()
    c.hubs[3].start()
    wait_until("r0 releases", lambda: c.balance(c.hubs[0])["decision"]["own_in_flight"] > 0, 40, every=0.05)
    c.drain(c.hubs[0])
    c.wait_ready()
    c.wait_even("the three that are left")
    expect_young_leases(c)
    c.settle()


# ---- weights and the balancers in front ----

def test_weights(cluster):
    """leastconn gives each the same; what follows is the hubs' work."""
    c = cluster(3, weights=[50, 100, 50])
    c.wait_ready()
    c.wait_even("one, two, one")
    live = c.live()
    print(live, f"{c.released()} moves")
    assert abs(live["r1"] - 30) <= 2 and abs(live["r0"] - 15) <= 1 and abs(live["r2"] - 15) <= 1, live
    expect_moves(c, "weights 1:2:1", c.released(), 10, 1.3)
    expect_young_leases(c)


def test_round_robin(cluster):
    c = cluster(3, proxy={"balance": "roundrobin", "check": "/readyz"})
    c.wait_calm()
    before = lose_and_bring_back(c, c.hubs[1])
    c.wait_even("three again", 1200)
    expect_moves(c, "round robin", c.released() - before, NODES // 3 - 1, round_robin_bound(2, 3))
    c.wait_ready()


def test_round_robin_with_agent_check(cluster):
    c = cluster(3, proxy={"balance": "roundrobin", "agent": True})
    c.wait_calm()
    before = lose_and_bring_back(c, c.hubs[1])
    c.wait_even("three again")
    expect_moves(c, "round robin, agent-check", c.released() - before, NODES // 3 - 1)
    c.wait_ready()


def test_source_affinity_is_futile(cluster):
    """All edges come from one address, so all belong to one replica: it tries, sees them come back, says so and stops."""
    c = cluster(3, proxy={"balance": "source", "check": "/readyz"})
    c.wait_ready()
    holder = max(c.running(), key=lambda hub: hub.connections())
    assert holder.connections() == NODES
    c.wait_why(holder, "futile_home", seconds=900)
    told = c.balance(holder)
    assert told["decision"]["phase"] == "backoff" and "binds them to this one" in told["decision"]["text"]
    assert told["counters"]["returned"] >= 0.8 * told["counters"]["released"] > 0
    assert "why=futile_home" in holder.log_text()
    assert holder.metrics().get("isthmus_balance_futile_rounds_total") >= 1
    c.wait_ready()
    expect_young_leases(c)


# ---- Redis fails ----

def test_redis_stopped_and_started_empty(cluster):
    c = cluster(3, spare=1)
    c.wait_calm()
    before = c.released()
    c.redis.stop()
    for hub in c.running():
        c.wait_why(hub, "store_away")
    c.hubs[3].start()  # empty, and nobody can know
    expect_nothing_released(c, before, 60)
    c.redis.start()
    for hub in c.running():
        c.wait_why(hub, "epoch")
    expect_nothing_released(c, before, 50)  # nobody knows yet who is in flight
    c.wait_even("four")
    expect_moves(c, "after Redis came back empty", c.released() - before, NODES // 4)


def expect_nothing_released(cluster, before, seconds):
    """For so long in edge time, while everybody is served."""
    until = time.monotonic() + seconds / cluster.scale
    while time.monotonic() < until:
        assert cluster.released() == before
        time.sleep(0.2)
    cluster.wait_ready()
    assert sum(cluster.live().values()) == cluster.nodes


def test_redis_paused(cluster):
    c = cluster(3, spare=1)
    c.wait_calm()
    before = c.released()
    c.redis.process.signal(signal.SIGSTOP)
    try:
        for hub in c.running():
            c.wait_why(hub, "store_away", "stale")
        c.hubs[3].start()
        expect_nothing_released(c, before, 60)
        assert any(word in c.balance(c.hubs[0])["redis"]["error"] for word in ("in time",))
    finally:
        c.redis.process.signal(signal.SIGCONT)
    c.wait_even("four")
    expect_moves(c, "after Redis went on", c.released() - before, NODES // 4)


def test_redis_refuses_the_password(cluster):
    c = cluster(3, spare=1)
    c.wait_calm()
    before = c.released()
    c.redis.ask("CONFIG", "SET", "requirepass", "geheim-4711")
    c.redis.ask("CLIENT", "KILL", "TYPE", "normal", password="geheim-4711")
    for hub in c.running():
        c.wait_why(hub, "store_away")
    c.hubs[3].start()
    expect_nothing_released(c, before, 60)
    wait_until("it is said", lambda: "NOAUTH" in c.balance(c.hubs[0])["redis"]["error"])
    c.redis.ask("CONFIG", "SET", "requirepass", "", password="geheim-4711")
    c.wait_even("four")
    expect_moves(c, "after Redis took them in", c.released() - before, NODES // 4)


def test_the_password_is_in_no_log(lab):
    """Given in the URL, in a file or the environment; wherever one looks, it is not there."""
    password = "geheim-0815"
    path = lab.folder / "password"
    path.write_text(password + "\n")
    devapi = lab.devapi()
    redis = lab.add(Redis(lab.folder)).start("--requirepass", password)
    hubs = [
        lab.hub(devapi, "--redis", redis.url, "--redis-password-file", path, name="file"),
        lab.hub(devapi, "--redis", f"redis://:{password}@127.0.0.1:{redis.port}/0", name="url"),
        lab.hub(devapi, name="environment", environment={
            "ISTHMUS_REDIS": f"redis://default:{password}@127.0.0.1:{redis.port}"}),
        lab.hub(devapi, "--redis", redis.url, name="password-alone",
                environment={"ISTHMUS_REDIS_PASSWORD": password}),
    ]
    for hub in hubs:
        wait_until("connected", lambda hub=hub: hub.status()["balance"]["redis"]["connected"])
        for text in (hub.log_text(), *(hub.admin(p)[1] for p in ("/status", "/metrics", "/", "/readyz?verbose"))):
            assert password not in text
    assert ":***@" in hubs[1].status()["balance"]["redis"]["url"]


# ---- replicas that misbehave ----

def test_a_frozen_replica(cluster, scale):
    """Stopped for longer than its record lives: nobody moves anybody for it, then or when it wakes up."""
    c = cluster(3)
    c.wait_calm()
    before = c.released()
    frozen = c.hubs[1]
    frozen.process.signal(signal.SIGSTOP)
    try:
        others = [c.hubs[0], c.hubs[2]]
        wait_until("its record is gone", lambda: all(
            len(c.balance(hub)["replicas"]) == 2 for hub in others), 60)
        until = time.monotonic() + 25 / scale
        while time.monotonic() < until:
            assert sum(c.balance(hub)["counters"]["released"] for hub in others) <= before
            time.sleep(0.1)
    finally:
        frozen.process.signal(signal.SIGCONT)
    c.wait_ready()
    c.wait_even("as before")
    print(c.live(), c.released() - before)
    assert c.released() == before


def test_two_replicas_with_one_id(cluster):
    """The second serves, does not balance, and says so; when the first is gone it is the one."""
    c = cluster(3, spare=1)
    c.wait_calm()
    twin = c.hubs[3]
    twin.flags += ["--replica-id", "r0"]
    before = c.released()
    twin.start()
    c.wait_why(twin, "twin")
    assert "another process had this replica's id" in c.balance(twin)["decision"]["text"]
    assert c.balance(twin)["counters"]["released"] == 0
    c.drain(c.hubs[0])
    c.wait_ready()
    c.wait_even("with the twin in its place")
    assert c.live()["r3"] >= 19, c.live()
    assert c.released() >= before - NODES


def test_edges_whose_clocks_are_five_minutes_off(cluster):
    c = cluster(3, spare=1, fleets=[("--clock-offset", "5m"), ("--clock-offset", "-5m")])
    c.wait_calm()
    c.reset_leases()
    before = c.released()
    c.hubs[3].start()
    c.wait_even("four")
    expect_moves(c, "clocks off", c.released() - before, NODES // 4)
    c.drain(c.hubs[0])
    c.wait_even("three")
    c.wait_ready()
    expect_young_leases(c)
