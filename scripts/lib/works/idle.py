"""What does a cluster cost that nobody uses?"""

import time

from lib.bench import Failed, Up, seconds
from lib.ratios import Row
from lib.topology import cpu_seconds

WORK = "idle"
ROWS = [Row("idle", WORK, "processor time of all nine nodes, nobody connected", "% of a core", "", "<=", 3, absolute=True)]
NEEDS = {WORK: ()}
# After the start, until nothing is left of it.
SETTLED_S = 5


def run(bench, number, chosen):
    """A default topology, left alone."""
    if WORK not in chosen:
        return
    try:
        with Up(bench, "zoolog") as system:
            time.sleep(SETTLED_S)
            pids, length = system.pids(), max(seconds(bench.settings.duration), 2.0)
            before, began = cpu_seconds(pids), time.monotonic()
            time.sleep(length)
            used, passed = cpu_seconds(pids) - before, time.monotonic() - began
            bench.record("idle", "zoolog", number, 100 * used / passed)
    except (Failed, RuntimeError, OSError) as e:
        bench.fail(WORK, f"round {number}: {e}")
