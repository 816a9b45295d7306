"""How many records does the ordering layer alone order, with emulated replicas for 2,000 lanes?"""

from lib.bench import Failed
from lib.ratios import Row

WORK, LANES = "order", 2000
ROWS = [
    Row("order", WORK, f"records ordered, {LANES} lanes, all growing, a cut each 1 ms", "/s", "", ">=", 100_000_000,
        absolute=True),
    Row("order-p99", WORK, "the same, cut latency, p99", "us", "", "<=", 5000, absolute=True),
    *(Row(f"order-cpu-{n}", WORK, f"processor time of all orderers per cut, {n} of {LANES} lanes growing", "us")
      for n in (20, 200, 2000)),
]
NEEDS = {WORK: ()}


def run(bench, number, chosen):
    """Three orderers of their own; nothing else runs."""
    if WORK not in chosen:
        return
    if not bench.supports("order", "--lanes"):
        bench.fail(WORK, "SKIPPED: this loadgen has no `order`")
        return
    for changed in (LANES, 200, 20):
        try:
            one(bench, number, changed)
        except (Failed, KeyError, StopIteration, ZeroDivisionError) as e:
            bench.fail(WORK, f"round {number}, {changed} lanes growing: {type(e).__name__} {e}")


def one(bench, number, changed):
    """One run with so many lanes growing at each round of reports."""
    home = bench.fresh("order")
    flags = ["--spawn", bench.program, "--spawn-dir", home, "--lanes", str(LANES), "--changed", str(changed),
             "--records-per-lane", "100", "--cut-interval", "1ms", "--interval", "1ms", *bench.times()]
    result = bench.loadgen("order", flags, f"order-{changed}-{number}")
    bench.fresh("order")
    counts = result["counts"]
    bench.record(f"order-cpu-{changed}", "zoolog", number, sum(counts["orderers_cpu_seconds"]) * 1e6 / counts["cuts"])
    if changed == LANES:
        bench.record("order", "zoolog", number, result["per_second"])
        latency = next(iter(result["ops"].values()))["latency_us"]
        bench.record("order-p99", "zoolog", number, latency["p99"])
