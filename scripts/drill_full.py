#!/usr/bin/env python3
"""What happens when the disk is full? Starts `zoolog dev --isolate process` in a fresh directory, each data server with
a quota that is soon used up since nothing is let go; writes until writes are refused; checks that reads, the session and
all processes live on meanwhile; then has the ZooKeeper node take snapshots, so that the log is trimmed, and checks that
writes come back on the same small disks, that space was given back, and that every acknowledged write is there.
Takes one to two minutes and some 2 GB; the exit code is 0 if all checks passed.

    scripts/drill_full.py --zoolog target/release/zoolog

The quota stands in for a small disk (`disk_quota_bytes`): mounting one needs rights that a test seldom has.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from lib.deps import ensure_kazoo
from lib.topology import Topology

ensure_kazoo()

import logging  # noqa: E402

from kazoo.client import KazooClient  # noqa: E402
from kazoo.exceptions import KazooException, SystemZookeeperError  # noqa: E402

QUOTA_BYTES = 384 << 20
VALUE_BYTES = 700_000
KEYS = 8
# Until writes are refused, and until they are taken again.
PATIENCE_S = 120


class Drill:
    """One drill; collects what passed and what failed."""

    def __init__(self, args):
        self.home = pathlib.Path(args.dir or tempfile.mkdtemp(prefix="zoolog-full-"))
        self.program = pathlib.Path(args.zoolog).resolve()
        more = ["--set", f"shard.disk_quota_bytes={QUOTA_BYTES}", "--set", "zk.snapshot_records=0",
                "--set", "zk.snapshot_bytes=0"]
        self.topology = Topology(self.program, self.home / "data", args.port, args.admin_port, zk=1, more=more)
        self.passed = self.failed = 0
        self.started = time.monotonic()
        self.client = None
        self.values = {}
        self.numbers = 0

    def say(self, text):
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)

    def check(self, name, ok, detail=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
        self.say(f"{'ok     ' if ok else 'FAILED '} {name}{'' if ok or not detail else f': {detail}'}")

    def connect(self):
        self.client = KazooClient(hosts=",".join(self.topology.hosts), timeout=10)
        self.client.start(timeout=30)

    def write(self):
        """One write; remembers it if it was acknowledged."""
        self.numbers += 1
        path = f"/full/{self.numbers % KEYS}"
        value = f"{self.numbers}:".encode().ljust(VALUE_BYTES, b"x")
        self.client.set(path, value)
        self.values[path] = value

    def status(self):
        """What the leader says of itself."""
        command = [self.program, "admin", "status", "--json", "--data-dir", str(self.topology.directory)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return next((o for o in json.loads(answer.stdout)["orderers"] if o.get("leader")), {})

    def wal_bytes(self):
        return {p.name: sum(f.stat().st_size for f in p.glob("data/slot-0/wal/*.seg"))
                for p in (self.topology.directory / "nodes").glob("shard-*")}

    def pids(self, kind):
        return {n: self.topology.pid(n) for n in self.topology.nodes() if n.startswith(kind)}

    def run(self):
        took = self.topology.start()
        self.say(f"ready after {took:.1f} s; each data server may take {QUOTA_BYTES >> 20} MiB")
        self.connect()
        self.client.ensure_path("/full")
        for i in range(KEYS):
            self.client.create(f"/full/{i}", b"")
        before = self.pids("shard"), self.pids("order"), self.client.client_id
        self.fill()
        self.live_on(before)
        self.give_room()
        self.verify(before)
        self.client.stop()
        self.client.close()
        code = self.topology.stop()
        self.check("SIGTERM ends it in order", code == 0, f"exit code {code}")

    def fill(self):
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            try:
                self.write()
            except SystemZookeeperError:
                self.check(f"writes are refused after {len(self.values) and self.numbers} of {VALUE_BYTES} bytes", True)
                return
        raise RuntimeError(f"{self.numbers} writes, and none was refused in {PATIENCE_S} s")

    def live_on(self, before):
        refused = reads = 0
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                self.write()
            except SystemZookeeperError:
                refused += 1
            for path, value in self.values.items():
                reads += self.client.get(path)[0] == value
            time.sleep(0.2)
        self.check(f"15 s later writes are refused ({refused} times), {reads} reads are right",
                   refused > 10 and reads > 50)
        self.check("the session lives on", self.client.client_id == before[2])
        short = self.status().get("short_of_room")
        self.check(f"the leader says who is short of room: {short}", bool(short))
        sizes = self.wal_bytes()
        self.check(f"no log is larger than its quota: {sizes}", all(s <= QUOTA_BYTES for s in sizes.values()))
        self.full = sizes

    def give_room(self):
        """The node takes snapshots from now on, and lets go of the log before them."""
        config = self.topology.directory / "nodes" / "zk-0" / "config.toml"
        text = config.read_text().replace("snapshot_records = 0", "snapshot_records = 60")
        config.write_text(text)
        pid = self.topology.kill("zk-0")
        self.topology.wait_restarted("zk-0", pid)
        self.say("the ZooKeeper node was restarted, to take snapshots")
        began, last = time.monotonic(), None
        while time.monotonic() - began < PATIENCE_S:
            try:
                self.write()
                self.check(f"writes are taken again after {time.monotonic() - began:.1f} s", True)
                return
            except KazooException as e:
                last = e
                time.sleep(0.2)
            except Exception as e:  # the client is between two connections
                last = e
                time.sleep(0.5)
        status = self.status()
        raise RuntimeError(f"no write was taken for {PATIENCE_S} s: {last!r}; trim {status.get('trim')}, tail "
                           f"{status.get('tail')}, consumers {status.get('consumers')}, {self.wal_bytes()}")

    def verify(self, before):
        for _ in range(200):
            try:
                self.write()
            except SystemZookeeperError:
                time.sleep(0.2)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.status().get("short_of_room"):
            time.sleep(0.5)
        status, sizes = self.status(), self.wal_bytes()
        self.check("nobody is short of room any more", not status.get("short_of_room"), status.get("short_of_room"))
        smaller = [n for n in sizes if sizes[n] < self.full[n]]
        self.check(f"space was given back: {sizes}, trimmed to {status.get('trim')} of {status.get('tail')}", smaller)
        wrong = [p for p, v in self.values.items() if self.client.get(p)[0] != v]
        self.check(f"every acknowledged write is there ({self.numbers} were tried)", not wrong, wrong)
        same = (self.pids("shard"), self.pids("order")) == before[:2]
        self.check("no data server and no orderer was restarted", same)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoolog", required=True, help="the built binary")
    parser.add_argument("--port", type=int, default=23181, help="client port (default 23181)")
    parser.add_argument("--admin-port", type=int, default=28081, help="admin port (default 28081)")
    parser.add_argument("--dir", help="where to keep data and logs (default: a temporary directory, removed if all is well)")
    args = parser.parse_args()
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    drill = Drill(args)
    if shutil.disk_usage(drill.home).free < 4 << 30:
        print(f"CAN'T RUN: {drill.home} has less than 4 GiB free; give --dir on a larger disk")
        return 2
    try:
        drill.run()
    except Exception:
        drill.failed += 1
        print(f"FAILED  the drill came to its end\n{traceback.format_exc()}", flush=True)
    finally:
        if drill.topology.process is not None:
            drill.topology.stop()
    if drill.failed:
        print(f"data and logs are in {drill.home}")
    elif not args.dir:
        shutil.rmtree(drill.home, ignore_errors=True)
    print(f"{drill.passed} passed, {drill.failed} failed")
    return 1 if drill.failed else 0


if __name__ == "__main__":
    sys.exit(main())
