"""What do the later operations answer, played on both servers? Permissions operation by operation, persistent
watches, quotas, and what single operations answer in odd cases."""

import struct

from lib import jute
from lib.oracle_scenes_lib import goodbye, joined

ANYONE = "world", "anyone"
HIDDEN = "digest", "nobody:knows"


def short(values):
    """What came, without times and zxids, names in order."""
    if isinstance(values, jute.Stat):
        return values._replace(czxid=0, mzxid=0, ctime=0, mtime=0, pzxid=0)
    if isinstance(values, list) and values and all(isinstance(v, str) for v in values):
        return sorted(values)
    return type(values)(map(short, values)) if isinstance(values, (list, tuple)) else values


def permissions(scene):
    """each operation with each permission on the node and on its parent"""
    operations = [
        ("create", jute.CREATE, lambda p: jute.create(p + "/new", b"")),
        ("create that exists", jute.CREATE, lambda p: jute.create(p + "/old", b"")),
        ("create2 below", jute.CREATE2, lambda p: jute.create(p + "/old/new", b"")),
        ("container", jute.CREATE_CONTAINER, lambda p: jute.create(p + "/box", b"", 4)),
        ("ttl", jute.CREATE_TTL, lambda p: jute.create_ttl(p + "/soon", b"", 5, jute.OPEN_ACL, 10**9)),
        ("delete missing", jute.DELETE, lambda p: jute.path_version(p + "/none")),
        ("getData", jute.GET_DATA, lambda p: jute.path_watch(p)),
        ("setData", jute.SET_DATA, lambda p: jute.set_data(p, b"x")),
        ("setData of another version", jute.SET_DATA, lambda p: jute.set_data(p, b"x", 77)),
        ("getChildren", jute.GET_CHILDREN, lambda p: jute.path_watch(p)),
        ("getChildren2", jute.GET_CHILDREN2, lambda p: jute.path_watch(p)),
        ("getAllChildrenNumber", jute.GET_ALL_CHILDREN_NUMBER, jute.buffer),
        ("getACL", jute.GET_ACL, jute.buffer),
        ("sync", jute.SYNC, jute.buffer),
        ("addWatch", jute.ADD_WATCH, lambda p: jute.path_number(p, 0)),
        ("check", jute.MULTI, lambda p: jute.multi([(jute.CHECK, jute.path_version(p, -1))])),
        ("multiRead", jute.MULTI_READ, lambda p: jute.multi([(jute.GET_DATA, jute.path_watch(p)),
                                                             (jute.GET_CHILDREN, jute.path_watch(p + "/old"))])),
        ("multi", jute.MULTI, lambda p: jute.multi([(jute.SET_DATA, jute.set_data("/matrix", b"")),
                                                    (jute.CREATE, jute.create(p + "/new", b""))])),
        ("delete", jute.DELETE, lambda p: jute.path_version(p + "/old")),
        ("setACL", jute.SET_ACL, lambda p: jute.set_acl(p, jute.OPEN_ACL + ((0, *HIDDEN),))),
        ("setACL that is none", jute.SET_ACL, lambda p: jute.set_acl(p, ())),
        ("getACL afterwards", jute.GET_ACL, jute.buffer),
    ]

    def play(host):
        owner, _ = joined(host)
        owner.call(jute.CREATE, jute.create("/matrix"))
        shapes = {}
        for perms in (0, 1, 2, 4, 8, 16, 31, 30, 29, 27, 23, 15):
            other, _ = joined(host)
            path = f"/matrix/p{perms}"
            owner.call(jute.CREATE, jute.create(path, b"d"))
            owner.call(jute.CREATE, jute.create(path + "/old", b"o"))
            acl = ((perms, *ANYONE), (31 - perms, *HIDDEN), (7, "ip", "10.11.12.13"))
            shapes[perms, "made"] = owner.call(jute.SET_ACL, jute.set_acl(path, acl))[0]
            for name, op, record in operations:
                shapes[perms, name] = short(other.call(op, record(path)))
            goodbye(other)
        goodbye(owner)
        return shapes

    got = scene.on_both(play)
    scene.expect("all may everything", {k[1]: v[0] for k, v in got.items() if k[0] == 31 and k[1] != "made" and v[0]},
                 {"create that exists": -110, "delete missing": -101, "setData of another version": -103,
                  "setACL that is none": -114, "delete": -111})


def proofs(scene):
    """what auth gives, takes and refuses"""
    def play(host):
        shapes = []
        connection, _ = joined(host)
        shapes.append(sorted(connection.call(jute.WHO_AM_I)[1][0]))
        acl = ((31, "digest", "me:016djjlksVQS5RgX3M7biBGyYwY="),)
        connection.call(jute.CREATE, jute.create("/proofs", b"", 1, acl))
        ask = (jute.GET_DATA, jute.path_watch("/proofs"))
        shapes.append(connection.call(*ask)[0])
        for proof in ("me:wrong", "me", "me:secret", "me:secret"):
            shapes.append(connection.call(jute.AUTH, jute.auth("digest", proof), xid=-4))
            shapes.append(connection.call(*ask)[0])
        shapes.append(sorted(connection.call(jute.WHO_AM_I)[1][0]))
        own = ((31, "auth", ""),)
        shapes.append(connection.call(jute.SET_ACL, jute.set_acl("/proofs", own))[0])
        # In any order.
        err, (acl, stat) = connection.call(jute.GET_ACL, jute.buffer("/proofs"))
        shapes.append((err, sorted(acl), stat.aversion))
        goodbye(connection)
        for scheme in ("nonsense", "world", "auth", "super", "", None):
            connection, _ = joined(host)
            connection.send(jute.request(-4, jute.AUTH, jute.auth(scheme, "x:y")))
            got = connection.reply()
            shapes.append((scheme, got.xid, got.err, got.body, connection.ends(3)))
        return shapes

    scene.on_both(play)


def standing_watches(scene):
    """persistent watches and recursive ones, set, fired and removed"""
    def play(host):
        writer, watcher = joined(host)[0], joined(host)[0]
        shapes = []

        def call(op, record):
            """What a request came to, and the events before its answer."""
            watcher.send(jute.request(9, op, record))
            while (got := watcher.reply()).xid != 9:
                shapes.append(jute.decode_event(got.body))
            shapes.append((op, got.err, len(got.body)))

        def change():
            """One of each change, two levels deep."""
            for op, record in ((jute.CREATE, jute.create("/watched")), (jute.CREATE, jute.create("/watched/a")),
                               (jute.CREATE, jute.create("/watched/a/b")), (jute.SET_DATA, jute.set_data("/watched", b"")),
                               (jute.SET_DATA, jute.set_data("/watched/a/b", b"")),
                               (jute.SET_ACL, jute.set_acl("/watched", jute.OPEN_ACL)),
                               (jute.DELETE, jute.path_version("/watched/a/b")),
                               (jute.DELETE, jute.path_version("/watched/a")),
                               (jute.DELETE, jute.path_version("/watched"))):
                shapes.append(writer.call(op, record)[0])
                call(jute.EXISTS, jute.path_watch("/none"))

        for mode in (0, 1):
            call(jute.ADD_WATCH, jute.path_number("/watched", mode))
            call(jute.CHECK_WATCHES, jute.path_number("/watched", 3))
            change()
            change()
            call(jute.REMOVE_WATCHES, jute.path_number("/watched", 3))
            call(jute.REMOVE_WATCHES, jute.path_number("/watched", 3))
            change()
        call(jute.ADD_WATCH, jute.path_number("/watched", 2))
        call(jute.CHECK_WATCHES, jute.path_number("/watched", 1))
        # One-shot ones, looked for and removed.
        call(jute.EXISTS, jute.path_watch("/watched", True))
        for kind in (1, 2, 3, 0, 6):
            call(jute.CHECK_WATCHES, jute.path_number("/watched", kind))
        call(jute.REMOVE_WATCHES, jute.path_number("/watched", 2))
        call(jute.CHECK_WATCHES, jute.path_number("/watched", 3))
        call(jute.SET_WATCHES2, jute.set_watches(0, (), (), (), (["/watched"], ["/watched/a"])))
        change()
        goodbye(writer)
        goodbye(watcher)
        return shapes

    scene.on_both(play)


def quotas(scene):
    """what quotas count, and what is told about them"""
    def play(host):
        connection, _ = joined(host)
        shapes = []

        def call(op, record):
            shapes.append(short(connection.call(op, record)))

        def look():
            call(jute.GET_DATA, jute.path_watch("/zookeeper/quota/quotas/zookeeper_stats"))
            call(jute.GET_DATA, jute.path_watch("/zookeeper/quota/quotas/deep/zookeeper_stats"))

        call(jute.CREATE, jute.create("/quotas", b"12345"))
        call(jute.CREATE, jute.create("/quotas/before", b"123"))
        for path in ("/zookeeper/quota/quotas", "/zookeeper/quota/quotas/deep"):
            call(jute.CREATE, jute.create(path))
        call(jute.CREATE, jute.create("/zookeeper/quota/quotas/zookeeper_limits", b"count=3,bytes=20"))
        call(jute.CREATE, jute.create("/zookeeper/quota/quotas/zookeeper_stats", b"count=0,bytes=0"))
        look()
        call(jute.CREATE, jute.create("/quotas/deep", b"1"))
        call(jute.CREATE, jute.create("/quotas/deep/er", b"12"))
        look()
        limits = b"count=1,bytes=-1=;byteHardLimit=-1;countHardLimit=2"
        call(jute.CREATE, jute.create("/zookeeper/quota/quotas/deep/zookeeper_limits", limits))
        call(jute.CREATE, jute.create("/zookeeper/quota/quotas/deep/zookeeper_stats", limits))
        look()
        call(jute.CREATE, jute.create("/quotas/deep/est", b"123", 2))
        call(jute.SET_DATA, jute.set_data("/quotas/deep/er", b"x" * 50))
        call(jute.SET_DATA, jute.set_data("/quotas/before", None))
        call(jute.SET_DATA, jute.set_data("/quotas/before", b"", 7))
        look()
        call(jute.DELETE, jute.path_version("/quotas/before"))
        call(jute.MULTI, jute.multi([(jute.CREATE, jute.create("/quotas/m", b"1234")),
                                     (jute.DELETE, jute.path_version("/quotas/deep/er")),
                                     (jute.DELETE, jute.path_version("/quotas/none"))]))
        call(jute.MULTI, jute.multi([(jute.CREATE, jute.create("/quotas/m", b"1234")),
                                     (jute.DELETE, jute.path_version("/quotas/deep/er"))]))
        look()
        call(jute.DELETE, jute.path_version("/zookeeper/quota/quotas/deep/zookeeper_limits"))
        call(jute.CREATE, jute.create("/quotas/deep/er", b"again"))
        look()
        call(jute.DELETE, jute.path_version("/zookeeper/quota/quotas/zookeeper_stats"))
        call(jute.CREATE, jute.create("/quotas/unseen", b"again"))
        look()
        goodbye(connection)
        return shapes

    scene.on_both(play)


def odd_answers(scene):
    """operations that need no tree: sasl, reconfig, getEphemerals, multis of nothing"""
    def play(host):
        connection, _ = joined(host)
        shapes = []

        def call(op, record):
            connection.send(jute.request(5, op, record))
            got = connection.reply()
            shapes.append((op, got.xid, got.err, got.body.hex() if got.body and op != jute.GET_EPHEMERALS else got.body))

        call(jute.SASL, jute.buffer(b""))
        text = jute.buffer("")
        call(jute.RECONFIG, text + text + text + struct.pack(">q", -1))
        call(jute.MULTI, jute.multi([]))
        call(jute.MULTI_READ, jute.multi([]))
        call(jute.MULTI, jute.multi([(jute.GET_DATA, jute.path_watch("/"))]))
        call(jute.MULTI, jute.multi([(jute.DELETE, jute.path_version("/"))])[:-9])
        for prefix in (None, "", "/", " ", "/odd", "nonsense"):
            call(jute.GET_EPHEMERALS, jute.buffer(prefix))
        for name in ("/odd-b", "/odd-a", "/other"):
            connection.call(jute.CREATE, jute.create(name, b"", 1))
        connection.call(jute.SYNC, jute.buffer("/"))
        for prefix in (None, "", "/", " ", "/odd", "/odd-a", "nonsense"):
            err, values = connection.call(jute.GET_EPHEMERALS, jute.buffer(prefix))
            shapes.append((prefix, err, sorted(values[0])))
        goodbye(connection)
        return shapes

    scene.on_both(play)


def better_than_the_original(scene):
    """what Zoolog does as ZooKeeper 3.9 does, or as its protocol says"""
    host = scene.hosts["Zoolog"]
    connection, _ = joined(host)
    made = connection.call(jute.MULTI, jute.multi([
        (jute.CREATE2, jute.create("/better", b"1")), (jute.CREATE_CONTAINER, jute.create("/better/box", b"", 4)),
        (jute.CREATE_TTL, jute.create_ttl("/better/soon", b"", 5, jute.OPEN_ACL, 1000000))]))
    scene.expect("kinds in the reply to a multi", [part[0] for part in made[1][0]], [15, 15, 15, -1])
    unreadable = ((jute.MULTI_READ, (jute.DELETE, jute.path_version("/"))),
                  (jute.MULTI, (jute.CREATE, jute.create("/odd", b"", 77))))
    for op, part in unreadable:
        scene.expect("a multi of what none has", connection.call(op, jute.multi([part])), (-5, b""))
    other, _ = joined(host)
    connection.call(jute.ADD_WATCH, jute.path_number("/better", 0))
    connection.call(jute.EXISTS, jute.path_watch("/better", True))
    scene.expect("somebody else's watch", other.call(jute.CHECK_WATCHES, jute.path_number("/better", 3))[0], -121)
    scene.expect("removing one kind", connection.call(jute.REMOVE_WATCHES, jute.path_number("/better", 2))[0], 0)
    kinds = [connection.call(jute.CHECK_WATCHES, jute.path_number("/better", kind))[0] for kind in (1, 2, 3, 4, 5)]
    scene.expect("the other kind stays", kinds, [-121, -121, 0, 0, -121])
    acl = ((31, "digest", "me:016djjlksVQS5RgX3M7biBGyYwY="),)
    connection.call(jute.AUTH, jute.auth("digest", "me:secret"))
    other.call(jute.EXISTS, jute.path_watch("/hidden", True))
    connection.call(jute.CREATE, jute.create("/hidden", b"", 1, acl))
    connection.call(jute.SET_DATA, jute.set_data("/hidden", b""))
    other.send(jute.request(7, jute.EXISTS, jute.path_watch("/hidden")))
    got = other.reply()
    scene.expect("what one may not read: no event, no Stat", (got.xid, got.err), (7, -102))
    longest = jute.FRAME_BYTES_MAX - 88
    for length, err in ((longest, 0), (longest + 1, -8)):
        scene.expect(f"data of {length} bytes", connection.call(
            jute.SET_DATA, jute.set_data("/hidden", b"x" * length))[0], err)
    goodbye(connection)
    goodbye(other)


SCENES = [permissions, proofs, standing_watches, quotas, odd_answers, better_than_the_original]
