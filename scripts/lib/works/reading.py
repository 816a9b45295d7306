"""How fast is the log read, right after it was written and from a cold disk?"""

import re

from lib.bench import Failed, seconds
from lib.peers import drop_caches
from lib.ratios import Row
from lib.works import disk, log

WORK = "log-read"
MIB = 1 << 20
ROWS = [
    Row("log-follow", WORK, "128 B records followed from the first on, right after their appending", "/s", "", ">=",
        3_000_000, absolute=True),
    Row("log-read-cold", WORK, "4 KiB records, ranges read cold, one reader", "MiB/s", "fio", ">=", 0.7),
    Row("log-follow-cold", WORK, "4 KiB records, followed cold", "MiB/s", "fio", ">=", 0.7),
]
NEEDS = {WORK: ("fio",)}


def run(bench, number, chosen):
    """fio's reads, then the log warm, then the log cold."""
    if WORK not in chosen:
        return
    for part in (fio, warm, cold):
        try:
            part(bench, number)
        except (Failed, ValueError, KeyError, RuntimeError) as e:
            bench.fail(WORK, f"round {number}, {part.__name__}: {e}")


def fio(bench, number):
    """Lays the file out and makes it cold, then reads it."""
    disk.fio_run(bench, "write", f"{WORK}-fio-layout-{number}")
    drop_caches(bench.work / "fio")
    value = disk.fio_run(bench, "read", f"{WORK}-fio-{number}") / MIB
    bench.fresh("fio")
    for row in ("log-read-cold", "log-follow-cold"):
        bench.record(row, "fio", number, value)


def fill(bench, system, name, size, more=()):
    """Appends for as long as is asked for; returns how many records are surely there."""
    times = ["--duration", bench.settings.fill, "--warmup", "0s"]
    result = log.load(bench, system, "append", name, size, times, more)
    return int(result["per_second"] * result["seconds"])


def warm(bench, number):
    """One follower over what was just appended."""
    with log.up(bench) as system:
        fill(bench, system, f"{WORK}-fill-{number}", 128)
        result = follow(bench, system, f"log-follow-{number}", 128)
        bench.record("log-follow", "zoolog", number, caught_up_rate(result))


def cold(bench, number):
    """The servers restarted and the caches dropped before each pass: the bytes must come from the disk."""
    with log.up(bench) as system:
        records = fill(bench, system, f"{WORK}-fill-4k-{number}", 4096, ["--depth", "512"])
        chill(bench, system)
        rate = caught_up_rate(follow(bench, system, f"log-follow-cold-{number}", 4096))
        bench.record("log-follow-cold", "zoolog", number, rate * 4096 / MIB)
        chill(bench, system)
        # Shorter than one pass over the log takes, so that nothing is read a second time.
        length = min(seconds(bench.settings.duration), 0.6 * records / max(rate, 1.0))
        result = log.load(bench, system, "read", f"log-read-cold-{number}", 4096,
                          ["--duration", f"{max(length, 0.1) * 1000:.0f}ms", "--warmup", "0s"], ["--writers", "1"])
        if result["per_second"] * result["seconds"] > records:
            bench.note(f"log-read-cold, round {number}: read more than was written, so some of it twice.")
        bench.record("log-read-cold", "zoolog", number, result["per_second"] * 4096 / MIB)


def chill(bench, system):
    """Restarts all servers and drops what the kernel holds of their files."""
    system.stop()
    how = drop_caches(system.directory)
    bench.note(f"Cold means: {how}.")
    system.start()
    bench.folder.command(system.process.args, "restart, cold")


def follow(bench, system, name, size):
    """One subscriber, from the first record on."""
    times = ["--duration", bench.settings.duration, "--warmup", "0s"]
    return log.load(bench, system, "follow", name, size, times, ["--writers", "1"])


def caught_up_rate(result):
    """Records per second until the follower had caught up; if it never did, over the whole window."""
    for warning in result.get("warnings", []):
        match = re.search(r"caught up .*?(\d+) per second", warning)
        if match:
            return float(match[1])
    return result["per_second"]
