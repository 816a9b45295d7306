"""What is asked of both servers? Random scripts, the same for the same seed: sessions that open, send pipelined
requests (good ones and bad ones), close, lose their connection and come back."""

import collections
import random
import struct
import zlib

from lib import jute

# A session sends `requests` at once; or `kind` is open, close, or resume (with setWatches behind it).
Step = collections.namedtuple("Step", "kind session requests")
# `record` is bytes, or Watches, which depends on the zxids that a server has given.
Request = collections.namedtuple("Request", "op record text")
# `back` is how many successful writes ago the client says it has last heard; None is never.
Watches = collections.namedtuple("Watches", "back data exist child more")

SESSIONS = 3
NAMES = {jute.CREATE: "create", jute.CREATE2: "create2", jute.DELETE: "delete", jute.EXISTS: "exists",
         jute.GET_DATA: "getData", jute.SET_DATA: "setData", jute.GET_CHILDREN: "getChildren",
         jute.GET_CHILDREN2: "getChildren2", jute.SYNC: "sync", jute.PING: "ping",
         jute.SET_WATCHES: "setWatches", jute.CLOSE: "closeSession", jute.GET_ACL: "getACL", jute.SET_ACL: "setACL",
         jute.CHECK: "check", jute.MULTI: "multi", jute.MULTI_READ: "multiRead",
         jute.REMOVE_WATCHES: "removeWatches", jute.CREATE_CONTAINER: "createContainer",
         jute.CREATE_TTL: "createTTL", jute.AUTH: "auth", jute.GET_EPHEMERALS: "getEphemerals",
         jute.GET_ALL_CHILDREN_NUMBER: "getAllChildrenNumber", jute.SET_WATCHES2: "setWatches2",
         jute.ADD_WATCH: "addWatch", jute.WHO_AM_I: "whoAmI"}
OPS = [(jute.CREATE, 26), (jute.CREATE2, 10), (jute.DELETE, 14), (jute.EXISTS, 12), (jute.GET_DATA, 14),
       (jute.SET_DATA, 12), (jute.GET_CHILDREN, 5), (jute.GET_CHILDREN2, 7), (jute.SYNC, 2), (jute.PING, 2),
       (jute.SET_WATCHES, 3), (jute.GET_ACL, 6), (jute.SET_ACL, 6), (jute.MULTI, 12), (jute.MULTI_READ, 4),
       (jute.REMOVE_WATCHES, 6), (jute.CREATE_CONTAINER, 3), (jute.CREATE_TTL, 3),
       (jute.GET_EPHEMERALS, 2), (jute.GET_ALL_CHILDREN_NUMBER, 3), (jute.SET_WATCHES2, 2), (jute.ADD_WATCH, 5),
       (jute.WHO_AM_I, 2)]
NEWER = {jute.GET_ACL, jute.SET_ACL, jute.MULTI, jute.MULTI_READ, jute.REMOVE_WATCHES,
         jute.CREATE_CONTAINER, jute.CREATE_TTL, jute.GET_EPHEMERALS, jute.GET_ALL_CHILDREN_NUMBER, jute.ADD_WATCH,
         jute.WHO_AM_I}
# What a multi is made of. Not create2, of which Apache 3.8.0 makes a create.
PARTS = [(jute.CREATE, 8), (jute.DELETE, 4), (jute.SET_DATA, 4), (jute.CHECK, 4),
         (jute.CREATE_CONTAINER, 1), (jute.CREATE_TTL, 1)]
FLAGS = [0] * 40 + [1] * 20 + [2] * 20 + [3] * 16 + [5, 6, 7, -1, 100]
NULL_ID = ((31, "world", None),)
ACLS = [jute.OPEN_ACL] * 150 + [
    None, (), ((31, "world", "someone"),), ((31, "nonsense", "x"),), ((31, "auth", ""), (1, "world", "anyone")),
    ((31, "", ""),),
    jute.OPEN_ACL * 3, jute.OPEN_ACL + ((1, "digest", "u:h"),), ((31, "digest", "nocolon"),),
    ((31, "ip", "127.0.0.1"),), ((31, "ip", "127.0.0.0/8"),), ((31, "ip", "300.1.1.1"),),
    ((31, "ip", "127.0.0.1/33"),), NULL_ID, ((31, "auth", None), (1, "world", "anyone")),
    jute.OPEN_ACL + ((0, "digest", ""),),
]
# In every second script, nodes that not everybody may do everything with. That of Apache 3.8.0 tells whoever asks
# that a node exists, and of its changes: everyone may read, or nobody watches.
TIGHT_ACLS = [
    ((30, "digest", "me:016djjlksVQS5RgX3M7biBGyYwY="), (1, "world", "anyone")), ((3, "world", "anyone"),),
    ((5, "world", "anyone"), (10, "auth", "")), ((9, "world", "anyone"), (22, "ip", "127.0.0.1/8")),
    ((17, "world", "anyone"), (14, "ip", "10.0.0.0/8")), ((31, "auth", ""), (1, "world", "anyone")),
    ((1, "world", "anyone"),),
]
PROOFS = [("digest", "me:secret"), ("digest", "you:secret"), ("digest", "nobody"), ("ip", ""), ("digest", "me:secret")]
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
        self.tight = seed % 2 == 0
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
        if self.rng.random() < 0.04:
            # By itself: Apache answers it before what came first.
            scheme, proof = self.rng.choice(PROOFS)
            proof = Request(jute.AUTH, jute.auth(scheme, proof), f"auth {scheme} {proof}")
            self.step("batch", session, [proof])
            return 1
        kind = self.rng.choices(["batch", "close", "resume"], [30, 1, 2])[0]
        if kind == "close" and len(self.open) == 1:
            kind = "batch"
        count = self.rng.choice([1, 1, 1, 2, 3, 5, 8, 20]) if kind == "batch" else 0
        if kind == "close":
            count = self.rng.choice([0, 0, 3])
        requests = [self.random_request() for _ in range(count)]
        # In Apache, what is sent behind a setACL is judged by the old one.
        last = next((i for i, r in enumerate(requests) if r.op == jute.SET_ACL), count)
        requests = requests[:last + 1]
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

    def acl(self):
        """Mostly an open one."""
        if self.tight and self.rng.random() < 0.25:
            return self.rng.choice(TIGHT_ACLS)
        return self.rng.choice(ACLS)

    def below(self):
        """A path below this script's root, or the root."""
        while not (path := self.path()).startswith(self.root):
            pass
        return path

    def standing(self, path):
        """Whether only persistent watches are set on a path: Apache 3.8.0 lets one kind overwrite the other."""
        return zlib.crc32(path.encode("utf-8", "surrogatepass")) % 4 == 0

    def watches(self, op=jute.SET_WATCHES):
        """A setWatches, or setWatches2."""
        def some(standing):
            paths = (self.path() for _ in range(self.rng.randrange(4)))
            return [p for p in paths if p and self.standing(p) == standing]
        more = (some(True), some(True)) if op == jute.SET_WATCHES2 else ()
        # Nor may a path have both kinds of persistent ones.
        more = (more[0], [p for p in more[1] if self.deep(p)]) if more else ()
        more = ([p for p in more[0] if not self.deep(p)], more[1]) if more else ()
        back = self.rng.choice([None, 0, 0, 0, 1, 2, 5])
        watches = Watches(back, some(False), some(False), some(False), more)
        return Request(op, watches, f"{NAMES[op]} {watches}")

    def deep(self, path):
        """Whether persistent watches on a path are recursive."""
        return zlib.crc32(path.encode("utf-8", "surrogatepass")) % 8 == 0

    def part(self, op):
        """Record of one part of a multi, and what it says."""
        rng = self.rng
        if op == jute.CREATE:
            flags = rng.choice(FLAGS[:96])
            path, acl = self.create_path(flags), self.acl()
            acl = jute.OPEN_ACL if acl == NULL_ID or (acl and acl[0][2] is None) else acl
            return jute.create(path, self.data(), flags, acl), f"{path!a} flags {flags} acl {acl}"
        if op == jute.CREATE_CONTAINER:
            # Never with children: it would be swept, at another moment in each system.
            path = f"{self.below()}/cont{rng.randrange(3)}"
            return jute.create(path, self.data(), 4, self.plain_acl()), f"{path!a}"
        if op == jute.CREATE_TTL:
            path, flags = self.path(), rng.choice([5, 6])
            ttl = rng.choice([10**9, 0xFFFFFFFFFF, 0xFFFFFFFFFF + 1, 0, -1])
            return jute.create_ttl(path, self.data(), flags, self.plain_acl(), ttl), f"{path!a} flags {flags} ttl {ttl}"
        if op == jute.SET_DATA:
            path, version = self.below(), self.version()
            return jute.set_data(path, self.data(), version), f"{path!a} version {version}"
        path, version = self.path(), self.version()
        return jute.path_version(path, version), f"{path!a} version {version}"

    def plain_acl(self):
        """An ACL whose ids are not null."""
        while (acl := self.acl()) == NULL_ID or (acl and acl[0][2] is None):
            pass
        return acl

    def multi(self):
        """A multi of a few parts."""
        rng = self.rng
        ops = rng.choices([o for o, _ in PARTS], [w for _, w in PARTS], k=rng.choice([0, 1, 1, 2, 2, 3, 5]))
        if rng.random() < 0.05:
            ops.append(rng.choice([jute.GET_DATA, jute.EXISTS, jute.MULTI, 999]))
        parts = [(op, *(self.part(op) if op in dict(PARTS) else (jute.path_watch("/"), "unfit"))) for op in ops]
        text = "; ".join(f"{NAMES.get(op, op)} {text}" for op, _, text in parts)
        return Request(jute.MULTI, jute.multi([(op, record) for op, record, _ in parts]), f"multi [{text}]")

    def more_requests(self, op):
        """Those that came to ZooKeeper later."""
        rng = self.rng
        if op == jute.MULTI:
            return self.multi()
        if op == jute.MULTI_READ:
            parts = [(rng.choice([jute.GET_DATA, jute.GET_CHILDREN]), self.path()) for _ in range(rng.randrange(4))]
            record = jute.multi([(op, jute.path_watch(path)) for op, path in parts])
            return Request(jute.MULTI_READ, record, f"multiRead {parts!a}")
        if op in (jute.CREATE_CONTAINER, jute.CREATE_TTL):
            record, text = self.part(op)
            return Request(op, record, f"{NAMES[op]} {text}")
        if op == jute.WHO_AM_I:
            return Request(op, b"", "whoAmI")
        path = self.path()
        if op == jute.SET_ACL:
            path, acl, version = self.below(), self.plain_acl(), self.version()
            return Request(op, jute.set_acl(path, acl, version), f"setACL {path!a} {acl} version {version}")
        if op == jute.ADD_WATCH:
            mode = rng.choice([2, -1]) if rng.random() < 0.1 else int(self.deep(path))
            if mode in (0, 1):
                while not self.standing(path) or not path:
                    path = self.path()
                mode = int(self.deep(path))
            return Request(op, jute.path_number(path, mode), f"addWatch {path!a} mode {mode}")
        if op == jute.REMOVE_WATCHES:
            # Types 4 and 5 are of 3.9; 1 and 2 see persistent ones, too, in 3.8.
            while not path.startswith("/"):
                path = self.path()
            kind = 3 if self.standing(path) else rng.choice([1, 2, 3, 0, 6])
            return Request(op, jute.path_number(path, kind), f"{NAMES[op]} {path!a} type {kind}")
        if op == jute.GET_EPHEMERALS:
            path = rng.choice([path, self.root[:3], "", "/", " "])
            return Request(op, jute.buffer(path), f"getEphemerals {path!a}")
        # What is below the root is not the script's alone; the empty path has other counts in Apache.
        while path in ("", "/") or path.startswith("/zookeeper"):
            path = self.path()
        return Request(op, jute.buffer(path), f"{NAMES[op]} {path!a}")

    def random_request(self):
        """Any request."""
        rng = self.rng
        op = rng.choices([o for o, _ in OPS], [w for _, w in OPS])[0]
        if op in (jute.SET_WATCHES, jute.SET_WATCHES2):
            return self.watches(op)
        if op == jute.PING:
            return Request(op, b"", "ping")
        if op in NEWER:
            return self.more_requests(op)
        if op in (jute.CREATE, jute.CREATE2):
            flags = rng.choice(FLAGS)
            path, data, acl = self.create_path(flags), self.data(), self.acl()
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
            watch = rng.random() < 0.5 and path != "" and not self.standing(path)
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
