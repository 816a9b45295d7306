"""What can go wrong? Each kind of fault draws what it does from the drill's random numbers alone, so that a seed
means the same faults again; who leads, and which servers take appends, is only known when it strikes."""

import random
import time

# How long a fault is held at least, in seconds, unless its kind says otherwise.
HOLD_S = (0.5, 3.0)
CLIENT = "client"
LEADER = "leader"


class Fault:
    """One fault: what was drawn, then what was done."""

    # What it is called in the table, and whether appends must flow again while it lasts.
    kind, flows = "", True
    hold_s = HOLD_S

    def __init__(self, rng, cluster, gap_s):
        self.cluster = cluster
        self.hold = rng.uniform(*self.hold_s)
        # Between its end and the next one.
        self.gap = rng.uniform(*gap_s)
        self.what = ""
        self.hit = True
        self.shards = None
        self.draw(rng)

    def draw(self, rng):
        """Draws what it needs; always as often."""

    def strike(self, leader):
        """Does it, with `leader` as the orderer that leads; sets `what`, and `hit` if it came to nothing."""

    def tend(self):
        """Called often while it lasts."""

    def heal(self):
        """Undoes what `Cluster.heal` does not undo."""

    def after(self, drill):
        """What comes once all is well again."""

    def named(self, drawn, leader):
        """Who is meant by what was drawn: the leader, the clients, one of the servers that now take appends (a number),
        or of two that share a shard the one or the other (a pair of numbers)."""
        if self.shards is None and not isinstance(drawn, str):
            self.shards = self.cluster.sharing()
        if isinstance(drawn, int):
            busy = sorted({name for shard in self.shards for name in shard})
            return busy[drawn % len(busy)]
        if isinstance(drawn, tuple):
            shards = self.shards
            shard = shards[drawn[0] % len(shards)]
            return shard[(drawn[1] + drawn[2]) % len(shard)]
        return leader if drawn == LEADER else drawn


def some(rng):
    """One of the servers, for `Fault.named`."""
    return rng.randrange(1 << 16)


def two(rng):
    """Two servers that share something."""
    shard, first = rng.randrange(1 << 16), rng.randrange(1 << 16)
    return (shard, first, 0), (shard, first, 1)


def every_other(cluster, name):
    """All that a node talks to, clients included."""
    return [n for n in [*cluster.nodes, CLIENT] if n != name]


def both_ways(name, others):
    return [(name, o) for o in others] + [(o, name) for o in others]


class Kill(Fault):
    """kill -9 of one node, which comes back at once or after the others have gone on without it."""

    def draw(self, rng):
        self.i = some(rng)
        self.at_once = rng.random() < 0.25

    def target(self, leader):
        return self.named(self.i, leader)

    def strike(self, leader):
        target = self.target(leader)
        self.cluster.nodes[target].held = not self.at_once
        self.cluster.kill(target)
        self.what = f"kill -9 {target}" + (", back at once" if self.at_once else "")


class KillServer(Kill):
    kind = "kill a server"


class KillOrderer(Kill):
    kind = "kill an orderer"

    def target(self, leader):
        followers = [n for n in self.cluster.orderers if n != leader]
        return followers[self.i % len(followers)]


class KillLeader(Kill):
    kind = "kill the leader"

    def target(self, leader):
        return leader


class LoseServer(Fault):
    """A server is gone with its disk, and never comes back. Half of the time one comes on an empty disk under the same id
    first, which has to be turned away; then another joins, under a new one. What the lost one held has to be copied before
    this strikes again: two copies are all there are."""

    kind = "lose a server"

    def draw(self, rng):
        self.i = some(rng)
        self.wiped = rng.random() < 0.5

    def strike(self, leader):
        self.name = self.named(self.i, leader)
        self.hit = not self.cluster.not_copied
        if self.hit:
            self.cluster.lose(self.name)
        self.what = f"{self.name} and its disk are lost" if self.hit else "nothing is lost, copies are missing"

    def after(self, drill):
        if not self.hit:
            return
        if self.wiped and not self.cluster.is_refused(self.name):
            drill.not_refused.append(f"{self.name}, on an empty disk")
        begun = time.monotonic()
        drill.say(f"        {self.cluster.replace(self.name)} joins")
        while time.monotonic() < begun + drill.COPIED_S:
            drill.go_on(0.3)
            left = self.cluster.holds_alone(self.name)
            if left == []:
                return drill.say(f"        what {self.name} held is copied after {time.monotonic() - begun:.1f} s")
        self.cluster.not_copied.append(f"shards {left} of {self.name}")


class KillAll(Fault):
    kind, flows, hold_s = "kill everything", False, (0.0, 1.0)

    def strike(self, leader):
        for name in self.cluster.nodes:
            self.cluster.nodes[name].held = True
        for name in self.cluster.nodes:
            self.cluster.kill(name)
        self.what = "kill -9 of all nodes at once"


class Pause(Fault):
    hold_s = (0.5, 4.0)
    flows = False

    def draw(self, rng):
        self.i = some(rng)

    def target(self, leader):
        return self.named(self.i, leader)

    def strike(self, leader):
        self.name = self.target(leader)
        self.cluster.pause(self.name, True)
        self.what = f"{self.name} is stopped for {self.hold:.1f} s"


class PauseServer(Pause):
    kind = "pause a server"


class PauseLeader(Pause):
    kind = "pause the leader"

    def target(self, leader):
        return leader


class Network(Fault):
    """What the proxy does to some links."""

    def lay(self, links):
        self.cluster.proxy.do("cut", links=links)

    def strike(self, leader):
        links, self.what = self.links(leader)
        self.lay(links)


class CutOffServer(Network):
    kind = "cut off a server"

    def draw(self, rng):
        self.i = some(rng)

    def links(self, leader):
        name = self.named(self.i, leader)
        return both_ways(name, every_other(self.cluster, name)), f"{name} reaches nobody"


class CutOffLeader(Network):
    kind = "cut off the leader"

    def links(self, leader):
        return both_ways(leader, every_other(self.cluster, leader)), f"{leader} (leader) reaches nobody"


class Apart(Network):
    """Two that don't hear each other."""

    kind = "cut a pair apart"

    def draw(self, rng):
        a, b = two(rng)
        self.pair = rng.choice([(a, b), (a, LEADER), (a, CLIENT), (a, b)])

    def links(self, leader):
        a, b = (self.named(n, leader) for n in self.pair)
        return [(a, b), (b, a)], f"{a} and {b} don't reach each other"


class OneWay(Network):
    """One that isn't heard by another, but hears it."""

    kind = "cut one way"

    def draw(self, rng):
        a, b = two(rng)
        self.pair = rng.choice([(a, b), (a, LEADER), (LEADER, a), (CLIENT, a), (a, CLIENT)])

    def links(self, leader):
        a, b = (self.named(n, leader) for n in self.pair)
        return [(a, b)], f"{b} doesn't hear {a}"


class Deaf(Network):
    """One that hears nobody, but is heard."""

    kind = "cut off one way"

    def draw(self, rng):
        self.i = rng.choice([some(rng), LEADER])
        self.mute = rng.random() < 0.5

    def links(self, leader):
        name = self.named(self.i, leader)
        others = every_other(self.cluster, name)
        if self.mute:
            return [(name, o) for o in others], f"nobody hears {name}"
        return [(o, name) for o in others], f"{name} hears nobody"


class Delay(Network):
    kind = "delay"

    def draw(self, rng):
        self.i = rng.choice([some(rng), LEADER, CLIENT])
        self.ms = round(10 ** rng.uniform(0.7, 2.2))

    def links(self, leader):
        name = self.named(self.i, leader)
        return both_ways(name, every_other(self.cluster, name)), f"{self.ms} ms between {name} and all others, each way"

    def lay(self, links):
        self.cluster.proxy.do("delay", links=links, ms=self.ms)


class Reset(Delay):
    kind = "reset connections"

    def links(self, leader):
        name = self.named(self.i, leader)
        return both_ways(name, every_other(self.cluster, name)), f"all connections of {name} end"

    def lay(self, links):
        self.ends = self.cluster.proxy.do("reset", links=links)["hit"]
        self.hit = self.ends > 0
        self.what += f" ({self.ends})"


class DiskFull(Fault):
    """No byte is free any more, for a server or an orderer; sometimes it has to start on it."""

    kind, flows, hold_s = "disk full", False, (1.5, 5.0)

    def draw(self, rng):
        i = some(rng)
        self.i = rng.choice([i, i, *self.cluster.orderers])
        self.killed = rng.random() < 0.4

    def strike(self, leader):
        self.target = self.named(self.i, leader)
        self.cluster.disks.fill(self.target)
        if self.killed:
            self.cluster.kill(self.target)
        self.what = f"the disk of {self.target} is full" + (", and it is restarted" if self.killed else "")

    def heal(self):
        self.cluster.disks.free(self.target)


class DiskSlow(Fault):
    kind = "disk slow"
    hold_s = (1.5, 5.0)

    def draw(self, rng):
        self.i = some(rng)

    def strike(self, leader):
        self.target = self.named(self.i, leader)
        disks = self.cluster.disks
        self.limited = disks.throttle is not None and self.target in disks.groups
        if self.limited:
            disks.slow(self.target, True)
            self.what = f"the disk of {self.target} does a few writes a second"
        else:
            self.what = f"{self.target} stands still 9 parts of 10 (no limit of writes here: {disks.why_not_slow})"

    def tend(self):
        if not self.limited:
            self.cluster.pause(self.target, time.monotonic() % 0.5 < 0.45)

    def heal(self):
        if self.limited:
            self.cluster.disks.slow(self.target, False)


class FinalizeByHand(Fault):
    kind, hold_s = "finalize by hand", (0.2, 1.0)

    def draw(self, rng):
        self.i = rng.randrange(1 << 16)

    def strike(self, leader):
        view = self.cluster.ask("log", "view")
        live = [s["shard"] for s in view["shards"] if s["state"] == "live"] if view else []
        self.what = "nothing to finalize"
        self.hit = False
        if live:
            shard = live[self.i % len(live)]
            said = self.cluster.ask("admin", "finalize", str(shard))
            self.hit = said is not None
            self.what = f"shard {shard} is finalized by hand" + ("" if said else ": refused")


class WantShards(Fault):
    kind, hold_s = "want shards", (0.2, 1.0)

    def draw(self, rng):
        self.n = rng.randrange(2, 6)

    def strike(self, leader):
        said = self.cluster.ask("admin", "want-shards", str(self.n))
        self.hit = said is not None
        self.what = f"{self.n} shards are wanted" + ("" if said else ": refused")


KINDS = [KillServer, KillOrderer, KillLeader, LoseServer, KillAll, PauseServer, PauseLeader, CutOffServer, CutOffLeader,
         Apart, OneWay, Deaf, Delay, Reset, DiskFull, DiskSlow, FinalizeByHand, WantShards]


def schedule(seed, cluster, kinds, gap_s):
    """Faults without end: one of each kind in random order, then anew; from the second time on now and then two at
    once. Yields lists of faults that strike together."""
    rng = random.Random(seed)
    first = True
    while True:
        turn = list(kinds)
        rng.shuffle(turn)
        while turn:
            together = [turn.pop()]
            if not first and turn and rng.random() < 0.3:
                together.append(turn.pop())
            yield [kind(rng, cluster, gap_s) for kind in together]
        first = False
