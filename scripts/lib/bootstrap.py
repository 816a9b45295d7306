"""How soon does a ZooKeeper node with many znodes serve that was killed, or that has nothing and gets them from another, and
for how long is nobody answered when the log is exchanged underneath? Called by scripts/bootstrap.sh."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import folder as folders, jute  # noqa: E402
from lib.apache import four_letters  # noqa: E402
from lib.bench import Failed, Up, begin, seconds  # noqa: E402
from lib.heavy import Client  # noqa: E402
from lib.topology import Topology  # noqa: E402
from lib.works.znodes import process_start_s, wait_for, znodes  # noqa: E402

QUESTION = "How soon does a killed and an empty ZooKeeper node serve, and how long is the pause when the log is exchanged?"
PARTS = ("restart", "bootstrap", "giving", "switch")
MB = 1_000_000
# Key -> what it is, its unit, what is wanted of it (`<=` or `>=` and how much), or None.
ROWS = {
    "restart": ("kill -9 of a node: from its new process until it serves all znodes", "s", ("<=", 3)),
    "rate": ("an empty node gets another's snapshot: its bytes, from the first piece until it is on the disk and read back",
             "MB/s", (">=", 200)),
    "whole": ("the same bytes, from the new process until it serves all znodes: finding it, reading it and playing the log included",
              "MB/s", None),
    "serves": ("an empty node: from its new process until it serves all znodes", "s", None),
    "bytes": ("bytes of the snapshot that it got", "MB", None),
    "gets-alone": ("gets at the other node, nothing beside them, p99", "ms", None),
    "gets-beside": ("gets at the node that gives its snapshot, while it does, p99", "ms", None),
    "gets-longest": ("the same: the longest", "ms", None),
    "pause": ("`admin log switch` under load: nobody is answered for at most", "ms", None),
    "wait": ("the same: the longest that a set took", "ms", None),
}
HOW = """Rounds: {rounds}, all on one machine. `zoolog dev --isolate process`, all settings at their defaults unless the summary says otherwise, empty directories,
programs started anew in each round.

- `restart`: two ZooKeeper nodes with {znodes:,} znodes of {size} B of data; one of them is killed with SIGKILL and started again.
  It serves when it says that it has as many znodes as before.
- `bootstrap`: writes go on until the other node has a snapshot with all of them. Then the same node is killed, and everything in
  its directory removed. What it got, and how fast, is what it says itself afterwards (`mntr`): one snapshot as a whole, or the
  round does not count. The rate is over the transfer, the last sync and the reading back of the file included. The other node looks
  through its file first; that, the process's start, and the log behind the snapshot are in the second number.
- `giving`: the same once more, beside {rate} gets a second at the node that gives; before it, the gets alone. The measured time
  is as long as bootstrap took in this round, plus two seconds.
- `switch`: `zoolog zk --log local:DIR`, {sessions} sessions with {switch_rate} sets a second, and a client that sets one node, each time
  only if the version is the one it knows. In the midst of it, `zoolog admin log switch` to a cluster of three orderers and three
  data servers. The pause is the longest time without an answer to anybody, within the measured time. It counts only if all checks of
  loadgen hold, and the node's version is the number of answers that the client had: then, and after kill -9 and a new start.
"""
USUAL = {"rounds": 3, "znodes": 1_250_000, "size": "uniform:200-1000", "duration": "15s", "rate": 2000, "sessions": 24,
         "switch_rate": 2000}
SHORT = {"rounds": 1, "znodes": 100_000, "size": "uniform:200-1000", "duration": "8s", "rate": 1000, "sessions": 8,
         "switch_rate": 500}


def options(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bootstrap.sh", description=QUESTION)
    add = parser.add_argument
    add("--rounds", type=int, help="rounds, each with every part (default 3; 1 if --short)")
    add("--short", action="store_true", help="one small round: a trial, not a result; other options count all the same")
    add("--only", metavar="PART,..", help=f"only these parts, of {', '.join(PARTS)}")
    add("--znodes", type=int, help="znodes that the node has (default 1250000; 100000 if --short)")
    add("--size", help="bytes of data of each, as of `loadgen zk --size` (default uniform:200-1000)")
    add("--rate", type=int, help="gets a second at the node that gives (default 2000; 1000 if --short)")
    add("--duration", metavar="TIME", help="measured time in which the log is exchanged (default 15s; 8s if --short)")
    add("--sessions", type=int, help="sessions that write meanwhile (default 24; 8 if --short)")
    add("--switch-rate", type=int, help="sets a second meanwhile (default 2000; 500 if --short)")
    add("--plan", action="store_true", help="say what would be run, for about how long and on how much disk; run nothing")
    add("--port", type=int, default=12181, help="first port; up to 400 above it are used (default 12181)")
    add("--out", metavar="DIR", help="the folder to make (default results/DATE-HOST-bootstrap)")
    add("--work", metavar="DIR", help="where all nodes keep their data: the disk under test (default: a temporary directory; "
        "not a RAM disk)")
    add("--bin", metavar="DIR", help="where zoolog and loadgen are (default: built here with cargo build --release)")
    add("--dirty", action="store_true", help="run though files are changed; the summary says so in large letters")
    args = parser.parse_args(argv)
    for name, value in (SHORT if args.short else USUAL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.parts = args.only.split(",") if args.only else list(PARTS)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if min(args.rounds, args.znodes, args.rate, args.sessions, args.switch_rate) < 1:
        parser.error("numbers must be at least 1")
    try:
        if seconds(args.duration) < 4:
            parser.error("--duration must be at least 4s")
        mean_bytes(args.size)
    except ValueError as e:
        parser.error(str(e))
    args.base_port, args.warmup = args.port, "1s"
    return args


def mean_bytes(size):
    """Bytes of data of a znode in the mean, as `--size` says; of a distribution without one, its median."""
    numbers = [float(n) for n in re.findall(r"[0-9.]+", size)]
    if not numbers:
        raise ValueError(f"a size like 500 or uniform:200-1000, not {size!r}")
    return (numbers[0] + numbers[1]) / 2 if size.startswith("uniform") and len(numbers) > 1 else numbers[0]


def plan(args):
    """(part -> about how many seconds of a round, bytes of disk in use at most)."""
    snapshot = args.znodes * (mean_bytes(args.size) + 100)
    fill, move = args.znodes / 25_000, snapshot / (150 * MB)
    parts = {"restart": 10 + 2 * move, "bootstrap": 15 + 6 * move, "giving": 15 + 4 * move, "switch": 25 + seconds(args.duration)}
    shared = fill + 15 if set(args.parts) & {"restart", "bootstrap", "giving"} else 0
    # The log twice, what is written besides until there is a snapshot of all twice, and up to four snapshots at each node.
    return {"filling": shared, **{p: parts[p] for p in args.parts}}, (12 * snapshot if shared else 0) + (2 << 30)


def say_plan(args):
    """What would be run."""
    parts, disk = plan(args)
    print(f"{QUESTION}\n\n{args.rounds} rounds, {args.znodes:,} znodes of {args.size} B:")
    for name, took in parts.items():
        print(f"  {name:10} about {took:5.0f} s a round")
    print(f"  in all about {args.rounds * sum(parts.values()) / 60:.0f} min, and the build unless --bin is given; up to "
          f"{disk / 1e9:.0f} GB of disk, {3 * args.znodes * (mean_bytes(args.size) + 250) / 1e9:.1f} GB of memory; ports "
          f"{args.port} to {args.port + 400}")


class Nodes:
    """A topology of two ZooKeeper nodes, of which the second is killed."""

    victim = "zk-1"

    def __init__(self, bench, system, number):
        self.bench, self.system, self.number = bench, system, number
        self.count = bench.settings.znodes
        self.giver, self.host = system.hosts

    def fill(self):
        """loadgen makes the znodes before it measures; the measured second is of no interest."""
        s = self.bench.settings
        flags = ["--servers", self.system.ready["zk"], "--op", "exists", "--keys", str(s.znodes), "--size", s.size, "--prefix",
                 "/filled", "--duration", "1s", "--warmup", "0s", "--outage", "60s"]
        self.bench.loadgen("zk", flags, f"fill-{self.number}", wait_s=120 + s.znodes / 1000, timeline=False)
        wait_for(self.system, self.count, 120 + s.znodes / 5000)

    def complete(self):
        """Writes until the node that gives has a snapshot of all that was there: such a one begins after as many bytes of
        records as the last one has."""
        wanted = self.position(self.giver)
        client = Client(self.giver)
        if client.call(jute.CREATE, jute.create("/large"))[0] not in (0, -110):
            raise Failed("a node could not be made")
        data, deadline = b"s" * 500_000, time.monotonic() + 300
        while self.snapshot() < wanted:
            if time.monotonic() > deadline:
                raise Failed("there is no snapshot of all znodes after 300 s")
            # A few in flight.
            for _ in range(4):
                client.send(jute.request(1, jute.SET_DATA, jute.set_data("/large", data)))
            if client.skip(4):
                raise Failed("a set was refused")
        client.close()
        self.settle()

    def settle(self):
        """Waits until no snapshot is being taken."""
        before, since, deadline = None, time.monotonic(), time.monotonic() + 120
        while time.monotonic() - since < 3:
            now = self.snapshot(), self.snapshot(self.host)
            if now != before:
                before, since = now, time.monotonic()
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)

    def snapshot(self, host=None):
        """Position of a node's newest snapshot."""
        return int(self.system.monitor(host or self.giver).get("zk_snapshot_gsn", 0))

    def position(self, host):
        """How far a node is in the log."""
        return int(self.system.monitor(host).get("zk_applied_gsn", 0))

    def strike(self, emptied):
        """kill -9, everything of it removed if it is to be `emptied`, and a new process. Seconds from its beginning until it
        has all znodes."""
        system, name = self.system, self.victim
        system.hold(name, True)
        old = system.kill(name)
        self.bench.folder.command(f"kill -9 {old}", f"{name}, with {self.count} znodes")
        time.sleep(0.5)
        if emptied:
            home = system.directory / "nodes" / name / "data"
            self.bench.folder.command(f"rm -rf {home}", "it is empty")
            shutil.rmtree(home)
        system.hold(name, False)
        system.wait_restarted(name, old)
        ran = time.clock_gettime(time.CLOCK_BOOTTIME) - process_start_s(system.pid(name))
        begun, deadline = time.monotonic(), time.monotonic() + 300
        while znodes(system, self.host) < self.count:
            if time.monotonic() > deadline:
                raise Failed("the node was not back after 300 s")
            time.sleep(0.01)
        return ran + time.monotonic() - begun

    def keep(self, name):
        """Keeps what the node says of itself, and returns it."""
        said = self.system.monitor(self.host)
        self.bench.folder.raw(f"{name}-{self.number}.json", json.dumps(said, indent=1) + "\n")
        # How long which stage of its start took, it says in its log.
        lines = (self.system.directory / "nodes" / self.victim / "log").read_text(errors="replace").splitlines()
        self.bench.folder.raw(f"{name}-{self.number}.log", "\n".join(lines[-20:]) + "\n")
        return said

    def restart(self):
        took = self.strike(False)
        said = self.keep("restart")
        if int(said.get("zk_bootstraps", 0)):
            self.bench.note("restart: the node got the other's snapshot, for that was cheaper than to play the log.")
        self.record("restart", took)

    def bootstrap(self):
        """Returns how long it took."""
        took = self.strike(True)
        said = self.keep("bootstrap")
        moved = self.got(said)
        self.record("rate", int(said["zk_bootstrap_bytes_per_s"]) / MB)
        self.record("whole", moved / MB / took)
        self.record("serves", took)
        self.record("bytes", moved / MB)
        return took

    def got(self, said):
        """Bytes that the node got of one snapshot, as it says itself."""
        if said.get("zk_bootstraps") != "1" or said["zk_bootstrap_bytes"] != said["zk_bootstrap_of_bytes"]:
            raise Failed(f"it got {said.get('zk_bootstraps')} snapshots: {said.get('zk_bootstrap_bytes')} bytes of "
                         f"{said.get('zk_bootstrap_of_bytes')}")
        return int(said["zk_bootstrap_bytes"])

    def giving(self, expected_s):
        """Gets at the node that gives, alone and while it does."""
        alone = self.gets("alone", 5)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            load = pool.submit(self.gets, "beside", expected_s + 2)
            # Its sessions and keys take a moment, and so does the warm-up.
            time.sleep(1.5)
            try:
                self.strike(True)
            finally:
                beside = load.result()
        self.got(self.keep("giving"))
        self.record("gets-alone", alone["p99"] / 1000)
        self.record("gets-beside", beside["p99"] / 1000)
        self.record("gets-longest", beside["max"] / 1000)

    def gets(self, what, measured_s):
        """Latencies of gets, in microseconds."""
        s = self.bench.settings
        flags = ["--servers", self.giver, "--op", "get", "--rate", str(s.rate), "--sessions", "16", "--depth", "8", "--keys",
                 "1000", "--prefix", "/reads", "--duration", f"{measured_s:.1f}s", "--warmup", "1s", "--lateness", "1s",
                 "--outage", "30s"]
        result = self.bench.loadgen("zk", flags, f"gets-{what}-{self.number}", wait_s=measured_s + 120, late_counts=True)
        return result["ops"]["get"]["latency_us"]

    def record(self, row, value):
        self.bench.record(row, "zoolog", self.number, value)


def nodes_round(bench, number):
    """The parts that need two nodes with many znodes."""
    parts = [p for p in bench.settings.parts if p != "switch"]
    if not parts:
        return
    # A node would rather play so short a log.
    small = bench.settings.znodes * (mean_bytes(bench.settings.size) + 84) < 128 * MB
    if small:
        bench.note("bootstrap_log_bytes is 1: by default a node plays a log as short as this one.")
    with Up(bench, "zoolog", zk=2, more=["--set", "zk.bootstrap_log_bytes=1"] if small else []) as system:
        nodes = Nodes(bench, system, number)
        nodes.fill()
        took = None
        for part in parts:
            try:
                if part == "restart":
                    nodes.restart()
                    continue
                if took is None:
                    nodes.complete()
                    took = plan(bench.settings)[0].get("bootstrap", 30)
                if part == "bootstrap":
                    took = nodes.bootstrap()
                else:
                    nodes.giving(took)
            except (Failed, RuntimeError, OSError, jute.Closed) as e:
                bench.fail(part, f"round {number}: {e}")


class Counter:
    """A client that sets a node over and over, each time only if its version is the number of its answers."""

    path = "/counted"

    def __init__(self, host):
        self.client = Client(host, timeout_ms=40_000)
        self.answers, self.wrong = 0, ""
        if self.client.call(jute.CREATE, jute.create(self.path))[0]:
            raise Failed("a node could not be made")
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.ended.is_set():
                error = self.client.call(jute.SET_DATA, jute.set_data(self.path, b"x" * 50, self.answers))[0]
                if error:
                    self.wrong = f"set {self.answers} was answered with {error}"
                    return
                self.answers += 1
        except (OSError, jute.Closed) as e:
            self.wrong = f"set {self.answers}: {e or type(e).__name__}"

    def end(self):
        """No more; the connection goes."""
        self.ended.set()
        self.thread.join(60)
        self.client.socket.close()
        if self.wrong:
            raise Failed(self.wrong)

    def check(self, host, when):
        """The node has the version that was answered last."""
        client = Client(host)
        error, values = client.call(jute.EXISTS, jute.path_watch(self.path))
        client.close()
        if error:
            raise Failed(f"{when}: the node is not there: {error}")
        version = values[0].version
        if version != self.answers:
            raise Failed(f"{when}: {self.answers} sets were answered, and the version is {version}")


class Embedded:
    """`zoolog zk --log local:DIR`."""

    def __init__(self, bench, home, port):
        self.bench, self.home, self.host = bench, home, f"127.0.0.1:{port}"
        self.log = f"local:{home / 'log'}"
        self.command = [bench.program, "zk", "--log", self.log, "--data-dir", home / "data", "--port", str(port)]
        self.process = None

    def start(self):
        self.bench.folder.command(self.command, "one process")
        with open(self.home / "zk.log", "ab") as log:
            self.process = subprocess.Popen(list(map(str, self.command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        name, port = self.host.rsplit(":", 1)
        deadline = time.monotonic() + 60
        while "Node count" not in (four_letters(name, int(port), "srvr") or ""):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the node does not serve: {(self.home / 'zk.log').read_text(errors='replace')[-300:]}")
            time.sleep(0.05)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def switch_round(bench, number):
    """The log is exchanged underneath a ZooKeeper node that is in use."""
    s = bench.settings
    home = bench.fresh("switch")
    (home / "cluster").mkdir()
    port = s.base_port + 360
    embedded, cluster = Embedded(bench, home, port), None
    orderers = ",".join(f"127.0.0.1:{s.base_port + 370 + n}" for n in range(3))
    to = home / "cluster" / "cluster.toml"
    try:
        embedded.start()
        bench.run([bench.program, "admin", "init", "--succeeds", embedded.log, "--orderers", orderers, "--out", to],
                  f"switch-{number}, the cluster's file", 30)
        cluster = Topology(bench.program, home / "cluster", port + 1, s.base_port + 380, zk=0)
        cluster.start()
        bench.folder.command(cluster.process.args, "start")
        counter = Counter(embedded.host)
        flags = ["--servers", embedded.host, "--op", "set", "--sessions", str(s.sessions), "--depth", "8", "--rate",
                 str(s.switch_rate), "--size", "200", "--prefix", "/switched", "--session-timeout-ms", "30000", "--outage", "60s",
                 "--lateness", "60s", *bench.times()]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            load = pool.submit(bench.loadgen, "zk", flags, f"switch-{number}", True, seconds(s.duration) + 180, True)
            # Within the measured time, whatever the sessions and keys take.
            time.sleep(seconds(s.warmup) + 0.4 * seconds(s.duration))
            try:
                said = switch(bench, number, embedded.log, to)
            finally:
                result = load.result()
        bench.folder.raw(f"switch-{number}-said.json", said)
        counter.end()
        if counter.answers < 10:
            raise Failed(f"only {counter.answers} sets were answered")
        counter.check(embedded.host, "after the exchange")
        embedded.kill()
        embedded.start()
        counter.check(embedded.host, "after kill -9")
        bench.record("pause", "zoolog", number, result["longest_pause_ms"])
        bench.record("wait", "zoolog", number, result["ops"]["set"]["latency_us"]["max"] / 1000)
    finally:
        embedded.kill()
        if cluster:
            cluster.stop()
        shutil.rmtree(home, ignore_errors=True)


def switch(bench, number, log, to):
    """`zoolog admin log switch`, again as long as the cluster is not there yet."""
    command = [bench.program, "admin", "log", "switch", "--log", log, "--to", to, "--json"]
    bench.folder.command(command, f"switch-{number}")
    for _ in range(100):
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
        if result.returncode == 0:
            return result.stdout
        if result.returncode != 3:
            break
        time.sleep(0.1)
    raise Failed(f"the log was not exchanged: exit code {result.returncode}: {result.stderr.strip()}")


def one_round(bench, number):
    """All parts once."""
    bench.say(f"round {number} of {bench.settings.rounds}")
    try:
        nodes_round(bench, number)
    except (Failed, RuntimeError, OSError, jute.Closed) as e:
        bench.fail("nodes", f"round {number}: {e}")
    if "switch" in bench.settings.parts:
        try:
            switch_round(bench, number)
        except (Failed, RuntimeError, OSError, jute.Closed, subprocess.TimeoutExpired) as e:
            bench.fail("switch", f"round {number}: {e}")


def outcome(key, values):
    """Whether what is wanted is reached in the median; None if nothing is."""
    wanted = ROWS[key][2]
    if wanted is None or not values:
        return None
    median = statistics.median(values)
    return median <= wanted[1] if wanted[0] == "<=" else median >= wanted[1]


def table(measured):
    """Lines of the table, and what was reached: key -> bool."""
    lines, reached = ["| what | median | all rounds | wanted |", "|---|--:|--:|---|"], {}
    for key, (what, unit, wanted) in ROWS.items():
        values = [m["value"] for m in measured if m["row"] == key]
        if not values:
            continue
        verdict = outcome(key, values)
        if verdict is not None:
            reached[key] = verdict
        text = f"{wanted[0]} {wanted[1]} {unit}: {'reached' if verdict else 'NOT reached'}" if wanted else ""
        lines.append(f"| {what} | {statistics.median(values):,.2f} {unit} | {', '.join(f'{v:,.2f}' for v in values)} | {text} |")
    return lines, reached


def write(bench):
    """The texts of the folder. The summary, and whether all is well."""
    s = bench.settings
    lines, reached = table(bench.measured)
    failed = [f"- FAILED {name}: {text}" for name, texts in bench.failures.items() for text in texts]
    rounds = f"{s.rounds} rounds" if s.rounds > 1 else "One round"
    trial = " A trial, not a result." if s.short else ""
    head = f"{rounds} with {s.znodes:,} znodes of {s.size} B of data.{trial}"
    summary = "\n".join([head, "", *lines, "", *failed, *(f"- {note}" for note in bench.notes)])
    numbers = {"measured": bench.measured, "wanted": {k: row[2] for k, row in ROWS.items() if row[2]}, "reached": reached,
               "failures": bench.failures}
    bench.folder.write(summary, numbers, HOW.format(**vars(s)))
    return summary, bool(bench.measured) and all(reached.values()) and not failed


def main():
    args = options()
    if args.plan:
        return say_plan(args)
    disk = plan(args)[1]
    work = args.work or os.environ.get("TMPDIR", "/tmp")
    if folders.free_bytes(work) < disk:
        sys.exit(f"{work} has {folders.free_bytes(work) / 1e9:.0f} GB free, about {disk / 1e9:.0f} GB are needed: give --work a "
                 "directory on another disk, or fewer --znodes")
    bench = begin("bootstrap", QUESTION, args)
    good = False
    try:
        for number in range(1, args.rounds + 1):
            one_round(bench, number)
            write(bench)
    except KeyboardInterrupt:
        bench.fail("all", "interrupted")
    finally:
        summary, good = write(bench)
        print(f"\n{summary}\n\nkept in {bench.folder.path}")
        bench.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
