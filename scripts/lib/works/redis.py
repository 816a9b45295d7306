"""How many 128 B records per second does the log acknowledge, and how many does a Redis stream?"""

from lib.bench import Failed, Up, seconds
from lib.peers import redis_rate
from lib.ratios import Row
from lib.works import log

WORK, SIZE = "log-append", 128
ROWS = [
    Row("log-append", WORK, "128 B records appended, two copies", "/s", "", ">=", 1_500_000, absolute=True),
    Row("log-append-redis", WORK, "the same, against XADD, no replica", "/s", "redis", ">=", 4),
]
NEEDS = {WORK: ("redis-server", "redis-benchmark")}
# What the first, unmeasured run appends, to know how many take as long as is asked for.
FIRST = 100_000


def run(bench, number, chosen):
    """Redis, then Zoolog."""
    if WORK not in chosen:
        return
    for side, measure in (("redis", redis), ("zoolog", zoolog)):
        try:
            measure(bench, number)
        except (Failed, ValueError) as e:
            bench.fail(WORK, f"round {number}, {side}: {e}")


def redis(bench, number):
    """32 connections, pipeline 16, every append synced."""
    with Up(bench, "redis") as server:
        first = redis_rate(bench.run(server.xadd_command(FIRST, SIZE), "warm-up, not measured", 300))
        count = max(FIRST, int(first * seconds(bench.settings.duration)))
        text = bench.run(server.xadd_command(count, SIZE), f"{WORK}-redis-{number}", 600)
        bench.folder.raw(f"{WORK}-redis-{number}.csv", text)
        bench.record("log-append-redis", "redis", number, redis_rate(text))


def zoolog(bench, number):
    """Acknowledged means synced on both replicas and in a cut that a majority of orderers synced."""
    with log.up(bench) as system:
        result = log.load(bench, system, "append", f"{WORK}-zoolog-{number}", SIZE, bench.times())
        for row in ("log-append", "log-append-redis"):
            bench.record(row, "zoolog", number, result["per_second"])
