"""What do random scripts not reach? Scenes, each played on both servers where both must do the same: handshakes,
expiry, unknown operations, half and oversized frames, many connections, clients that never read."""

import re
import struct
import threading
import time

from lib import jute
from lib.oracle_scenes_lib import goodbye, joined, remains

# Shortest session timeout that both grant: two ticks.
SHORT_MS = 4000
OVERLOAD_BYTES = 512 << 20
# What a client may cost that never reads: some answers, or the writes that may wait for the log.
READ_BYTES_MAX, WRITE_BYTES_MAX = 16 << 20, 24 << 20


def handshake_bytes(scene):
    """the bytes of a handshake, with and without the read-only flag"""
    def play(host):
        shapes = []
        for request in ("0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010" + "00" * 17,
                        "0000002c 00000000 0000000000000000 00002710 0000000000000000 00000010" + "00" * 16,
                        "0000001d 00000000 0000000000000000 00002710 0000000000000000 ffffffff 01",
                        "0000001c 00000000 0000000000000000 00002710 0000000000000000 00000000",
                        "0000002d 00000007 0000000000000000 00000001 0000000000000000 00000010" + "ff" * 17,
                        "00000031 00000000 0000000000000000 7fffffff 0000000000000000 00000010" + "00" * 17
                        + "6d6f7265"):
            connection = jute.Connection(host)
            connection.send(bytes.fromhex(request))
            frame = connection.frame()
            # Session and password are the server's to choose.
            shapes.append((frame[:8].hex(), frame[16:20].hex(), frame[36:].hex()))
            goodbye(connection)
        return shapes

    got = scene.on_both(play)
    scene.expect("the usual answer", got[0], ("0000000000002710", "00000010", "00"))
    scene.expect("the answer to an old client", got[1], ("0000000000002710", "00000010", ""))


def refusals(scene):
    """refusal of unknown and closed sessions, of wrong passwords, and of half handshakes"""
    def play(host):
        connection, answer = joined(host)
        goodbye(connection)
        shapes = []
        for session, password in ((answer.session, answer.password), (0x123456789, bytes(16)),
                                  (-5, bytes(16)), (answer.session, b"")):
            for flag in (False, None):
                other = jute.Connection(host)
                shapes.append(remains(other, jute.connect(session=session, password=password, read_only=flag)))
        for frame in (jute.framed(b""), jute.framed(bytes(12)), jute.framed(bytes(24) + b"\xff\xff\xff\xfe"),
                      jute.framed(bytes(24) + b"\x00\x00\x00\x10" + bytes(3)), b"\xff\xff\xff\xff", b"\x80\x00\x00\x00",
                      b"\x7f\xff\xff\xff", b"\x00\x10\x00\x00"):
            shapes.append(remains(jute.Connection(host), frame))
        return shapes

    refused = bytes.fromhex("00000000 00000000 0000000000000000 00000010" + "00" * 16)
    got = scene.on_both(play)
    scene.expect("a refusal", got[0], [refused + b"\0", "closed"])
    scene.expect("a refusal of an old client", got[1], [refused, "closed"])


def wrong_password(scene):
    """a wrong password leaves the owner in peace"""
    connection, answer = joined(scene.hosts["Zoolog"])
    thief, refused = joined(scene.hosts["Zoolog"], session=answer.session, password=b"x" * 16)
    scene.expect("the thief's session", (refused.session, refused.timeout, refused.password), (0, 0, bytes(16)))
    scene.expect("the thief's connection ends", thief.ends(), True)
    scene.expect("the owner", connection.call(jute.EXISTS, jute.path_watch("/"))[0], 0)
    goodbye(connection)


def takeover(scene):
    """a session that comes by another connection closes its first one and keeps its ephemerals"""
    def play(host):
        connection, answer = joined(host)
        made = connection.call(jute.CREATE, jute.create("/takeover", b"", flags=1))
        second, again = joined(host, session=answer.session, password=answer.password)
        same = (again.session == answer.session, again.password == answer.password, again.timeout)
        ends = connection.ends()
        err, (stat,) = second.call(jute.EXISTS, jute.path_watch("/takeover"))
        goodbye(second)
        return made, same, ends, err, stat.ephemeral_owner == answer.session

    scene.on_both(play)


def expiry(scene):
    """a silent session expires: its ephemerals go, watchers hear of it, its return is refused"""
    def play(host):
        watcher, _ = joined(host, timeout_ms=30000)
        silent, answer = joined(host, timeout_ms=SHORT_MS)
        for name in ("b", "a"):
            silent.call(jute.CREATE, jute.create(f"/expiry-{name}", None, flags=1))
            watcher.call(jute.EXISTS, jute.path_watch(f"/expiry-{name}", True))
        watcher.call(jute.GET_CHILDREN, jute.path_watch("/", True))
        silent.close()
        watcher.socket.settimeout(3 * SHORT_MS / 1000 + 5)
        events = sorted(jute.decode_event(watcher.reply().body) for _ in range(3))
        late = remains(jute.Connection(host), jute.connect(session=answer.session, password=answer.password))
        gone = [watcher.call(jute.GET_DATA, jute.path_watch(f"/expiry-{name}"))[0] for name in "ab"]
        goodbye(watcher)
        return events, late, gone

    scene.on_both(play)


def pings_keep_alive(scene):
    """a session lives on pings alone"""
    def play(host):
        connection, answer = joined(host, timeout_ms=SHORT_MS)
        answers = []
        for _ in range(8):
            connection.send(jute.request(jute.PING_XID, jute.PING))
            got = connection.reply()
            answers.append((got.xid, got.err, got.body))
            time.sleep(1)
        alive = connection.call(jute.EXISTS, jute.path_watch("/"))[0]
        goodbye(connection)
        return answer.timeout, answers, alive

    scene.on_both(play)


def ahead(scene):
    """a client that has seen more than the server is closed without an answer"""
    def play(host):
        return remains(jute.Connection(host), jute.connect(last_zxid=1 << 61))

    scene.expect("what it gets", scene.on_both(play), ["closed"])


def early_requests(scene):
    """requests that come with the handshake, in one piece and byte by byte"""
    def play(host):
        requests = [(jute.CREATE2, jute.create("/early", b"x", flags=1)), (jute.GET_DATA, jute.path_watch("/early")),
                    (jute.DELETE, jute.path_version("/early", 0)), (jute.EXISTS, jute.path_watch("/early")),
                    (jute.CLOSE, b"")]
        data = jute.connect() + b"".join(jute.request(i, op, record) for i, (op, record) in enumerate(requests))
        shapes = []
        for dribbled in (False, True):
            connection = jute.Connection(host)
            for piece in ([data[i:i + 1] for i in range(len(data))] if dribbled else [data]):
                connection.send(piece)
                if dribbled:
                    time.sleep(0.001)
            frames = remains(connection)
            shapes.append([len(frames[0])] + [(f[:4] + f[12:16] if isinstance(f, bytes) else f) for f in frames[1:]])
        return shapes

    got = scene.on_both(play)
    scene.expect("byte by byte", got[1], got[0])


def thousand(scene):
    """1000 pipelined mixed requests, answered in order"""
    def play(host):
        connection, _ = joined(host)
        connection.call(jute.CREATE, jute.create("/thousand"))
        requests = []
        for i in range(1000):
            name = f"/thousand/n{i % 7}"
            requests.append([(jute.CREATE, jute.create(name, b"%d" % i)), (jute.GET_DATA, jute.path_watch(name, True)),
                             (jute.SET_DATA, jute.set_data(name, b"%d" % i)), (jute.EXISTS, jute.path_watch(name)),
                             (jute.CREATE, jute.create("/thousand/s-", flags=3)),
                             (jute.DELETE, jute.path_version(name)),
                             (jute.GET_CHILDREN, jute.path_watch("/thousand", True)), (jute.SYNC, jute.buffer("/")),
                             ][i * 5 % 8])
        sender = threading.Thread(target=connection.send, args=(
            b"".join(jute.request(i + 10, op, record) for i, (op, record) in enumerate(requests)),))
        sender.start()
        shapes, zxid = [], 0
        while sum(s[0] != jute.EVENT_XID for s in shapes) < len(requests):
            got = connection.reply()
            if got.xid == jute.EVENT_XID:
                shapes.append((got.xid, jute.decode_event(got.body)))
                continue
            op = requests[got.xid - 10][0]
            values = jute.decode_body(op, got.body) if got.err == 0 else got.body
            fixed = [sorted(v) if isinstance(v, list) else v.version if isinstance(v, jute.Stat) else v for v in values]
            shapes.append((got.xid, got.err, fixed, got.zxid >= zxid))
            zxid = got.zxid
        sender.join()
        goodbye(connection)
        return shapes

    shapes = scene.on_both(play)
    scene.expect("order", [s[0] for s in shapes if s[0] != jute.EVENT_XID], list(range(10, 1010)))
    scene.expect("zxids that go back", [s for s in shapes if len(s) == 4 and not s[3]], [])


def unknown_operation(scene):
    """unknown operations are answered in order, and the connection goes on"""
    connection, _ = joined(scene.hosts["Zoolog"])
    unknown = (0, 10, 13, 20, 23, 99, 108, 500, 999, -1, -10, 2**31 - 1)
    frames, wanted = [], []
    for i, op in enumerate(unknown):
        frames += [jute.request(3 * i + 1, jute.CREATE, jute.create("/unknown-", flags=3)),
                   jute.request(3 * i + 2, op, b"whatever"), jute.request(3 * i + 3, jute.EXISTS, jute.path_watch("/"))]
        wanted += [(3 * i + 1, 0), (3 * i + 2, -6), (3 * i + 3, 0)]
    connection.send(b"".join(frames))
    got = [connection.reply() for _ in wanted]
    scene.expect("answers", [(g.xid, g.err) for g in got], wanted)
    scene.expect("bodies of errors", {g.body for g in got if g.err}, {b""})
    goodbye(connection)


def frame_limit(scene):
    """a frame of exactly the limit is served, one byte more closes the connection, and so do other lengths"""
    def play(host):
        connection, _ = joined(host)
        path, shapes = "/limit", []
        # The longest data whose reply a client takes that has the same limit.
        longest = jute.FRAME_BYTES_MAX - 88
        shapes.append(connection.call(jute.CREATE, jute.create(path)))
        shapes.append(connection.call(jute.SET_DATA, jute.set_data(path, b"x" * longest))[0])
        err, (data, stat) = connection.call(jute.GET_DATA, jute.path_watch(path))
        shapes.append((err, len(data) == longest, stat.data_length))
        shapes.append(connection.call(jute.DELETE, jute.path_version(path)))
        room = jute.FRAME_BYTES_MAX - 8 - len(jute.path_watch(""))
        shapes.append(connection.call(jute.EXISTS, jute.path_watch("x" * room)))
        goodbye(connection)
        longer = jute.request(1, jute.EXISTS, jute.path_watch("x" * (room + 1)))
        for bad in (longer, b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\x7f\xff\xff\xff", jute.framed(b""),
                    jute.framed(b"abc"), jute.framed(bytes(7)), b"ruok"):
            connection, _ = joined(host)
            try:
                connection.send(jute.request(1, jute.EXISTS, jute.path_watch("/none")) + bad)
            except jute.Closed:
                pass
            shapes.append((bad[:8].hex(), connection.ends(3)))
        shapes.append(joined(host)[0].call(jute.EXISTS, jute.path_watch(path)))
        return shapes

    scene.on_both(play)


def half_frames(scene):
    """half frames and half handshakes hold up nobody else"""
    def play(host):
        stuck = []
        for data in (b"", b"\0", b"\0\0\0", b"\0\0\0\x2d", jute.connect()[:20], jute.connect() + b"\0\0",
                     jute.connect() + jute.request(1, jute.EXISTS, jute.path_watch("/"))[:-1]):
            connection = jute.Connection(host)
            connection.send(data)
            stuck.append(connection)
        connection, _ = joined(host)
        err = connection.call(jute.EXISTS, jute.path_watch("/"))[0]
        goodbye(connection)
        # The rest of a frame makes it whole, however late.
        stuck[-1].send(jute.request(1, jute.EXISTS, jute.path_watch("/"))[-1:])
        frames = [len(stuck[-1].frame()), stuck[-1].reply().err]
        for connection in stuck:
            connection.close()
        return err, frames

    scene.on_both(play)


def crowd(scene):
    """300 connections that open and close at once are served, and leave nothing behind"""
    def play(host):
        served, lock = [], threading.Lock()
        start, hold = threading.Barrier(30), threading.Barrier(30)

        def some():
            start.wait()
            connections, good = [], 0
            for _ in range(10):
                try:
                    connection = jute.Connection(host)
                    connections.append(connection)
                    connection.handshake()
                    good += 1
                except (jute.Closed, OSError):
                    pass
            hold.wait()
            with lock:
                served.append(good)
            for connection in connections:
                connection.close()

        time.sleep(0.5)
        threads = [threading.Thread(target=some) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(1)
        connection, _ = joined(host)
        err = connection.call(jute.EXISTS, jute.path_watch("/"))[0]
        goodbye(connection)
        return sum(served), err

    # Apache allows some 60 from one address, `zoolog zk` 60; `zoolog dev` has no such limit.
    scene.expect("Apache: the one after", play(scene.hosts["Apache"])[1], 0)
    host = scene.hosts["Zoolog"]
    scene.expect("Zoolog: served, and the one after", play(host), (300, 0))
    deadline = time.monotonic() + 5
    # The one that asks counts.
    while (left := scene.topology.monitor(host).get("zk_num_alive_connections")) != "1" and time.monotonic() < deadline:
        time.sleep(0.1)
    scene.expect("connections left", left, "1")


def never_reads(scene):
    """clients that never read cost the server little memory, and nobody else anything"""
    connection, _ = joined(scene.hosts["Zoolog"])
    path = "/never-reads"
    connection.call(jute.CREATE, jute.create(path, b"x" * 1_000_000))
    ask = jute.request(1, jute.GET_DATA, jute.path_watch(path)) * 64
    write = jute.request(1, jute.SET_DATA, jute.set_data(path + "-not", b"y" * 10_000)) * 8
    kinds = (("reads", ask, 8, READ_BYTES_MAX), ("writes", write, 2, WRITE_BYTES_MAX))
    for what, request, clients, bytes_each in kinds:
        before = resident(scene)
        deaf = [deaf_client(scene, request) for _ in range(clients)]
        scene.expect("another client", connection.call(jute.EXISTS, jute.path_watch("/"))[0], 0)
        grown = resident(scene) - before
        if grown > clients * bytes_each:
            scene.wrong.append(f"zk-0 grew by {grown >> 20} MiB for {clients} clients that send {what} and never read")
        for other in deaf:
            other.close()
    scene.expect("cleaning up", connection.call(jute.DELETE, jute.path_version(path))[0], 0)
    goodbye(connection)


def deaf_client(scene, request):
    """A client that has sent as many requests as it could in a while, and reads nothing."""
    other, _ = joined(scene.hosts["Zoolog"], timeout_ms=40000)
    other.socket.setblocking(False)
    sent, deadline = 0, time.monotonic() + 1
    while sent < OVERLOAD_BYTES and time.monotonic() < deadline:
        try:
            sent += other.socket.send(request[sent % len(request):])
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            break
    return other


def resident(scene):
    """Resident bytes of the first ZooKeeper node."""
    with open(f"/proc/{scene.topology.pid('zk-0')}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) << 10


def slow_reader(scene):
    """a client that asks for 200 MB at once and reads late gets all of it"""
    host = scene.hosts["Zoolog"]
    connection, _ = joined(host, timeout_ms=40000)
    path = "/slow-reader"
    connection.call(jute.CREATE, jute.create(path, b"x" * 1_000_000))
    connection.send(b"".join(jute.request(xid, jute.GET_DATA, jute.path_watch(path)) for xid in range(200)))
    time.sleep(1)
    got = [connection.reply() for _ in range(200)]
    scene.expect("answers", [(g.xid, g.err) for g in got], [(xid, 0) for xid in range(200)])
    scene.expect("cleaning up", connection.call(jute.DELETE, jute.path_version(path))[0], 0)
    goodbye(connection)


def garbage(scene):
    """garbage behind a handshake closes at most its own connection"""
    host = scene.hosts["Zoolog"]
    pid = scene.topology.pid("zk-0")
    for i in range(200):
        connection, _ = joined(host)
        noise = b"".join(jute.framed(struct.pack(">ii", i, op) + bytes((i * j * 37) % 256 for j in range(i % 60)))
                         for op in (1, 2, 3, 4, 5, 8, 9, 12, 15, 101))
        connection.send(noise)
        for _ in range(10):
            got = connection.reply()
            if got.xid == i and got.err and got.body:
                scene.wrong.append(f"an error with a body: {got}")
        connection.close()
    connection, _ = joined(host)
    scene.expect("afterwards", connection.call(jute.EXISTS, jute.path_watch("/"))[0], 0)
    goodbye(connection)
    scene.expect("process", scene.topology.pid("zk-0"), pid)


SCENES = [handshake_bytes, refusals, wrong_password, takeover, ahead, early_requests, thousand, unknown_operation,
          frame_limit, half_frames, crowd, never_reads, slow_reader, garbage, pings_keep_alive, expiry]
