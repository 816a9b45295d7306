"""How much of the disk's write bandwidth does the log use with 4 KiB records? All copies lie on the one disk."""

from lib.bench import Failed, seconds
from lib.peers import fio_bytes_per_second, fio_command, fio_new_blocks_command
from lib.ratios import Row
from lib.works import log

WORK, SIZE = "log-append-4k", 4096
MIB = 1 << 20
ROWS = [
    Row("log-append-4k", WORK, "4 KiB records, bytes in all copies", "MiB/s", "fio", ">=", 0.6),
    Row("log-append-4k-new", WORK, "the same, against synced writes to blocks never written before", "MiB/s", "fio"),
]
NEEDS = {WORK: ("fio",)}


def run(bench, number, chosen):
    """fio, then Zoolog."""
    if WORK not in chosen:
        return
    for side, measure in (("fio", fio), ("zoolog", zoolog)):
        try:
            measure(bench, number)
        except (Failed, ValueError, KeyError) as e:
            bench.fail(WORK, f"round {number}, {side}: {e}")


def fio(bench, number):
    """1 MiB O_DIRECT writes, fdatasync after each, over blocks that are already laid out."""
    value = fio_run(bench, "write", f"{WORK}-fio-{number}")
    bench.fresh("fio")
    bench.record(WORK, "fio", number, value / MIB)
    directory = bench.fresh("fio")
    name = f"{WORK}-fio-new-{number}"
    text = bench.run(fio_new_blocks_command(directory, bench.settings.fio_mib), name, 300)
    bench.folder.raw(f"{name}.json", text)
    bench.fresh("fio")
    bench.record("log-append-4k-new", "fio", number, fio_bytes_per_second(text, "write") / MIB)


def fio_run(bench, kind, name):
    """Bytes per second that fio gets."""
    path = bench.work / "fio" / "file"
    path.parent.mkdir(exist_ok=True)
    runtime = max(1, round(seconds(bench.settings.duration)))
    command = fio_command(kind, path, bench.settings.fio_mib, runtime)
    text = bench.run(command, name, runtime + 300)
    bench.folder.raw(f"{name}.json", text)
    return fio_bytes_per_second(text, kind)


def zoolog(bench, number):
    """The records' own bytes, times the copies: headers and padding are not counted in its favour."""
    with log.up(bench) as system:
        result = log.load(bench, system, "append", f"{WORK}-zoolog-{number}", SIZE, bench.times(), ["--depth", "512"])
        value = result["per_second"] * SIZE * log.REPLICAS / MIB
        for row in ROWS:
            bench.record(row.key, "zoolog", number, value)
