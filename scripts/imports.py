#!/usr/bin/env python3
"""Does a tree come from Apache ZooKeeper into Zoolog as it was? Builds one on Apache's server of the Debian package: every
kind of node, permissions, null, empty and large data, quotas, counters of sequence numbers that have moved on. Brings it
over twice, from the running server and from its snapshot file, each time into a Zoolog of its own, with `zoolog zk dump`
and `restore`; then compares node by node what clients are told, and the next sequence numbers. The exit code is 0 if
nothing differs.

    scripts/imports.py --zoolog target/release/zoolog
"""

import argparse
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from lib import jute
from lib.apache import Ensemble
from lib.topology import Topology

SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # of super:test
PROPERTIES = ("zookeeper.extendedTypesEnabled=true", "znode.container.checkIntervalMs=86400000",
              f"zookeeper.DigestAuthenticationProvider.superDigest={SUPER}")
ACLS = {
    "open": jute.OPEN_ACL,
    "digest": ((31, "digest", "me:016djjlksVQS5RgX3M7biBGyYwY="), (1, "world", "anyone")),
    "closed": ((16, "digest", "me:016djjlksVQS5RgX3M7biBGyYwY="),),
    "ip": ((31, "ip", "127.0.0.0/8"),),
}
TTL_MS = 10**9


class Client:
    """A session that may read everything."""

    def __init__(self, host):
        self.connection = jute.Connection(host)
        self.connection.handshake(timeout_ms=30000)
        assert self.connection.call(jute.AUTH, jute.auth("digest", "super:test"))[0] == 0

    def do(self, op, record):
        """A request that must succeed."""
        err, values = self.connection.call(op, record)
        if err:
            raise RuntimeError(f"{op} {record!r}: {err}")
        return values

    def tree(self, path="/"):
        """All nodes but ephemeral ones and those that every server has: path -> what is told of it."""
        names, stat = self.do(jute.GET_CHILDREN2, jute.path_watch(path))
        data, _ = self.do(jute.GET_DATA, jute.path_watch(path))
        acl, _ = self.do(jute.GET_ACL, jute.buffer(path))
        found = {} if stat.ephemeral_owner else {path: (data, acl, stat)}
        for name in sorted(names):
            below = ("" if path == "/" else path) + f"/{name}"
            if below != "/zookeeper":
                found |= self.tree(below)
        return found

    def end(self):
        self.connection.call(jute.CLOSE)
        self.connection.close()


def build(client):
    """The tree."""
    for name, acl in ACLS.items():
        client.do(jute.CREATE, jute.create(f"/{name}", name.encode(), 0, acl))
    client.do(jute.CREATE, jute.create("/open/null", None))
    client.do(jute.CREATE, jute.create("/open/empty", b""))
    client.do(jute.CREATE, jute.create("/open/binary", bytes(range(256))))
    client.do(jute.CREATE, jute.create("/open/large", b"x" * 900_000))
    client.do(jute.CREATE, jute.create("/open/ä ö", "ü".encode()))
    client.do(jute.CREATE_CONTAINER, jute.create("/container", b"c", 4))
    client.do(jute.CREATE, jute.create("/container/child"))
    client.do(jute.CREATE_TTL, jute.create_ttl("/ttl", b"t", 5, jute.OPEN_ACL, TTL_MS))
    client.do(jute.CREATE, jute.create("/open/ephemeral", b"", 1))
    path = "/deep"
    for _ in range(50):
        client.do(jute.CREATE, jute.create(path, b"d"))
        path += "/deep"
    for _ in range(300):
        client.do(jute.CREATE, jute.create("/open/s-", b"", 2))
    for n in range(6, 306, 3):
        client.do(jute.DELETE, jute.path_version(f"/open/s-{n:010}"))
    for n in range(5):
        client.do(jute.SET_DATA, jute.set_data("/open", str(n).encode()))
    client.do(jute.SET_ACL, jute.set_acl("/open", ACLS["digest"]))
    client.do(jute.SET_DATA, jute.set_data("/", b"of the root"))
    # The next number below /digest, all of whose children are gone.
    for _ in range(7):
        made, = client.do(jute.CREATE, jute.create("/digest/q-", b"", 2))
        client.do(jute.DELETE, jute.path_version(made))
    client.do(jute.CREATE, jute.create("/zookeeper/quota/open"))
    limits = b"count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=-1"
    client.do(jute.CREATE, jute.create("/zookeeper/quota/open/zookeeper_limits", limits))
    client.do(jute.CREATE, jute.create("/zookeeper/quota/open/zookeeper_stats", limits))


def told(tree):
    """What must be alike: all but zxids. Of cversions, that as many children were made: sessions' are not carried over.
    The root's are not only the tree's."""
    alike = {}
    for path, (data, acl, s) in tree.items():
        made = 0 if path == "/" else (s.cversion + s.num_children) // 2
        alike[path] = (data, acl, s.ctime, s.mtime, s.version, s.aversion, s.data_length, made)
    return alike


class Imports:
    """The services, and what differs."""

    def __init__(self, args):
        self.args, self.wrong = args, []
        self.zoolog = pathlib.Path(args.zoolog).resolve()
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="zoolog-imports-"))
        self.apache = Ensemble(self.home / "apache", 1, args.port, PROPERTIES)

    def expect(self, what, got, wanted):
        """Notes what is not as it must be."""
        ok = got == wanted
        print(f"{'ok     ' if ok else 'FAILED '} {what}", flush=True)
        if not ok:
            self.wrong.append(what)
            print(f"        {got!r}, not {wanted!r}"[:2000])

    def command(self, *words):
        """A command of ours that must succeed."""
        done = subprocess.run([str(self.zoolog), *map(str, words)], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.returncode}: {done.stderr}")

    def into_a_new_one(self, name, dump, wanted, numbers):
        """Restores a dump, and compares."""
        port = self.args.port + (200 if name == "server" else 400)
        topology = Topology(self.zoolog, self.home / f"from-{name}" / "data", port, port + 100, zk=1,
                            more=["-D", f"zookeeper.DigestAuthenticationProvider.superDigest={SUPER}"])
        topology.start()
        try:
            self.command("zk", "restore", dump, "--server", topology.hosts[0], "--data-dir", topology.directory)
            client = Client(topology.hosts[0])
            client.do(jute.SYNC, jute.buffer("/"))
            got = told(client.tree())
            self.expect(f"{name}: the same {len(wanted)} nodes", sorted(got), sorted(wanted))
            for path in sorted(wanted):
                if got.get(path) != wanted[path]:
                    self.expect(f"{name}: {path}", got.get(path), wanted[path])
            for parent, number in numbers.items():
                made, = client.do(jute.CREATE, jute.create(f"{parent}/next-", b"", 2))
                self.expect(f"{name}: the next number below {parent}", made, f"{parent}/next-{number:010}")
            client.end()
        finally:
            topology.stop()

    def run(self):
        """Both ways."""
        self.apache.start()
        client = Client(self.apache.hosts)
        build(client)
        wanted = told(client.tree())
        # Creations so far: on the wire, creations and deletions, with the children that are there.
        stats = {path: client.do(jute.EXISTS, jute.path_watch(path))[0] for path in ("/open", "/digest")}
        numbers = {path: (s.cversion + s.num_children) // 2 for path, s in stats.items()}
        self.expect("counters have moved on", numbers, {"/open": 306, "/digest": 7})
        self.command("zk", "dump", "--server", self.apache.hosts, "--auth", "digest:super:test", "-o", self.home / "live")
        client.end()
        self.into_a_new_one("server", self.home / "live", wanted, numbers)

        self.apache.stop()
        time.sleep(0.5)
        # Its snapshot is made as it starts.
        self.apache.start()
        self.apache.stop()
        data = self.home / "apache" / "server-1" / "data"
        self.command("zk", "dump", "--snapshot", data, "-o", self.home / "snapshot")
        lines = [json.loads(line) for line in (self.home / "snapshot").read_text().splitlines()]
        kinds = {line["path"]: (line.get("container"), line.get("ttl_ms")) for line in lines if "path" in line}
        self.expect("a container and a time to live, of the snapshot", (kinds.get("/container"), kinds.get("/ttl")),
                    ((True, None), (None, TTL_MS)))
        self.into_a_new_one("snapshot", self.home / "snapshot", wanted, numbers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoolog", default="target/release/zoolog", help="the program (default %(default)s)")
    parser.add_argument("--port", type=int, default=16181, help="first port; some 600 above it are used too")
    imports = Imports(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    try:
        imports.run()
    finally:
        imports.apache.stop()
    if not imports.wrong:
        shutil.rmtree(imports.home, ignore_errors=True)
    print(f"{len(imports.wrong)} differences" + (f"; data and logs are in {imports.home}" if imports.wrong else ""))
    sys.exit(1 if imports.wrong else 0)


if __name__ == "__main__":
    main()
