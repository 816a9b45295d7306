#!/usr/bin/env python3
"""Does what one client does make the others slow? Starts `zoolog dev --isolate process`, puts a load of reads on it at a
fixed rate, and does heavy things beside it, one after the other: lists a node of 1,000,000 children, sends multis of
1,000 operations, reads as much as a multiRead may answer, sets watches again by requests of 1 MiB, fires 100,000 watches at
once, lets connections go that hold 1,000,000 watches, lists 100,000 ephemerals, opens and closes 20,000 sessions, takes
snapshots of 1,000,000 znodes; and, the only thing that is one record of the log however long it takes, ends the session that
has the ephemerals. Prints, for each, the reads' p99 and longest time beside those of the same
load alone, and the node's memory; writes a new folder under results/.

    nice cargo build --release -q -p zoolog -p zoolog-loadgen && scripts/heavy.py

Takes about six minutes; the exit code is 0 if no p99 is above --bound, apart from that last one. On a machine that does
something else at the same time its figures say nothing.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from lib import folder, heavy
from lib.topology import Topology


# What is one record of the log, however long it takes.
FLOOR = "ephemerals end"


class Run:
    """One run: the nodes, the load, what was measured."""

    def __init__(self, args):
        self.args = args
        self.home = pathlib.Path(args.work or tempfile.mkdtemp(prefix="zoolog-heavy-", dir="/var/tmp"))
        folder.refuse_memory(self.home)
        bins = pathlib.Path(args.bins).resolve()
        self.zoolog, self.loadgen = bins / "zoolog", bins / "loadgen"
        more = [part for text in args.set for part in ("--set", text)]
        self.topology = Topology(self.zoolog, self.home / "data", args.port, args.admin_port, zk=1, more=more)
        out = args.out or folder.default_path("heavy")
        self.folder = folder.Folder(out, "Does what one client does make the others slow?", args.dirty)
        self.rows = []

    def rss_mib(self):
        """Memory of the ZooKeeper node, now and at most."""
        lines = pathlib.Path(f"/proc/{self.topology.pid('zk-0')}/status").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return [int(values[key].split()[0]) // 1024 for key in ("VmRSS", "VmHWM")]

    def measure(self, name, situation, seconds):
        """The load alone for a moment, then `situation` beside it; `situation` returns a remark."""
        host = self.topology.hosts[0]
        raw = self.folder.path / "raw" / (name.replace(" ", "-").replace(",", "") + ".json")
        seconds = max(4, round(seconds * self.args.time))
        command = [self.loadgen, "zk", "--servers", host, "--op", "get", "--rate", str(self.args.rate), "--sessions",
                   str(self.args.sessions), "--depth", "8", "--keys", "1000", "--prefix", "/reads", "--duration",
                   f"{seconds}s", "--warmup", "1s", "--lateness", "1s", "--outage", "30s", "--session-timeout-ms",
                   "30000", "--json", str(raw)]
        self.folder.command(command, name)
        load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(2.5)
        began = time.monotonic()
        remark = situation(seconds - 2)
        took = time.monotonic() - began
        errors = load.communicate(timeout=seconds + 60)[1]
        if load.returncode not in (0, 4, 6) or not raw.exists():
            raise RuntimeError(f"{name}: loadgen ended with {load.returncode}: {errors[-500:]}")
        found = json.loads(raw.read_text())
        row = {"situation": name, "took_s": round(took, 2), "remark": remark, **heavy.latencies(found)}
        row["rss_mib"], row["rss_peak_mib"] = self.rss_mib()
        self.rows.append(row)
        print(f"{name:28} p50 {row['p50_ms']:8.2f}  p99 {row['p99_ms']:8.2f}  max {row['max_ms']:8.2f} ms  "
              f"{row['per_second']:7.0f} gets/s  {row['rss_mib']:5d} MiB  {took:5.1f} s  {remark}", flush=True)

    def run(self):
        """All situations."""
        took = self.topology.start()
        print(f"ready after {took:.1f} s; reads at {self.args.rate} /s over {self.args.sessions} sessions", flush=True)
        host = self.topology.hosts[0]
        client = heavy.Client(host)
        self.measure("alone", lambda s: time.sleep(s) or "nothing beside it", 10)
        many = heavy.Children(client, self.args.children)
        self.measure("multis of 1,000 creates", many.make, 20)
        many.finish()
        self.measure("alone, with the znodes", lambda s: time.sleep(s) or "nothing beside it", 10)
        self.measure("lists of all children", many.list, 10)
        self.measure("multis of 1,000 sets", many.set, 10)
        reads = heavy.MultiReads(client)
        self.measure("multiReads of 4 MiB", lambda s: reads.go_on(s, reads.large), 8)
        self.measure("multiReads of 16,384 nodes", lambda s: reads.go_on(s, reads.small), 8)
        self.measure("snapshots", lambda s: heavy.snapshots(client, self.topology, s), 30)
        crowd = heavy.Crowd(host, self.args.watches)
        crowd.watch()
        self.measure("watches fire", lambda s: crowd.fire(client, s), 10)
        crowd.close()
        again = heavy.SetAgain(host)
        self.measure("watches are set again", again.go_on, 10)
        again.close()
        holders = heavy.Holders(host, self.args.held)
        holders.watch()
        self.measure("watches are forgotten", holders.go, 8)
        owner = heavy.Ephemerals(host, self.args.ephemerals)
        self.measure("lists of ephemerals", owner.list, 8)
        self.measure(FLOOR, owner.end, 6)
        self.measure("sessions come and go", lambda s: heavy.sessions(host, self.args.storm, s), 15)
        client.close()

    def report(self):
        """The folder's texts. Returns whether every p99 is within the bound."""
        base = next(r for r in self.rows if r["situation"] == "alone")
        lines = ["| beside the reads | p50 | p99 | longest | node's memory | what it was |", "|---|--:|--:|--:|--:|---|"]
        for r in self.rows:
            lines.append(f"| {r['situation']} | {r['p50_ms']:.2f} ms | {r['p99_ms']:.2f} ms | {r['max_ms']:.1f} ms | "
                         f"{r['rss_mib']} MiB | {r['remark']} |")
        bad = [r["situation"] for r in self.rows if r["p99_ms"] > self.args.bound and r["situation"] != FLOOR]
        verdict = (f"p99 of the reads stays under {self.args.bound:g} ms in all of them"
                   if not bad else f"p99 of the reads is above {self.args.bound:g} ms: " + ", ".join(bad))
        summary = (f"{self.args.rate} gets/s from {self.args.sessions} sessions, beside one thing after the other; times from "
                   f"the intended start of each read. Alone: p99 {base['p99_ms']:.2f} ms.\n\n" + "\n".join(lines)
                   + f"\n\n{verdict}.")
        self.folder.write(summary, {"rows": self.rows, "bound_ms": self.args.bound}, "`scripts/heavy.py` repeats it.")
        (self.folder.path / "machine.txt").write_text(folder.machine(self.home))
        print(f"{verdict}\n{self.folder.path}")
        return not bad


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bins", default=folder.REPOSITORY / "target/release", help="where zoolog and loadgen are")
    p.add_argument("--work", help="a new directory on the disk under test (default: one below /var/tmp)")
    p.add_argument("--out", help="the folder to make (default: results/DATE-HOST-heavy)")
    p.add_argument("--dirty", action="store_true", help="though files are changed; the summary will say so")
    p.add_argument("--port", type=int, default=2181)
    p.add_argument("--admin-port", type=int, default=8080)
    p.add_argument("--set", action="append", default=[], help="as of `zoolog dev`")
    p.add_argument("--rate", type=int, default=2000, help="gets per second")
    p.add_argument("--sessions", type=int, default=16, help="of the gets")
    p.add_argument("--time", type=float, default=1.0, help="as many times as long")
    p.add_argument("--children", type=int, default=1_000_000)
    p.add_argument("--watches", type=int, default=100_000, help="that fire at once")
    p.add_argument("--held", type=int, default=1_000_000, help="watches of connections that go at once")
    p.add_argument("--ephemerals", type=int, default=100_000, help="of one session")
    p.add_argument("--storm", type=int, default=20_000, help="sessions")
    p.add_argument("--bound", type=float, default=20.0, help="p99 in ms above which it fails")
    args = p.parse_args()
    dirty = folder.enforce_clean(args.dirty)
    args.dirty = dirty
    run = Run(args)
    try:
        run.run()
        good = run.report()
    finally:
        run.topology.stop()
        shutil.rmtree(run.home, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
