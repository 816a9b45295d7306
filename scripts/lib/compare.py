"""How is the comparison with Apache ZooKeeper run? Both systems up, the same loads against one and the other in
turn, everything written into a results folder. Called by scripts/bench-vs-zookeeper.sh."""

import argparse
import json
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.apache import Ensemble  # noqa: E402
from lib.topology import Topology, cpu_seconds  # noqa: E402

# Name, loadgen's flags, which number is compared, and whether more of it is better.
LOADS = [
    ("set", "--op set --sessions 48 --depth 32", "per_second", True),
    ("create", "--op create --sessions 48 --depth 32", "per_second", True),
    ("get", "--op get --sessions 48 --depth 32", "per_second", True),
    ("set-1x1", "--op set --sessions 1 --depth 1", "p50_us", False),
]
# What Zoolog is to reach, as a ratio to Apache's number.
WANTED = {"set": 3.0, "create": 3.0, "get": 1.5, "set-1x1": 1.0}
IDLE_S = 20


class Comparison:
    """One run of the comparison."""

    def __init__(self, args):
        self.args = args
        self.folder = pathlib.Path(args.folder)
        (self.folder / "raw").mkdir(parents=True)
        self.work = pathlib.Path(args.work or tempfile.mkdtemp(prefix="zoolog-bench-"))
        self.commands = [args.invocation]
        self.apache = Ensemble(self.work / "apache", 3, 12181)
        self.zoolog = Topology(pathlib.Path(args.zoolog).resolve(), self.work / "zoolog" / "data", 22181, 28080)
        self.idle = {}

    def run(self):
        """All of it, ending both systems whatever happens."""
        try:
            self.say("starting Apache ZooKeeper, three servers")
            self.apache.start()
            self.say("starting zoolog dev --zk 3 --isolate process")
            self.zoolog.start()
            self.commands.append(shlex.join(self.zoolog.process.args))
            self.measure_idle("before any load")
            # A JVM is slow until it has compiled what is hot: one long unmeasured run of each kind first.
            for name, flags, _, _ in LOADS:
                for system in ("apache", "zoolog"):
                    self.load(system, name, flags, None)
            for number in range(1, self.args.rounds + 1):
                order = ("apache", "zoolog") if number % 2 else ("zoolog", "apache")
                for name, flags, _, _ in LOADS:
                    for system in order:
                        self.load(system, name, flags, number)
            time.sleep(5)
            self.measure_idle("after the loads")
        finally:
            self.zoolog.stop()
            self.apache.stop()

    def say(self, text):
        print(text, flush=True)

    def hosts(self, system):
        return self.apache.hosts if system == "apache" else self.zoolog.ready["zk"]

    def load(self, system, name, flags, number):
        """One run of loadgen; number None is the unmeasured one. A run whose checks fail is kept and told."""
        raw = self.folder / "raw" / f"{name}-{system}-{number}.json"
        command = [self.args.loadgen, "zk", "--servers", self.hosts(system), *flags.split(), "--duration",
                   self.args.duration, "--warmup", self.args.warmup]
        if number is not None:
            command += ["--json", str(raw), "--hgrm", str(raw.with_suffix(".hgrm"))]
        self.commands.append(shlex.join(command))
        code = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        shown = "unmeasured" if number is None else f"round {number}"
        result = self.number(raw, name) if number is not None and raw.exists() else None
        self.say(f"{shown:10} {system:7} {name:8} exit {code.returncode}" + (f" {result:12.1f}" if result else ""))
        if code.returncode != 0:
            self.say(code.stdout)

    def number(self, raw, name):
        """The number that the load is compared by."""
        result = json.loads(raw.read_text())
        _, _, what, _ = next(load for load in LOADS if load[0] == name)
        if what == "per_second":
            return result["per_second"]
        return next(iter(result["ops"].values()))["latency_us"]["p50"]

    def measure_idle(self, when):
        """Processor use of all processes of each system, in per cent of a core, while nobody uses it."""
        pids = {"apache": self.apache.pids(), "zoolog": self.zoolog.pids()}
        before = {system: cpu_seconds(p) for system, p in pids.items()}
        time.sleep(IDLE_S)
        for system, p in pids.items():
            self.idle[(system, when)] = (cpu_seconds(p) - before[system]) / IDLE_S * 100
            self.say(f"idle {when}: {system} {self.idle[(system, when)]:.2f} % of a core")

    def table(self):
        """Median and range of each load for both systems, ratio, and whether it is what is wanted."""
        lines = ["| load | what | Apache 3.8 | Zoolog | ratio | wanted | reached |", "|---|---|--:|--:|--:|--:|---|"]
        for name, _, what, more_is_better in LOADS:
            cells, medians, good = [], [], True
            for system in ("apache", "zoolog"):
                files = sorted((self.folder / "raw").glob(f"{name}-{system}-*.json"))
                numbers = [self.number(f, name) for f in files]
                good &= all(json.loads(f.read_text())["ok"] for f in files) and len(files) == self.args.rounds
                if not numbers:
                    cells.append("none")
                    continue
                medians.append(statistics.median(numbers))
                cells.append(f"{medians[-1]:,.0f} ({min(numbers):,.0f} to {max(numbers):,.0f})")
            if len(medians) < 2 or not medians[0]:
                lines.append(f"| {name} | {what} | {cells[0]} | {cells[1]} | | | no: not measured |")
                continue
            ratio, wanted = medians[1] / medians[0], WANTED[name]
            reached = ratio >= wanted if more_is_better else ratio <= wanted
            sign = "at least" if more_is_better else "at most"
            verdict = ("yes" if reached else "no") + ("" if good else "; some runs failed their checks")
            lines.append(f"| {name} | {what} | {cells[0]} | {cells[1]} | {ratio:.2f} | {sign} {wanted} | {verdict} |")
        return "\n".join(lines)

    def write(self):
        """The folder's texts."""
        idle = "\n".join(f"| {system} | {when} | {percent:.2f} |" for (system, when), percent in self.idle.items())
        summary = (f"# Summary\n\nMedian (least to greatest) of {self.args.rounds} rounds.\n\n{self.table()}\n\n"
                   f"Processor use while idle, all processes together, over {IDLE_S} s; wanted for Zoolog: under 3.\n\n"
                   f"| system | when | % of a core |\n|---|---|--:|\n{idle}\n")
        (self.folder / "summary.md").write_text(summary)
        (self.folder / "commands.txt").write_text("\n".join(self.commands) + "\n")
        (self.folder / "README.md").write_text(README.format(commit=shell("git describe --always --dirty --abbrev=40"),
                                                             args=self.args))
        print(summary)


README = """# How does Zoolog compare with Apache ZooKeeper on this machine?

Commit {commit}. Three Apache ZooKeeper 3.8 servers of the Debian package with stock settings (tickTime 2000,
initLimit 10, syncLimit 5, fsync on) and `zoolog dev --zk 3 --isolate process` (three orderers, three shards of two
replicas, three ZooKeeper nodes, fdatasync on) ran side by side, data on the same disk, clients on the same machine.
The same `loadgen` commands went against one and the other in turn, {args.rounds} rounds of {args.duration} after
{args.warmup} of warm-up each, the order swapped each round, behind one unmeasured run of each. Each run checked its
answers. Whichever system is not under load idles meanwhile; what that costs is in the summary.

- `summary.md`: medians, ranges, ratios
- `commands.txt`: every command
- `machine.txt`: processor, kernel, disk, versions
- `raw/`: what loadgen wrote, per load, system and round
"""


def shell(command):
    """What a command prints, errors included."""
    result = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return result.stdout.strip()


def machine(work):
    """Everything about the machine that could matter."""
    commands = ["date -u", "uname -a", "lscpu", "free -h", f"df -hT {work}", "lsblk", "cat /proc/cmdline",
                "java -version", "dpkg-query -W zookeeper libzookeeper-java", "rustc --version",
                "git describe --always --dirty --abbrev=40", "git status --short",
                f"dd if=/dev/zero of={work}/sync-test bs=4k count=500 oflag=direct,dsync && rm {work}/sync-test",
                "uptime"]
    return "\n".join(f"$ {command}\n{shell(command)}\n" for command in commands)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("folder", "zoolog", "loadgen", "work", "duration", "warmup", "invocation"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    comparison = Comparison(args)
    (comparison.folder / "machine.txt").write_text(machine(comparison.work))
    try:
        comparison.run()
    finally:
        comparison.write()
    if not args.work:
        shutil.rmtree(comparison.work, ignore_errors=True)


if __name__ == "__main__":
    main()
