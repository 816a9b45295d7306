"""How is a whole Zoolog handled from a script? `zoolog dev --isolate process` as a child, and its nodes by
their pid and hold files."""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from lib.apache import four_letters


class Topology:
    """A `zoolog dev` in `directory`; `start` may be called again after the end or a kill."""

    def __init__(self, program, directory, port, admin_port, zk=3, more=()):
        self.program, self.more = str(program), list(more)
        self.directory = pathlib.Path(directory)
        self.port, self.admin_port, self.zk = port, admin_port, zk
        self.process = None
        self.ready = {}

    def start(self, wait_s=60):
        """Starts it and waits for its `ready:` line; raises if it does not come. Returns the seconds taken."""
        command = [self.program, "dev", "--isolate", "process", "--zk", str(self.zk), "--data-dir",
                   str(self.directory), "--port", str(self.port), "--admin-port", str(self.admin_port), *self.more]
        started = time.monotonic()
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory.parent / "dev.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                                            start_new_session=True)
        came = threading.Event()

        def read():
            for line in self.process.stdout:
                if line.startswith("ready:"):
                    self.ready = dict(part.split("=", 1) for part in line.split()[1:])
                    came.set()
            came.set()

        self.ready = {}
        threading.Thread(target=read, daemon=True).start()
        came.wait(wait_s)
        if not self.ready:
            ended = self.process.poll()
            text = f"no `ready:` line in {wait_s} s" if ended is None else f"it ended with {ended} before it was ready"
            raise RuntimeError(f"{text}; see {self.directory.parent}/dev.log")
        return time.monotonic() - started

    @property
    def hosts(self):
        """The ZooKeeper nodes, as `H:P` each."""
        return self.ready["zk"].split(",")

    def nodes(self):
        """Names of all nodes."""
        return sorted(p.name for p in (self.directory / "nodes").iterdir() if (p / "pid").exists())

    def pid(self, name):
        """Process id of a node, or None while it has none."""
        try:
            pid = int((self.directory / "nodes" / name / "pid").read_text())
            os.kill(pid, 0)
            return pid
        except (OSError, ValueError):
            return None

    def pids(self):
        """Process ids of all nodes and of the supervisor."""
        return [self.process.pid] + [pid for pid in map(self.pid, self.nodes()) if pid]

    def hold(self, name, held):
        """Keeps a dead node dead, or lets it go."""
        path = self.directory / "nodes" / name / "hold"
        if held:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def kill(self, name):
        """kill -9; returns the process id that was killed."""
        pid = self.pid(name)
        if pid is None:
            raise RuntimeError(f"{name} is not running")
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_restarted(self, name, old_pid, wait_s=20):
        """Waits until the node has another process."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            pid = self.pid(name)
            if pid is not None and pid != old_pid:
                return
            time.sleep(0.02)
        raise RuntimeError(f"{name} was not restarted within {wait_s} s")

    def kill_all(self):
        """kill -9 of every node and of the supervisor, as if the power went. Nobody is restarted or gets the
        chance to end in order: the supervisor is frozen first."""
        os.kill(self.process.pid, signal.SIGSTOP)
        pids = [self.pid(name) for name in self.nodes()]
        for pid in filter(None, pids):
            os.kill(pid, signal.SIGKILL)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(pid and is_alive(pid) for pid in pids):
            time.sleep(0.02)
        return sum(1 for pid in pids if pid)

    def leader(self):
        """Name of the orderer that leads, or None if nobody says so."""
        command = [self.program, "admin", "status", "--json", "--data-dir", str(self.directory)]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
            orderers = json.loads(answer.stdout)["orderers"]
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
            return None
        leaders = [i for i, o in enumerate(orderers) if o.get("leader") is True]
        return f"order-{leaders[0]}" if len(leaders) == 1 else None

    def monitor(self, host):
        """What `mntr` says of a ZooKeeper node, as a dictionary of strings; empty if it does not answer."""
        name, port = host.rsplit(":", 1)
        text = four_letters(name, int(port), "mntr") or ""
        return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)

    def stop(self, wait_s=20):
        """SIGTERM; returns the exit code, or None if it had to be killed."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.kill_all()
            return None


def is_alive(pid):
    """Whether the process runs (a zombie does not)."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def cpu_seconds(pids):
    """Processor seconds that the processes have used so far; dead ones count as 0."""
    total = 0
    for pid in pids:
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        total += sum(int(t) for t in stat.rsplit(")", 1)[1].split()[11:13])
    return total / os.sysconf("SC_CLK_TCK")
