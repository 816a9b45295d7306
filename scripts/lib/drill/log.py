"""Does a log keep its promises, whatever happens to the machines below it? Three orderers and four data servers, each a
process, two copies of everything, a proxy between all of them; writers and followers through all of it. Faults are
drawn from a seed that is printed: one of each kind, in random order, then anew, for as long as asked; each is held until
the writers go on without what it struck (or, where they can't, is undone), and undone. In the end everything is read
back: by those who followed all the time, by a new subscription, in ranges, and once more for each server while that
one is down. Checked: LOG-1 to LOG-5 and LOG-7 of docs/INVARIANTS.md. The table tells how often each fault struck, and for
how long it stopped a writer and the log as a whole.

As root each node has a small file system of its own, so that a disk can be full; otherwise that fault is left out,
and said so."""

import pathlib
import statistics
import subprocess
import time

from lib.drill import faults
from lib.drill.frame import Frame, common_options, seconds
from lib.drill.nodes import Cluster
from lib.drill.writers import Writers, now

# Every writer must be acknowledged something new this long after a fault, or its end, at the latest. Far more than is
# promised: the leader backs off for up to 16 s after it gave shards up again and again, and CI machines are slow.
BOUND_S = 40.0
# What came sooner after a fault may have been on its way before.
ON_ITS_WAY_S = 0.3
# Bytes of each node's file system, and per second of drill.
DISK_BYTES = (1 << 30, 4 << 20)


class Struck:
    """What is told of a kind of fault."""

    def __init__(self):
        self.times = 0
        self.one, self.whole = [], []


class LogDrill(Frame):
    """The drill of the log alone."""

    # By then what a lost server held must be copied.
    COPIED_S = 60.0

    def __init__(self, args):
        super().__init__(args)
        program = pathlib.Path(args.zoolog).resolve()
        self.loadgen = pathlib.Path(args.loadgen).resolve() if args.loadgen else program.with_name("loadgen")
        self.seconds = seconds(args.for_)
        self.cluster = self.writers = None
        self.struck = {}
        self.late = []
        self.finalized, self.views = {}, 0
        self.wrong_views = []
        self.unexpected = []
        self.not_refused = []
        self.program = program

    def run(self):
        """All of it."""
        self.cluster = Cluster(self.program, self.home, self.args.port,
                               disk_bytes=DISK_BYTES[0] + int(self.seconds * DISK_BYTES[1]))
        kinds = self.kinds()
        self.struck = {kind.kind: Struck() for kind in kinds}
        self.say(f"seed {self.args.seed}; nodes: {' '.join(self.cluster.nodes)}; logs in {self.home}")
        self.writers = Writers(self.loadgen, self.cluster, self.home, self.args.writers, 2, self.args.rate)
        began = now()
        if not self.wait(lambda: not self.writers.since(began)):
            raise RuntimeError(f"the writers never began; see {self.home}/audit.err")
        self.say("all writers write")
        self.go_on(1.0)
        self.strike_on(kinds)
        self.judge()

    def close(self):
        if self.writers:
            self.writers.end()
        if self.cluster:
            self.cluster.end()

    def kinds(self):
        """Kinds of fault that can strike here."""
        kinds, disks = list(faults.KINDS), self.cluster.disks
        if disks.why_not_full:
            self.say(f"LEFT OUT: no disk will be full ({disks.why_not_full})")
            kinds.remove(faults.DiskFull)
        if disks.why_not_slow:
            self.say(f"a slow disk is a server that is stopped most of the time ({disks.why_not_slow})")
        help_ = subprocess.run([str(self.program), "admin", "--help"], capture_output=True, text=True).stdout
        for kind, word in ((faults.FinalizeByHand, "finalize"), (faults.WantShards, "want-shards")):
            if word not in help_:
                self.say(f"LEFT OUT: {kind.kind} (this build has no `zoolog admin {word}`)")
                kinds.remove(kind)
        return kinds

    # Time

    def wait(self, until, bound_s=BOUND_S, tend=lambda: None):
        """Keeps the nodes running until that is so; whether it came to be."""
        deadline = time.monotonic() + bound_s
        while time.monotonic() < deadline:
            self.cluster.tend()
            tend()
            if until():
                return True
            if self.writers and self.writers.process.poll() is not None:
                raise RuntimeError(f"the writers have ended; see {self.home}/audit.err")
            time.sleep(0.02)
        return False

    def go_on(self, for_s, tend=lambda: None):
        self.wait(lambda: False, for_s, tend)

    # Faults

    def strike_on(self, kinds):
        """Faults until the time is over and each kind has struck."""
        begun, number = time.monotonic(), 0
        gap = (0.2, 0.5) if self.seconds < 120 else (0.5, 2.0)
        for together in faults.schedule(self.args.seed, self.cluster, kinds, gap):
            over = time.monotonic() - begun >= self.seconds
            if over and (all(s.times for s in self.struck.values()) or number >= 3 * len(kinds)):
                return
            number += 1
            self.strike(number, together)

    def strike(self, number, together):
        """One fault, or several at once."""
        cluster = self.cluster
        leader = cluster.leader()
        if leader is None:
            self.wait(lambda: cluster.leader() is not None)
            leader = cluster.leader() or cluster.orderers[0]
        ends = {name: len(node.ends) for name, node in cluster.nodes.items()}
        at = now()
        for fault in together:
            fault.strike(leader)

        def tend():
            for fault in together:
                fault.tend()

        self.go_on(max(fault.hold for fault in together), tend)
        text, flows = " + ".join(f.what for f in together), len(together) == 1 and together[0].flows
        if flows:
            went_on = self.wait(lambda: not self.writers.since(at + ON_ITS_WAY_S), BOUND_S, tend)
            if not went_on:
                self.late.append(f"#{number} {text}: writers {self.writers.since(at + ON_ITS_WAY_S)} did not go on for {BOUND_S:.0f} s")
        for fault in together:
            fault.heal()
        cluster.heal()
        healed = now()
        if not self.wait(lambda: not self.writers.since(healed + 0.1)):
            self.late.append(f"#{number} after {text}: writers {self.writers.since(healed)} did not go on for {BOUND_S:.0f} s")
        for fault in together:
            fault.after(self)
        self.wait(lambda: all(node.is_up() for node in cluster.nodes.values()))
        one, whole = self.writers.longest_pause(at, now())
        self.note(number, together, text, ends, one, whole)
        self.look()
        self.go_on(together[0].gap)

    def note(self, number, together, text, ends, one, whole):
        """Writes down what a fault did."""
        for fault in together:
            struck = self.struck[fault.kind]
            struck.times += fault.hit
            # Of two at once nobody can tell which one it was.
            if len(together) == 1:
                struck.one.append(one)
                struck.whole.append(whole)
        full = {f.target for f in together if isinstance(f, faults.DiskFull)}
        for name, node in self.cluster.nodes.items():
            for code in node.ends[ends.get(name, 0):]:
                self.say(f"        {name} ended by itself, exit code {code}")
                if name not in full:
                    self.unexpected.append(f"#{number} {text}: {name} ended by itself, exit code {code}")
        self.say(f"#{number:<3} {text}: a writer waited {one:.2f} s, the log {whole:.2f} s")

    def look(self):
        """LOG-7 as the view has it: what is finalized stays as it is."""
        view = self.cluster.ask("log", "view")
        if not view:
            return
        self.views += 1
        for shard in view["shards"]:
            before = self.finalized.get(shard["shard"])
            if shard["state"] == "finalized":
                is_ = (shard["first"], shard["end"], [lane["records"] for lane in shard["lanes"]])
                self.finalized[shard["shard"]] = is_
            else:
                is_ = shard["state"]
            if before is not None and before != is_:
                self.wrong_views.append(f"shard {shard['shard']} was finalized as {before}, is {is_}")

    # Judgement

    def judge(self):
        """Reads everything back."""
        cluster, writers = self.cluster, self.writers
        self.go_on(1.0)
        self.look()
        self.say(f"{sum(writers.acked)} records acknowledged; reading everything back")
        self.table()
        self.check("LOG-5: after each fault all writers went on", self.late)
        code = writers.finish(60 + self.seconds)
        result = writers.result
        if not result:
            raise RuntimeError(f"the audit has no result, exit code {code}; see {self.home}/audit.err")
        made = result["checks"]
        for name, count in sorted(made["made"].items()):
            told = [text for text in made["told"] if text.startswith(name)]
            failed = made["failed"].get(name, 0)
            self.check(f"{name} ({count})", told or ([f"{failed} times"] if failed else []))
        self.check("the audit passed", [] if code == 0 else [f"exit code {code}"])
        self.check("every writer was acknowledged something", [f"writer {i}" for i, n in enumerate(writers.acked) if not n])
        self.writers = None
        self.one_down(result)
        self.lanes(result)
        self.check(f"LOG-9: what {len(cluster.lost)} lost servers held was copied", cluster.not_copied)
        self.check("what comes on an empty disk under a lost server's id is turned away", self.not_refused)
        self.check("no node's own logic was violated", cluster.panics())
        self.check("no node ended by itself, but on a full disk", self.unexpected)
        self.check("each kind of fault struck", [kind for kind, s in self.struck.items() if not s.times])
        self.check("SIGTERM ends every node in order", cluster.stop())
        self.fsck()

    def one_down(self, result):
        """LOG-2: with any one server down, the whole log is still there, and the same."""
        wrong = []
        for name in self.cluster.servers:
            self.cluster.nodes[name].held = True
            self.cluster.kill(name)
            reader = Writers(self.loadgen, self.cluster, self.home)
            deadline = time.monotonic() + 60 + self.seconds
            while reader.process.poll() is None and time.monotonic() < deadline:
                self.cluster.tend()
                time.sleep(0.02)
            code = reader.wait(1)
            seen = reader.result or {}
            for key in ("digest", "tail"):
                if seen.get(key) != result[key]:
                    wrong.append(f"{name} down: {key} {seen.get(key)}, was {result[key]}")
            if code != 0:
                wrong.append(f"{name} down: exit code {code}, {seen.get('checks', {}).get('told')}")
            self.cluster.nodes[name].held = False
            self.wait(lambda: self.cluster.nodes[name].is_up())
        self.wait(lambda: self.cluster.leader() is not None)
        self.check(f"LOG-2: all {result['tail']} positions are read back with each server down in turn", wrong)

    def lanes(self, result):
        """LOG-7: a finalized shard's lanes end where the view says."""
        if not self.views:
            self.say("LEFT OUT: what the view says of finalized shards (this build has no `zoolog log view`)")
            return
        wrong = list(self.wrong_views)
        for shard, (_, end, lens) in sorted(self.finalized.items()):
            for index, records in enumerate(lens):
                found = result["lanes"].get(f"{shard}/{index}", {"records": 0, "last_gsn": -1})
                if found["records"] != records or found["last_gsn"] >= end:
                    wrong.append(f"lane {shard}/{index} was finalized with {records} records before {end}, has {found}")
        self.check(f"LOG-7: {len(self.finalized)} finalized shards stayed as they were ended, in {self.views} views", wrong)

    def fsck(self):
        """What the stopped nodes' disks hold is whole."""
        wrong, looked = [], 0
        for name in self.cluster.nodes:
            answer = subprocess.run([str(self.program), "log", "fsck", str(self.cluster.disks.path(name) / "data")],
                                    capture_output=True, text=True)
            if "unrecognized subcommand" in answer.stderr:
                self.say("LEFT OUT: `zoolog log fsck` of the stopped nodes (this build has none)")
                return
            looked += 1
            if answer.returncode != 0:
                wrong.append(f"{name}: exit code {answer.returncode}: {(answer.stdout + answer.stderr).strip()[-300:]}")
        self.check(f"what {looked} stopped nodes have on disk is whole", wrong)

    def table(self):
        head = f"{'fault':<18} {'struck':>6}   {'longest wait of a writer':>24}  {'median':>7}   {'of the whole log':>16}"
        print(f"\n    {head}\n    {'-' * len(head)}")
        for kind, s in self.struck.items():
            times = [f"{max(s.one):.2f} s", f"{statistics.median(s.one):.2f} s", f"{max(s.whole):.2f} s"] if s.one else ["-"] * 3
            print(f"    {kind:<18} {s.times:>6}   {times[0]:>24}  {times[1]:>7}   {times[2]:>16}")
        print(flush=True)


def options(parser):
    """What it can be told."""
    common_options(parser, 29100)
    parser.add_argument("--for", dest="for_", default="10m", metavar="TIME",
                        help="how long faults strike, such as 45s or 10m (default 10m); at least until each kind has")
    parser.add_argument("--loadgen", help="the built loadgen (default: beside --zoolog)")
    parser.add_argument("--writers", type=int, default=8, help="writers (default 8)")
    parser.add_argument("--rate", type=float, default=400, help="records per second of all writers together (default 400)")


DRILL = LogDrill
