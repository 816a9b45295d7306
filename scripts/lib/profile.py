"""What is a load limited by on this machine? Puts one load after the other on a Zoolog of its own, and tells in whose
processes the time goes, how busy the disk is, which functions are hot, and how long the stages take. Called by
scripts/profile.sh."""

import argparse
import pathlib
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.bench import Failed, Up, begin, seconds  # noqa: E402
from lib.peers import drop_caches  # noqa: E402
from lib.topology import cpu_seconds  # noqa: E402
from lib.works.zk import LOADS  # noqa: E402

QUESTION = "What are the loads limited by on this machine?"
HOW = """Each load for {duration} behind {warmup} of warm-up, once, on a `zoolog dev --isolate process` of its own with empty directories:
three orderers, three data servers, two copies of each record, for ZooKeeper loads three ZooKeeper nodes, all settings at
their defaults, clients on the same machine.

In the middle of the measured time, for {look} s, are taken: the processor time of each process (/proc/PID/stat) and of the
machine (/proc/stat), what the disk does (/proc/diskstats: `busy` is the part of the time with at least one request under way),
and, if `perf` is there, which functions run on all processors (`perf record -a -F 999`, without call graphs). Looking costs
some throughput: figures of the loads are not to be quoted from here.
"""
NODES = {"zk": "ZooKeeper nodes", "shard": "data servers", "order": "orderers"}
LOG_APPEND = ["--op", "append", "--size", "4096", "--depth", "512"]
CASES = {
    "set": ("sets, 48 x 32", "zk", LOADS["set"]),
    "create": ("creates, 48 x 32", "zk", LOADS["create"]),
    "set-1x1": ("sets, one at a time", "zk", LOADS["set-1x1"]),
    "append-4k": ("appends of 4 KiB", "log", LOG_APPEND),
    "follow-cold": ("following 4 KiB records, cold", "log", ["--op", "follow", "--size", "4096", "--writers", "1"]),
}


def options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/profile.sh", description=QUESTION, epilog="Loads: " + ", ".join(CASES))
    add = parser.add_argument
    add("--only", metavar="LOAD,..", default=",".join(CASES), help="only these loads")
    add("--duration", metavar="TIME", default="12s", help="measured time of one run (default 12s)")
    add("--warmup", metavar="TIME", default="5s", help="load before it (default 5s)")
    add("--fill", metavar="TIME", default="12s", help="how long to append what is then followed (default 12s)")
    add("--out", metavar="DIR", help="the folder to make (default results/DATE-HOST-profile)")
    add("--work", metavar="DIR", help="where the data goes (default: a temporary directory; not a RAM disk)")
    add("--bin", metavar="DIR", help="where zoolog and loadgen are (default: built here with cargo build --release)")
    add("--base-port", type=int, default=12181, help="first port; up to 300 above it are used (default 12181)")
    add("--dirty", action="store_true", help="run though files are changed; the summary says so in large letters")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := [c for c in args.only if c not in CASES]:
        parser.error(f"no such load: {', '.join(unknown)}; there are {', '.join(CASES)}")
    return args


def machine_times():
    """Seconds since the start of the machine, over all processors: idle, waiting for disks, stolen by the host, all."""
    ticks = [int(t) for t in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return {"idle": ticks[3], "iowait": ticks[4], "steal": ticks[7], "all": sum(ticks)}


def disk_of(path):
    """Name of the device that holds `path`, as in /proc/diskstats."""
    device = subprocess.run(["df", "--output=source", path], capture_output=True, text=True).stdout.split()[-1]
    return pathlib.Path(device).resolve().name


def disk_counts(device):
    """What that device has done: MiB read and written, milliseconds with requests under way."""
    for line in pathlib.Path("/proc/diskstats").read_text().splitlines():
        parts = line.split()
        if parts[2] == device:
            return {"read_mib": int(parts[5]) / 2048, "written_mib": int(parts[9]) / 2048, "busy_ms": int(parts[12])}
    return {"read_mib": 0.0, "written_mib": 0.0, "busy_ms": 0}


def running(program):
    """Process ids of that program."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/exe"):
        try:
            if entry.resolve() == pathlib.Path(program).resolve():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


class Look:
    """One look at a running load, in the middle of its measured time."""

    def __init__(self, bench, system, name, after_s, for_s):
        self.bench, self.system, self.name, self.after_s, self.for_s = bench, system, name, after_s, for_s
        self.seen, self.ended = None, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def groups(self):
        """Process ids by what they are."""
        found = {"load generator": running(self.bench.loadgen_program)}
        for name in self.system.nodes():
            if pid := self.system.pid(name):
                found.setdefault(NODES.get(name.split("-")[0], "others"), []).append(pid)
        return found

    def counts(self, groups, device):
        return {"cpu": {name: cpu_seconds(pids) for name, pids in groups.items()}, "machine": machine_times(),
                "disk": disk_counts(device), "at": time.monotonic()}

    def run(self):
        if self.ended.wait(self.after_s):
            return
        groups, device = self.groups(), disk_of(self.bench.work)
        before = self.counts(groups, device)
        self.hot(self.for_s)
        after = self.counts(groups, device)
        took = after["at"] - before["at"]
        machine = {k: after["machine"][k] - before["machine"][k] for k in after["machine"]}
        disk = {k: after["disk"][k] - before["disk"][k] for k in after["disk"]}
        self.seen = {
            "cores": {name: (after["cpu"][name] - before["cpu"][name]) / took for name in groups},
            "machine": {k: machine[k] / max(1, machine["all"]) for k in ("idle", "iowait", "steal")},
            "disk": {"read_mib_per_second": disk["read_mib"] / took, "written_mib_per_second": disk["written_mib"] / took,
                     "busy": disk["busy_ms"] / 1000 / took},
        }

    def hot(self, for_s):
        """Which functions run, if perf is there; else only the time passes."""
        if not shutil.which("perf"):
            self.bench.note("`perf` is missing (Debian's linux-perf): no functions are told.")
            time.sleep(for_s)
            return
        data = self.bench.work / "perf.data"
        command = ["perf", "record", "-q", "-a", "-F", "999", "-o", str(data), "--", "sleep", str(for_s)]
        self.bench.folder.command(command, f"{self.name}, functions")
        subprocess.run(command, capture_output=True, timeout=for_s + 60)

    def told(self):
        """What was seen, after the load has ended: perf's reports cost time that it must not miss."""
        self.ended.set()
        self.thread.join(60)
        data = self.bench.work / "perf.data"
        tops = []
        if data.exists():
            for kind, keys in (("processes", "comm"), ("functions", "comm,dso,symbol")):
                command = ["perf", "report", "-i", str(data), "--stdio", "--no-children", "--no-inline", "-q", "--sort", keys,
                           "--percent-limit", "0.2"]
                text = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
                self.bench.folder.raw(f"{self.name}-{kind}.txt", text)
                if kind == "functions":
                    tops = [" ".join(line.split()) for line in text.splitlines() if line.strip()][:12]
            data.unlink()
        if self.seen is None:
            raise Failed(f"{self.name}: the load ended before it was looked at")
        return {**self.seen, "functions": tops}


def profile(bench, name):
    """One load; its figures and what was seen."""
    what, kind, flags = CASES[name]
    settings = bench.settings
    length, warmup = seconds(settings.duration), seconds(settings.warmup)
    bench.say(f"{name}: {what}")
    with Up(bench, "zoolog", zk=3 if kind == "zk" else 0) as system:
        cold = name == "follow-cold"
        if kind == "log":
            flags = ["--orderers", system.ready["orderers"], *flags]
        if cold:
            fill = ["--orderers", system.ready["orderers"], *LOG_APPEND, "--duration", settings.fill, "--warmup", "0s"]
            bench.loadgen("log", fill, f"{name}-fill", wait_s=seconds(settings.fill) + 180)
            system.stop()
            bench.note(f"Cold means: {drop_caches(system.directory)}.")
            system.start()
            flags = ["--orderers", system.ready["orderers"], *CASES[name][2]]
        times = ["--duration", settings.duration, "--warmup", "0s" if cold else settings.warmup]
        if kind == "zk":
            flags = ["--servers", system.ready["zk"], *flags, "--size", "100", "--prefix", f"/{name}", "--stages", "--admin", system.ready["admin"]]
        after_s, for_s = (0.5, 2.0) if cold else (warmup + 0.3 * length, 0.4 * length)
        look = Look(bench, system, name, after_s, for_s)
        try:
            result = bench.loadgen(kind, [*flags, *times], name)
        finally:
            look.ended.set()
        seen = look.told()
    seen["per_second"] = result["per_second"]
    bench.say("  " + ", ".join(f"{who} {cores:.2f} cores" for who, cores in seen["cores"].items()))
    return seen


def write(bench, kept):
    """The texts of the folder; the summary's."""
    who = ["load generator", *NODES.values()]
    lines = ["Processor time in cores, of the machine's; idle, waiting for the disk and stolen by the host as parts of all.", "",
             "| load | " + " | ".join(who) + " | idle | waiting | stolen | disk busy | MiB/s written | read |",
             "|---|" + "--:|" * (len(who) + 6)]
    for name, seen in kept.items():
        m, d = seen["machine"], seen["disk"]
        cores = " | ".join(f"{seen['cores'].get(w, 0.0):.2f}" for w in who)
        lines.append(f"| {CASES[name][0]} | {cores} | {m['idle']:.0%} | {m['iowait']:.0%} | {m['steal']:.0%} | {d['busy']:.0%} | "
                     f"{d['written_mib_per_second']:,.0f} | {d['read_mib_per_second']:,.0f} |")
    for name, seen in kept.items():
        if seen["functions"]:
            lines += ["", f"## {CASES[name][0]}: what runs", "", "```", *seen["functions"], "```"]
    lines += ["", "Stages of ZooKeeper loads are in `raw/LOAD.json`, all functions in `raw/LOAD-functions.txt`."]
    lines += [f"- {note}" for note in bench.notes]
    lines += [f"- FAILED {name}: {text}" for name, texts in bench.failures.items() for text in texts]
    summary = "\n".join(lines)
    settings = bench.settings
    bench.folder.write(summary, {"loads": kept, "failures": bench.failures},
                       HOW.format(look=round(0.4 * seconds(settings.duration), 1), **vars(settings)))
    return summary


def main():
    bench, kept = begin("profile", QUESTION, options()), {}
    try:
        for name in bench.settings.only:
            try:
                kept[name] = profile(bench, name)
            except (Failed, OSError, RuntimeError, subprocess.TimeoutExpired) as e:
                bench.fail(name, str(e))
    except KeyboardInterrupt:
        bench.fail("all", "interrupted")
    finally:
        print(f"\n{write(bench, kept)}\n\nkept in {bench.folder.path}")
        bench.close()
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
