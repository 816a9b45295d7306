"""How are scripts played, and what is compared? Each step goes to both servers; what comes back is brought into
a form without times, session ids and zxids' values, in which the two must be equal."""

import bisect
import hashlib
import re
import struct

from lib import jute
from lib.oracle_scripts import Watches

# A seed is given up after this many differences: what follows from the first ones says little.
DIFFERENCES_MAX = 6
WRITES = (jute.CREATE, jute.CREATE2, jute.DELETE, jute.SET_DATA, jute.SET_ACL, jute.MULTI, jute.CREATE_CONTAINER,
          jute.CREATE_TTL, jute.CLOSE)


def text_of(path):
    """A path as it is compared: one lone surrogate becomes one U+FFFD in Apache and three in Zoolog; a sync of the
    null path echoes null there and the empty path here."""
    return re.sub("\ufffd+", "\ufffd", path or "")


def short(data):
    """Data as it is compared and printed."""
    return data if len(data) < 60 else f"{len(data)} bytes, {hashlib.md5(data).hexdigest()}"


def failed(body):
    """Whether the reply to a multi says that nothing of it was done."""
    return struct.unpack_from(">i?", body) == (-1, False)


def sort_last_events(came):
    """A session's ephemerals go all at once, in any order: the events right before the reply to its closeSession,
    and those of other sessions, are sorted."""
    at = max(i for i, (what, _) in enumerate(came) if what in ("closeSession", "after that"))
    start = at
    while start > 0 and came[start - 1][0] == "event":
        start -= 1
    return came[:start] + sorted(came[start:at]) + came[at:at + 2] + sorted(came[at + 2:])


class Session:
    """A session at one server."""

    def __init__(self, connection, answer):
        self.connection, self.xid = connection, 0
        self.id, self.password = answer.session, answer.password
        self.zxid = 0


class Player:
    """One server (or ensemble) and what it has told so far. Session N uses host N modulo their number."""

    def __init__(self, name, hosts, zxid_in_events):
        self.name, self.hosts, self.zxid_in_events = name, hosts, zxid_in_events
        self.sessions = {}
        self.labels = []
        self.session_ids = {}
        self.problems = []

    def host(self, session):
        """Where a session's connections go."""
        return self.hosts[session % len(self.hosts)]

    def say(self, text):
        """Something is wrong with this server, whatever the other one does."""
        self.problems.append(f"{self.name}: {text}")

    def play(self, step):
        """Does a step; returns what came, as [(what it answers, canonical form)]."""
        self.problems = []
        came = getattr(self, "play_" + step.kind)(step)
        for number in sorted(self.sessions):
            if number != step.session:
                came += [(f"session {number}", c) for c in self.settled(number)]
        if step.kind == "close":
            came = sort_last_events(came)
        return came

    def play_open(self, step):
        """A new session."""
        connection = jute.Connection(self.host(step.session))
        answer = connection.handshake()
        self.sessions[step.session] = Session(connection, answer)
        self.session_ids[answer.session] = len(self.session_ids)
        if len(self.hosts) > 1 and not self.labels:
            self.labels.append(connection.call(jute.CREATE2, jute.create("/barrier"))[1][1].czxid)
        if answer.session <= 0:
            self.say(f"session id {answer.session:#x} is not positive")
        return [("connect", answer._replace(session=0, password=len(answer.password)))]

    def play_batch(self, step):
        """Pipelined requests."""
        return self.exchange(step.session, [(r.op, self.record(r.record), r.text) for r in step.requests])

    def play_close(self, step):
        """Pipelined requests, closeSession behind them, and the end of the connection."""
        requests = [(r.op, self.record(r.record), r.text) for r in step.requests]
        came = self.exchange(step.session, requests + [(jute.CLOSE, b"", "closeSession")])
        session = self.sessions.pop(step.session)
        came.append(("end", session.connection.ends()))
        return came

    def play_resume(self, step):
        """The connection is lost; the session goes on with another."""
        session = self.sessions[step.session]
        session.connection.close()
        session.connection = jute.Connection(self.host(step.session + 1))
        answer = session.connection.handshake(session=session.id, password=session.password, last_zxid=session.zxid)
        same = (answer.session == session.id, answer.password == session.password)
        came = [("resume", (answer.protocol, answer.timeout, same, answer.rest))]
        return came + self.play_batch(step)

    def record(self, record):
        """Bytes of a record, a setWatches' zxid being this server's."""
        if not isinstance(record, Watches):
            return record
        known = record.back is not None and record.back < len(self.labels)
        zxid = self.labels[-1 - record.back] if known else 0
        return jute.set_watches(zxid, record.data, record.exist, record.child, record.more)

    def exchange(self, number, requests):
        """Sends all, reads until all are answered."""
        session, frames, asked = self.sessions[number], [], {}
        order = []
        for op, record, text in requests:
            session.xid += 1
            xid = jute.PING_XID if op == jute.PING else session.xid
            asked[xid] = (op, text)
            order.append(xid)
            frames.append(jute.request(xid, op, record))
        came, answered = [], []
        try:
            session.connection.send(b"".join(frames))
            while len(answered) < len(order):
                xid, canonical = self.receive(session, asked)
                if xid != jute.EVENT_XID:
                    answered.append(xid)
                if xid != jute.PING_XID:
                    came.append((asked[xid][1] if xid in asked else "event", canonical))
        except (jute.Closed, TimeoutError) as e:
            came.append(("after that", type(e).__name__))
        # Pings may overtake.
        if [x for x in answered if x != jute.PING_XID] != [x for x in order if x != jute.PING_XID][:len(answered)]:
            self.say(f"answers out of order: {answered} for {order}")
        return came

    def settled(self, number):
        """Events that a session has got by now."""
        # With several servers, a write of its own: nothing else is answered by all only after what came before.
        op, record = (jute.PING, b"") if len(self.hosts) == 1 else (jute.SET_DATA, jute.set_data("/barrier", b""))
        came = self.exchange(number, [(op, record, "barrier")])
        return [c for what, c in came if what != "barrier"]

    def receive(self, session, asked):
        """The next frame: its xid and canonical form."""
        got = session.connection.reply()
        if got.xid == jute.EVENT_XID:
            if self.zxid_in_events and got.zxid != -1 and got.zxid <= session.zxid:
                self.say(f"an event of zxid {got.zxid} after a reply that shows {session.zxid}")
            return got.xid, ("event", got.err) + self.event(got.body)
        if got.xid not in asked:
            self.say(f"a reply to {got.xid}, which was not asked")
            return got.xid, ("unasked", got.err)
        op, text = asked[got.xid]
        # That of an auth is 0.
        if got.zxid < session.zxid and op != jute.AUTH:
            self.say(f"zxid goes back from {session.zxid:#x} to {got.zxid:#x} at {text}")
        session.zxid = max(session.zxid, got.zxid)
        # A barrier may or may not be seen by other sessions when they read next.
        if got.err == 0 and op in WRITES and text != "barrier" and not (op == jute.MULTI and failed(got.body)):
            if self.labels and got.zxid <= self.labels[-1]:
                self.say(f"zxid {got.zxid:#x} of {text} is not above {self.labels[-1]:#x}")
            else:
                self.labels.append(got.zxid)
        return got.xid, (got.err, self.floor(got.zxid), self.body(op, got))

    def event(self, body):
        """Body of an event."""
        kind, state, path, *rest = jute.decode_event(body)
        return (kind, state, text_of(path), *rest)

    def floor(self, zxid):
        """Number of the newest write that a zxid shows."""
        return bisect.bisect_right(self.labels, zxid)

    def exact(self, zxid):
        """Number of the write that a Stat names."""
        at = bisect.bisect_left(self.labels, zxid)
        known = at < len(self.labels) and self.labels[at] == zxid
        return f"w{at + 1}" if known else zxid if zxid == 0 else f"not a write's, behind w{at}"

    def body(self, op, got):
        """Body of a reply."""
        if got.err != 0:
            return got.body
        try:
            values = jute.decode_body(op, got.body)
        except (ValueError, struct.error) as e:
            return f"malformed: {e}: {got.body.hex()}"
        return [text_of(v) if op == jute.SYNC else self.value(v) for v in values]

    def value(self, value):
        """A value in the body of a reply."""
        if isinstance(value, jute.Stat):
            return self.stat(value)
        if isinstance(value, list):
            return sorted(value)
        if isinstance(value, tuple):
            return tuple(map(self.value, value))
        return short(value) if isinstance(value, bytes) else value

    def stat(self, stat):
        """A Stat without its times; what they must satisfy is checked."""
        if stat.mtime < stat.ctime or (stat.mzxid == stat.czxid and stat.mtime != stat.ctime):
            self.say(f"times {stat.ctime}, {stat.mtime} of {stat}")
        owner = self.session_ids.get(stat.ephemeral_owner, "unknown") if stat.ephemeral_owner else None
        return stat._replace(czxid=self.exact(stat.czxid), mzxid=self.exact(stat.mzxid), ctime=0, mtime=0,
                             pzxid=self.exact(stat.pzxid), ephemeral_owner=owner)


def play_both(script, players, say):
    """Plays a script on both. Calls `say(step number, text)` for each difference; returns how many there were."""
    differences = 0
    for number, step in enumerate(script.steps):
        came = [player.play(step) for player in players]
        found = [p for player in players for p in player.problems]
        for at in range(max(map(len, came))):
            one, other = (c[at] if at < len(c) else "nothing" for c in came)
            if one != other:
                found.append(f"session {step.session} {step.kind}, frame {at}\n    {players[0].name}: {one}\n"
                             f"    {players[1].name}: {other}")
                break
        for text in found:
            differences += 1
            say(number, text)
        if differences >= DIFFERENCES_MAX:
            break
    for player in players:
        for number in sorted(player.sessions):
            session = player.sessions.pop(number)
            try:
                session.connection.call(jute.CLOSE, xid=1 << 30)
            except (jute.Closed, TimeoutError):
                pass
            session.connection.close()
    return differences
