"""How is an Apache ZooKeeper ensemble run here? N servers of the Debian package, each in its own folder
under one directory, with the stock settings (tickTime 2000, initLimit 10, syncLimit 5, fsync on).

As a program: starts them, prints `ready: zk=H:P,..` and `pids: ..`, and stops them on SIGINT or SIGTERM."""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

JAR = pathlib.Path("/usr/share/java/zookeeper.jar")
LOGGING = pathlib.Path("/etc/zookeeper/conf")
# Without it there is no admin server; the package names it nowhere.
SERVLETS = pathlib.Path("/usr/share/java/servlet-api.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def four_letters(host, port, word, timeout=2.0):
    """The answer to a four-letter word, or None if there is none."""
    try:
        with socket.create_connection((host, port), timeout=timeout) as conn:
            conn.sendall(word.encode())
            conn.settimeout(timeout)
            parts = []
            while True:
                part = conn.recv(65536)
                if not part:
                    return b"".join(parts).decode(errors="replace")
                parts.append(part)
    except OSError:
        return None


class Ensemble:
    """N servers under `directory`; client ports from `base_port` on, admin ports from `admin_port` on, if one is given; of
    another version than the package's if there are `jars`, a directory with all that it needs."""

    def __init__(self, directory, count=3, base_port=12181, properties=(), admin_port=None, jars=None):
        self.class_path = ":".join(map(str, sorted(jars.glob("*.jar")) if jars else [LOGGING, JAR, SERVLETS]))
        self.properties = [f"-D{p}" for p in properties]
        self.admin_port = admin_port
        self.directory = pathlib.Path(directory)
        self.ports = [base_port + i for i in range(count)]
        self.processes = []

    @property
    def hosts(self):
        """What clients are told: `127.0.0.1:P,..`."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def start(self, wait_s=60):
        """Starts all of them and waits until each has a leader."""
        if not JAR.exists() or not shutil.which("java"):
            sys.exit(f"{JAR} or java is missing: apt-get install zookeeper default-jre-headless")
        for index, port in enumerate(self.ports):
            self.processes.append(self._start_one(index, port))
        deadline = time.monotonic() + wait_s
        for port in self.ports:
            while "Mode: " not in (four_letters("127.0.0.1", port, "srvr") or ""):
                if time.monotonic() > deadline or any(p.poll() is not None for p in self.processes):
                    self.stop()
                    sys.exit(f"Apache ZooKeeper did not come up; see {self.directory}/*/out.log")
                time.sleep(0.1)

    def _start_one(self, index, port):
        home = self.directory / f"server-{index + 1}"
        data = home / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "myid").write_text(f"{index + 1}\n")
        lines = ["tickTime=2000", "initLimit=10", "syncLimit=5", f"dataDir={data}", f"clientPort={port}"]
        if len(self.ports) > 1:
            base = self.ports[0]
            lines += [f"server.{i + 1}=127.0.0.1:{base + 1000 + i}:{base + 2000 + i}"
                      for i in range(len(self.ports))]
        (home / "zoo.cfg").write_text("\n".join(lines) + "\n")
        command = ["java", "-Dzookeeper.root.logger=INFO,ROLLINGFILE", f"-Dzookeeper.log.dir={home}",
                   "-Dzookeeper.log.file=zookeeper.log", *self._admin(index), *self.properties,
                   "-cp", self.class_path, MAIN, str(home / "zoo.cfg")]
        with open(home / "out.log", "ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def _admin(self, index):
        if self.admin_port is None:
            return ["-Dzookeeper.admin.enableServer=false"]
        return [f"-Dzookeeper.admin.serverPort={self.admin_port + index}", "-Dzookeeper.admin.serverAddress=127.0.0.1"]

    def kill(self, index):
        """kill -9 of one server."""
        self.processes[index].kill()
        self.processes[index].wait()

    def start_again(self, index):
        """Starts one that was killed, on what it has; does not wait for it."""
        self.processes[index] = self._start_one(index, self.ports[index])

    def leader(self):
        """Index of the server that leads, or None if nobody says so."""
        said = [four_letters("127.0.0.1", port, "srvr") or "" for port in self.ports]
        return next((i for i, text in enumerate(said) if "Mode: leader" in text), None)

    def pids(self):
        """The servers' process ids."""
        return [p.pid for p in self.processes]

    def stop(self):
        """Ends all of them."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", required=True, help="folder for data, configuration and logs")
    parser.add_argument("--servers", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--base-port", type=int, default=12181, help="first client port (default 12181)")
    args = parser.parse_args()
    ensemble = Ensemble(args.dir, args.servers, args.base_port)

    def stop(*_):
        ensemble.stop()
        os._exit(0)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    ensemble.start()
    print(f"ready: zk={ensemble.hosts}", flush=True)
    print("pids: " + " ".join(map(str, ensemble.pids())), flush=True)
    while all(p.poll() is None for p in ensemble.processes):
        time.sleep(0.5)
    ensemble.stop()
    sys.exit("an Apache server died")


if __name__ == "__main__":
    main()
