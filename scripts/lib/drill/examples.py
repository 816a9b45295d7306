"""Do the three examples of client/examples keep their promises, whatever happens below them and to them? Each of them in turn: one node
over an embedded log, killed in the middle of things; then the log goes on in a cluster underneath it while it works; two more
nodes join; then faults, drawn from a seed that is printed, one of each kind in random order, then anew, for as long as asked:
servers, orderers and nodes of the example are killed with SIGKILL, and a node is stopped, or stays dead, until the log
behind which it is has been trimmed, so that it must come back by another's snapshot. Each answer that anybody was given is kept,
and held against what the example promises (scripts/lib/drill/promises.py); in the end all nodes have the same state."""

import json
import pathlib
import random
import signal
import subprocess
import threading
import time

from lib.drill import promises
from lib.drill.frame import Frame, common_options, seconds
from lib.drill.nodes import end_with_parent
from lib.topology import Topology

# Whoever is up must have been answered something new this long after a fault at the latest.
RECOVERY_S = 30
# Commands after which a node of an example takes a snapshot here, and has the states compared.
SNAPSHOT_RECORDS = 40
# A cluster's servers are there by then.
READY_S = 60


class Unknown(Exception):
    """Nobody knows what became of it."""


class Refused(Exception):
    """It was not carried out."""


class Member:
    """A node of an example: its process, which does what it is told line by line."""

    def __init__(self, program, home, name, place):
        self.program, self.name, self.place = program, name, place
        self.directory, self.log = home / name, home / f"{name}.log"
        self.process = None
        self.paused = False
        self.answered = 0
        self.ends = []  # exit codes of ends that nobody asked for
        self.asked = False

    def start(self):
        command = [str(self.program), *self.place, "--dir", str(self.directory), "--snapshot-records",
                   str(SNAPSHOT_RECORDS), "--mark-records", str(SNAPSHOT_RECORDS)]
        self.paused = self.asked = False
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                            bufsize=1, preexec_fn=end_with_parent)

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9."""
        if self.process is not None:
            self.asked = True
            self.process.kill()
            self.process.wait()

    def pause(self, is_paused):
        self.paused = is_paused
        self.process.send_signal(signal.SIGSTOP if is_paused else signal.SIGCONT)

    def end(self, wait_s=30):
        """Has it end in order; its exit code."""
        self.asked = True
        self.process.stdin.close()
        try:
            return self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"none within {wait_s} s"

    def ask(self, line):
        """What it answers. Only one at a time asks."""
        process = self.process
        try:
            process.stdin.write(line + "\n")
            answer = process.stdout.readline()
        except (OSError, ValueError):
            answer = ""
        if not answer.endswith("\n"):
            raise Unknown
        answer = answer.strip()
        if answer.startswith("error: "):
            raise Unknown if "not known" in answer else Refused(answer)
        self.answered += 1
        return answer

    def snapshots(self):
        """Positions of its snapshots."""
        return sorted(int(p.stem) for p in (self.directory / "snapshots").glob("*.snapshot"))

    def consumer(self, structure):
        return f"{structure}/{(self.directory / 'node').read_text().strip()}"


class MapWork:
    """Puts ever higher numbers at keys of its own, and reads others'."""

    def __init__(self):
        self.history, self.keys, self.lock = promises.Map(), {}, threading.Lock()

    def step(self, member, rng):
        key, n = self.keys.get(member.name, (f"{member.name}.0", 0))
        if rng.random() < 0.6:
            # Whatever becomes of it: the next one goes on there, or elsewhere.
            self.keys[member.name] = (f"{member.name}.{int(key.split('.')[1]) + 1}", 0)
            sent, before = time.time(), None
            try:
                answer = member.ask(f"put {key} {n + 1}")
                before = 0 if answer == "(none)" else int(answer)
                self.keys[member.name] = (key, n + 1)
            except Refused:
                self.keys[member.name] = (key, n)
                raise
            finally:
                with self.lock:
                    self.history.put(key, n + 1, sent, time.time(), before)
        else:
            key = rng.choice(list(self.keys.values()) or [(key, 0)])[0]
            sent = time.time()
            answer = member.ask(f"get {key}")
            with self.lock:
                self.history.get(key, 0 if answer == "(none)" else int(answer), sent, time.time())

    def finish(self, member):
        """Every key is read once more."""
        for key in sorted({p[0] for p in self.history.puts}):
            sent = time.time()
            answer = member.ask(f"get {key}")
            self.history.get(key, 0 if answer == "(none)" else int(answer), sent, time.time())
        return len(self.history.puts) + len(self.history.gets)


class QueueWork:
    """Adds jobs, takes some, for short and for long, and does them."""

    LEASES_MS = (100, 600, 3_000)
    # More are not left undone: the queue's snapshots would grow, and come ever more seldom.
    JOBS = 150

    def __init__(self):
        self.history, self.lock, self.added, self.finished = promises.Queue(), threading.Lock(), 0, 0
        self.taken = {}

    def step(self, member, rng):
        mine = self.taken.setdefault(member.name, [])
        choice = rng.random()
        if choice < 0.4 and self.added - self.finished < self.JOBS:
            with self.lock:
                self.added += 1
                work = f"work-{self.added}"
            number = None
            try:
                number = int(member.ask(f"add {work}").removeprefix("added "))
            finally:
                with self.lock:
                    self.history.add(work, number)
        elif not mine or (choice < 0.7 and len(mine) < 20):
            self.take(member, mine, rng.choice(self.LEASES_MS))
        else:
            self.do(member, mine.pop(rng.randrange(len(mine))))

    def take(self, member, mine, lease_ms):
        sent = time.time()
        answer = member.ask(f"take {member.name} {lease_ms}")
        if not answer.startswith("yours "):
            return False
        _, number, work = answer.split(" ", 2)
        with self.lock:
            self.history.take(member.name, int(number), work, lease_ms / 1000, sent, time.time())
        mine.append(int(number))
        return True

    def do(self, member, number):
        sent, is_done = time.time(), None
        try:
            is_done = member.ask(f"done {member.name} {number}") == "done"
        except Refused:
            is_done = False
            raise
        finally:
            with self.lock:
                self.finished += is_done is not False
                self.history.done(member.name, number, is_done, sent, time.time())

    def finish(self, member):
        """What is left is done, once whoever has it has had it long enough."""
        deadline = time.monotonic() + RECOVERY_S
        while member.ask("count") != "0" and time.monotonic() < deadline:
            mine = []
            while self.take(member, mine, 60_000):
                self.do(member, mine.pop())
            time.sleep(0.05)
        return len(self.history.takes) + len(self.history.dones) + len(self.history.adds)


class LockWork:
    """Wants the lock for a while, writes, and gives it back or lets its lease run out."""

    LEASES_MS = (150, 1_000)

    def __init__(self):
        self.history, self.lock = promises.Lock(), threading.Lock()
        self.hold, self.late, self.count = {}, {}, {}

    def step(self, member, rng):
        owner = member.name
        hold = self.hold.get(owner)
        if hold is None:
            lease_ms, sent, token = rng.choice(self.LEASES_MS), time.time(), None
            try:
                answer = member.ask(f"lock it {owner} {lease_ms}")
                token = int(answer.split()[1]) if answer.startswith("token ") else 0
            except Refused:
                token = 0
                raise
            finally:
                with self.lock:
                    self.history.lock(owner, token, lease_ms / 1000, sent, time.time())
            if token:
                # Locked again it may be the token that it had.
                self.hold[owner] = (token, self.count.get(token, 0))
            else:
                # Meanwhile: does a token that is over still write?
                if owner in self.late and rng.random() < 0.3:
                    self.write(member, *self.late[owner])
                    self.late[owner] = (self.late[owner][0], self.late[owner][1] + 1)
                self.read(member)
                time.sleep(0.01)
            return
        token, n = hold
        choice = rng.random()
        if choice < 0.6:
            # Whatever becomes of the write: it is given up, unless that is known.
            self.hold.pop(owner)
            self.late.pop(owner, None)
            self.write(member, token, n + 1)
            self.hold[owner] = (token, n + 1)
        elif choice < 0.8:
            self.read(member)
        else:
            self.hold.pop(owner)
            self.late[owner] = (token, n + 1)
            if rng.random() < 0.7:
                with self.lock:
                    self.history.unlock(token, time.time())
                member.ask(f"unlock it {token}")

    def write(self, member, token, n):
        sent, is_written = time.time(), None
        self.count[token] = max(n, self.count.get(token, 0))
        try:
            is_written = member.ask(f"write it {token} {token}.{n}") == "written"
        except Unknown:
            self.late.pop(member.name, None)
            raise
        except Refused:
            is_written = False
            raise
        finally:
            with self.lock:
                self.history.write(token, n, is_written, sent, time.time())

    def read(self, member):
        sent = time.time()
        answer = member.ask("read it")
        token, n = (int(part) for part in answer.split(".")) if answer else (0, 0)
        with self.lock:
            self.history.read(token, n, sent, time.time())

    def finish(self, member):
        self.read(member)
        return len(self.history.held) + len(self.history.writes) + len(self.history.reads)


WORKS = {"map": MapWork, "queue": QueueWork, "lock": LockWork}


class Run:
    """One example through all of it."""

    def __init__(self, drill, example, port):
        self.drill, self.example, self.port = drill, example, port
        self.home = drill.home / example
        self.home.mkdir(parents=True)
        self.rng = random.Random(f"{drill.args.seed} {example}")
        self.work = WORKS[example]()
        self.local = f"local:{self.home / 'log'}"
        self.members, self.threads, self.ending = [], [], False
        self.topology = None
        self.failures = []

    def say(self, text):
        self.drill.say(f"{self.example}: {text}")

    # Members, and their workers

    def join(self, name, place):
        member = Member(self.drill.examples / self.example, self.home, name, place)
        member.start()
        self.members.append(member)
        thread = threading.Thread(target=self.keep_working, args=(member, random.Random(f"{self.rng.random()}")))
        thread.start()
        self.threads.append(thread)
        return member

    def keep_working(self, member, rng):
        while not self.ending:
            if not member.is_up():
                time.sleep(0.01)
                continue
            try:
                self.work.step(member, rng)
                time.sleep(0.002)  # they are to be many, but not as many as can be
            except Unknown:
                time.sleep(0.01)
            except Refused as refused:
                if "has ended" in str(refused) or "nothing to me" in str(refused):
                    self.failures.append(f"{member.name}: {refused}")
                time.sleep(0.05)
            except Exception as error:  # pylint: disable=broad-except
                self.failures.append(f"{member.name}'s worker: {error!r}")
                return

    def tend(self):
        """What ended by itself is noted, and started again."""
        for member in self.members:
            if member.process.poll() is not None and not member.asked:
                member.ends.append(f"{member.name}: exit code {member.process.returncode}, "
                                   f"{member.log.read_text(errors='replace').strip()[-300:]}")
                member.start()

    def wait_for_progress(self, what):
        """Waits until whoever is up was answered several things; returns the seconds."""
        members = [m for m in self.members if m.is_up() and not m.paused]
        before, began = [m.answered for m in members], time.monotonic()
        while time.monotonic() - began < RECOVERY_S:
            if all(m.answered >= b + 3 for m, b in zip(members, before)):
                return time.monotonic() - began
            self.tend()
            time.sleep(0.01)
        silent = [m.name for m, b in zip(members, before) if m.answered < b + 3]
        raise RuntimeError(f"{self.example}, {what}: {silent} answered nothing for {RECOVERY_S} s")

    # What happens

    def begin(self):
        """In one process; killed in the middle of things."""
        self.join("one", ["--log", self.local])
        for _ in range(3):
            self.wait_for_progress("over an embedded log")
            time.sleep(self.rng.uniform(0.1, 0.5))
            self.members[0].kill()
            self.members[0].start()
        self.wait_for_progress("over an embedded log")

    def zoolog(self, *words):
        return subprocess.run([str(self.drill.program), *words], capture_output=True, text=True, timeout=60)

    def exchange(self):
        """The log goes on in a cluster."""
        cluster = self.home / "cluster"
        cluster.mkdir()
        self.orderers = ",".join(f"127.0.0.1:{self.port + i}" for i in range(3))
        file = cluster / "cluster.toml"
        made = self.zoolog("admin", "init", "--succeeds", self.local, "--orderers", self.orderers, "--shards", "2",
                           "--replicas", "2", "--servers", "3", "--out", str(file))
        if made.returncode != 0:
            raise RuntimeError(f"{self.example}: {made.stdout}{made.stderr}")
        self.topology = Topology(self.drill.program, cluster, self.port + 10, self.port + 20, zk=0)
        self.topology.start()
        deadline = time.monotonic() + READY_S
        while True:
            said = self.zoolog("admin", "log", "switch", "--log", self.local, "--to", str(file), "--json")
            if said.returncode == 0:
                break
            if said.returncode != 3 or time.monotonic() > deadline:
                raise RuntimeError(f"{self.example}: the log can't be exchanged: {said.stdout}{said.stderr}")
            time.sleep(0.05)
        self.tail = json.loads(said.stdout)["tail"]
        took = self.wait_for_progress("after the exchange of the log")
        self.say(f"the log goes on in a cluster from {self.tail} on; answered again after {took:.2f} s")
        self.members[0].kill()
        self.members[0].start()
        self.wait_for_progress("killed after the exchange")

    def grow(self):
        """Two more join, who never saw the embedded log: what it held they have from a snapshot."""
        for name in ("two", "three"):
            self.join(name, ["--orderers", self.orderers])
        took = self.wait_for_progress("two more nodes join")
        self.say(f"two more nodes work after {took:.2f} s, by the first one's snapshot")

    def consumers(self):
        said = self.zoolog("admin", "consumers", "--json", "--orderers", self.orderers)
        return json.loads(said.stdout) if said.returncode == 0 else None

    def kill_server(self):
        return self.kill_node("shard-")

    def kill_orderer(self):
        return self.kill_node("order-")

    def kill_node(self, kind):
        name = self.rng.choice([n for n in self.topology.nodes() if n.startswith(kind)])
        self.topology.wait_restarted(name, self.topology.kill(name))
        return f"kill -9 {name}"

    def kill_member(self):
        member = self.rng.choice(self.members)
        member.kill()
        time.sleep(self.rng.uniform(0, 0.3))
        member.start()
        return f"kill -9 of node {member.name}"

    def stop_behind_trim(self):
        return self.leave_behind(lambda m: m.pause(True), lambda m: m.pause(False), "stopped")

    def die_behind_trim(self):
        return self.leave_behind(lambda m: m.kill(), lambda m: m.start(), "dead")

    def leave_behind(self, leave, come_back, how):
        """A node is away until the log was trimmed beyond what it has."""
        member = self.rng.choice(self.members)
        leave(member)
        deadline = time.monotonic() + RECOVERY_S
        behind = None
        while time.monotonic() < deadline:
            state = self.consumers()
            if state is not None and behind is None:
                behind = state["tail"]
            if state is not None and state["trim"] > behind:
                break
            self.zoolog("admin", "consumers", "forget", member.consumer(self.example), "--orderers", self.orderers)
            self.tend()
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{self.example}: the log is not trimmed beyond {behind}: {state}")
        come_back(member)
        took = self.wait_for_progress(f"node {member.name} was {how} while the log was trimmed")
        if how == "dead":
            # Who was stopped may have been sent it all before.
            newest = max(member.snapshots(), default=0)
            self.drill.check(f"{self.example}: node {member.name}, dead before {behind} until the log was trimmed to "
                             f"{state['trim']}, works again after {took:.2f} s", [] if newest >= state["trim"] else
                             [f"its newest snapshot is {newest}"])
        return f"node {member.name} was {how} while the log was trimmed"

    def leave_embedded(self):
        """The first node needs nothing of the embedded log any more: it is started as the others are."""
        member = self.members[0]
        deadline = time.monotonic() + RECOVERY_S
        while sum(gsn > self.tail for gsn in member.snapshots()) < 2:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.example}: the first node has no snapshots behind {self.tail}")
            time.sleep(0.05)
        member.place = ["--orderers", self.orderers]
        member.kill()
        member.start()
        return "the first node leaves the embedded log"

    def strike(self, seconds):
        """Faults, one of each kind and then anew."""
        until, first = time.monotonic() + seconds, True
        while first or time.monotonic() < until:
            faults = [self.kill_server, self.kill_orderer, self.kill_member, self.stop_behind_trim, self.die_behind_trim]
            if first:
                faults.append(self.leave_embedded)
            self.rng.shuffle(faults)
            for fault in faults:
                if not first and time.monotonic() > until:
                    break
                text = fault()
                took = self.wait_for_progress(text)
                self.say(f"{text}; all work on after {took:.2f} s")
                time.sleep(self.rng.uniform(0.1, 0.5))
            first = False

    # In the end

    def verify(self):
        self.ending = True
        for thread in self.threads:
            thread.join(RECOVERY_S)
        self.drill.check(f"{self.example}: no worker hangs", [t.name for t in self.threads if t.is_alive()])
        asked = self.work.finish(self.rng.choice(self.members))
        wrong = list(self.work.history.wrong())
        self.drill.check(f"{self.example}: what {asked} answers said is what it promises", wrong)
        self.drill.check(f"{self.example}: all nodes have the same state", self.hashes())
        self.drill.check(f"{self.example}: no node ended by itself, or refused what it should do",
                         self.failures + [end for m in self.members for end in m.ends])
        ends = [f"{m.name}: {code}" for m, code in ((m, m.end()) for m in self.members) if code != 0]
        code = self.topology.stop()
        self.drill.check(f"{self.example}: all end in order", ends + ([] if code == 0 else [f"the cluster: {code}"]))

    def hashes(self):
        """Each says where it is, and its hash there; nobody proposes, but marks may still come."""
        for _ in range(50):
            said = {m.name: m.ask("hash") for m in self.members}
            if len(set(said.values())) == 1:
                return []
            positions = {answer.split()[0] for answer in said.values()}
            if len(positions) == 1:
                break
            time.sleep(0.1)
        return [f"{name}: {answer}" for name, answer in said.items()]

    def close(self):
        self.ending = True
        for member in self.members:
            if member.is_up():
                member.kill()
        if self.topology is not None and self.topology.process is not None:
            self.topology.stop()


class ExamplesDrill(Frame):
    """The drill of the examples, one after the other."""

    def __init__(self, args):
        super().__init__(args)
        self.program = pathlib.Path(args.zoolog).resolve()
        self.examples = pathlib.Path(args.examples or self.program.parent / "examples").resolve()
        self.runs = []

    def run(self):
        chosen = self.args.example or list(WORKS)
        self.say(f"seed {self.args.seed}; {', '.join(chosen)}")
        for i, example in enumerate(chosen):
            run = Run(self, example, self.args.port + 100 * i)
            self.runs.append(run)
            run.begin()
            run.exchange()
            run.grow()
            run.strike(seconds(self.args.for_) / len(chosen))
            run.verify()
            run.close()

    def close(self):
        for run in self.runs:
            run.close()


def options(parser):
    """What it can be told."""
    common_options(parser, 23100)
    parser.add_argument("--for", dest="for_", default="2m", metavar="TIME",
                        help="how long faults strike, all examples together, such as 45s or 10m (default 2m); at least until each kind has")
    parser.add_argument("--examples", metavar="DIR", help="where the built examples are (default: `examples` beside --zoolog)")
    parser.add_argument("--example", action="append", choices=list(WORKS), help="only this one; may be given several times")


DRILL = ExamplesDrill
