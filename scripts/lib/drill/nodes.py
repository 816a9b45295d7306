"""How are real nodes run for a drill, each a process, with a proxy between all of them? Made with `zoolog admin init`
and a settings file each, started again when they end, unless they are held down."""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from lib.drill.disks import Disks

# Addresses that nodes listen at, and those that they are known by, where the proxy listens.
HIDDEN, KNOWN = "127.0.1.1", "127.0.2.1"
# A node that ends by itself is started again after this.
RESTART_S = 0.3
# A server that is gone for so long is lost, as far as its copies go: much sooner than in real life.
REBUILD_AFTER_MS = 5_000
# By then a server that comes under the id of a lost one has been turned away.
REFUSED_S = 15.0
PR_SET_PDEATHSIG = 1


def end_with_parent():
    """In a child: whatever happens to the drill, no process of it stays."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Proxy:
    """The process that stands between."""

    def __init__(self):
        program = pathlib.Path(__file__).with_name("proxy.py")
        self.process = subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=end_with_parent)

    def do(self, what, **more):
        """Has a command done; it is in effect when this returns."""
        self.process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the proxy has ended")
        return json.loads(answer)

    def end(self):
        self.process.stdin.close()
        self.process.wait(5)


class Node:
    """One process, or the lack of it."""

    def __init__(self, name, kind, folder, hidden, known):
        self.name, self.kind, self.folder = name, kind, folder
        self.hidden, self.known = hidden, known
        self.process = None
        self.held = self.paused = self.lost = False
        self.due = 0.0
        self.starts = 0
        self.ends = []  # exit codes of ends that nobody asked for
        self.asked = False

    def log(self):
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def is_up(self):
        return self.process is not None and self.process.poll() is None


class Cluster:
    """All nodes of a drill."""

    def __init__(self, program, home, port, orderers=3, servers=4, shards=3, replicas=2, disk_bytes=2 << 30):
        self.program, self.home = str(program), home
        self.first_port, self.nodes, self.lost = {"order": port, "shard": port + 10}, {}, []
        self.not_copied = []  # what lost servers held and nobody copied in time
        for kind, count in (("order", orderers), ("shard", servers)):
            for i in range(count):
                self.new_node(kind, i)
        self.next_server = servers
        self.orderers = [n for n in self.nodes if n.startswith("order")]
        self.servers = [n for n in self.nodes if n.startswith("shard")]
        self.disks = Disks(home, list(self.nodes), disk_bytes)
        self.proxy = Proxy()
        for node in self.nodes.values():
            self.route(node)
        self.settings(shards, replicas)

    def new_node(self, kind, i):
        name, port = f"{kind}-{i}", self.first_port[kind] + i
        folder = self.home / "nodes" / name
        folder.mkdir(parents=True)
        self.nodes[name] = Node(name, kind, folder, f"{HIDDEN}:{port}", f"{KNOWN}:{port}")
        return self.nodes[name]

    def route(self, node):
        self.proxy.do("route", name=node.name, at=node.known, to=node.hidden)

    def settings(self, shards, replicas):
        file = self.home / "cluster.toml"
        known = ",".join(self.nodes[n].known for n in self.orderers)
        subprocess.run([self.program, "admin", "init", "--out", str(file), "--orderers", known, "--shards",
                        str(shards), "--replicas", str(replicas), "--servers", str(len(self.servers))], check=True,
                       stdout=subprocess.DEVNULL)
        for node in self.nodes.values():
            self.config(node)

    def config(self, node):
        number = int(node.name.rsplit("-", 1)[1])
        says = {"data_dir": str(self.disks.path(node.name) / "data"), "cluster_file": str(self.home / "cluster.toml"),
                "listen": node.hidden}
        if node.kind == "order":
            says |= {"id": number + 1, "rebuild_after_ms": REBUILD_AFTER_MS}
        else:
            says |= {"server": number, "advertise": KNOWN}
        lines = [f"{key} = {json.dumps(value)}" for key, value in says.items()]
        (node.folder / "config.toml").write_text("\n".join(lines) + "\n")

    def known_orderers(self):
        """Where clients ask: through the proxy, as clients."""
        return ",".join(self.nodes[n].known for n in self.orderers)

    # Life and death

    def start(self, name):
        node = self.nodes[name]
        log = open(node.folder / "log", "ab")
        with log:
            node.process = subprocess.Popen([self.program, node.kind, "--config", str(node.folder / "config.toml")],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=end_with_parent)
        node.starts += 1
        node.paused = node.asked = False
        self.disks.group(name, node.process.pid)

    def tend(self):
        """Starts what has ended, unless it is held down. To be called often, from the thread that lives longest."""
        now = time.monotonic()
        for node in self.nodes.values():
            if node.is_up() or node.lost:
                continue
            if node.process is not None:
                if not node.asked:
                    node.ends.append(node.process.returncode)
                node.process = None
                node.due = max(node.due, now + RESTART_S)
            if not node.held and now >= node.due:
                self.start(node.name)

    def kill(self, name, down_s=0.0):
        """kill -9, and not back before `down_s`."""
        node = self.nodes[name]
        node.due = time.monotonic() + down_s
        if node.is_up():
            node.asked = True
            node.process.kill()
            node.process.wait()

    def lose(self, name):
        """The server is gone for good, and its disk with it."""
        node = self.nodes[name]
        node.lost = True
        self.kill(name)
        self.disks.remove(name)

    def is_refused(self, name):
        """Whether a server that comes under the id of a lost one, on an empty disk, is turned away and ends."""
        node = self.nodes[name]
        self.disks.add(name)
        self.start(name)
        node.asked = True
        deadline = time.monotonic() + REFUSED_S
        while node.is_up() and time.monotonic() < deadline:
            self.tend()
            time.sleep(0.02)
        ended = not node.is_up()
        if not ended:
            self.kill(name)
        self.disks.remove(name)
        return ended and node.process.returncode != 0

    def replace(self, name):
        """Another server joins in place of a lost one, under an id that was never used; its name."""
        self.lost.append(self.nodes.pop(name))
        self.servers.remove(name)
        node = self.new_node("shard", self.next_server)
        self.next_server += 1
        self.disks.add(node.name)
        self.config(node)
        self.route(node)
        self.servers.append(node.name)
        return node.name

    def holds_alone(self, name):
        """Shards with records of which that server still is to hold a copy; None if nobody says."""
        view = self.ask("log", "view")
        if not view:
            return None
        mine = name.rsplit("-", 1)[1] + "."
        return [s["shard"] for s in view["shards"] if any(lane["slot"].startswith(mine) for lane in s["lanes"])
                and s.get("first") != s.get("end", -1)]

    def pause(self, name, is_paused):
        node = self.nodes[name]
        if node.is_up() and node.paused != is_paused:
            node.process.send_signal(signal.SIGSTOP if is_paused else signal.SIGCONT)
            node.paused = is_paused

    def heal(self):
        """Nothing is cut off, paused, full or slow any more; what is down comes back."""
        self.proxy.do("heal")
        for node in self.nodes.values():
            node.held = False
            node.due = min(node.due, time.monotonic())
            self.pause(node.name, False)

    def stop(self, wait_s=15):
        """SIGTERM to all; the names of those that did not end in order, with their exit codes."""
        for node in self.nodes.values():
            node.asked = node.held = True
            if node.is_up():
                node.process.terminate()
        deadline, wrong = time.monotonic() + wait_s, []
        for node in self.nodes.values():
            if node.process is None:
                continue
            try:
                code = node.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                code = f"none within {wait_s} s"
                node.process.kill()
                node.process.wait()
            if code != 0:
                wrong.append(f"{node.name}: exit code {code}")
        return wrong

    def end(self):
        """Whatever still runs ends now; mounts are given back."""
        for node in self.nodes.values():
            if node.is_up():
                node.process.kill()
                node.process.wait()
        self.proxy.end()
        self.disks.unmount()

    # Questions

    def ask(self, *words, timeout_s=5, orderers=None):
        """What `zoolog WORDS --json` says, or None."""
        at = ",".join(self.nodes[n].hidden for n in orderers or self.orderers)
        command = [self.program, *words, "--json", "--orderers", at]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
            return json.loads(answer.stdout) if answer.returncode == 0 else None
        except (ValueError, subprocess.TimeoutExpired):
            return None

    def leader(self):
        """The orderer that leads, by its own word and the highest term; None if none says so."""
        says = [(name, self.ask("admin", "status", orderers=[name])) for name in self.orderers
                if self.nodes[name].is_up() and not self.nodes[name].paused]
        leads = [(o["term"], name) for name, all_ in says if all_ for o in all_["orderers"] if o.get("leader") is True]
        return max(leads)[1] if leads else None

    def sharing(self):
        """Sets of servers that now share a shard that takes appends; all servers as one if this build can't say."""
        view = self.ask("log", "view")
        live = [s for s in view["shards"] if s["state"] == "live"] if view else []
        sets = [sorted({f"shard-{lane['slot'].split('.')[0]}" for lane in s["lanes"]}) for s in live]
        return [s for s in sets if set(s) <= set(self.servers)] or [self.servers]

    def panics(self):
        """Lines of logs that say that a node's own logic was violated."""
        return [f"{node.name}: {line}" for node in [*self.nodes.values(), *self.lost] for line in node.log().splitlines()
                if "panicked at" in line or "assertion" in line]
