"""Do sessions, ephemerals and watches live through the faults? Clients that speak the protocol themselves, so that every
frame is seen: they come back with their session wherever they get in, as any client does, and hold what they see against
what must be."""

import threading
import time

from lib import jute

ROOT = "/drill-guests"
# Of those that stay: longer than any single fault lasts but the one that takes all orderers away.
STAYING_MS = 6000
# Of those that leave without a word: two ticks, the shortest there is.
LEAVING_MS = 4000
# No longer than that a server may be silent.
SILENCE_S = 2.0
# Between two looks.
PAUSE_S = 0.05
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
NO_NODE = -101


class Guest(threading.Thread):
    """A session that goes on wherever it gets in until it is let go. `wrong` is what must not be."""

    def __init__(self, name, hosts, first):
        super().__init__(daemon=True, name=name)
        self.hosts, self.at = list(hosts), first
        self.connection = None
        self.session, self.password = 0, bytes(16)
        self.zxid = self.xid = 0
        self.resumed = 0
        self.wrong = []
        self.is_expired = False
        self.stopping = threading.Event()

    def open(self):
        """The first time, before any fault."""
        self.come()
        self.begin()

    def run(self):
        while not self.stopping.is_set() and not self.is_expired:
            try:
                if self.connection is None:
                    self.at += 1
                    self.come()
                    self.resumed += 1
                    self.come_back()
                self.look()
                time.sleep(PAUSE_S)
            except (jute.Closed, OSError):
                self.leave()
                time.sleep(PAUSE_S)

    def come(self):
        """A connection, and the session over it."""
        connection = jute.Connection(self.hosts[self.at % len(self.hosts)], timeout_s=SILENCE_S)
        try:
            answer = connection.handshake(timeout_ms=STAYING_MS, session=self.session, password=self.password,
                                          last_zxid=self.zxid)
        except (jute.Closed, OSError):
            connection.close()
            raise
        if answer.session == 0 or (self.session and answer.session != self.session):
            connection.close()
            self.is_expired = True
            self.say(f"session {self.session:#x} has expired, though it was never silent for long")
            raise jute.Closed
        self.connection, self.session, self.password = connection, answer.session, answer.password

    def leave(self):
        """The connection is no good any more."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def begin(self):
        """What it does when it has a session."""

    def come_back(self):
        """What it does when its session goes on over another connection."""

    def look(self):
        """What it does all the time."""

    def told(self, kind, path):
        """An event has come."""

    def say(self, text):
        self.wrong.append(f"{self.name}: {text}")

    def ask(self, op, record=b""):
        """One request: (error, values). Events on the way are taken first, in order."""
        self.xid += 1
        self.connection.send(jute.request(self.xid, op, record))
        while True:
            got = self.connection.reply()
            if got.xid == jute.EVENT_XID:
                if got.zxid != -1 and got.zxid <= self.zxid:
                    self.say(f"an event of zxid {got.zxid:#x} behind an answer that shows {self.zxid:#x}")
                self.told(*jute.decode_event(got.body)[0::2])
                continue
            if got.zxid < self.zxid:
                self.say(f"an answer goes back from zxid {self.zxid:#x} to {got.zxid:#x}")
            self.zxid = max(self.zxid, got.zxid)
            if got.xid != self.xid:
                self.say(f"an answer to {got.xid}, where {self.xid} was asked")
            return got.err, jute.decode_body(op, got.body) if got.err == 0 else ()

    def end(self):
        """Stops looking; whether the thread has ended."""
        self.stopping.set()
        self.join(30)
        return not self.is_alive()

    def goodbye(self):
        """Ends the session; whether a server has said that it did."""
        deadline = time.monotonic() + 20
        while not self.is_expired and time.monotonic() < deadline:
            try:
                if self.connection is None:
                    self.at += 1
                    self.come()
                err, _ = self.ask(jute.CLOSE)
                self.leave()
                return err == 0
            except (jute.Closed, OSError):
                self.leave()
                time.sleep(PAUSE_S)
        return False


class Holder(Guest):
    """Has an ephemeral, which must be there, and its own, as long as its session lives."""

    def begin(self):
        self.path = f"{ROOT}/{self.name}"
        err, values = self.ask(jute.CREATE2, jute.create(self.path, b"mine", 1))
        assert err == 0, f"{self.path}: {err}"
        self.czxid = values[1].czxid
        self.looks = 0

    def look(self):
        err, values = self.ask(jute.EXISTS, jute.path_watch(self.path))
        self.looks += 1
        if err:
            self.say(f"its ephemeral is gone: {err}")
        elif (values[0].ephemeral_owner, values[0].czxid) != (self.session, self.czxid):
            self.say(f"its ephemeral is another one: {values[0]}")


class Watcher(Guest):
    """Watches nodes that others set, and ephemerals that others leave behind. Each change must be told before it is seen,
    and once."""

    def __init__(self, name, hosts, first, paths):
        super().__init__(name, hosts, first)
        self.paths = list(paths)
        # Path -> mzxid of the data that it watches.
        self.watched = {}
        # Paths whose end it waits for, and how often that was told.
        self.awaited, self.ends = set(), {}
        # Given to it by others.
        self.new, self.lock = [], threading.Lock()
        self.events = 0

    def begin(self):
        # What others have made may not be here yet.
        self.ask(jute.SYNC, jute.buffer("/"))

    def await_end(self, path):
        """Has it told when that node goes."""
        with self.lock:
            self.new.append(path)

    def told(self, kind, path):
        self.events += 1
        if kind == CHANGED and path in self.watched:
            del self.watched[path]
        elif kind == DELETED and path in self.awaited:
            self.awaited.discard(path)
            self.ends[path] = self.ends.get(path, 0) + 1
        else:
            self.say(f"was told of {kind} at {path}, which it does not watch, or not any more")

    def come_back(self):
        # What it has missed is told before the answer.
        err, _ = self.ask(jute.SET_WATCHES, jute.set_watches(self.zxid, [*self.watched, *self.awaited]))
        if err:
            self.say(f"its watches could not be set again: {err}")

    def look(self):
        with self.lock:
            new, self.new = self.new, []
        for n, path in enumerate(new):
            try:
                err, _ = self.ask(jute.GET_DATA, jute.path_watch(path, True))
            except (jute.Closed, OSError):
                with self.lock:
                    self.new += new[n:]
                raise
            if err == 0:
                self.awaited.add(path)
            elif err == NO_NODE:
                self.ends[path] = 1
        for path in self.paths:
            self.look_at(path)

    def look_at(self, path):
        """Reads it, with a watch unless there is one: a change that was not told must not be seen."""
        before = self.watched.get(path)
        err, values = self.ask(jute.GET_DATA, jute.path_watch(path, before is None))
        if err:
            self.say(f"{path} can't be read: {err}")
        elif before is None:
            self.watched[path] = values[1].mzxid
        elif values[1].mzxid != before and path in self.watched:
            self.say(f"{path} was seen as of {values[1].mzxid:#x}, and its watch of {before:#x} was not told")


def children_in_time(host):
    """What is below the root when the last that may expire has had the time."""
    connection = jute.Connection(host)
    connection.handshake(timeout_ms=30000)
    for _ in range(100):
        connection.call(jute.SYNC, jute.buffer("/"))
        err, values = connection.call(jute.GET_CHILDREN, jute.path_watch(ROOT))
        assert err == 0, f"{ROOT}: {err}"
        if not values[0]:
            break
        time.sleep(0.2)
    connection.call(jute.CLOSE)
    connection.close()
    return values[0]


class Guests:
    """All of them."""

    def __init__(self, hosts, paths):
        self.hosts = list(hosts)
        self.holders = [Holder(f"holder-{n}", hosts, n) for n in range(4)]
        self.watchers = [Watcher(f"watcher-{n}", hosts, n, paths) for n in range(2)]
        self.left = {}

    def open(self):
        """Everything that must be there before the faults."""
        first = jute.Connection(self.hosts[0])
        first.handshake()
        assert first.call(jute.CREATE, jute.create(ROOT))[0] == 0
        first.call(jute.CLOSE)
        first.close()
        for guest in self.all():
            guest.open()
        for guest in self.all():
            guest.start()

    def all(self):
        return self.holders + self.watchers

    def abandon(self):
        """A session with an ephemeral, of which nobody hears again. Whether there was one: it may meet a fault."""
        for host in self.hosts:
            path = f"{ROOT}/left-{len(self.left)}"
            try:
                connection = jute.Connection(host, timeout_s=SILENCE_S)
                answer = connection.handshake(timeout_ms=LEAVING_MS)
                # Counts even if no answer comes: it must have gone in the end, whether it was made or not.
                self.left[path] = answer
                err, _ = connection.call(jute.CREATE, jute.create(path, b"", 1))
                connection.close()
            except (jute.Closed, OSError):
                continue
            if err == 0:
                self.watchers[len(self.left) % len(self.watchers)].await_end(path)
                return True
        return False

    def end(self):
        """Stops all, once what was left has had the time to expire. Who did not stop."""
        for _ in range(100):
            if not any(w.awaited or w.new for w in self.watchers):
                break
            time.sleep(0.2)
        return [f"{guest.name} hangs" for guest in self.all() if not guest.end()]

    def wrong_with_sessions(self):
        """Who has lost his, or an ephemeral of it."""
        wrong = [line for guest in self.holders for line in guest.wrong]
        wrong += [f"{h.name} looked {h.looks} times, and came back {h.resumed} times" for h in self.holders
                  if not h.looks or not h.resumed]
        return wrong

    def wrong_with_watches(self):
        """What was told too often, too late, or not at all."""
        wrong = [line for watcher in self.watchers for line in watcher.wrong]
        for w in self.watchers:
            wrong += [f"{w.name} was never told that {path} is gone" for path in sorted(w.awaited)]
            wrong += [f"{w.name} was told {n} times that {path} is gone" for path, n in w.ends.items() if n != 1]
            if not w.events or not w.resumed:
                wrong.append(f"{w.name} had {w.events} events, and came back {w.resumed} times")
        if not any(w.ends for w in self.watchers):
            wrong.append("nobody waited for the end of an ephemeral")
        return wrong

    def wrong_at_the_end(self):
        """Each says goodbye. What is there on any server, and should have gone."""
        wrong = [f"{guest.name}: its goodbye was not answered" for guest in self.all()
                 if not guest.is_expired and not guest.goodbye()]
        for host in self.hosts:
            if there := children_in_time(host):
                wrong.append(f"{host}: {there} are there, and no session is")
        for path, answer in self.left.items():
            connection = jute.Connection(self.hosts[0])
            if connection.handshake(session=answer.session, password=answer.password).session:
                wrong.append(f"the session of {path}, silent for long, was taken up again")
            connection.close()
        return wrong

    def counts(self):
        """For people."""
        return (f"{len(self.holders)} sessions with ephemerals came back {sum(h.resumed for h in self.holders)} times; "
                f"{len(self.watchers)} watchers came back {sum(w.resumed for w in self.watchers)} times, and were told "
                f"{sum(w.events for w in self.watchers)} events; {len(self.left)} sessions were left without a word")
