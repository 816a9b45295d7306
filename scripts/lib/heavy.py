"""What can one client do that is heavy? Each thing with its preparation; what is timed is done beside a load of reads."""

import socket
import struct
import time

from lib import jute

ACL = jute.vector(jute.OPEN_ACL, jute.acl_entry)
# Multis in flight, and operations of each.
WINDOW, PARTS = 4, 1000


class Client(jute.Connection):
    """One session."""

    def __init__(self, host, timeout_ms=40000):
        super().__init__(host, timeout_s=60.0)
        self.host, self.timeout_ms = host, timeout_ms
        self.session = self.handshake(timeout_ms=timeout_ms).session

    def fresh(self):
        """Itself, or one in its place if it was silent for too long."""
        try:
            self.call(jute.PING, xid=jute.PING_XID)
            return self
        except (jute.Closed, TimeoutError):
            return Client(self.host, self.timeout_ms)

    def skip(self, count):
        """Takes that many frames without looking at them; returns the first error among replies."""
        error = 0
        while count > 0:
            at = 0
            while count > 0 and len(self.held) >= at + 20:
                length, xid, _, err = struct.unpack_from(">iiqi", self.held, at)
                if len(self.held) < at + 4 + length:
                    break
                at += 4 + length
                count -= 1
                error = error or (err if xid >= 0 else 0)
            self.held = self.held[at:]
            if count > 0:
                self.fill()
        return error


class Children:
    """A node with many children, made by multis."""

    def __init__(self, client, count):
        self.client, self.count, self.made = client, count, 0
        client.call(jute.CREATE, jute.create("/many"))
        client.call(jute.CREATE, jute.create("/big"))

    def pipeline(self, frames, until):
        """Sends frames, few in flight, until there are no more or it is time; returns how many, and the longest time."""
        sent, longest = [], 0
        done = 0
        for frame in frames:
            self.client.send(frame)
            sent.append(time.monotonic())
            if len(sent) - done >= WINDOW:
                self.take()
                longest = max(longest, time.monotonic() - sent[done])
                done += 1
            if time.monotonic() > until:
                break
        while done < len(sent):
            self.take()
            done += 1
        return done, longest

    def take(self):
        error = self.client.skip(1)
        if error:
            raise RuntimeError(f"a multi was refused with {error}")

    def creates(self):
        """Frames that make what is missing."""
        head = jute.multi_header(jute.CREATE)
        tail = jute.buffer(b"") + ACL + struct.pack(">i", 0)
        while self.made < self.count:
            last = min(self.made + PARTS, self.count)
            parts = b"".join(head + jute.buffer(f"/many/{n:07d}") + tail for n in range(self.made, last))
            self.made = last
            yield jute.request(1, jute.MULTI, parts + jute.multi_header(-1, True))

    def make(self, seconds):
        """Makes as many as there is time for."""
        done, longest = self.pipeline(self.creates(), time.monotonic() + seconds)
        return f"{done} of them, {WINDOW} in flight, longest {longest * 1000:.0f} ms"

    def finish(self):
        """Makes the others."""
        self.pipeline(self.creates(), float("inf"))

    def set(self, seconds):
        """Sets the data of a thousand at a time."""
        def frames():
            at = 0
            while True:
                parts = [(jute.SET_DATA, jute.set_data(f"/many/{(at + n) % self.count:07d}", b"1" * 32)) for n in range(PARTS)]
                at += PARTS
                yield jute.request(1, jute.MULTI, jute.multi(parts))
        done, longest = self.pipeline(frames(), time.monotonic() + seconds)
        return f"{done} of them, {WINDOW} in flight, longest {longest * 1000:.0f} ms"

    def list(self, seconds):
        """Lists all names, over and over."""
        until, lists, longest = time.monotonic() + seconds, 0, 0
        while time.monotonic() < until:
            began = time.monotonic()
            self.client.send(jute.request(1, jute.GET_CHILDREN, jute.path_watch("/many")))
            parts, have = [self.client.held], len(self.client.held)
            while have < 24:
                parts.append(self.client.socket.recv(1 << 20))
                have += len(parts[-1])
            head = b"".join(parts)[:24]
            length, _, _, err, count = struct.unpack(">iiqii", head)
            while have < length + 4:
                part = self.client.socket.recv(1 << 20)
                if not part:
                    raise jute.Closed
                have += len(part)
            self.client.held = b""
            if err or count != self.count or have != length + 4:
                raise RuntimeError(f"a list of {count} names in {have} of {length + 4} bytes, error {err}")
            lists, longest = lists + 1, max(longest, time.monotonic() - began)
        return f"{lists} of {self.count} names, {length >> 10} KiB each, longest {longest * 1000:.0f} ms"


def snapshots(client, topology, seconds):
    """Writes until the node takes a snapshot, and waits for it."""
    client = client.fresh()
    where = topology.directory / "nodes" / "zk-0"
    files = lambda: {p.name for p in where.rglob("snapshots/*") if not p.name.endswith((".part", ".tmp"))}
    before, began, written = files(), time.monotonic(), 0
    data = b"s" * 500_000
    while time.monotonic() - began < seconds:
        if written < 400:
            if client.call(jute.SET_DATA, jute.set_data("/big", data))[0]:
                raise RuntimeError("a set was refused")
            written += 1
        else:
            time.sleep(0.05)
        if files() - before:
            return f"one after {time.monotonic() - began:.1f} s, with {written * len(data) >> 20} MiB written"
    return f"none in {seconds:.0f} s"


def frame_of(op, record, least):
    """The longest request with a number of parts that a node takes; `record` makes one of so many parts, of `least` bytes each."""
    parts = (jute.FRAME_BYTES_MAX - 100) // least
    frame = jute.request(1, op, record(parts))
    assert 0.9 * jute.FRAME_BYTES_MAX < len(frame) <= jute.FRAME_BYTES_MAX + 4, len(frame)
    return parts, frame


class SetAgain:
    """Connections that set the same watches again and again, all that a frame holds of them."""

    def __init__(self, host, connections=2):
        self.clients = [Client(host) for _ in range(connections)]
        name = lambda n: f"/w{n:06d}"
        self.paths, self.frame = frame_of(
            jute.SET_WATCHES, lambda n: jute.set_watches(1 << 60, exist=[name(i) for i in range(n)]), 4 + len(name(0)))

    def go_on(self, seconds):
        """Each sends the next when it has the answer."""
        until, done, longest = time.monotonic() + seconds, 0, 0
        while time.monotonic() < until:
            began = time.monotonic()
            for client in self.clients:
                client.send(self.frame)
            for client in self.clients:
                if client.skip(1):
                    raise RuntimeError("watches were not set")
            done, longest = done + len(self.clients), max(longest, time.monotonic() - began)
        return f"{done} frames of {self.paths} paths, {len(self.clients)} at once, longest {longest * 1000:.0f} ms"

    def close(self):
        """Ends all connections."""
        for client in self.clients:
            client.close()


class MultiReads:
    """Reads of as much as a multiRead may answer: as many bytes, and as many nodes."""

    # As in READ_PARTS_MAX of the node; bytes of its answers at most, and of each of the nodes that are read for that.
    PARTS_MAX, BYTES_MAX, DATA = 16384, 4 << 20, 500_000

    def __init__(self, client):
        self.client = client
        client.call(jute.CREATE, jute.create("/large"))
        client.call(jute.CREATE, jute.create("/small"))
        client.call(jute.SET_DATA, jute.set_data("/large", b"l" * self.DATA))
        read = lambda path, n: jute.request(1, jute.MULTI_READ, jute.multi([(jute.GET_DATA, jute.path_watch(path))] * n))
        self.large = read("/large", self.BYTES_MAX // (self.DATA + 100))
        self.small = read("/small", self.PARTS_MAX)

    def go_on(self, seconds, frame):
        """Sends the same again and again, two in flight."""
        client = self.client.fresh()
        until, done, longest, sent = time.monotonic() + seconds, 0, 0, []
        while time.monotonic() < until or sent:
            while len(sent) < 2 and time.monotonic() < until:
                client.send(frame)
                sent.append(time.monotonic())
            error = client.skip(1)
            if error:
                raise RuntimeError(f"a multiRead was refused with {error}")
            done, longest = done + 1, max(longest, time.monotonic() - sent.pop(0))
        return f"{done} of them, 2 in flight, longest {longest * 1000:.0f} ms"


class Ephemerals:
    """A session that has many, and asks which."""

    def __init__(self, host, count):
        self.client, self.count = Client(host), count
        self.client.call(jute.CREATE, jute.create("/of"))
        for at in range(0, count, PARTS):
            parts = [(jute.CREATE, jute.create(f"/of/{n:07d}", flags=1)) for n in range(at, min(at + PARTS, count))]
            self.client.send(jute.request(1, jute.MULTI, jute.multi(parts)))
            if self.client.skip(1):
                raise RuntimeError("a multi was refused")

    def list(self, seconds):
        """Asks for all of them, over and over."""
        until, done, longest = time.monotonic() + seconds, 0, 0
        while time.monotonic() < until:
            began = time.monotonic()
            self.client.send(jute.request(1, jute.GET_EPHEMERALS, jute.buffer("/")))
            if self.client.skip(1):
                raise RuntimeError("a list was refused")
            done, longest = done + 1, max(longest, time.monotonic() - began)
        return f"{done} lists of {self.count}, longest {longest * 1000:.0f} ms"

    def end(self, seconds):
        """Its session ends, and all of them with it: one record."""
        began = time.monotonic()
        self.client.call(jute.CLOSE)
        took = time.monotonic() - began
        self.client.close()
        time.sleep(max(0, seconds - took))
        return f"{self.count} at once, after {took:.2f} s"


class Crowd:
    """Many connections, each of which watches the same nodes."""

    def __init__(self, host, watches, paths=50):
        self.paths = [f"/hot/{n}" for n in range(paths)]
        with_room = Client(host)
        with_room.call(jute.CREATE, jute.create("/hot"))
        for path in self.paths:
            with_room.call(jute.CREATE, jute.create(path))
        with_room.close()
        self.clients = [Client(host) for _ in range(watches // paths)]

    def watch(self):
        """Sets all watches."""
        frame = jute.request(-8, jute.SET_WATCHES, jute.set_watches(1 << 60, data=self.paths))
        for client in self.clients:
            client.send(frame)
        for client in self.clients:
            client.skip(1)

    def fire(self, client, seconds):
        """Fires them all, and sets them again."""
        client = client.fresh()
        until, rounds, longest = time.monotonic() + seconds, 0, 0
        while time.monotonic() < until:
            began = time.monotonic()
            client.call(jute.MULTI, jute.multi([(jute.SET_DATA, jute.set_data(p, b"1")) for p in self.paths]))
            for one in self.clients:
                one.skip(len(self.paths))
            rounds, longest = rounds + 1, max(longest, time.monotonic() - began)
            self.watch()
        return f"{rounds} times {len(self.clients) * len(self.paths)}, all told after {longest:.2f} s at most"

    def close(self):
        """Ends all connections."""
        for client in self.clients:
            client.close()


class Holders:
    """A few connections that hold many watches."""

    def __init__(self, host, watches, connections=10):
        self.host, self.each = host, watches // connections
        self.clients = [Client(host) for _ in range(connections)]

    def watch(self):
        """Sets them, on nodes that are not there."""
        for n, client in enumerate(self.clients):
            for at in range(0, self.each, 20_000):
                paths = [f"/none/{n}/{i:07d}" for i in range(at, min(at + 20_000, self.each))]
                client.send(jute.request(-8, jute.SET_WATCHES, jute.set_watches(1 << 60, exist=paths)))
                client.skip(1)

    def go(self, seconds):
        """All connections end at once."""
        total, began = self.each * len(self.clients), time.monotonic()
        for client in self.clients:
            client.close()
        while time.monotonic() - began < seconds:
            left = watch_count(self.host)
            if left is not None and left < self.each // 10:
                return f"{total} of {len(self.clients)} connections, after {time.monotonic() - began:.1f} s"
            time.sleep(0.1)
        return f"{left} of {total} are left"


def watch_count(host):
    """Watches that the node says it has."""
    name, port = host.rsplit(":", 1)
    with socket.create_connection((name, int(port)), timeout=10) as s:
        s.sendall(b"mntr")
        text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    found = [line.split("\t")[1] for line in text.splitlines() if line.startswith("zk_watch_count")]
    return int(found[0]) if found else None


def sessions(host, count, seconds, wave=5000):
    """Opens and closes sessions, a wave at a time: a process may have so many files only."""
    began, done = time.monotonic(), 0
    while done < count and time.monotonic() - began < seconds:
        name, port = host.rsplit(":", 1)
        all_of = []
        for _ in range(min(wave, count - done)):
            s = socket.create_connection((name, int(port)), timeout=30)
            s.sendall(jute.connect(timeout_ms=30000))
            all_of.append(s)
        for s in all_of:
            if len(s.recv(4096)) < 41:
                raise RuntimeError("a session was refused")
            s.sendall(jute.request(1, jute.CLOSE))
        for s in all_of:
            while s.recv(4096):
                pass
            s.close()
        done += len(all_of)
    return f"{done} of them, up to {wave} at once, {done / (time.monotonic() - began):.0f} /s"


def latencies(found):
    """What counts of a load generator's report, in milliseconds."""
    op = found["ops"]["get"]
    us = op["latency_us"]
    return {"p50_ms": us["p50"] / 1000, "p99_ms": us["p99"] / 1000, "p99_9_ms": us["p99_9"] / 1000,
            "max_ms": us["max"] / 1000, "per_second": op["per_second"]}
