"""How are nodes cut off from each other? A TCP proxy that stands between all of them: each node listens at an
address that nobody is told, and is known by another, where the proxy listens for it. Who dialled is in the first
message of every connection (Hello, docs/PROTOCOL.md), so pairs can be cut, per direction, without a setting and
without being root. It runs as a process of its own:

    proxy.py < commands > answers      one JSON object a line, each command is answered once it is in effect

    {"do": "route", "name": "order-0", "at": "127.0.2.1:29110", "to": "127.0.1.1:29110"}
    {"do": "cut", "links": [["shard-0", "order-1"]]}    nothing goes from the first to the second any more
    {"do": "delay", "links": [..], "ms": 50}            it takes so long
    {"do": "reset", "links": [..]}                      connections between them end, at once
    {"do": "heal"}                                      all is as it was

What is cut off is held, as the kernel would hold it until its acknowledgement came, and arrives when the cut is healed;
connections that are made meanwhile are not refused, they just hear nothing: a handshake needs both directions.
"""

import collections
import heapq
import json
import os
import selectors
import socket
import struct
import sys
import time

HEADER_BYTES = 24
# Header, role, cluster and node of a Hello.
HELLO_BYTES = HEADER_BYTES + 1 + 16 + 8
ROLES = {0: "order", 1: "shard", 2: "client"}
# What is taken from a socket at a time, and what may wait in a direction before nothing more is taken.
CHUNK_BYTES = 256 << 10
HELD_BYTES = 8 << 20


def who(head):
    """Who dialled, by the first bytes of the connection; None while they are too few."""
    if len(head) < HELLO_BYTES:
        return None
    magic, version, _, kind = struct.unpack_from("<4sBBH", head)
    if (magic, version, kind) != (b"ZLM1", 1, 1):
        return "stranger"
    role, node = head[HEADER_BYTES], struct.unpack_from("<Q", head, HEADER_BYTES + 17)[0]
    kind = ROLES.get(role, "stranger")
    # Orderers' ids count from 1, their names from 0.
    return {"order": f"order-{node - 1}", "shard": f"shard-{node}"}.get(kind, kind)


class Pipe:
    """One direction of a connection."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.link = None
        self.waiting = collections.deque()  # (when it is due, bytes)
        self.bytes = 0
        self.ended = False  # the source has said all
        self.said = False  # and the target knows


class Connection:
    """What was dialled, and what was dialled for it."""

    def __init__(self, near, name, address):
        self.near, self.name, self.address = near, name, address
        self.head = bytearray()
        self.far = None
        self.dialled = self.is_up = False
        self.peer = None
        self.pipes = ()

    def links(self):
        return ((self.peer, self.name), (self.name, self.peer))


class Proxy:
    """All connections, and what is done to them."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.connections = {}  # socket -> connection
        self.cut, self.delays = set(), {}
        self.timers = []  # (when, serial, pipe's connection)
        self.serial = 0
        self.commands = b""
        self.passed = collections.Counter()

    def run(self):
        os.set_blocking(0, False)
        self.selector.register(0, selectors.EVENT_READ, "commands")
        while True:
            wait = max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else None
            for key, mask in self.selector.select(wait):
                if key.data == "commands":
                    if not self.take_commands():
                        return
                elif isinstance(key.data, tuple):
                    self.accept(key.fileobj, *key.data)
                else:
                    self.event(key.fileobj, key.data, mask)
            now = time.monotonic()
            while self.timers and self.timers[0][0] <= now:
                connection = heapq.heappop(self.timers)[2]
                if connection.near in self.connections:
                    self.move(connection)

    # Commands

    def take_commands(self):
        chunk = os.read(0, 65536)
        if not chunk:
            return False
        *lines, self.commands = (self.commands + chunk).split(b"\n")
        for line in lines:
            answer = self.command(json.loads(line))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        return True

    def command(self, says):
        links = {tuple(link) for link in says.get("links", ())}
        hit = [c for c in set(self.connections.values()) if c.peer and links & set(c.links())]
        match says["do"]:
            case "route":
                host, port = says["at"].rsplit(":", 1)
                listener = socket.create_server((host, int(port)), backlog=512)
                listener.setblocking(False)
                self.selector.register(listener, selectors.EVENT_READ, (says["name"], says["to"]))
            case "cut":
                self.cut |= links
            case "delay":
                self.delays |= {link: says["ms"] / 1e3 for link in links}
            case "reset":
                for connection in hit:
                    self.end(connection, reset=True)
            case "heal":
                self.cut.clear()
                self.delays.clear()
        for connection in set(self.connections.values()):
            self.move(connection)
        return {"hit": len(hit), "passed": sum(self.passed.values()), "links": len(self.passed)}

    # Connections

    def accept(self, listener, name, address):
        try:
            near, _ = listener.accept()
        except OSError:
            return
        near.setblocking(False)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections[near] = connection = Connection(near, name, address)
        self.selector.register(near, selectors.EVENT_READ, connection)

    def event(self, sock, connection, mask):
        if sock not in self.connections:
            return
        if connection.pipes:
            if not connection.is_up and sock is connection.far:
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return self.end(connection)  # nobody listens there
                connection.is_up = True
            if mask & selectors.EVENT_READ and not self.read(connection, sock):
                return
            return self.move(connection)
        try:
            chunk = sock.recv(HELLO_BYTES - len(connection.head))
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        connection.head += chunk
        if not chunk:
            return self.end(connection)
        connection.peer = who(connection.head)
        if connection.peer:
            self.move(connection)

    def dial(self, connection):
        """Only now, so that nothing is heard of one that is cut off."""
        host, port = connection.address.rsplit(":", 1)
        connection.far = far = socket.socket()
        far.setblocking(False)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.connect_ex((host, int(port)))
        there, back = Pipe(connection.near, far), Pipe(far, connection.near)
        there.link, back.link = connection.links()
        there.waiting.append((0.0, bytes(connection.head)))
        there.bytes = len(connection.head)
        connection.pipes = (there, back)
        self.connections[far] = connection

    def read(self, connection, sock):
        pipe = next(p for p in connection.pipes if p.source is sock)
        if pipe.link in self.cut or pipe.ended or pipe.bytes >= HELD_BYTES:
            return True
        try:
            chunk = sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            self.end(connection, reset=True)
            return False
        if not chunk:
            pipe.ended = True
            return True
        delay = self.delays.get(pipe.link, 0.0)
        due = time.monotonic() + delay if delay else 0.0
        if pipe.waiting:
            due = max(due, pipe.waiting[-1][0])  # nothing overtakes
        pipe.waiting.append((due, chunk))
        pipe.bytes += len(chunk)
        if delay:
            self.serial += 1
            heapq.heappush(self.timers, (due, self.serial, connection))
        return True

    def move(self, connection):
        """Passes on what may be passed on, and has the selector watch for what is next."""
        if connection.near not in self.connections or not connection.peer:
            return
        if not connection.pipes:
            if self.cut & set(connection.links()):
                return self.watch(connection.near, 0, connection)
            self.dial(connection)
        wants = {connection.near: 0, connection.far: 0}
        if not connection.is_up:
            wants[connection.far] = selectors.EVENT_WRITE
        else:
            now = time.monotonic()
            for pipe in connection.pipes:
                if not self.push(connection, pipe, now, wants):
                    return
            if all(pipe.said for pipe in connection.pipes):
                return self.end(connection)
        for sock, mask in wants.items():
            self.watch(sock, mask, connection)

    def push(self, connection, pipe, now, wants):
        if pipe.link in self.cut:
            return True
        while pipe.waiting and pipe.waiting[0][0] <= now:
            due, chunk = pipe.waiting[0]
            try:
                n = pipe.target.send(chunk)
            except BlockingIOError:
                wants[pipe.target] |= selectors.EVENT_WRITE
                break
            except OSError:
                self.end(connection, reset=True)
                return False
            self.passed[pipe.link] += n
            pipe.bytes -= n
            if n < len(chunk):
                pipe.waiting[0] = (due, chunk[n:])
                wants[pipe.target] |= selectors.EVENT_WRITE
                break
            pipe.waiting.popleft()
        if pipe.ended and not pipe.waiting and not pipe.said:
            pipe.said = True
            try:
                pipe.target.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        if not pipe.ended and pipe.bytes < HELD_BYTES:
            wants[pipe.source] |= selectors.EVENT_READ
        return True

    def watch(self, sock, mask, connection):
        known = self.selector.get_map().get(sock)
        if known is None:
            if mask:
                self.selector.register(sock, mask, connection)
        elif not mask:
            self.selector.unregister(sock)
        elif known.events != mask:
            self.selector.modify(sock, mask, connection)

    def end(self, connection, reset=False):
        for sock in filter(None, (connection.near, connection.far)):
            self.connections.pop(sock, None)
            if sock in self.selector.get_map():
                self.selector.unregister(sock)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


if __name__ == "__main__":
    Proxy().run()
