"""The original experiments, repeated and extended: what do policies, the defer time, the mix of a load, the number of nodes,
the intervals between cuts and reports, and failures cost, here and against Apache ZooKeeper? Runs the chosen parts, round
after round, one system up at a time, and writes one results folder. Called by scripts/experiments.sh."""

import argparse
import json
import pathlib
import re
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import peers, ratios  # noqa: E402
from lib.bench import Failed, Up, begin, seconds  # noqa: E402
from lib.trials import recovery, setups, shown  # noqa: E402
from lib.trials.setups import P99_ANSWERS, loads_of  # noqa: E402

QUESTION = "The original experiments: what do policies, nodes, intervals and failures cost?"
NEEDS = ("zookeeper", "java")
# What `--short` changes, and what holds without it.
USUAL = dict(rounds=2, duration="3s", warmup="1s", warm="6s", struck="10s", znodes=100_000, rate=2000)
SHORT = dict(rounds=1, duration="1500ms", warmup="500ms", warm="2s", struck="8s", znodes=20_000, rate=1000)
HOW = """Rounds: {rounds}; parts: {parts}. Each run: {duration} measured behind {warmup} of warm-up, or longer where the settings
let requests wait: six times the longest wait, behind one.

Only one system is up at a time, started with empty directories on the same disk, clients on the same machine.

- Zoolog: `zoolog dev --isolate process`: three orderers, three shards of two replicas on three data servers, three
  ZooKeeper nodes, unless the part says something else; in `intervals` two shards of two replicas on four data servers, as the
  original's experiments had. All nodes of a run have the same policy. *applied / session* is how we answer writes and
  reads by default; *logged / log* is what the original did: a create is answered once it is in the log, and a read goes
  through the log.
- Apache ZooKeeper of the Debian package: stock settings, JVM defaults, fsync on; each load for {warm} before it is measured.
- Loads of `loadgen zk`, 100 B of data: 48 sessions with 32 requests in flight each, as fast as it goes (`per second`);
  one session with one request in flight (`-1x1`); {few} requests a second of 8 sessions, spread over the time and timed from
  when each was due (`-few`). No p99 below {p99} answers. Every run checks its answers; a run whose checks fail is not counted.
- `location bytes per record`: what a node received while creating to say no more than where records lie, by the records it
  applied.
- `intervals`: `cut_interval_us` and `report_interval_us` set to the same; *ours* is neither: a report with each
  sync, a cut as soon as there is something to order.
- `recovery`: {znodes} znodes of 100 B; under load means {rate} sets a second of 24 sessions on all nodes.

Numbers are medians over the rounds and, in parentheses, the least and the greatest.
"""


def options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/experiments.sh", description=QUESTION)
    add = parser.add_argument
    names = [p.key for p in setups.parts(False)] + [recovery.KEY]
    add("--only", metavar="PART,..", help=f"only these parts, of {', '.join(names)}")
    add("--short", action="store_true", help="about ten minutes on two cores: one round, fewer values")
    add("--rounds", type=int, help="rounds, each with everything once (default 2)")
    add("--duration", metavar="TIME", help="measured time of one run (default 3s)")
    add("--warmup", metavar="TIME", help="load before it, in each run (default 1s)")
    add("--warm", metavar="TIME", help="load of each kind that Apache gets before anything is measured (default 6s)")
    add("--struck", metavar="TIME", help="measured time of a run in which somebody is killed (default 10s)")
    add("--znodes", type=int, help="znodes that a node has which is restarted (default 100000)")
    add("--rate", type=int, help="sets a second while somebody is killed (default 2000)")
    add("--plan", action="store_true", help="say what would be run, and for about how long; run nothing")
    add("--out", metavar="DIR", help="the folder to make (default results/DATE-HOST-experiments)")
    add("--work", metavar="DIR", help="where all systems keep their data: the disk under test (default: a temporary "
        "directory; not a RAM disk)")
    add("--bin", metavar="DIR", help="where zoolog and loadgen are (default: built here with cargo build --release)")
    add("--base-port", type=int, default=12181, help="first port; up to 400 above it, and Apache's quorum 1000 and 2000 above, "
        "are used (default 12181)")
    add("--dirty", action="store_true", help="run though files are changed; the summary says so in large letters")
    args = parser.parse_args()
    for name, value in (SHORT if args.short else USUAL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.parts = args.only.split(",") if args.only else names
    unknown = [p for p in args.parts if p not in names]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(names)}")
    try:
        for name in ("duration", "warmup", "warm", "struck"):
            seconds(getattr(args, name))
    except ValueError as e:
        parser.error(str(e))
    if args.rounds < 1 or args.znodes < 1 or args.rate < 1 or seconds(args.struck) < 4:
        parser.error("--rounds, --znodes and --rate must be at least 1, --struck at least 4s")
    return args


def chosen(args):
    """The parts that are asked for, but recovery."""
    return [p for p in setups.parts(args.short) if p.key in args.parts]


def estimates_s(args):
    """Part -> about how many seconds a round of it takes."""
    times = [seconds(t) for t in (args.duration, args.warmup, args.warm)]
    known = {p.key: setups.estimate_s(p, *times) for p in chosen(args)}
    if recovery.KEY in args.parts:
        known[recovery.KEY] = 5 * (seconds(args.struck) + times[1] + 5) + 2 * (15 + args.znodes / 5000)
    return known


def slug(text):
    """As a name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def flags_of(bench, load, setup, hosts, measured=True):
    """Everything after `loadgen zk`."""
    s = bench.settings
    measured_s, before_s = setups.duration_s(setup, seconds(s.duration)), setups.warmup_s(setup, seconds(s.warmup))
    if not measured:
        measured_s, before_s = seconds(s.warm), 0
    times = ["--duration", f"{measured_s:g}s", "--warmup", f"{before_s:g}s"]
    prefix = f"/{load.key}" if measured else f"/warm-{load.key}"
    return ["--servers", hosts, *load.flags, "--size", "100", "--prefix", prefix, "--outage", "20s", *times]


def one_setup(bench, number, part, setup):
    """A system that is started for its loads, and stopped."""
    how = {"servers": setup.nodes} if setup.system == "apache" else {"zk": setup.nodes, "more": setup.flags}
    name = f"{part.key}-{slug(setup.name)}"
    with Up(bench, setup.system, label=name, **how) as system:
        hosts = system.hosts if setup.system == "apache" else system.ready["zk"]
        for load in loads_of(part, setup):
            if setup.system == "apache":
                # A JVM is slow until it has compiled what is hot.
                flags = flags_of(bench, load, setup, hosts, measured=False)
                bench.loadgen("zk", flags, f"{name}-warm-{load.key}", False, seconds(bench.settings.warm) + 120)
            try:
                one_load(bench, number, part, setup, load, system, hosts)
            except Failed as e:
                bench.fail(f"{part.key}: {setup.name}", f"round {number}, {load.key}: {e}")


def one_load(bench, number, part, setup, load, system, hosts):
    """One run of loadgen and what is kept of it."""
    located = [shown.row(part.key, load.key, metric) for of, metric, _ in shown.extra(part) if of == load.key]
    before = locations(system) if setup.system == "zoolog" and located else None
    flags = flags_of(bench, load, setup, hosts)
    result = bench.loadgen("zk", flags, f"{part.key}-{slug(setup.name)}-{load.key}-{number}", timeline=False, late_counts=True)
    if result.get("generator_could_not_keep_up"):
        bench.late.append(f"{part.key}, {setup.name}, {load.key}, round {number}")
    for metric, _ in load.metrics():
        value = value_of(result, load, metric)
        if value is not None:
            bench.record(shown.row(part.key, load.key, metric), setup.name, number, value)
    if before:
        bench.record(located[0], setup.name, number, per_record(before, locations(system)))


def value_of(result, load, metric):
    """A number of a run, or None if too little was answered for it."""
    if metric == "per second":
        return result["per_second"]
    kind, percentile = ([load.kinds[0]] + metric.split())[-2:]
    said = result["ops"].get(kind)
    least = P99_ANSWERS if percentile == "p99" else 1
    return said["latency_us"][percentile] if said and said["latency_us"]["count"] >= least else None


def locations(system):
    """[(location bytes received, records applied)] of each node."""
    said = [system.monitor(host) for host in system.hosts]
    return [(int(m.get("zk_location_bytes", 0)), int(m.get("zk_applied_gsn", 0))) for m in said]


def per_record(before, after):
    """Bytes per record, over all nodes."""
    grown = [sum(a[i] - b[i] for b, a in zip(before, after)) for i in (0, 1)]
    return grown[0] / max(1, grown[1])


def one_round(bench, number):
    """Everything once. Whatever happens within one setup stays there."""
    for part in chosen(bench.settings):
        bench.say(f"round {number} of {bench.settings.rounds}: {part.key}: {part.question}")
        for setup in part.setups:
            try:
                one_setup(bench, number, part, setup)
            except Exception as e:  # noqa: BLE001: the others must still run
                if not isinstance(e, Failed):
                    traceback.print_exc()
                bench.fail(f"{part.key}: {setup.name}", f"round {number}: {type(e).__name__}: {e}")
    if recovery.KEY in bench.settings.parts:
        bench.say(f"round {number} of {bench.settings.rounds}: {recovery.KEY}: {recovery.QUESTION}")
        recovery.run(bench, number)


def recovery_table(bench):
    """Markdown: what breaks, by system."""
    lines = ["| | " + " | ".join(recovery.SIDES.values()) + " |", "|---|" + "--:|" * len(recovery.SIDES)]
    for key, (what, unit) in recovery.ROWS.items():
        cells = [ratios.cell(ratios.spread(ratios.of(bench.measured, f"{recovery.KEY} {key}", side).values()), unit)
                 for side in recovery.SIDES.values()]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(bench):
    """Summary and drawings of what there is; returns the summary."""
    sections = []
    for part in chosen(bench.settings):
        text = f"## {part.question}\n\n" + shown.table(part, bench.measured, bench.failures)
        if draw(bench, part.key, shown.drawing(part, bench.measured)):
            text += f"\n\n![{part.question}](plots/{part.key}.svg)"
        sections.append(text)
    if recovery.KEY in bench.settings.parts:
        sections.append(f"## {recovery.QUESTION}\n\n" + recovery_table(bench))
    notes = list(bench.notes)
    if bench.late:
        notes.append("The generator got too little processor to be on time in these runs; that is in their latencies: "
                     + "; ".join(bench.late) + ".")
    failed = [f"{w}: {t}" for w, all_ in bench.failures.items() for t in all_]
    for title, lines in (("Notes", notes), ("Failed", failed)):
        if lines:
            sections.append(f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines))
    s = bench.settings
    text = "\n\n".join(sections)
    if s.short:
        text = "**The short form: one round, fewer values.**\n\n" + text
    numbers = {"settings": vars(s), "measured": bench.measured, "failures": bench.failures, "notes": bench.notes,
               "late": bench.late}
    how = HOW.format(rounds=s.rounds, parts=", ".join(s.parts), duration=s.duration, warmup=s.warmup, warm=s.warm,
                     p99=P99_ANSWERS, few=setups.FEW_PER_SECOND, znodes=f"{s.znodes:,}", rate=f"{s.rate:,}")
    bench.folder.write(text, numbers, how)
    return text


def draw(bench, name, drawing):
    """Has loadgen draw; whether it did."""
    if drawing is None:
        return False
    folder = bench.folder.path / "plots"
    folder.mkdir(exist_ok=True)
    file = bench.folder.raw(f"{name}-drawing.json", json.dumps(drawing, indent=1) + "\n")
    try:
        bench.run([bench.loadgen_program, "plot", file, "--out", folder / f"{name}.svg"], f"{name}-plot", 60)
    except Failed as e:
        bench.fail(f"{name}: drawing", str(e))
        return False
    return True


def say_plan(args):
    """What is run, and for about how long."""
    for key, estimate in estimates_s(args).items():
        print(f"{key:10} about {estimate * args.rounds / 60:5.1f} min: "
              + next((f"{len(p.setups)} setups, {shown.runs(p)} runs of loadgen a round" for p in chosen(args) if p.key == key),
                     "kills and restarts"))
    print(f"in all about {sum(estimates_s(args).values()) * args.rounds / 60:.0f} min", flush=True)


def ports_may_be_taken(base_port):
    """Whether some of the ports that are needed are among those that outgoing connections get."""
    try:
        low, high = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        return False
    return low <= base_port + 2400 and base_port <= high


def main():
    args = options()
    if args.plan:
        return say_plan(args)
    lacking = peers.missing(NEEDS)
    if lacking:
        sys.exit("missing: " + "; ".join(f"{name}: {cure}" for name, cure in lacking))
    bench, began = begin("experiments", QUESTION, args), time.monotonic()
    bench.late = []
    if ports_may_be_taken(args.base_port):
        bench.say(f"warning: the system gives ports from {args.base_port} on to outgoing connections as it likes "
                  "(net.ipv4.ip_local_port_range): a start may find one taken; give a lower --base-port")
    say_plan(args)
    try:
        for number in range(1, args.rounds + 1):
            one_round(bench, number)
            write(bench)
    except KeyboardInterrupt:
        bench.fail("all", "interrupted")
    finally:
        print("\n" + write(bench) + f"\n\n{(time.monotonic() - began) / 60:.0f} min; kept in {bench.folder.path}")
        bench.close()
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
