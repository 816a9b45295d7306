"""Are the drill's own parts right? The proxy cuts, holds, delays and resets what it should; a seed means the same faults
again; pauses are measured as they were."""

import pathlib
import socket
import sys
import time
import types
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from lib.drill import faults, nodes, proxy, writers  # noqa: E402

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


if __name__ == "__main__":
    unittest.main()
