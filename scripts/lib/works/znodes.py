"""What does a znode cost in memory, and how soon is a node with many of them back?"""

import os
import pathlib
import time

from lib.bench import Failed, Up
from lib.ratios import Row

WORK, SIZE = "znodes", 100
NAME = 9  # loadgen's keys are named k00000000 and so on
ROWS = [
    Row("znode-bytes", WORK, "memory per znode beyond name and data", "B", "", "<=", 250, absolute=True),
    Row("znode-restart", WORK, "kill -9 of a node, from its new process to its first answer with all znodes", "s", "",
        "<=", 3, absolute=True),
]
NEEDS = {WORK: ()}


def run(bench, number, chosen):
    """One topology, filled in two steps."""
    if WORK not in chosen:
        return
    many, more = bench.settings.znodes, bench.settings.znodes // 4
    bench.note(f"znodes: memory at {many:,}, restart with {many + more:,}; {SIZE} B of data each.")
    try:
        with Up(bench, "zoolog") as system:
            time.sleep(1)
            before = resident(system)
            fill(bench, system, number, "/memory", many)
            wait_for(system, many)
            time.sleep(5)
            after = resident(system)
            # The worst of the nodes: each holds all znodes.
            worst = max((after[n] - before[n]) / many - NAME - SIZE for n in before)
            bench.record("znode-bytes", "zoolog", number, worst)
            fill(bench, system, number, "/restart", more)
            wait_for(system, many + more)
            time.sleep(2)
            bench.record("znode-restart", "zoolog", number, restart(bench, system, many + more))
    except (Failed, RuntimeError, OSError) as e:
        bench.fail(WORK, f"round {number}: {e}")


def fill(bench, system, number, prefix, count):
    """loadgen makes the keys' nodes before it measures; the measured second is of no interest."""
    flags = ["--servers", system.ready["zk"], "--op", "exists", "--keys", str(count), "--size", str(SIZE), "--prefix",
             prefix, "--duration", "1s", "--warmup", "0s"]
    bench.loadgen("zk", flags, f"{WORK}-fill{prefix.replace('/', '-')}-{number}", wait_s=600)


def resident(system):
    """Bytes of memory that each ZooKeeper node has to itself or shares, by name."""
    sizes = {}
    for name in system.nodes():
        if name.startswith("zk-"):
            text = pathlib.Path(f"/proc/{system.pid(name)}/smaps_rollup").read_text()
            sizes[name] = next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return sizes


def wait_for(system, count, wait_s=60):
    """Until every node has that many znodes."""
    deadline = time.monotonic() + wait_s
    while any(znodes(system, host) < count for host in system.hosts):
        if time.monotonic() > deadline:
            raise Failed(f"not all nodes have {count} znodes after {wait_s} s")
        time.sleep(0.2)


def znodes(system, host):
    """How many znodes a node says it has; 0 if it does not answer."""
    return int(system.monitor(host).get("zk_znode_count", 0))


def restart(bench, system, count):
    """Seconds from the new process on until the node answers with all znodes."""
    name, host = "zk-0", system.hosts[0]
    system.hold(name, True)
    old = system.kill(name)
    bench.folder.command(f"kill -9 {old}", f"{name}, with {count} znodes")
    time.sleep(0.5)
    system.hold(name, False)
    system.wait_restarted(name, old)
    began = time.clock_gettime(time.CLOCK_BOOTTIME) - process_start_s(system.pid(name))
    deadline = time.monotonic() + 120
    waited = time.monotonic()
    while znodes(system, host) < count:
        if time.monotonic() > deadline:
            raise Failed("the node was not back after 120 s")
        time.sleep(0.01)
    return began + time.monotonic() - waited


def process_start_s(pid):
    """When a process began, in seconds since the boot."""
    if pid is None:
        raise Failed("the restarted node died at once")
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
