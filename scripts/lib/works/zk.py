"""How fast are requests of ZooKeeper clients, Zoolog against three Apache servers? Closed loop with 48 sessions x 32
and with one request in flight; then at half of the rate that Apache reached in the first round."""

from lib.bench import Failed, Up, seconds
from lib.ratios import Row

PEER = "apache"
MANY = ["--sessions", "48", "--depth", "32"]
ONE = ["--sessions", "1", "--depth", "1"]
# Work, loadgen's flags. Creates come last: what they leave behind would be with the others.
LOADS = {
    "set-1x1": ["--op", "set", *ONE],
    "get": ["--op", "get", *MANY],
    "exists": ["--op", "exists", *MANY],
    "mixed": ["--op", "mixed:90", *MANY],
    "set": ["--op", "set", *MANY],
    "create": ["--op", "create", *MANY],
}
KINDS = {"mixed": ["get", "set"], "set-1x1": ["set"]}
HALF = "-half"


def kinds(load):
    """Operations that loadgen tells apart in a load."""
    return KINDS.get(load, [load])


def _rows():
    wanted = {"set": 10, "create": 10, "get": 4, "exists": 4, "mixed": 5}
    what = {"mixed": "10 % set, 90 % get"}
    for load, target in wanted.items():
        yield Row(load, load, f"{what.get(load, load)}, 48 x 32", "/s", PEER, ">=", target)
    yield Row("set-1x1-p50", "set-1x1", "set, 1 x 1, median", "us", PEER, "<=", 0.9)
    yield Row("set-1x1-p99", "set-1x1", "set, 1 x 1, p99", "us", PEER, "<=", 0.5)
    for load in [*wanted, "set-1x1"]:
        for kind in kinds(load):
            of_kind = f" ({kind}s)" if load == "mixed" else ""
            for key, name in [("p99", "p99"), ("p99_9", "p99.9")]:
                yield Row(f"{load}{HALF}-{kind}-{key}", load + HALF,
                          f"{load}{of_kind} at half of Apache's peak, {name}", "us", PEER, "<=", 1 / 3)


ROWS = list(_rows())
NEEDS = {row.work: ("zookeeper", "java") for row in ROWS}


def run(bench, number, chosen):
    """Apache first, so that its peak is known when the rate of the halves is wanted."""
    works = {row.work for row in ROWS} & set(chosen)
    for side in (PEER, "zoolog"):
        try:
            with Up(bench, side) as system:
                hosts = system.hosts if side == PEER else system.ready["zk"]
                warm(bench, side, hosts, works)
                for load in LOADS:
                    one_load(bench, number, side, hosts, load, works)
        except Failed as e:
            for work in sorted(works):
                bench.fail(work, f"round {number}, {side}: {e}")


def warm(bench, side, hosts, works):
    """A JVM is slow until it has compiled what is hot; both get the same."""
    for load, flags in LOADS.items():
        if {load, load + HALF} & works:
            flags = ["--servers", hosts, *flags, "--duration", bench.settings.warm, "--warmup", "0s",
                     "--prefix", f"/warm-{load}"]
            bench.loadgen("zk", flags, f"warm-{load}-{side}", measured=False,
                          wait_s=seconds(bench.settings.warm) + 120)


def one_load(bench, number, side, hosts, load, works):
    """The peak of one load, and the same load at half of Apache's."""
    peak_needed = side == PEER and load + HALF in works and load not in bench.half_rates
    if load in works or peak_needed:
        guarded(bench, load if load in works else load + HALF, number, side,
                lambda: peak(bench, number, side, hosts, load))
    if load + HALF in works:
        guarded(bench, load + HALF, number, side, lambda: half(bench, number, side, hosts, load))


def guarded(bench, work, number, side, measure):
    """A failure of one is not one of the others."""
    try:
        measure()
    except Failed as e:
        bench.fail(work, f"round {number}, {side}: {e}")


def flags_of(bench, hosts, load, more=()):
    """Everything after `loadgen zk`; each load in a subtree of its own."""
    return ["--servers", hosts, *LOADS[load], "--size", "100", "--prefix", f"/{load}", *bench.times(), *more]


def peak(bench, number, side, hosts, load):
    """As fast as it goes."""
    result = bench.loadgen("zk", flags_of(bench, hosts, load), f"{load}-{side}-{number}")
    if side == PEER:
        bench.half_rates.setdefault(load, result["per_second"] / 2)
    if load == "set-1x1":
        for key in ("p50", "p99"):
            bench.record(f"{load}-{key}", side, number, result["ops"]["set"]["latency_us"][key])
    else:
        bench.record(load, side, number, result["per_second"])


def half(bench, number, side, hosts, load):
    """At the rate that is half of Apache's peak in the first round."""
    if load not in bench.half_rates:
        raise Failed("Apache's peak could not be measured, so there is no half of it")
    rate = f"{bench.half_rates[load]:.0f}"
    flags = flags_of(bench, hosts, load, ["--rate", rate])
    result = bench.loadgen("zk", flags, f"{load}{HALF}-{side}-{number}", late_counts=True)
    if result.get("generator_could_not_keep_up"):
        # Servers that leave the generator no processor make it late. That is part of what their users feel on this
        # machine, and counts; what the servers alone took is told.
        service = ", ".join(f"{k}s {result['ops'][k]['service_us']['p99']:,.0f} us" for k in kinds(load))
        late = result["generator_lateness_us"]["p99"]
        bench.note(f"{load}{HALF}, {side}, round {number}: the generator got too little processor and began requests "
                   f"{late:,.0f} us late at its p99, which is in the figures; p99 from the actual start: {service}.")
    if result["per_second"] < 0.95 * bench.half_rates[load]:
        bench.note(f"{load}{HALF}, {side}, round {number}: only {result['per_second']:,.0f} of {rate}/s were answered.")
    for kind in kinds(load):
        for key in ("p99", "p99_9"):
            bench.record(f"{load}{HALF}-{kind}-{key}", side, number, result["ops"][kind]["latency_us"][key])


def rate_text(bench):
    """The rates of the halves, for the summary."""
    return ", ".join(f"{load} {rate:,.0f}/s" for load, rate in bench.half_rates.items())
