"""What is kept of a run? A folder in results/, made once and never changed: question, exact commands, commit,
machine, configurations, raw data, plots, summary."""

import datetime
import hashlib
import json
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def shell(command, cwd=None):
    """What a command prints, errors included."""
    result = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd)
    return result.stdout.rstrip()


def changes():
    """Files of the repository that are not as committed, as git lists them; new folders of results don't count."""
    lines = shell("git status --porcelain --untracked-files=all", REPOSITORY).splitlines()
    return [line for line in lines if line and not line.startswith("?? results/")]


def enforce_clean(dirty):
    """Ends the program if files are changed, unless that is allowed. Returns whether any are."""
    changed = changes()
    if changed and not dirty:
        sys.exit("files are changed: commit them first, so that the commit tells what was measured; or --dirty,\n"
                 "which the summary will say in large letters:\n  " + "\n  ".join(changed[:10]))
    return bool(changed)


def machine(work):
    """Everything about the machine that could matter for figures taken on it."""
    commands = ["date -u", "uname -a", "cat /proc/cmdline", "lscpu", "free -h", "ulimit -a", f"df -hT {shlex.quote(str(work))}",
                "lsblk -o NAME,SIZE,TYPE,ROTA,SCHED,MOUNTPOINTS", "cat /sys/block/*/queue/write_cache",
                "cat /sys/devices/system/clocksource/clocksource0/current_clocksource",
                "cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "cat /sys/kernel/mm/transparent_hugepage/enabled", "java -version", "redis-server --version",
                "fio --version", "dpkg-query -W zookeeper libzookeeper-java redis-server fio", "rustc --version",
                "git describe --always --dirty --abbrev=40", "git status --short", "uptime"]
    return "\n".join(f"$ {command}\n{shell(command, REPOSITORY)}\n" for command in commands)


class Folder:
    """The folder of one run."""

    def __init__(self, path, question, dirty):
        self.path = pathlib.Path(path)
        if self.path.exists():
            sys.exit(f"{self.path} exists: results are never changed; give another --out")
        (self.path / "raw").mkdir(parents=True)
        self.question, self.dirty = question, dirty
        self.commands, self.configs = [], set()

    def command(self, command, remark=""):
        """Keeps an exact command, and writes them all: a run that is killed leaves what it did."""
        text = command if isinstance(command, str) else shlex.join(map(str, command))
        self.commands.append(text + (f"   # {remark}" if remark else ""))
        (self.path / "commands.txt").write_text("\n".join(self.commands) + "\n")

    def raw(self, name, text):
        """Keeps raw data; returns the file."""
        path = self.path / "raw" / name
        path.write_text(text)
        return path

    def config(self, name, source):
        """Keeps a configuration file, once per name. Secrets do not get in."""
        if name in self.configs or not pathlib.Path(source).exists():
            return
        self.configs.add(name)
        target = self.path / "configs" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = pathlib.Path(source).read_text().splitlines()
        target.write_text("\n".join("secret = \"left out\"" if line.startswith("secret") else line for line in lines) + "\n")

    def write(self, summary, numbers, how):
        """Texts and numbers of the end."""
        warning = ""
        if self.dirty:
            warning = ("# NOT A CLEAN TREE\n\n**The commit does not tell what was measured: files were changed "
                       "(see `machine.txt`). These figures cannot be repeated and must not be quoted.**\n\n")
        commit = shell("git describe --always --dirty --abbrev=40", REPOSITORY)
        (self.path / "summary.md").write_text(f"{warning}# {self.question}\n\nCommit {commit}.\n\n{summary}\n")
        (self.path / "summary.json").write_text(json.dumps({"commit": commit, "dirty": self.dirty, **numbers}, indent=1) + "\n")
        (self.path / "README.md").write_text(f"{warning}# {self.question}\n\nCommit {commit}.\n\n{how}\n\n{CONTENTS}")


CONTENTS = """- `summary.md`, `summary.json`: the outcome
- `commands.txt`: every command, in the order it was given
- `machine.txt`: processor, kernel, disk, versions
- `configs/`: what each system ran with
- `raw/`: what the load generators wrote, per work, system and round
- `plots/`: timelines, if the load generator draws them
"""


def default_path(question_slug):
    """results/DATE-HOST-SLUG."""
    return REPOSITORY / "results" / f"{datetime.date.today().isoformat()}-{platform.node()}-{question_slug}"


def digest(path):
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def free_bytes(path):
    """Free space where `path` is, or will be."""
    path = pathlib.Path(path).resolve()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def refuse_memory(path):
    """Ends the program if `path` lies in memory: nothing would be durable there, and every figure flattering."""
    kind = shell(f"stat -f -c %T {shlex.quote(str(path))}")
    if kind in ("tmpfs", "ramfs"):
        sys.exit(f"{path} is memory ({kind}), not a disk: give --work a directory on the disk under test")
