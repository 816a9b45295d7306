"""For how long do appends stop when shards and a server are added under load? Loads a log with `loadgen log`, once left
alone and once while it grows, and keeps the longest time for which no append was acknowledged. Called by
scripts/grow.sh."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.bench import Failed, Up, begin, seconds  # noqa: E402

QUESTION = "For how long do appends stop when shards and a server are added under load?"
# No pause above this is to be seen.
WANTED_MS = 50
LOADS = {"full": [], "rate": ["--rate"]}
# Parts of the measured time at which something is added.
STEPS = [(0.15, "4 shards"), (0.35, "a server"), (0.55, "6 shards"), (0.75, "8 shards")]
HOW = """Rounds: {rounds}, each {duration} measured behind {warmup} of warm-up per run. `zoolog dev --isolate process`: three
orderers, three data servers, three shards of two replicas, all settings at their defaults, empty directories; {writers}
writers, 128 bytes a record, all on one machine. Two loads: `full`, as fast as it goes, {depth} records in flight per writer;
and `rate`, {rate} records a second. Each once on a log that is left alone (`still`), and once while it grows
(`grows`): at {parts} of the measured time.

The longest pause is the longest time within the measured one for which no append of any writer was acknowledged, to the
millisecond; of one writer, the same for the one that waited longest. loadgen reads everything back that was acknowledged; a
run in which an append failed or was not found is not counted.
"""


def options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/grow.sh", description=QUESTION)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="rounds, each with every run once (default 3)")
    add("--duration", metavar="TIME", default="20s", help="measured time of one run (default 20s)")
    add("--warmup", metavar="TIME", default="5s", help="load before it (default 5s)")
    add("--writers", type=int, default=8, help="writers (default 8)")
    add("--depth", type=int, default=256, help="records in flight per writer at full load (default 256)")
    add("--rate", type=int, default=20_000, help="records a second at the fixed rate (default 20000)")
    add("--quick", action="store_true", help="one short round: a trial, not a result")
    add("--out", metavar="DIR", help="the folder to make (default results/DATE-HOST-grow)")
    add("--work", metavar="DIR", help="where the log keeps its data (default: a temporary directory; not a RAM disk)")
    add("--bin", metavar="DIR", help="where zoolog and loadgen are (default: built here with cargo build --release)")
    add("--base-port", type=int, default=12181, help="first port; up to 300 above it are used (default 12181)")
    add("--dirty", action="store_true", help="run though files are changed; the summary says so in large letters")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.duration, args.warmup = 1, "8s", "1s"
    return args


class Growth:
    """What is added to a running log, and when."""

    def __init__(self, bench, system):
        self.bench, self.system = bench, system
        self.server, self.told, self.wrong = None, [], []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.ended = threading.Event()
        self.thread.start()

    def run(self):
        settings = self.bench.settings
        begun = time.monotonic() + seconds(settings.warmup)
        for part, what in STEPS:
            at = part * seconds(settings.duration)
            if self.ended.wait(max(0.0, begun + at - time.monotonic())):
                return
            try:
                self.step(what)
            except (Failed, OSError) as e:
                self.wrong.append(f"{what}: {e}")
            self.told.append({"step": what, "at_seconds": round(at, 3), "took_seconds": round(time.monotonic() - begun - at, 3)})

    def step(self, what):
        if what == "a server":
            return self.join()
        command = [self.bench.program, "admin", "want-shards", what.split()[0], "--data-dir", self.system.directory]
        return self.bench.run(command, f"grow, {what}", 30)

    def join(self):
        """One more data server, beside those of the topology."""
        home = self.system.directory.parent / "joined"
        home.mkdir()
        says = {"data_dir": str(home / "data"), "cluster_file": str(self.system.directory / "cluster.toml"), "server": 3,
                "listen": f"127.0.0.1:{self.bench.settings.base_port + 295}"}
        config = home / "config.toml"
        config.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in says.items()) + "\n")
        self.bench.folder.config("zoolog-joined/config.toml", config)
        command = [self.bench.program, "shard", "--config", config]
        self.bench.folder.command(command, "joins")
        with open(home / "log", "ab") as log:
            self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def end(self):
        """Nothing more is added; what did not work."""
        self.ended.set()
        self.thread.join(60)
        view = json.loads(self.bench.run([self.bench.program, "log", "view", "--json", "--data-dir", self.system.directory], "", 30))
        live = [s for s in view["shards"] if s["state"] == "live"]
        if len(live) != 8:
            self.wrong.append(f"{len(live)} shards take appends in the end, 8 are wanted")
        if not any(lane["slot"].startswith("3.") for s in live for lane in s["lanes"]):
            self.wrong.append("no shard rests on the server that joined")
        return self.wrong

    def stop(self):
        """The server that joined ends."""
        self.ended.set()
        if self.server:
            self.server.terminate()
            try:
                self.server.wait(15)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()


def run(bench, number, load, grows):
    """One run."""
    settings, name = bench.settings, f"{load}-{'grows' if grows else 'still'}-{number}"
    with Up(bench, "zoolog", zk=0) as system:
        flags = ["--orderers", system.ready["orderers"], "--op", "append", "--size", "128", *bench.times(), "--writers",
                 str(settings.writers), "--depth", str(settings.depth)]
        flags += [option if option != "--rate" else f"--rate={settings.rate}" for option in LOADS[load]]
        growth = Growth(bench, system) if grows else None
        try:
            result = bench.loadgen("log", flags, name, late_counts=True)
            wrong = growth.end() if growth else []
        finally:
            if growth:
                growth.stop()
        if growth:
            bench.folder.raw(f"{name}-steps.json", json.dumps(growth.told, indent=1) + "\n")
        if wrong:
            raise Failed(f"{name}: {'; '.join(wrong)}")
        return result


def one_round(bench, number, kept):
    for load in LOADS:
        for grows in (False, True):
            key = (load, "grows" if grows else "still")
            try:
                result = run(bench, number, load, grows)
            except (Failed, OSError, RuntimeError) as e:
                bench.fail(" ".join(key), f"round {number}: {e}")
                continue
            kept.setdefault(key, []).append(result)
            bench.say(f"  {load} {key[1]:6} round {number}: {result['per_second']:>12,.0f} /s, longest pause "
                      f"{result['longest_pause_ms']} ms at {result['longest_pause_at_seconds']:.2f} s, of one writer "
                      f"{result['counts']['longest_pause_of_one_ms']} ms, {result['pauses_above_50_ms']} above {WANTED_MS} ms")


def write(bench, kept):
    """The texts of the folder; the summary's."""
    settings = bench.settings
    lines = [f"| load | log | records per second | longest pause, median | greatest | pauses above {WANTED_MS} ms | longest of one writer |",
             "|---|---|--:|--:|--:|--:|--:|"]
    for (load, state), results in kept.items():
        def of(key, results=results):
            return [r[key] for r in results]
        ones = [r["counts"]["longest_pause_of_one_ms"] for r in results]
        pauses = of("longest_pause_ms")
        lines.append(f"| {load} | {state} | {statistics.median(of('per_second')):,.0f} | {statistics.median(pauses):.0f} ms | "
                     f"{max(pauses)} ms | {sum(of('pauses_above_50_ms'))} | {max(ones)} ms |")
    grown = [r["longest_pause_ms"] for (_, state), results in kept.items() if state == "grows" for r in results]
    wanted = len(LOADS) * settings.rounds
    verdict = (f"While the log grew, no append failed in {len(grown)} of {wanted} runs; the longest pause was "
               f"{max(grown, default=0)} ms, at most {WANTED_MS} ms are wanted: "
               + ("reached." if len(grown) == wanted and max(grown) <= WANTED_MS else "NOT reached."))
    failed = [f"- FAILED {name}: {text}" for name, texts in bench.failures.items() for text in texts]
    summary = "\n".join([verdict, "", *lines, "", *failed, *(f"- {note}" for note in bench.notes)])
    numbers = {"wanted_ms": WANTED_MS, "runs": {" ".join(key): [
        {k: r[k] for k in ("per_second", "longest_pause_ms", "longest_pause_at_seconds", "pauses_above_50_ms", "counts")}
        for r in results] for key, results in kept.items()}, "failures": bench.failures}
    parts = ", ".join(f"{what} at {part:.0%}" for part, what in STEPS)
    bench.folder.write(summary, numbers, HOW.format(parts=parts, **vars(settings)))
    return summary, verdict.endswith(" reached.") and not failed


def main():
    bench, kept = begin("grow", QUESTION, options()), {}
    try:
        for number in range(1, bench.settings.rounds + 1):
            one_round(bench, number, kept)
            write(bench, kept)
    except KeyboardInterrupt:
        bench.fail("all", "interrupted")
    finally:
        summary, reached = write(bench, kept)
        print(f"\n{summary}\n\nkept in {bench.folder.path}")
        bench.close()
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
