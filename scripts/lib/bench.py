"""What do all works of a comparison share? One run's settings, its folder, the systems, the load generator, and the
numbers and failures that are collected."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from lib import folder as folders
from lib.apache import Ensemble
from lib.folder import REPOSITORY
from lib.peers import Redis
from lib.topology import Topology


def seconds(text):
    """`10s`, `500ms`, `2m` or a bare number of seconds, as seconds."""
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|)", text)
    if not match:
        raise ValueError(f"a time like 10s, 500ms or 2m, not {text!r}")
    return float(match[1]) * {"ms": 0.001, "s": 1, "": 1, "m": 60}[match[2]]


# loadgen's exit code when the generator itself could not keep up with a rate.
LATE = 4


class Failed(Exception):
    """A measurement that can't be counted."""


class Bench:
    """One run of a comparison."""

    def __init__(self, settings, folder, zoolog, loadgen, work=None):
        self.settings, self.folder = settings, folder
        self.program, self.loadgen_program = pathlib.Path(zoolog).resolve(), pathlib.Path(loadgen).resolve()
        self.own_work = work is None
        self.work = pathlib.Path(work or tempfile.mkdtemp(prefix="zoolog-compare-"))
        self.work.mkdir(parents=True, exist_ok=True)
        self.measured, self.failures, self.notes = [], {}, []
        self.half_rates = {}  # operation -> half of Apache's peak
        self._help = {}

    def say(self, text):
        """Progress, for people."""
        print(text, flush=True)

    def note(self, text):
        """Something the reader of the summary must know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def fail(self, work, text):
        """A work, or a part of it, that could not be measured."""
        self.failures.setdefault(work, []).append(text)
        self.say(f"  FAILED {work}: {text}")

    def record(self, row, side, number, value):
        """One measured number of a round."""
        self.measured.append({"row": row, "side": side, "round": number, "value": value})
        self.say(f"  {row:28} {side:8} round {number}: {value:,.2f}")

    def supports(self, target, option):
        """Whether this loadgen knows an option (or a target, if `option` is empty)."""
        if target not in self._help:
            result = subprocess.run([self.loadgen_program, target, "--help"], capture_output=True, text=True)
            self._help[target] = result.stdout if result.returncode == 0 else ""
        return bool(self._help[target]) and option in self._help[target]

    def run(self, command, remark="", wait_s=None, accepted=(0,)):
        """Runs a command whose exact words are kept; its stdout. Raises `Failed` if it ends with another exit code."""
        self.folder.command(command, remark)
        try:
            result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=wait_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"{command[0]} did not end within {wait_s} s") from None
        if result.returncode not in accepted:
            if remark:
                self.folder.raw(f"{remark.split(',')[0]}.err", result.stdout + result.stderr)
            raise Failed(f"{pathlib.Path(command[0]).name} ended with exit code {result.returncode}: "
                         f"{why(result.stderr.strip() or result.stdout.strip())}")
        return result.stdout

    def loadgen(self, target, flags, name, measured=True, wait_s=None, late_counts=False, timeline=True):
        """One run of loadgen; returns its JSON. `name` is that of the raw files. With `late_counts` a run in which
        the generator was late itself counts too; `timeline` asks for a drawing of it."""
        command = [self.loadgen_program, target, *flags]
        raw = self.folder.path / "raw" / f"{name}.json"
        if not measured:
            self.run(command, f"{name}, not measured", wait_s)
            return {}
        command += ["--json", raw, "--hgrm", raw.with_suffix(".hgrm")]
        if not timeline:
            pass
        elif self.supports(target, "--plots"):
            command += ["--plots", self.folder.path / "plots" / name]
            (self.folder.path / "plots" / name).mkdir(parents=True, exist_ok=True)
        else:
            self.note("This loadgen draws no plots.")
        wait_s = wait_s or seconds(self.settings.duration) + seconds(self.settings.warmup) + 180
        self.run(command, name, wait_s, (0, LATE) if late_counts else (0,))
        result = json.loads(raw.read_text())
        if not result.get("ok") or result.get("partial"):
            raise Failed(f"{name}: its checks failed, or it ended before its time: see raw/{name}.json")
        return result

    def times(self):
        """Flags for the measured time and the warm-up of one run."""
        return ["--duration", self.settings.duration, "--warmup", self.settings.warmup]

    def apache(self, servers=3):
        """Apache servers with empty directories."""
        return Ensemble(self.fresh("apache"), servers, self.settings.base_port)

    def zoolog(self, zk=3, more=()):
        """A default topology with an empty directory."""
        port = self.settings.base_port + 200
        return Topology(self.program, self.fresh("zoolog") / "data", port, port + 90, zk, more)

    def redis(self):
        """A Redis with an empty directory."""
        return Redis(self.fresh("redis"), self.settings.base_port + 300)

    def fresh(self, name):
        """An empty directory on the disk under test."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def start(self, system, name):
        """Starts a system and keeps what it runs with."""
        system.start()
        if isinstance(system, Topology):
            self.folder.command(system.process.args, "start")
            for path in [system.directory / "cluster.toml", *system.directory.glob("nodes/*/config.toml")]:
                self.folder.config(f"zoolog-{name}/{path.relative_to(system.directory)}", path)
        elif isinstance(system, Ensemble):
            for process, home in zip(system.processes, sorted(system.directory.glob("server-*"))):
                self.folder.command(process.args, "start")
                self.folder.config(f"apache/{home.name}/zoo.cfg", home / "zoo.cfg")
        else:
            self.folder.command(system.process.args, "start")
            self.folder.config("redis/redis.conf", system.config)
        return system

    def stop(self, system, name):
        """Stops a system and makes room: data of the next round starts from nothing."""
        system.stop()
        shutil.rmtree(self.work / name, ignore_errors=True)

    def close(self):
        """Removes what was left on the disk under test, and folders that no plot came into."""
        for path in (self.folder.path / "plots").glob("*"):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if self.own_work:
            shutil.rmtree(self.work, ignore_errors=True)


def programs(directory):
    """(zoolog, loadgen), built if no directory is given."""
    if directory is None:
        command = ["cargo", "build", "--release", "-p", "zoolog", "-p", "zoolog-loadgen"]
        if subprocess.run(command, cwd=REPOSITORY).returncode != 0:
            sys.exit("the build failed")
        directory = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release"
    found = [pathlib.Path(directory) / name for name in ("zoolog", "loadgen")]
    for path in found:
        if not path.exists():
            sys.exit(f"{path} is missing")
    return found


def begin(name, question, args):
    """A bench for `scripts/NAME.sh` with these options: programs there, tree clean, folder made and the machine
    described in it, SIGTERM as Ctrl-C."""
    dirty = folders.enforce_clean(args.dirty)
    zoolog, loadgen = programs(args.bin)
    kept = folders.Folder(args.out or folders.default_path(name), question, dirty)
    kept.command([f"scripts/{name}.sh", *sys.argv[1:]])
    bench = Bench(args, kept, zoolog, loadgen, args.work)
    folders.refuse_memory(bench.work)
    end_on_sigterm()
    if args.bin:
        bench.note("The programs were given, not built here: zoolog " + folders.digest(zoolog)[:16] + ", loadgen "
                   + folders.digest(loadgen)[:16] + " (SHA-256). Nothing tells that they are of this commit.")
    (kept.path / "machine.txt").write_text(folders.machine(bench.work))
    return bench


def end_on_sigterm():
    """SIGTERM ends a run as Ctrl-C does: systems stopped, what there is written."""
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)


class Up:
    """A system that is up within a `with`, and the only one. `which` is apache, zoolog or redis."""

    def __init__(self, bench, which, label="", **how):
        self.bench, self.which, self.how = bench, which, how
        self.label = label or f"zk{how.get('zk', 3)}"

    def __enter__(self):
        self.system = getattr(self.bench, self.which)(**self.how)
        try:
            return self.bench.start(self.system, self.label)
        except BaseException as e:
            said = last_words(self.bench.work / self.which)
            self.bench.stop(self.system, self.which)
            if isinstance(e, KeyboardInterrupt):
                raise
            raise Failed(f"{self.which} did not start: {said or e}") from None

    def __exit__(self, *_):
        self.bench.stop(self.system, self.which)


def why(text):
    """What a program that failed says: its panic if there is one, else its last lines."""
    lines = text.splitlines()
    panics = [i for i, line in enumerate(lines) if "panicked at" in line]
    return " / ".join(lines[panics[0]:panics[0] + 2] if panics else lines[-3:])


def last_words(home):
    """What a system wrote before it ended, for it is about to be removed: its last line that tells of an error, else its
    last line."""
    last = ""
    for log in sorted([*home.glob("*.log"), *home.glob("*/*.log")], key=lambda log: log.name == "out.log"):
        lines = log.read_text(errors="replace").strip().splitlines()
        wrong = [line for line in lines if "ERROR" in line or "xception" in line]
        if wrong:
            return f"{log.parent.name}/{log.name}: {wrong[-1]}"
        last = last or (lines[-1] if lines else "")
    return last
