"""Which systems get which loads in the experiments? Parts, each a question with its setups and loads. Pure: settings
in, a plan out."""

import dataclasses

FETCHES = ("lazy", "deferred", "batched", "streamed")
# How writes are answered and what reads show: our default, and what the original did.
OURS, ORIGINAL = ("applied", "session"), ("logged", "log")
APACHE = "Apache ZooKeeper"
MANY = ("--sessions", "48", "--depth", "32", "--keys", "1000")
ONE = ("--sessions", "1", "--depth", "1", "--keys", "64")
# Few, and spread over the time, so that they fall into step with nothing.
FEW_PER_SECOND = 50
FEW = ("--sessions", "8", "--depth", "64", "--keys", "64", "--rate", str(FEW_PER_SECOND))
# Answers below which a p99 would be the greatest value under another name.
P99_ANSWERS = 100
# A run is long enough for so many of the longest waits that its setup has.
WAITS = 6


@dataclasses.dataclass(frozen=True)
class Load:
    """What loadgen does: as fast as it goes, one request at a time, or a few a second."""

    key: str
    what: str
    flags: tuple
    kinds: tuple  # operations that loadgen tells apart

    @property
    def is_timed(self):
        """Whether latency is what counts."""
        return self.flags[2:] != MANY

    def metrics(self):
        """Names of what is kept of it, with unit."""
        if not self.is_timed:
            return [("per second", "/s")]
        alone = len(self.kinds) == 1
        return [(p if alone else f"{kind} {p}", "us") for kind in self.kinds for p in ("p50", "p99")]


def _loads():
    for op, what, kinds in (("create", "create", ("create",)), ("get", "get", ("get",)),
                            ("mixed:10", "write-heavy: 10 % get, 90 % set", ("get", "set")),
                            ("mixed:50", "mixed: half get, half set", ("get", "set")),
                            ("mixed:90", "read-heavy: 90 % get, 10 % set", ("get", "set"))):
        key = op.replace(":", "-")
        yield Load(key, f"{what}, 48 sessions x 32", ("--op", op, *MANY), kinds)
        yield Load(f"{key}-1x1", f"{what}, one request at a time", ("--op", op, *ONE), kinds)
        yield Load(f"{key}-few", f"{what}, {FEW_PER_SECOND} a second", ("--op", op, *FEW), kinds)


LOADS = {load.key: load for load in _loads()}


@dataclasses.dataclass(frozen=True)
class Setup:
    """A system as it is started, and where its numbers are drawn."""

    series: str  # the line, or the bar of each group
    group: str = ""  # of bars
    x: float = 0.0  # of lines
    flags: tuple = ()  # of `zoolog dev`
    nodes: int = 3  # ZooKeeper nodes, or servers of Apache's
    system: str = "zoolog"
    loads: tuple = ()  # "" for those of its part
    wait_ms: int = 0  # the longest that its settings let a request wait

    @property
    def name(self):
        """Unique within its part."""
        return f"{self.group or f'{self.x:g}'}, {self.series}"


@dataclasses.dataclass(frozen=True)
class Part:
    """One question."""

    key: str
    question: str
    setups: tuple
    loads: tuple
    x: str  # what groups or the axis of x show
    log_x: bool = False
    by_load: bool = False  # whether groups of bars are loads, not setups


def policy(fetch, way, defer_ms=20):
    """Flags of `zoolog dev` for a policy."""
    acks, reads = way
    return ("--fetch", fetch, "--defer-ms", str(defer_ms), "--acks", acks, "--reads", reads)


def way_name(way):
    """As it is called in tables."""
    return f"{way[0]} / {way[1]}"


def intervals(ms):
    """Flags for cuts and reports every so many milliseconds, 0 as we do it, on the original's topology. Nobody is to
    be taken for dead meanwhile."""
    flags = ("--shards", "2", "--servers", "4")
    if ms:
        flags += tuple(word for setting in (f"order.cut_interval_us={ms * 1000}", f"shard.report_interval_us={ms * 1000}",
                                            "order.failure_timeout_ms=5000") for word in ("--set", setting))
    return flags


def parts(short):
    """All but recovery, in the order in which they run; fewer values if it is to be short."""
    pairs, spread = (tuple(k for op in ("create", "get") for k in (op, op + timed)) for timed in ("-1x1", "-few"))
    apache = Setup(APACHE, group="Apache", system="apache")
    yield Part(
        "policies", "What do the policies cost in create and get?",
        (*(Setup(way_name(way), group=fetch, flags=policy(fetch, way), wait_ms=20)
           for fetch in FETCHES for way in (OURS, ORIGINAL)), apache),
        pairs, "fetch policy")
    yield Part(
        "defer", "What does the time between two fetches do?",
        tuple(Setup(fetch, x=ms, flags=policy(fetch, OURS, ms), wait_ms=ms)
              for fetch in ("deferred", "batched") for ms in ((5, 50, 500) if short else (1, 5, 20, 50, 100, 200, 500))),
        ("create", "create-few"), "defer time, ms", log_x=True)
    mixes = tuple(f"mixed-{r}" for r in (10, 50, 90))
    yield Part(
        "mix", "How do policies take write-heavy, mixed and read-heavy loads?",
        (*(Setup(fetch, group="3 nodes", flags=policy(fetch, OURS), wait_ms=20) for fetch in FETCHES),
         dataclasses.replace(apache, group="3 nodes")),
        mixes + tuple(f"{m}-1x1" for m in mixes), "load", by_load=True)
    yield Part(
        "nodes", "What do more ZooKeeper nodes bring, or cost?",
        tuple(Setup(name, x=n, nodes=n, system=system)
              for n in (1, 3, 5) for name, system in (("Zoolog", "zoolog"), (APACHE, "apache"))),
        ("create", "get", "mixed-90"), "ZooKeeper nodes")
    swept = (0, 10, 500) if short else (0, 1, 10, 100, 500)
    whole = ("lazy", "deferred") if short else FETCHES
    yield Part(
        "intervals", "What do the original's 500 ms between cuts and between reports cost, and ours?",
        (*(Setup("streamed, " + way_name(OURS), group=interval_name(ms), flags=intervals(ms) + policy("streamed", OURS),
                 loads=("create", "create-few"), wait_ms=2 * ms) for ms in swept),
         *(Setup(f"{fetch}, {way_name(ORIGINAL)}", group=interval_name(ms), wait_ms=2 * ms + 20,
                 flags=intervals(ms) + policy(fetch, ORIGINAL), loads=("create-few", "get-few") if short else ())
           for ms in (0, 500) for fetch in whole)),
        spread, "between cuts, and between reports")


def interval_name(ms):
    """As groups of bars are called."""
    return f"{ms} ms" if ms else "ours: at once"


def loads_of(part, setup):
    """The loads that a setup of a part gets."""
    return [LOADS[key] for key in (setup.loads or part.loads)]


def duration_s(setup, usual_s):
    """How long a load is measured: longer where requests wait long."""
    return max(usual_s, WAITS * setup.wait_ms / 1000)


def warmup_s(setup, usual_s):
    """How long it is there before it: as long as a request may wait, for they all wait together at first."""
    return max(usual_s, setup.wait_ms / 1000)


def estimate_s(part, usual_s, usual_warmup_s, warm_s):
    """About how long one round of a part takes, from what starts and set-ups took elsewhere."""
    total = 0.0
    for setup in part.setups:
        total += 7 if setup.system == "apache" else 3
        for load in loads_of(part, setup):
            total += duration_s(setup, usual_s) + warmup_s(setup, usual_warmup_s) + 0.6 + 3 * setup.wait_ms / 1000
            total += warm_s + 0.5 if setup.system == "apache" else 0
    return total
