"""Does anything acknowledged get lost when processes die? Starts `zoolog dev --isolate process --zk 3` in a
fresh directory, keeps clients writing, kills every node with SIGKILL in random order, an orderer leader among
them, has one ZooKeeper node lose all its files, takes all orderers away for longer than sessions may be silent, then kills
all of them at once; restarts; and checks that every acknowledged write is there, none twice, that all ZooKeeper nodes
have the same state, that no session expired whose client was there and every one whose client had gone, that ephemerals
lived exactly as long as their sessions, and that each change of a watched node was told before it was seen, and once.
Takes about a minute and a half."""

import logging
import pathlib
import random
import shutil
import time

from lib.deps import ensure_kazoo
from lib.drill.frame import Frame, common_options
from lib.drill.guests import STAYING_MS, Guests
from lib.topology import Topology

ensure_kazoo()

from lib.history import ROOT, Writer, client_for, everything, missing_and_doubled  # noqa: E402

# Clients must see new acknowledgements this long after a fault at the latest.
RECOVERY_S = 20

# Records after which a ZooKeeper node takes a snapshot in this drill.
SNAPSHOT_RECORDS = 1500


class ZkDrill(Frame):
    """The drill of everything, as ZooKeeper's clients see it."""

    def __init__(self, args):
        super().__init__(args)
        logging.getLogger("kazoo").setLevel(logging.CRITICAL)
        self.rng = random.Random(args.seed)
        # Snapshots so often that nodes start from them, and the log below them is trimmed.
        self.topology = Topology(pathlib.Path(args.zoolog).resolve(), self.home / "data", args.port, args.admin_port,
                                 more=["--set", f"zk.snapshot_records={SNAPSHOT_RECORDS}",
                                       "--executors", str(args.executors)])
        self.writers = []
        self.guests = None

    def run(self):
        """All of it."""
        took = self.topology.start()
        self.say(f"ready after {took:.1f} s: zk={','.join(self.topology.hosts)}")
        self.writers = [Writer(i, self.topology.hosts) for i in range(self.args.writers)]
        for writer in self.writers:
            writer.open()
        self.guests = Guests(self.topology.hosts, [f"{w.home}/v" for w in self.writers])
        self.guests.open()
        for writer in self.writers:
            writer.start()
        time.sleep(2)
        self.kill_each()
        self.wipe_one()
        self.take_the_orderers_away()
        self.kill_everything()
        self.verify()
        self.check("SIGTERM ends it in order", self.stop())

    def close(self):
        if self.topology.process is not None:
            self.topology.stop()

    def stop(self):
        code = self.topology.stop()
        return [] if code == 0 else [f"exit code {code}"]

    def acknowledged(self):
        return sum(w.acknowledged for w in self.writers)

    def wait_for_progress(self, what):
        """Waits until every writer has been acknowledged something since now; returns the seconds."""
        before = [w.acknowledged for w in self.writers]
        began = time.monotonic()
        while time.monotonic() - began < RECOVERY_S:
            going = [w.acknowledged > b for w, b in zip(self.writers, before)]
            if all(going):
                return time.monotonic() - began
            time.sleep(0.01)
        silent = [w.index for w, ok in zip(self.writers, going) if not ok]
        raise RuntimeError(f"{what}: writers {silent} had nothing acknowledged for {RECOVERY_S} s")

    def kill_each(self):
        nodes = self.topology.nodes()
        self.say(f"seed {self.args.seed}; nodes: {' '.join(nodes)}")
        self.rng.shuffle(nodes)
        killed, leaders = set(), []
        while nodes:
            name = nodes.pop(0)
            if name.startswith("order-"):
                name, nodes = self.leader_first(name, nodes, leaders)
            self.kill_one(name, name in leaders)
            killed.add(name)
        kinds = {name.split("-")[0] for name in killed}
        wrong = [] if {"order", "shard", "zk"} <= kinds else [f"only {sorted(killed)} were there"]
        # Where nobody could say who leads, all orderers in turn were killed, so the leader was too.
        self.check(f"{len(killed)} nodes killed one by one, leaders {leaders or 'unknown'}; writes went on", wrong)

    def leader_first(self, name, nodes, leaders):
        """When it is an orderer's turn and none has been killed as leader yet, takes the leader."""
        leader = self.topology.leader()
        if leaders or leader is None:
            return name, nodes
        leaders.append(leader)
        if leader != name:
            # The other one's turn comes where the leader's would have, or next if the leader had its turn.
            nodes = [name if n == leader else n for n in nodes] if leader in nodes else [name] + nodes
        return leader, nodes

    def kill_one(self, name, is_leader):
        # One dead orderer or ZooKeeper node must not stop the others; a shard's records have to wait for it.
        held = not name.startswith("shard-") and self.rng.random() < 0.5
        if held:
            self.topology.hold(name, True)
        before = self.acknowledged()
        self.guests.abandon()
        pid = self.topology.kill(name)
        text = f"kill -9 {name}{' (leader)' if is_leader else ''}"
        if held:
            took = self.wait_for_progress(f"{name} is down")
            time.sleep(1)
            self.topology.hold(name, False)
            text += f", held down; acknowledged again after {took:.2f} s"
        self.topology.wait_restarted(name, pid)
        took = self.wait_for_progress(f"{name} is back")
        self.say(f"{text}; all writers go on {took:.2f} s after its restart, "
                 f"{self.acknowledged() - before} acknowledged meanwhile")
        time.sleep(self.rng.uniform(0.2, 1.0))

    def wipe_one(self):
        """A ZooKeeper node loses its whole directory, and serves again without a hand."""
        n = self.rng.randrange(self.topology.zk)
        name, host = f"zk-{n}", self.topology.hosts[n]
        self.topology.hold(name, True)
        pid = self.topology.kill(name)
        shutil.rmtree(self.topology.directory / "nodes" / name / "data")
        took = self.wait_for_progress(f"{name} is down")
        self.topology.hold(name, False)
        began = time.monotonic()
        self.topology.wait_restarted(name, pid)
        while "zk_applied_gsn" not in self.topology.monitor(host) and time.monotonic() - began < RECOVERY_S:
            time.sleep(0.05)
        back = time.monotonic() - began
        says = (self.topology.directory / "nodes" / name / "log").read_text(errors="replace")
        how = "from another's snapshot" if "it goes on at" in says else "from the log alone"
        self.say(f"kill -9 {name} and all its files gone; acknowledged again after {took:.2f} s; back {how} after {back:.2f} s")
        self.check(f"{name} serves again by itself", [] if back < RECOVERY_S else ["it doesn't"])

    def take_the_orderers_away(self):
        """For longer than any guest's timeout: while nothing is ordered, nobody may expire."""
        names = [name for name in self.topology.nodes() if name.startswith("order-")]
        for name in names:
            self.topology.hold(name, True)
        pids = {name: self.topology.kill(name) for name in names}
        away_s = 1.5 * STAYING_MS / 1000
        time.sleep(away_s)
        for name in names:
            self.topology.hold(name, False)
        for name, pid in pids.items():
            self.topology.wait_restarted(name, pid)
        took = self.wait_for_progress("the orderers are back")
        self.say(f"kill -9 of all {len(names)} orderers, held down for {away_s:.0f} s; all writers go on {took:.2f} s after that")

    def kill_everything(self):
        count = self.topology.kill_all()
        self.say(f"kill -9 of all {count} nodes at once; {self.acknowledged()} writes acknowledged so far")
        time.sleep(0.5)
        took = self.topology.start()
        self.say(f"restarted, ready after {took:.1f} s")
        took = self.wait_for_progress("after the restart of everything")
        self.check(f"all writers go on {took:.1f} s after everything was killed", [])
        time.sleep(2)

    def verify(self):
        hung = self.guests.end()
        self.say(self.guests.counts())
        self.check("no session has expired whose client was there, and its ephemerals were there all the time",
                   self.guests.wrong_with_sessions())
        self.check("each change was told to who watched before it was seen, and once", self.guests.wrong_with_watches())
        self.check("ephemerals, and sessions, have gone with a goodbye and with the timeout, on every node",
                   self.guests.wrong_at_the_end())
        hung += [f"writer {w.index} hangs" for w in self.writers if not w.close()]
        unknown = sum(w.unknown for w in self.writers)
        self.say(f"{self.acknowledged()} writes acknowledged, {unknown} unknown")
        self.check("no client hangs", hung)
        trees = []
        for first, host in enumerate(self.topology.hosts):
            client = client_for([host], first)
            client.start(timeout=30)
            client.sync(ROOT)
            trees.append(everything(client, ROOT))
            client.stop()
            client.close()
        self.check(f"every acknowledged write is there, none twice ({len(trees[0])} nodes)",
                   missing_and_doubled(self.writers, trees[0]))
        self.check("no write was seen to go wrong while it ran", [line for w in self.writers for line in w.wrong])
        differ = [f"{p}: {[t.get(p) for t in trees]}" for p in sorted(set().union(*trees))
                  if any(t.get(p) != trees[0].get(p) for t in trees)]
        self.check("all ZooKeeper nodes show the same tree", differ)
        self.check("all ZooKeeper nodes have the same state hash at the same GSN", self.hashes())
        self.check("every ZooKeeper node has started from a snapshot", self.snapshots())

    def snapshots(self):
        """What is wrong with the snapshots: a node that has none, or that never started from one."""
        wrong = []
        for name in (f"zk-{n}" for n in range(self.topology.zk)):
            node = self.topology.directory / "nodes" / name
            if not list((node / "data" / "snapshots").glob("*.snapshot")):
                wrong.append(f"{name} has no snapshot")
            if "starting from the snapshot" not in (node / "log").read_text(errors="replace"):
                wrong.append(f"{name} never started from one")
        return wrong

    def hashes(self):
        """Watches (GSN, hash) of each node until all have shown one GSN; compares every GSN seen by several."""
        seen = {}
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for host in self.topology.hosts:
                says = self.topology.monitor(host)
                if "zk_applied_gsn" in says and "zk_state_hash" in says:
                    seen.setdefault(says["zk_applied_gsn"], {})[host] = says["zk_state_hash"]
            differ = [f"GSN {gsn}: {by}" for gsn, by in seen.items() if len(set(by.values())) > 1]
            if differ:
                return differ
            common = [gsn for gsn, by in seen.items() if len(by) == len(self.topology.hosts)]
            if common:
                gsn = common[0]
                self.say(f"at GSN {gsn} all have hash {next(iter(seen[gsn].values()))}")
                return []
            time.sleep(0.02)
        return [f"no GSN was shown by all {len(self.topology.hosts)} nodes: {list(seen.items())[:5]}"]


def options(parser):
    """What it can be told."""
    common_options(parser, 22181)
    parser.add_argument("--writers", type=int, default=6, help="clients that write (default 6)")
    parser.add_argument("--admin-port", type=int, default=28080, help="admin port (default 28080)")
    parser.add_argument("--executors", type=int, default=1, help="of each ZooKeeper node (default 1)")


DRILL = ZkDrill
