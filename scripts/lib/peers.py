"""Who is compared with Zoolog, and how is each run? Apache ZooKeeper (lib/apache.py), Redis, and fio as the voice
of the disk; what of them is missing on this machine, and how to get it."""

import csv
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

from lib.apache import JAR

# Peer, what shows that it is there, and how it comes.
NEEDS = {
    "zookeeper": (lambda: JAR.exists(), "apt-get install --no-install-recommends zookeeper"),
    "java": (lambda: shutil.which("java"), "apt-get install --no-install-recommends default-jre-headless"),
    "redis-server": (lambda: shutil.which("redis-server"), "apt-get install --no-install-recommends redis-server"),
    "redis-benchmark": (lambda: shutil.which("redis-benchmark"), "apt-get install --no-install-recommends redis-tools"),
    "fio": (lambda: shutil.which("fio"), "apt-get install --no-install-recommends fio"),
}


def missing(names):
    """[(name, cure)] of those that are not there."""
    return [(name, NEEDS[name][1]) for name in names if not NEEDS[name][0]()]


# Appends are synced before they are answered. Snapshots and rewrites of the file are off: they could only slow Redis.
REDIS_CONFIG = """bind 127.0.0.1
port {port}
dir {directory}
appendonly yes
appendfsync always
save ""
auto-aof-rewrite-percentage 0
"""


class Redis:
    """One redis-server with its data in `directory`."""

    def __init__(self, directory, port):
        self.directory, self.port = pathlib.Path(directory), port
        self.config = self.directory / "redis.conf"
        self.process = None

    def start(self, wait_s=30):
        """Starts it and waits until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(REDIS_CONFIG.format(port=self.port, directory=self.directory))
        with open(self.directory / "out.log", "ab") as out:
            self.process = subprocess.Popen(["redis-server", str(self.config)], stdout=out, stderr=out,
                                            start_new_session=True)
        deadline = time.monotonic() + wait_s
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise RuntimeError(f"redis-server did not come up; see {self.directory}/out.log")
            time.sleep(0.05)

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as conn:
                conn.sendall(b"PING\r\n")
                return conn.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self):
        """Ends it; what it holds in memory is of no use any more."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def xadd_command(self, count, size, connections=32, pipeline=16):
        """The command that appends `count` entries with one field of `size` bytes to a stream."""
        return ["redis-benchmark", "-h", "127.0.0.1", "-p", str(self.port), "-c", str(connections), "-P",
                str(pipeline), "-n", str(count), "-e", "--csv", "XADD", "s", "*", "f", "x" * size]


def redis_rate(csv_text):
    """Requests per second out of what `redis-benchmark --csv` prints."""
    rows = list(csv.reader(csv_text.splitlines()))
    for header, values in zip(rows, rows[1:]):
        if "rps" in header:
            return float(values[header.index("rps")])
    raise ValueError(f"redis-benchmark said no rate: {csv_text[:200]!r}")


def fio_command(kind, path, size_mib, seconds):
    """fio for `write` (1 MiB O_DIRECT, fdatasync after each, into a file that is already laid out) or `read` (the
    same file, 1 MiB O_DIRECT, 8 in flight)."""
    command = ["fio", "--name", kind, "--filename", str(path), "--rw", kind, "--bs=1M", "--direct=1",
               f"--size={size_mib}M", "--time_based", f"--runtime={seconds}", "--output-format=json"]
    if kind == "write":
        return command + ["--ioengine=psync", "--fdatasync=1", "--overwrite=1"]
    return command + ["--ioengine=libaio", "--iodepth=8"]


def fio_new_blocks_command(directory, size_mib):
    """fio as a log that grows writes: 1 MiB O_DIRECT writes, each synced, into blocks that are reserved and were never
    written, in three files at a time."""
    return ["fio", "--name", "new", "--directory", str(directory), "--rw=write", "--bs=1M", "--direct=1", "--sync=dsync",
            "--ioengine=psync", f"--size={size_mib}M", "--numjobs=3", "--fallocate=native", "--group_reporting",
            "--output-format=json"]


def fio_bytes_per_second(text, kind):
    """Bandwidth out of fio's JSON; it may say other things before."""
    return float(json.loads(text[text.index("{"):])["jobs"][0][kind]["bw_bytes"])


def drop_caches(directory):
    """Makes what is below `directory` cold in the page cache. Returns how that was done."""
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
        return "servers restarted, then sync and 3 into /proc/sys/vm/drop_caches"
    except OSError:
        for path in pathlib.Path(directory).rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return "servers restarted, then sync and posix_fadvise(DONTNEED) on every file (not root)"
