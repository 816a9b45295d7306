"""What is asked of both servers? Random scripts, the same for the same seed: sessions that open, send pipelined
requests (good ones and bad ones), close, lose their connection and come back."""

import collections
import random
import struct

from lib import jute

# A session sends `requests` at once; or `kind` is open, close, or resume (with setWatches behind it).
Step = collections.namedtuple("Step", "kind session requests")
# `record` is bytes, or Watches, which depends on the zxids that a server has given.
Request = collections.namedtuple("Request", "op record text")
# `back` is how many successful writes ago the client says it has last heard; None is never.
Watches = collections.namedtuple("Watches", "back data exist child")

SESSIONS = 3
NAMES = {jute.CREATE: "create", jute.CREATE2: "create2", jute.DELETE: "delete", jute.EXISTS: "exists",
         jute.GET_DATA: "getData", jute.SET_DATA: "setData", jute.GET_CHILDREN: "getChildren",
         jute.GET_CHILDREN2: "getChildren2", jute.SYNC: "sync", jute.PING: "ping",
         jute.SET_WATCHES: "setWatches", jute.CLOSE: "closeSession"}
OPS = [(jute.CREATE, 26), (jute.CREATE2, 10), (jute.DELETE, 14), (jute.EXISTS, 12), (jute.GET_DATA, 14),
       (jute.SET_DATA, 12), (jute.GET_CHILDREN, 5), (jute.GET_CHILDREN2, 7), (jute.SYNC, 2), (jute.PING, 2),
       (jute.SET_WATCHES, 3)]
FLAGS = [0] * 40 + [1] * 20 + [2] * 20 + [3] * 16 + [5, 6, 7, -1, 100]
NULL_ID = ((31, "world", None),)
ACLS = [jute.OPEN_ACL] * 150 + [
    None, (), ((31, "world", "someone"),), ((31, "nonsense", "x"),), ((31, "auth", ""),), ((31, "", ""),),
    jute.OPEN_ACL * 3, jute.OPEN_ACL + ((1, "digest", "u:h"),), ((31, "digest", "nocolon"),),
    ((31, "ip", "127.0.0.1"),), ((31, "ip", "127.0.0.0/8"),), ((31, "ip", "300.1.1.1"),),
    ((31, "ip", "127.0.0.1/33"),), NULL_ID, ((31, "auth", None),), jute.OPEN_ACL + ((0, "digest", ""),),
]
# Appended to the root of a script.
BAD_TAILS = ["/", "//a", "/a/", "/./a", "/..", "/.", "/a/../b", "/\x01", "/a\0b", "/\x7f", "/\x9f", "/\u00a0", "/é",
             "/\ud800", "/\ud83d\ude00", "/\ue000", "/\uf8ff", "/\uf900", "/\uffef", "/\ufff0", "/\uffff", "/...",
             "/a b", "/%", "/" + "long" * 100, "/a//b"]
# Not /zookeeper/config: in Zoolog it is always empty.
ODD_PATHS = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/none", "", "a", "a/b", ".", "//",
             "/none/deep/er", "\0", "/\0"]


class Script:
    """One seed's script: `steps`."""

    def __init__(self, seed, operations):
        self.rng = random.Random(seed)
        self.root = f"/o{seed}"
        self.steps = []
        self.open = set()
        make = self.request(jute.CREATE, jute.create(self.root, b""), f"create {self.root}")
        self.step("open", 0)
        self.step("batch", 0, [make])
        while operations > 0:
            operations -= self.one()
        for session in sorted(self.open):
            self.step("close", session)

    def step(self, kind, session, requests=()):
        """Appends a step."""
        if kind == "open":
            self.open.add(session)
        elif kind == "close":
            self.open.discard(session)
        self.steps.append(Step(kind, session, list(requests)))

    def one(self):
        """Appends the next step; returns how many operations it has."""
        session = self.rng.randrange(SESSIONS)
        if session not in self.open:
            self.step("open", session)
            return 1
        kind = self.rng.choices(["batch", "close", "resume"], [30, 1, 2])[0]
        if kind == "close" and len(self.open) == 1:
            kind = "batch"
        count = self.rng.choice([1, 1, 1, 2, 3, 5, 8, 20]) if kind == "batch" else 0
        if kind == "close":
            count = self.rng.choice([0, 0, 3])
        requests = [self.random_request() for _ in range(count)]
        if kind == "resume":
            requests = [self.watches()]
        self.step(kind, session, requests)
        return max(1, count)

    def request(self, op, record, text):
        """A request, spoilt now and then."""
        return Request(op, record, text)

    def path(self):
        """Mostly a short path below the root, so that requests meet."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.05:
            return self.root + rng.choice(BAD_TAILS)
        if draw < 0.08:
            return rng.choice(ODD_PATHS)
        if draw < 0.12:
            return self.root
        depth = rng.choice([1] * 6 + [2] * 4 + [3])
        names = [rng.choice(["a", "b", "a", "b", "c", "é", "q-0000000002"]) for _ in range(depth)]
        return "/".join([self.root] + names)

    def create_path(self, flags):
        """Sequential nodes also get prefixes that end in a slash or a dash."""
        path = self.path()
        if flags in (2, 3) and self.rng.random() < 0.6:
            path += self.rng.choice(["/", "-", "/q-"])
        return path

    def data(self):
        """Null, empty and some."""
        draw = self.rng.random()
        if draw < 0.1:
            return None
        if draw < 0.2:
            return b""
        return self.rng.randbytes(70000 if draw > 0.99 else self.rng.randrange(1, 40))

    def version(self):
        """Those that may be right, and some that are not."""
        return self.rng.choice([-1] * 12 + [0, 0, 0, 1, 1, 2, 3, 7, -2, 2**31 - 1, -2**31])

    def watches(self):
        """A setWatches."""
        def some():
            paths = (self.path() for _ in range(self.rng.randrange(4)))
            return [p for p in paths if p]
        watches = Watches(self.rng.choice([None, 0, 0, 0, 1, 2, 5]), some(), some(), some())
        return Request(jute.SET_WATCHES, watches, f"setWatches {watches}")

    def random_request(self):
        """Any request."""
        rng = self.rng
        op = rng.choices([o for o, _ in OPS], [w for _, w in OPS])[0]
        if op == jute.SET_WATCHES:
            return self.watches()
        if op == jute.PING:
            return Request(op, b"", "ping")
        if op in (jute.CREATE, jute.CREATE2):
            flags = rng.choice(FLAGS)
            path, data, acl = self.create_path(flags), self.data(), rng.choice(ACLS)
            if acl == NULL_ID:
                # Zoolog finds it when it decodes the request, Apache behind the checks of flags and path.
                flags, path = 0, self.root + "/a"
            record, rest = jute.create(path, data, flags, acl), f"flags {flags} acl {acl}"
        elif op == jute.DELETE:
            path, version = self.path(), self.version()
            record, rest = jute.path_version(path, version), f"version {version}"
        elif op == jute.SET_DATA:
            path = self.path()
            while path.startswith("/zookeeper"):
                path = self.path()
            data, version = self.data(), self.version()
            record, rest = jute.set_data(path, data, version), f"version {version}"
        elif op == jute.SYNC:
            path = self.path()
            record, rest = jute.buffer(path), ""
        else:
            # Apache keeps watches of the empty path, a second name of the root, under that name and never fires them.
            path = self.path()
            watch = rng.random() < 0.5 and path != ""
            record, rest = jute.path_watch(path, watch), "watch" if watch else ""
        text = f"{NAMES[op]} {ascii(path[:60])} {rest}"
        return Request(op, *self.spoilt(op, record, text) if rng.random() < 0.02 else (record, text))

    def spoilt(self, op, record, text):
        """A record that is not as it should be."""
        rng = self.rng
        way = rng.choice(["cut", "more", "null", "length", "huge"])
        if way == "cut" and op != jute.SYNC:
            cut = rng.randrange(len(record))
            return record[:cut], f"{text}, cut after {cut} bytes"
        if way == "more":
            return record + b"more", f"{text}, more behind it"
        if way == "null" and op in (jute.CREATE, jute.CREATE2):
            # Zoolog finds it when it decodes the request, Apache behind the check of flags.
            record = jute.create("", b"")
        first = struct.unpack_from(">i", record)[0]
        length = {"null": -1, "length": -2, "huge": 0x7FFFFFFF}.get(way)
        if length is None:
            return record, text
        rest = record[4 + max(first, 0):] if way == "null" else record[4:]
        return struct.pack(">i", length) + rest, f"{text}, path length {length}"
