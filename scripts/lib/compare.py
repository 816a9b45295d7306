"""How does Zoolog compare with its peers on this machine? Runs the chosen works in turn, round after round, one
system up at a time, and writes one results folder. Called by scripts/compare.sh."""

import argparse
import pathlib
import sys
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import folder, peers, ratios, works  # noqa: E402
from lib.bench import begin, seconds  # noqa: E402
from lib.works import zk  # noqa: E402

QUESTION = "How does Zoolog compare with its peers on this machine?"
HOW = """Rounds: {rounds}, each {duration} measured behind {warmup} of warm-up per run; works: {works}.

Only one system is up at a time; within each round the peer runs first, then Zoolog, each started with empty
directories on the same disk, clients on the same machine, everything synced to disk before it is acknowledged.

- Apache ZooKeeper of the Debian package: three servers, stock settings (tickTime 2000, initLimit 10, syncLimit 5,
  fsync on), JVM defaults, warmed up by {warm} of each load before it is measured; Zoolog gets the same warm-up.
- Zoolog: `zoolog dev --isolate process`: three orderers, three shards of two replicas on three data servers, three
  ZooKeeper nodes (none for works on the log itself), fdatasync on, all settings at their defaults.
- Redis: one server, `appendonly yes`, `appendfsync always`, no replica; snapshots and rewrites off, in its favour.
- fio: 1 MiB O_DIRECT; writes with fdatasync after each over a file that is laid out before, reads with 8 in flight.

A ratio is Zoolog's number by the peer's of the same round; shown are the median and, in parentheses, the least and
the greatest of all rounds. `yes` and `no` mean all rounds. Loads at half of Apache's peak run at the rate that is
half of what Apache reached in the first round. Every run of loadgen checks its answers; a run whose checks fail is
not counted.
"""


def options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/compare.sh", description=QUESTION,
                                     epilog="Works: " + ", ".join(works.all_works()))
    add = parser.add_argument
    add("--only", metavar="WORK,..", help="only these works")
    add("--rounds", type=int, help="rounds, each with every work and system once (default 3)")
    add("--duration", metavar="TIME", help="measured time of one run (default 10s)")
    add("--warmup", metavar="TIME", help="load before it, in each run (default 3s)")
    add("--warm", metavar="TIME", help="load of each kind after each start, before anything is measured (default 8s)")
    add("--fill", metavar="TIME", help="how long to append what is then read (default 4s)")
    add("--znodes", type=int, help="znodes for the memory figure; a quarter more for the restart (default 1000000)")
    add("--quick", action="store_true", help="one short round with a tenth of everything: a trial, not a result")
    add("--out", metavar="DIR", help="the folder to make (default results/DATE-HOST-compare)")
    add("--work", metavar="DIR", help="where all systems keep their data: the disk under test (default: a temporary "
        "directory; not a RAM disk)")
    add("--bin", metavar="DIR", help="where zoolog and loadgen are (default: built here with cargo build --release)")
    add("--base-port", type=int, default=12181, help="first port; up to 400 above it, and Apache's quorum 1000 and 2000 above, are used (default 12181)")
    add("--dirty", action="store_true", help="run though files are changed; the summary says so in large letters")
    args = parser.parse_args()
    usual = dict(rounds=3, duration="10s", warmup="3s", warm="8s", fill="4s", znodes=1_000_000, fio_mib=2048)
    quick = dict(rounds=1, duration="2s", warmup="500ms", warm="1s", fill="1s", znodes=100_000, fio_mib=256)
    args.fio_mib = None
    for name, value in (quick if args.quick else usual).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.works = args.only.split(",") if args.only else works.all_works()
    unknown = [w for w in args.works if w not in works.all_works()]
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(works.all_works())}")
    try:
        for name in ("duration", "warmup", "warm", "fill"):
            seconds(getattr(args, name))
    except ValueError as e:
        parser.error(str(e))
    if args.rounds < 1 or args.znodes < 4:
        parser.error("--rounds must be at least 1, --znodes at least 4")
    return args


def check_needs(chosen):
    """Says what is missing and how to get it; nothing is installed from here."""
    lacking = peers.missing(works.needs(chosen))
    if lacking:
        print("missing for the works that were asked for:", file=sys.stderr)
        for name, cure in lacking:
            print(f"  {name:16} {cure}", file=sys.stderr)
        without = [w for w in chosen if not peers.missing(works.needs([w]))]
        sys.exit("install it, or leave the works away that need it: --only " + ",".join(without))


def one_round(bench, number):
    """Every group once. Whatever happens within one stays there."""
    for group in works.GROUPS:
        mine = [w for w in bench.settings.works if w in {row.work for row in group.ROWS}]
        if not mine:
            continue
        bench.say(f"round {number} of {bench.settings.rounds}: {', '.join(mine)}")
        try:
            group.run(bench, number, mine)
        except Exception as e:  # noqa: BLE001: the others must still run
            traceback.print_exc()
            for work in mine:
                bench.fail(work, f"round {number}: {type(e).__name__}: {e}")


def write(bench):
    """Summary of what there is; returns it."""
    rows = [row for group in works.GROUPS for row in group.ROWS if row.work in bench.settings.works]
    judged = [ratios.judge(row, bench.measured, bench.settings.rounds) for row in rows]
    text = ratios.table(judged, bench.failures)
    if bench.half_rates:
        text += f"\n\nHalf of Apache's peak: {zk.rate_text(bench)}."
    for title, lines in (("Notes", bench.notes), ("Failed", [f"{w}: {t}" for w, all_ in bench.failures.items() for t in all_])):
        if lines:
            text += f"\n\n## {title}\n\n" + "\n".join(f"- {line}" for line in lines)
    settings = {k: v for k, v in vars(bench.settings).items()}
    numbers = {"settings": settings, "rows": judged, "measured": bench.measured, "failures": bench.failures,
               "notes": bench.notes, "half_rates": bench.half_rates}
    s = bench.settings
    how = HOW.format(rounds=s.rounds, duration=s.duration, warmup=s.warmup, warm=s.warm, works=", ".join(s.works))
    if s.quick:
        text = "**A quick trial: too short to be quoted.**\n\n" + text
    bench.folder.write(text, numbers, how)
    return text


def main():
    args = options()
    check_needs(args.works)
    bench = begin("compare", QUESTION, args)
    free = folder.free_bytes(bench.work) >> 30
    if free < 15 and not args.quick:
        bench.say(f"warning: only {free} GiB are free where the data goes ({bench.work}); some works need more than 10")
    try:
        for number in range(1, args.rounds + 1):
            one_round(bench, number)
            write(bench)
    except KeyboardInterrupt:
        for work in args.works:
            bench.fail(work, "interrupted")
    finally:
        print("\n" + write(bench) + f"\n\nkept in {bench.folder.path}")
        bench.close()
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
