"""Are the drill's own parts right? The proxy cuts, holds, delays and resets what it should; a seed means the same faults
again; pauses are measured as they were; guests notice what must not be."""

import pathlib
import socket
import sys
import time
import types
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from lib import jute  # noqa: E402
from lib.drill import faults, guests, nodes, promises, proxy, writers  # noqa: E402

GOLDEN = pathlib.Path(__file__).resolve().parents[3] / "core" / "tests" / "golden" / "bytes.txt"


def hello(role, node):
    """A Hello as a node sends it, made of the one that is on record."""
    line = next(line for line in GOLDEN.read_text().splitlines() if line.startswith("Hello "))
    frame = bytearray.fromhex(line.split()[1])
    frame[24] = role
    frame[41:49] = node.to_bytes(8, "little")
    return bytes(frame)


class Hellos(unittest.TestCase):
    def test_the_hello_on_record_is_understood(self):
        line = next(line for line in GOLDEN.read_text().splitlines() if line.startswith("Hello "))
        self.assertEqual(proxy.who(bytes.fromhex(line.split()[1])), "shard-7")

    def test_who_dialled(self):
        self.assertEqual(proxy.who(hello(0, 3)), "order-2")
        self.assertEqual(proxy.who(hello(1, 3)), "shard-3")
        self.assertEqual(proxy.who(hello(2, 0)), "client")
        self.assertEqual(proxy.who(b"GET / HTTP/1.1\r\n" * 4), "stranger")
        self.assertIsNone(proxy.who(hello(2, 0)[:48]))


class Links(unittest.TestCase):
    """shard-1 dials shard-2 through the proxy."""

    def setUp(self):
        self.proxy = nodes.Proxy()
        self.addCleanup(self.proxy.process.stdout.close)
        self.addCleanup(self.proxy.end)
        self.server = socket.create_server(("127.0.1.1", 0))
        self.addCleanup(self.server.close)
        self.server.settimeout(5)
        port = self.server.getsockname()[1]
        self.at = ("127.0.2.1", port)
        self.proxy.do("route", name="shard-2", at=f"127.0.2.1:{port}", to=f"127.0.1.1:{port}")

    def dial(self):
        near = socket.create_connection(self.at, timeout=5)
        self.addCleanup(near.close)
        near.sendall(hello(1, 1) + b"first")
        return near

    def accept(self):
        far, _ = self.server.accept()
        self.addCleanup(far.close)
        far.settimeout(5)
        whole, got = hello(1, 1) + b"first", b""
        while len(got) < len(whole):
            got += far.recv(1 << 16)
        self.assertEqual(got, whole)
        return far

    def hears_nothing(self, sock, for_s=0.2):
        sock.settimeout(for_s)
        with self.assertRaises(TimeoutError):
            sock.recv(1)
        sock.settimeout(5)

    def test_a_cut_holds_one_direction_until_it_is_healed(self):
        near = self.dial()
        far = self.accept()
        self.assertEqual(self.proxy.do("cut", links=[["shard-1", "shard-2"]])["hit"], 1)
        near.sendall(b"there")
        far.sendall(b"back")
        self.assertEqual(near.recv(9), b"back")
        self.hears_nothing(far)
        self.proxy.do("heal")
        self.assertEqual(far.recv(9), b"there")

    def test_a_cut_of_others_changes_nothing(self):
        near = self.dial()
        far = self.accept()
        self.assertEqual(self.proxy.do("cut", links=[["shard-1", "order-0"], ["client", "shard-2"]])["hit"], 0)
        near.sendall(b"there")
        self.assertEqual(far.recv(9), b"there")

    def test_no_connection_comes_up_across_a_cut_of_either_direction(self):
        for link in (["shard-1", "shard-2"], ["shard-2", "shard-1"]):
            self.proxy.do("cut", links=[link])
            self.dial()
            self.server.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                self.server.accept()
            self.server.settimeout(5)
            self.proxy.do("heal")
            self.accept()

    def test_a_delay_delays_and_keeps_the_order(self):
        near = self.dial()
        far = self.accept()
        self.proxy.do("delay", links=[["shard-1", "shard-2"]], ms=150)
        begun = time.monotonic()
        near.sendall(b"one")
        time.sleep(0.05)
        self.proxy.do("delay", links=[["shard-1", "shard-2"]], ms=1)
        near.sendall(b"two")
        got = b""
        while len(got) < 6:
            got += far.recv(6)
        self.assertEqual(got, b"onetwo")
        self.assertGreaterEqual(time.monotonic() - begun, 0.149)

    def test_a_reset_ends_both_sides(self):
        near = self.dial()
        far = self.accept()
        self.assertEqual(self.proxy.do("reset", links=[["shard-2", "shard-1"]])["hit"], 1)
        for sock in (near, far):
            with self.assertRaises(ConnectionResetError):
                sock.recv(1)

    def test_an_end_is_passed_on_behind_what_was_said(self):
        near = self.dial()
        far = self.accept()
        near.sendall(b"last words")
        near.shutdown(socket.SHUT_WR)
        self.assertEqual(far.recv(99), b"last words")
        self.assertEqual(far.recv(99), b"")
        far.sendall(b"answer")
        far.close()
        self.assertEqual(near.recv(99), b"answer")
        self.assertEqual(near.recv(99), b"")

    def test_much_passes_whole(self):
        near = self.dial()
        far = self.accept()
        much = bytes(range(256)) * 40_000
        self.proxy.do("cut", links=[["shard-1", "shard-2"]])
        near.settimeout(None)
        near.setblocking(False)
        sent = 0
        while True:
            try:
                sent += near.send(much[sent:])
            except BlockingIOError:
                break
        self.proxy.do("heal")
        near.setblocking(True)
        near.settimeout(5)
        got = b""
        while sent < len(much) or len(got) < len(much):
            if sent < len(much):
                sent += near.send(much[sent:sent + 65536])
            got += far.recv(1 << 20)
        self.assertEqual(got, much)


class Schedules(unittest.TestCase):
    def drawn(self, seed, n):
        cluster = types.SimpleNamespace(servers=["shard-0", "shard-1", "shard-2"], orderers=["order-0", "order-1", "order-2"])
        all_ = faults.schedule(seed, cluster, faults.KINDS, (0.2, 0.5))
        return [[fault for fault in next(all_)] for _ in range(n)]

    def shown(self, seed, n):
        def draws(fault):
            return {k: v for k, v in vars(fault).items() if k != "cluster" and not callable(v)}
        return [[(type(f).__name__, draws(f)) for f in together] for together in self.drawn(seed, n)]

    def test_a_seed_means_the_same_faults_again(self):
        self.assertEqual(self.shown(7, 50), self.shown(7, 50))
        self.assertNotEqual(self.shown(7, 50), self.shown(8, 50))

    def test_each_kind_comes_once_before_any_comes_again(self):
        n = len(faults.KINDS)
        first = self.drawn(3, n)
        self.assertEqual({type(f) for (f,) in first}, set(faults.KINDS))
        self.assertTrue(any(len(together) > 1 for together in self.drawn(3, 5 * n)[n:]))


class Losses(unittest.TestCase):
    def test_shards_that_still_count_on_a_lost_server_are_told(self):
        def shard(number, state, *slots, **more):
            return {"shard": number, "state": state, "lanes": [{"slot": slot} for slot in slots], **more}
        view = {"shards": [shard(1, "finalized", "1.0", "2.0", first=0, end=5), shard(2, "live", "3.0", "1.0"),
                           shard(3, "finalized", "1.0", "2.0", first=5, end=5), shard(4, "live", "11.0", "2.0")]}
        cluster = types.SimpleNamespace(ask=lambda *words: view)
        self.assertEqual(nodes.Cluster.holds_alone(cluster, "shard-1"), [1, 2])
        self.assertEqual(nodes.Cluster.holds_alone(cluster, "shard-3"), [2])
        self.assertEqual(nodes.Cluster.holds_alone(cluster, "shard-0"), [])
        cluster.ask = lambda *words: None
        self.assertIsNone(nodes.Cluster.holds_alone(cluster, "shard-1"))


class Pauses(unittest.TestCase):
    def test_the_longest_gap_is_the_one_that_touches_the_time_asked_for(self):
        times = [0.0, 1.0, 1.1, 4.0, 4.1, 9.0]
        self.assertAlmostEqual(writers.longest_gap(times, 1.05, 1.08), 0.1)
        self.assertAlmostEqual(writers.longest_gap(times, 1.5, 2.0), 2.9)
        self.assertAlmostEqual(writers.longest_gap(times, 0.5, 4.05), 2.9)
        self.assertEqual(writers.longest_gap([], 0, 1), 0.0)


def node_as_of(xid, mzxid, zxid=None):
    """The answer to a getData."""
    stat = jute.Stat(1, mzxid, 0, 0, 0, 0, 0, 0, 1, 0, 1)
    return jute.Reply(xid, zxid or mzxid, 0, jute.buffer(b"x") + jute.STAT.pack(*stat))


def event(zxid, kind, path="/v"):
    """What a watch tells."""
    return jute.Reply(jute.EVENT_XID, zxid, 0, jute.struct.pack(">ii", kind, 3) + jute.buffer(path))


class Watching(unittest.TestCase):
    """A watcher of /v over a connection whose frames are given."""

    def wrong_after(self, *frames, looks):
        """What it says after so many looks."""
        frames = list(frames)
        watcher = guests.Watcher("w", ["nowhere:1"], 0, ["/v"])
        watcher.connection = types.SimpleNamespace(send=lambda data: None, reply=lambda: frames.pop(0))
        for _ in range(looks):
            watcher.look()
        self.assertEqual(frames, [])
        return watcher.wrong

    def test_a_change_that_is_told_before_it_is_seen_is_as_it_should_be(self):
        changed = event(7, guests.CHANGED)
        self.assertEqual(self.wrong_after(node_as_of(1, 5), changed, node_as_of(2, 7), node_as_of(3, 7), looks=3), [])

    def test_a_change_that_is_seen_and_was_not_told_is_noticed(self):
        self.assertIn("was not told", self.wrong_after(node_as_of(1, 5), node_as_of(2, 7), looks=2)[0])

    def test_a_change_that_is_told_behind_what_shows_it_is_noticed(self):
        frames = node_as_of(1, 5), node_as_of(2, 5, zxid=7), event(7, guests.CHANGED), node_as_of(3, 7)
        self.assertIn("behind an answer", self.wrong_after(*frames, looks=3)[0])

    def test_a_change_that_is_told_twice_is_noticed(self):
        frames = node_as_of(1, 5), event(7, guests.CHANGED), event(7, guests.CHANGED), node_as_of(2, 7)
        self.assertIn("not any more", self.wrong_after(*frames, looks=2)[0])

    def test_an_answer_that_goes_back_is_noticed(self):
        self.assertIn("goes back", self.wrong_after(node_as_of(1, 5, zxid=9), node_as_of(2, 5), looks=2)[0])


class Promises(unittest.TestCase):
    """Each promise, broken in each way, is noticed; and what is allowed is not."""

    def test_a_map(self):
        good = promises.Map()
        good.put("k", 1, 0, 1, 0)
        good.put("k", 2, 2, 9, None)
        for value, sent, told in ((1, 1.5, 2.5), (2, 3, 4), (2, 10, 11)):
            good.get("k", value, sent, told)
        self.assertEqual(list(good.wrong()), [])
        for value, sent, told in ((0, 1.5, 1.8), (2, 1.2, 1.9), (1, 5, 6)):
            bad = promises.Map()
            bad.puts, bad.gets = good.puts, good.gets[:2] + [("k", value, sent, told)]
            self.assertEqual(len(list(bad.wrong())), 1, (value, sent, told))
        lost = promises.Map()
        lost.put("k", 2, 2, 3, 0)
        self.assertEqual(list(lost.wrong()), ["put 2 of k found 0"])

    def test_a_queue(self):
        def queue():
            q = promises.Queue()
            q.add("a", 1)
            q.add("b", 2)
            q.add("c", None)
            q.take("x", 1, "a", 1.0, 0, 0.1)
            q.take("y", 1, "a", 1.0, 0.9, 1.1)
            q.take("x", 2, "b", 1.0, 0, 0.1)
            q.done("x", 1, False, 1.2, 1.3)
            q.done("y", 1, True, 1.2, 1.3)
            q.done("x", 2, None, 0.5, 0.6)
            return q
        self.assertEqual(list(queue().wrong()), [])
        for name, more in (("add", ("a", 3)), ("take", ("z", 2, "b", 1.0, 0.2, 0.3)), ("take", ("z", 1, "a", 1.0, 1.95, 2.0)),
                           ("take", ("z", 4, "d", 1.0, 1, 2)), ("done", ("z", 1, True, 1.2, 1.3)), ("add", ("e", 5))):
            bad = queue()
            getattr(bad, name)(*more)
            self.assertEqual(len(list(bad.wrong())), 2 if more == ("a", 3) else 1, (name, more, list(bad.wrong())))

    def test_clocks_show_whole_milliseconds(self):
        """Asked for at 0.9 ms, a lease of 100 ms is over at 100 ms."""
        for told, is_wrong in ((0.0995, 1), (0.1005, 0)):
            queue, lock = promises.Queue(), promises.Lock()
            queue.add("a", 1)
            queue.take("x", 1, "a", 0.1, 0.0009, 0.0013)
            queue.take("y", 1, "a", 0.1, 0.099, told)
            queue.done("y", 1, True, 0.11, 0.12)
            lock.lock("x", 5, 0.1, 0.0009, 0.0013)
            lock.lock("y", 7, 0.1, 0.099, told)
            self.assertEqual([len(list(h.wrong())) for h in (queue, lock)], [is_wrong] * 2, told)

    def test_a_lock(self):
        def lock():
            k = promises.Lock()
            k.lock("x", 5, 1.0, 0, 0.1)
            k.lock("x", 5, 0.2, 0.1, 0.2)
            k.unlock(5, 0.5)
            k.lock("y", 7, 1.0, 0.4, 0.6)
            k.write(5, 1, True, 0.2, 0.3)
            k.write(7, 1, None, 0.7, 0.8)
            k.read(5, 1, 0.4, 0.45)
            k.read(7, 1, 0.9, 1.0)
            k.write(5, 2, False, 0.9, 1.0)
            return k
        self.assertEqual(list(lock().wrong()), [])
        # Its holder has asked again, for less, or may have: the next one may have it sooner.
        for token in (None, 5):
            k = promises.Lock()
            k.lock("x", 5, 1.0, 0, 0.1)
            k.lock("y", 7, 1.0, 0.4, 0.6)
            self.assertEqual(len(list(k.wrong())), 1)
            k.lock("x", token, 0.3, 0.2, 0.25)
            self.assertEqual(list(k.wrong()), [])
        for name, more in (("lock", ("z", 8, 1.0, 0.2, 0.9)), ("lock", ("z", 6, 1.0, 1.5, 1.6)), ("lock", ("z", 7, 1.0, 0.4, 0.6)),
                           ("read", (5, 1, 1.1, 1.2)), ("read", (9, 1, 1.1, 1.2))):
            bad = lock()
            getattr(bad, name)(*more)
            self.assertEqual(len(list(bad.wrong())), 1, (name, more, list(bad.wrong())))
        bad = lock()
        bad.write(7, 2, True, 1.0, 1.1)
        bad.write(5, 3, True, 1.2, 1.3)
        self.assertEqual(list(bad.wrong()), ["token 5 wrote what 7 had written"])


if __name__ == "__main__":
    unittest.main()
