"""How does a script speak ZooKeeper's protocol without a client library? Encoders for requests, decoders for
what comes back, and one connection, so that every byte can be looked at and bad ones can be sent."""

import collections
import socket
import struct
import time

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA = 1, 2, 3, 4, 5
GET_CHILDREN, SYNC, PING, GET_CHILDREN2, CREATE2 = 8, 9, 11, 12, 15
GET_ACL, SET_ACL, CHECK, MULTI, RECONFIG, CHECK_WATCHES, REMOVE_WATCHES = 6, 7, 13, 14, 16, 17, 18
CREATE_CONTAINER, CREATE_TTL, MULTI_READ, AUTH, SASL = 19, 21, 22, 100, 102
GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER, SET_WATCHES2, ADD_WATCH, WHO_AM_I = 103, 104, 105, 106, 107
SET_WATCHES, CLOSE = 101, -11
EVENT_XID, PING_XID = -1, -2
OPEN_ACL = ((31, "world", "anyone"),)
FRAME_BYTES_MAX = 0xFFFFF

Stat = collections.namedtuple("Stat", "czxid mzxid ctime mtime version cversion aversion ephemeral_owner "
                              "data_length num_children pzxid")
Reply = collections.namedtuple("Reply", "xid zxid err body")
Handshake = collections.namedtuple("Handshake", "protocol timeout session password rest")
STAT = struct.Struct(">qqqqiiiqiiq")
HEADER = struct.Struct(">iqi")


def buffer(data):
    """Length and bytes; None is null. Text becomes UTF-8, lone surrogates included."""
    if data is None:
        return struct.pack(">i", -1)
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    return struct.pack(">i", len(data)) + data


def vector(elements, encode):
    """A count and the elements; None is null, a number is a bare count."""
    if elements is None:
        return struct.pack(">i", -1)
    if isinstance(elements, int):
        return struct.pack(">i", elements)
    return struct.pack(">i", len(elements)) + b"".join(map(encode, elements))


def acl_entry(entry):
    """(perms, scheme, id)"""
    return struct.pack(">i", entry[0]) + buffer(entry[1]) + buffer(entry[2])


def framed(payload):
    """The payload behind its length."""
    return struct.pack(">i", len(payload)) + payload


def request(xid, op, record=b""):
    """A whole frame."""
    return framed(struct.pack(">ii", xid, op) + record)


def create(path, data=b"", flags=0, acl=OPEN_ACL):
    """Record of create and create2."""
    return buffer(path) + buffer(data) + vector(acl, acl_entry) + struct.pack(">i", flags)


def path_watch(path, watch=False):
    """Record of exists, getData, getChildren and getChildren2."""
    return buffer(path) + struct.pack(">?", watch)


def path_version(path, version=-1):
    """Record of delete."""
    return buffer(path) + struct.pack(">i", version)


def set_data(path, data, version=-1):
    """Record of setData."""
    return buffer(path) + buffer(data) + struct.pack(">i", version)


def create_ttl(path, data, flags, acl, ttl_ms):
    """Record of createTTL."""
    return create(path, data, flags, acl) + struct.pack(">q", ttl_ms)


def set_acl(path, acl, version=-1):
    """Record of setACL."""
    return buffer(path) + vector(acl, acl_entry) + struct.pack(">i", version)


def path_number(path, number):
    """Record of addWatch, checkWatches and removeWatches."""
    return buffer(path) + struct.pack(">i", number)


def auth(scheme, proof):
    """Record of auth."""
    return struct.pack(">i", 0) + buffer(scheme) + buffer(proof)


def multi_header(op, done=False, err=-1):
    """What precedes each operation of a multi, and ends it."""
    return struct.pack(">i?i", op, done, err)


def multi(parts):
    """Record of multi and multiRead: parts are (op, record)."""
    return b"".join(multi_header(op) + record for op, record in parts) + multi_header(-1, True)


def set_watches(relative_zxid, data=(), exist=(), child=(), more=()):
    """Record of setWatches; with two lists more, of setWatches2."""
    lists = b"".join(vector(paths, buffer) for paths in (data, exist, child, *more))
    return struct.pack(">q", relative_zxid) + lists


def connect(timeout_ms=10000, session=0, password=bytes(16), last_zxid=0, read_only=False, protocol=0):
    """The first frame of a connection; `read_only=None` is a client too old to know the flag."""
    flag = b"" if read_only is None else struct.pack(">?", read_only)
    return framed(struct.pack(">iqiq", protocol, last_zxid, timeout_ms, session) + buffer(password) + flag)


class Cursor:
    """Reads values off a record; raises struct.error or ValueError if it is malformed."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        """The next bytes."""
        if count < 0 or self.at + count > len(self.data):
            raise ValueError(f"{count} bytes wanted at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count:self.at]

    def int(self):
        """An int."""
        return struct.unpack(">i", self.take(4))[0]

    def buffer(self):
        """Bytes, or None for null."""
        length = self.int()
        return None if length == -1 else self.take(length)

    def text(self):
        """A string, or None for null."""
        data = self.buffer()
        return None if data is None else data.decode("utf-8", "surrogatepass")

    def texts(self):
        """A list of strings."""
        return [self.text() for _ in range(self.int())]

    def stat(self):
        """A Stat."""
        return Stat(*STAT.unpack(self.take(STAT.size)))

    def acl(self):
        """A list of ACL entries, whose order counts, but among those that stand for one of the scheme `auth`."""
        acl = [(self.int(), self.text(), self.text()) for _ in range(self.int())]
        digests = sum(entry[1] == "digest" for entry in acl)
        return tuple(sorted(acl) if digests > 1 else acl)

    def pairs(self):
        """A list of pairs of strings, in any order."""
        return [(self.text(), self.text()) for _ in range(self.int())]

    def parts(self):
        """What the parts of a multi came to: (op, error, values)."""
        parts = []
        while True:
            op, done, err = struct.unpack(">i?i", self.take(9))
            if done:
                return tuple(parts + [(op, err)])
            readers = (Cursor.int,) if op == -1 else BODIES[op]
            parts.append((op, err, tuple(read(self) for read in readers)))

    def rest(self):
        """What has not been read."""
        return self.data[self.at:]


BODIES = {
    CREATE: (Cursor.text,), CREATE2: (Cursor.text, Cursor.stat), DELETE: (), EXISTS: (Cursor.stat,),
    GET_DATA: (Cursor.buffer, Cursor.stat), SET_DATA: (Cursor.stat,), GET_CHILDREN: (Cursor.texts,),
    GET_CHILDREN2: (Cursor.texts, Cursor.stat), SYNC: (Cursor.text,), PING: (), SET_WATCHES: (), CLOSE: (),
    GET_ACL: (Cursor.acl, Cursor.stat), SET_ACL: (Cursor.stat,), MULTI: (Cursor.parts,), MULTI_READ: (Cursor.parts,),
    CHECK: (), CHECK_WATCHES: (), REMOVE_WATCHES: (), CREATE_CONTAINER: (Cursor.text, Cursor.stat),
    CREATE_TTL: (Cursor.text, Cursor.stat), AUTH: (), SASL: (Cursor.buffer,), GET_EPHEMERALS: (Cursor.texts,),
    GET_ALL_CHILDREN_NUMBER: (Cursor.int,), SET_WATCHES2: (), ADD_WATCH: (Cursor.int,), WHO_AM_I: (Cursor.pairs,),
}


def decode_reply(payload):
    """Header and undecoded body of a frame's payload."""
    xid, zxid, err = HEADER.unpack_from(payload)
    return Reply(xid, zxid, err, payload[HEADER.size:])


def decode_body(op, body):
    """The values in the body of a reply to `op`; bytes left over come last, as bytes."""
    cursor = Cursor(body)
    values = [read(cursor) for read in BODIES[op]]
    return values + ([cursor.rest()] if cursor.rest() else [])


def decode_event(body):
    """(type, state, path) of a watch event; bytes left over come last."""
    cursor = Cursor(body)
    event = (cursor.int(), cursor.int(), cursor.text())
    return event + ((cursor.rest(),) if cursor.rest() else ())


class Closed(Exception):
    """The server has closed the connection."""


class Connection:
    """One TCP connection. Reads raise Closed at its end and TimeoutError when nothing comes."""

    def __init__(self, host, timeout_s=10.0):
        name, port = host.rsplit(":", 1)
        self.socket = socket.create_connection((name, int(port)), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = b""

    def send(self, data):
        """Sends all of it."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed from e

    def fill(self):
        """Reads what has come, waiting for something."""
        try:
            part = self.socket.recv(1 << 18)
        except ConnectionResetError as e:
            raise Closed from e
        if not part:
            raise Closed
        self.held += part

    def frame(self):
        """The payload of the next frame."""
        while len(self.held) < 4 or len(self.held) < 4 + struct.unpack_from(">i", self.held)[0]:
            self.fill()
        end = 4 + struct.unpack_from(">i", self.held)[0]
        payload, self.held = self.held[4:end], self.held[end:]
        return payload

    def reply(self):
        """The next frame as a Reply."""
        return decode_reply(self.frame())

    def handshake(self, **asked):
        """Sends a connect request and returns the answer."""
        self.send(connect(**asked))
        cursor = Cursor(self.frame())
        answer = Handshake(cursor.int(), cursor.int(), struct.unpack(">q", cursor.take(8))[0], cursor.buffer(),
                           cursor.rest())
        return answer

    def call(self, op, record=b"", xid=1):
        """One request; returns (err, values). Events on the way are dropped."""
        self.send(request(xid, op, record))
        while True:
            got = self.reply()
            if got.xid == xid:
                return got.err, decode_body(op, got.body) if got.err == 0 else got.body

    def ends(self, within_s=10.0):
        """Whether the server closes the connection in time; what still comes is dropped."""
        deadline = time.monotonic() + within_s
        self.held = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.socket.settimeout(left)
            try:
                self.fill()
            except Closed:
                return True
            except TimeoutError:
                return False
            self.held = b""

    def close(self):
        """Closes the socket, saying nothing."""
        self.socket.close()
