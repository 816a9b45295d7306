"""How long does it take until a node, and a whole cluster, serves again? kill -9 of one after the other, with and
without load, of Zoolog and of three Apache servers."""

import threading
import time

from lib.apache import four_letters
from lib.bench import Failed, Up, seconds
from lib.jute import CREATE, Closed, Connection, create
from lib.trials.setups import APACHE
from lib.works.znodes import process_start_s

KEY = "recovery"
QUESTION = "How long until a node, and a whole cluster, serves again?"
# What is measured, with its unit.
ROWS = {
    "node": ("kill -9 of a ZooKeeper node: from its new process until it has all znodes", "s"),
    "whole": ("kill -9 of everything: from the start until a write is answered and every node has all znodes", "s"),
    "pause-node": ("a ZooKeeper node (Apache: a follower) is killed under load: nobody is answered for at most", "ms"),
    "wait-node": ("the same: the longest that a request took, its client's way to another node included", "ms"),
    "pause-leader": ("the leading orderer (Apache: the leader) is killed under load: nobody is answered for at most", "ms"),
    "wait-leader": ("the same: the longest that a request took", "ms"),
    "pause-data": ("a data server is killed under load: nobody is answered for at most", "ms"),
    "wait-data": ("the same: the longest that a request took", "ms"),
}
SIDES = {"zoolog": "Zoolog", "apache": APACHE}
SIZE = 100


class Zoolog:
    """What is done to a `zoolog dev` of processes."""

    victims = ("node", "leader", "data")

    def __init__(self, system):
        self.system = system

    @property
    def hosts(self):
        """The ZooKeeper nodes."""
        return self.system.hosts

    def name(self, victim):
        """The node that is meant now."""
        if victim == "leader":
            leader = self.system.leader()
            if leader is None:
                raise Failed("no orderer says that it leads")
            return leader
        return {"node": "zk-0", "data": "shard-0"}[victim]

    def kill(self, name):
        """kill -9; it stays dead. Returns its process id."""
        self.system.hold(name, True)
        return self.system.kill(name)

    def mend(self, name, old):
        """It is started again; returns when it is there as a process, with how long that process has run."""
        self.system.hold(name, False)
        self.system.wait_restarted(name, old)
        return time.clock_gettime(time.CLOCK_BOOTTIME) - process_start_s(self.system.pid(name))

    def kill_all(self):
        """kill -9 of everything."""
        return self.system.kill_all()

    def start_all(self):
        """Everything is started again, on what it has."""
        self.system.start()


class Apache:
    """What is done to Apache servers."""

    victims = ("node", "leader")

    def __init__(self, system):
        self.system = system

    @property
    def hosts(self):
        """The servers."""
        return self.system.hosts.split(",")

    def name(self, victim):
        """Index of the server that is meant now."""
        leader = self.system.leader()
        if leader is None:
            raise Failed("no server says that it leads")
        return leader if victim == "leader" else (leader + 1) % len(self.hosts)

    def kill(self, index):
        """kill -9; it stays dead. Returns its process id."""
        pid = self.system.processes[index].pid
        self.system.kill(index)
        return pid

    def mend(self, index, _old):
        """It is started again; returns at once, with how long it has run."""
        self.system.start_again(index)
        return 0.0

    def kill_all(self):
        """kill -9 of everything."""
        for index in range(len(self.hosts)):
            self.system.kill(index)

    def start_all(self):
        """Everything is started again, on what it has."""
        for index in range(len(self.hosts)):
            self.system.start_again(index)


def run(bench, number):
    """One round: both systems."""
    for side in SIDES:
        try:
            with Up(bench, side, label=f"{KEY}-{side}") as system:
                one(bench, number, side, Zoolog(system) if side == "zoolog" else Apache(system))
        except (Failed, RuntimeError, OSError) as e:
            bench.fail(f"{KEY}: {SIDES[side]}", f"round {number}: {e}")


def one(bench, number, side, what):
    """All that happens to one system, on the znodes that it was given first."""
    count = bench.settings.znodes
    fill(bench, what.hosts, f"{KEY}-fill-{side}-{number}", count)
    wait_for(what.hosts, count)
    record(bench, "node", side, number, restart(bench, what, count))
    for victim in what.victims:
        struck(bench, number, side, what, victim)
        wait_for(what.hosts, count)
        time.sleep(1)
    bench.folder.command(f"kill -9 of all of {side}", KEY)
    what.kill_all()
    begun = time.monotonic()
    what.start_all()
    wait_for_write(what.hosts[0])
    wait_for(what.hosts, count)
    record(bench, "whole", side, number, time.monotonic() - begun)


def record(bench, key, side, number, value):
    """One number."""
    bench.record(f"{KEY} {key}", SIDES[side], number, value)


def fill(bench, hosts, name, count):
    """loadgen makes the keys' nodes before it measures; the measured time is of no interest."""
    flags = ["--servers", ",".join(hosts), "--op", "exists", "--keys", str(count), "--size", str(SIZE), "--prefix",
             "/filled", "--duration", "500ms", "--warmup", "0s"]
    bench.loadgen("zk", flags, name, wait_s=600, timeline=False)


def restart(bench, what, count):
    """Seconds from the new process of a node until it has all znodes."""
    name = what.name("node")
    host = what.hosts[name if isinstance(name, int) else 0]
    old = what.kill(name)
    bench.folder.command(f"kill -9 {old}", f"{KEY}, {name}, with {count} znodes")
    time.sleep(0.5)
    ran = what.mend(name, old)
    begun = time.monotonic()
    wait_for([host], count)
    return ran + time.monotonic() - begun


def struck(bench, number, side, what, victim):
    """A load at a fixed rate, in the midst of which somebody is killed; he is back only after it."""
    s, name = bench.settings, f"{KEY}-{victim}-{side}-{number}"
    flags = ["--servers", ",".join(what.hosts), "--op", "set", "--sessions", "24", "--depth", "32", "--rate", str(s.rate),
             "--prefix", f"/struck-{victim}", "--size", str(SIZE), "--outage", "40s", "--duration", s.struck,
             "--warmup", s.warmup]
    hit, wrong, killed = what.name(victim), [], []

    def strike():
        try:
            killed.append(what.kill(hit))
        except (OSError, RuntimeError) as e:
            wrong.append(str(e))

    # Sessions and keys take a moment before the warm-up, so it comes somewhat before the half.
    timer = threading.Timer(seconds(s.warmup) + 0.45 * seconds(s.struck), strike)
    timer.start()
    try:
        result = bench.loadgen("zk", flags, name, wait_s=seconds(s.struck) + 120, late_counts=True)
    finally:
        timer.cancel()
        timer.join()
        if killed:
            what.mend(hit, killed[0])
    if wrong or not killed:
        raise Failed(f"{name}: it could not be killed: {wrong}")
    bench.folder.command(f"kill -9 {killed[0]}", f"{name}, {hit}")
    record(bench, f"pause-{victim}", side, number, result["longest_pause_ms"])
    record(bench, f"wait-{victim}", side, number, result["ops"]["set"]["latency_us"]["max"] / 1000)


def wait_for(hosts, count, wait_s=90):
    """Until every host says that it has that many znodes."""
    deadline = time.monotonic() + wait_s
    while any(znodes(host) < count for host in hosts):
        if time.monotonic() > deadline:
            raise Failed(f"not all of {','.join(hosts)} have {count} znodes after {wait_s} s")
        time.sleep(0.01)


def znodes(host):
    """How many znodes a node says it has; 0 if it serves nobody."""
    name, port = host.rsplit(":", 1)
    text = four_letters(name, int(port), "srvr") or ""
    return next((int(line.split()[2]) for line in text.splitlines() if line.startswith("Node count:")), 0)


def wait_for_write(host, wait_s=90):
    """Until somebody who connects there can create a node."""
    deadline, n = time.monotonic() + wait_s, 0
    while time.monotonic() < deadline:
        n += 1
        try:
            conn = Connection(host, timeout_s=5)
            try:
                conn.handshake(timeout_ms=10_000)
                err, _ = conn.call(CREATE, create(f"/whole-{time.monotonic_ns()}-{n}"))
                if err == 0:
                    return
            finally:
                conn.close()
        except (OSError, Closed):
            pass
        time.sleep(0.02)
    raise Failed(f"{host} took no write after {wait_s} s")
