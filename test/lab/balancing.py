"""Several hubs behind HAProxy with a redis-server of their own: what the balancing tests start and look at."""

import shutil
import signal
import threading
import time

from lab.processes import Process, free_port, wait_until
from sim.lua_agree import Redis as Client


class Redis:
    """redis-server on a TCP port for the hubs and a Unix socket for the test; keeps nothing on disk."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket_path = f"/tmp/lab-redis-{self.port}.sock"
        self.process = None

    def start(self, *options):
        self.process = Process("redis", [
            "redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--unixsocket",
            self.socket_path, "--dir", self.folder, *options], self.folder)
        wait_until("redis-server answers", lambda: self._answers() or not self.process.is_running())
        assert self.process.is_running(), self.process.log_text()
        return self

    def _answers(self):
        try:
            return self.ask("PING") == "PONG"
        except OSError:
            return False
        except RuntimeError as refusal:  # it wants a password, so it is there
            return "NOAUTH" in str(refusal)

    def ask(self, *words, password=None):
        client = Client(self.socket_path)
        try:
            if password:
                client.call("AUTH", password)
            return client.call(*words)
        finally:
            client.socket.close()

    def stop(self):
        self.process.stop(20)


class HAProxy:
    """In front of hubs that may not run yet: their health checks say so."""

    def __init__(self, folder, hubs, balance="leastconn", agent=False, check="/acceptz", check_ms=200):
        self.folder, self.port, self.authority = folder, free_port(), hubs[0].authority
        agent_words = f"agent-check agent-inter {check_ms}ms agent-addr 127.0.0.1" if agent else ""
        servers = "\n".join(
            f"    server {hub.name} 127.0.0.1:{hub.port} check addr 127.0.0.1 port {hub.admin_port}"
            + (f" agent-port {hub.agent_port}" if agent else "") for hub in hubs)
        self.config = f"""
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 2s
    timeout client 5m
    timeout server 5m
    timeout check 1s
    retries 3
    option redispatch
listen edges
    bind 127.0.0.1:{self.port}
    balance {balance}
    option httpchk GET {check}
    default-server inter {check_ms}ms fall 2 rise 1 send-proxy-v2 {agent_words}
{servers}
"""
        self.process = None

    def start(self):
        program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        assert program, "haproxy is not installed"
        path = self.folder / "haproxy.cfg"
        path.write_text(self.config)
        self.process = Process("haproxy", [program, "-db", "-f", path], self.folder)
        return self


class StallMeter:
    """How long this machine lets a process wait that is due: what is ten times as fast suffers ten times as much of it."""

    def __init__(self):
        self.worst_s, self.is_over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._measure, daemon=True)
        self.thread.start()

    def _measure(self):
        before = time.monotonic()
        while not self.is_over.wait(0.02):
            now = time.monotonic()
            self.worst_s = max(self.worst_s, now - before - 0.02)
            before = now

    def stop(self):
        self.is_over.set()
        self.thread.join()


def scaled_flags(scale):
    """The defaults of everything that has to do with time, shorter by this factor."""
    def d(seconds):
        return f"{round(seconds * 1000 / scale)}ms"
    return ["--balance-period", d(5), "--observe-seconds", d(30), "--inflight-timeout", d(90),
            "--move-cooldown", d(300), "--release-window", d(5), "--bridge-seconds", d(90),
            "--bridge-period", d(10), "--drain-timeout", d(300), "--futile-backoff", d(60),
            "--futile-backoff-max", d(3600), "--edge-away", d(30), "--edge-redial", d(5),
            "--keepalive-timeout", d(60), "--release-rate", str(50 * scale)]


def is_near(live, share):
    """Within the default tolerance, shares rounded either way."""
    return abs(live - share) < max(1, 0.05 * share) + 1


class Cluster:
    """Replicas r0, r1, ... of which some run."""

    def __init__(self, lab, replicas, nodes, scale, *flags, spare=0, weights=None, proxy=None, fleets=None):
        self.lab, self.nodes, self.scale = lab, nodes, scale
        self.stalls = StallMeter()
        self.devapi = lab.devapi("--lease-grace", f"{round(40000 / scale)}ms")
        self.redis = lab.add(Redis(lab.folder)).start()
        self.hubs = []
        for i in range(replicas + spare):
            hub = lab.new_hub(self.devapi, name=f"r{i}")
            hub.agent_port = free_port()
            hub.flags = [*scaled_flags(scale), "--redis", self.redis.url, "--proxy-protocol-from",
                         "127.0.0.1/32", "--agent-address", f"127.0.0.1:{hub.agent_port}",
                         "--hub-threads", "2", "--upstream-threads", "1",
                         "--release-max-fraction", "0.3", *flags]
            hub.weight = weights[i] if weights else 100
            hub.flags += ["--balance-weight", str(hub.weight)]
            self.hubs.append(hub)
        for hub in self.hubs[:replicas]:
            hub.start()
        self.proxy = lab.add(HAProxy(lab.folder, self.hubs, **(proxy or {}))).start()
        wait_until("HAProxy has found out who runs", lambda: all(
            f"Server edges/{hub.name} is DOWN" in self.proxy.process.log_text()
            for hub in self.hubs[replicas:]))
        self.fleets = []
        for i, fleet_flags in enumerate(fleets or [()]):
            self.fleets.append(lab.fleet(
                self.proxy, nodes // len(fleets or [()]), "--time-scale", scale, "--event-rate",
                0.02 * scale, *fleet_flags, name=f"f{i}"))

    # ---- what is ----

    def running(self):
        return [hub for hub in self.hubs if hub.process and hub.process.is_running()]

    def balance(self, hub):
        return hub.status()["balance"]

    def live(self):
        return {hub.name: hub.connections() for hub in self.running()}

    def released(self):
        """By the replicas that run, since they were started."""
        return sum(self.balance(hub)["counters"]["released"] for hub in self.running())

    def connects(self):
        """Connections the edges have made."""
        return sum(fleet.stats()["connections"]["connects"] for fleet in self.fleets)

    def oldest_lease_s(self):
        """In edge time, since the last reset_leases()."""
        return self.devapi.leases()["max_age_ms"] * self.scale / 1000

    def reset_leases(self):
        code, _ = self.devapi.call("POST", "/devapi/leases/reset")
        assert code == 200
        self.stalls.worst_s = 0

    def is_even(self):
        """Every running replica is within the tolerance of its share, by our own reckoning and by its own, and nobody is on
        the way."""
        hubs = self.running()
        told = [self.balance(hub) for hub in hubs]
        decisions = [balance["decision"] for balance in told]
        weights = sum(hub.weight for hub in hubs)
        return (sum(d["live"] for d in decisions) == self.nodes and
                all(is_near(d["live"], self.nodes * hub.weight / weights)
                    for hub, d in zip(hubs, decisions)) and
                all(d["why"] in ("balanced", "below") and d["phase"] == "detect" and
                    d["in_flight"] == 0 and abs(d["surplus"]) <= d["tolerance"] and
                    d["total"] == self.nodes for d in decisions) and
                all(len(balance["replicas"]) == len(told) for balance in told))

    # ---- waiting ----

    def wait_even(self, what, seconds=600):
        """Seconds of edge time; a machine that is slow gets some more."""
        try:
            wait_until(what, self.is_even, max(seconds / self.scale, 40), every=0.2)
        except AssertionError:
            print({hub.name: self.balance(hub)["decision"] for hub in self.running()})
            raise

    def wait_ready(self):
        for fleet in self.fleets:
            fleet.wait_ready(max(120 / self.scale, 60))

    def wait_calm(self):
        """Everybody is served, the store is trusted, the load is even."""
        self.wait_ready()
        self.wait_even("even at the start")

    def why(self, hub):
        return self.balance(hub)["decision"]["why"]

    def wait_why(self, hub, *reasons, seconds=300):
        wait_until(f"{hub.name} says {reasons}", lambda: self.why(hub) in reasons,
                   max(seconds / self.scale, 30), every=0.05)

    # ---- doing ----

    def kill(self, hub):
        hub.process.popen.kill()
        hub.process.popen.wait(10)
        hub.process.log.close()

    def drain(self, hub):
        """SIGTERM, and its end in order."""
        hub.process.signal(signal.SIGTERM)
        hub.wait(400 / self.scale + 60)

    def end(self):
        """At once: with the edges gone, a drain would bridge the last leases to their end."""
        self.stalls.stop()
        for hub in self.running():
            self.kill(hub)

    def settle(self):
        """What was received whole is carried out."""
        for hub in self.running():
            hub.settle()
