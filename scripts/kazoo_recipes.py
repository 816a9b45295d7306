#!/usr/bin/env python3
"""Do kazoo's recipes work? Lock, Counter, Queue, LockingQueue, Election, Barrier and DoubleBarrier, transactions and
ACLs, each with several clients against --hosts. Prints `N passed, M failed`; the exit code is 0 if none failed.

    scripts/kazoo_recipes.py --hosts 127.0.0.1:2181,127.0.0.1:2182
    scripts/kazoo_recipes.py --zoolog target/release/zoolog
    scripts/kazoo_recipes.py --apache                         are the tests themselves right? On three Apache servers
"""

import argparse
import pathlib
import sys
import tempfile
import threading
import time
import traceback
import uuid

from lib.apache import Ensemble
from lib.deps import ensure_kazoo
from lib.topology import Topology

ensure_kazoo()

from kazoo.client import KazooClient  # noqa: E402
from kazoo.exceptions import (  # noqa: E402
    BadVersionError, NoAuthError, NoNodeError, RolledBackError, RuntimeInconsistency)
from kazoo.security import make_digest_acl  # noqa: E402

CLIENTS = 4
PATIENCE_S = 30


class Bench:
    """The clients of one test, spread over the hosts, and a node of their own."""

    def __init__(self, hosts):
        self.root = f"/kazoo-recipes/{uuid.uuid4().hex[:12]}"
        self.clients = []
        for i in range(CLIENTS):
            turned = hosts[i % len(hosts):] + hosts[:i % len(hosts)]
            client = KazooClient(hosts=",".join(turned), timeout=10, randomize_hosts=False)
            client.start(timeout=PATIENCE_S)
            self.clients.append(client)
        self.clients[0].ensure_path(self.root)
        for client in self.clients:
            client.sync(self.root)

    def close(self):
        """Removes what the test left and ends the sessions."""
        try:
            self.clients[0].delete(self.root, recursive=True)
        finally:
            for client in self.clients:
                client.stop()
                client.close()

    def in_parallel(self, work):
        """Runs `work(index, client)` in a thread per client; fails if one fails or hangs."""
        failures = []

        def guarded(index, client):
            try:
                work(index, client)
            except BaseException:
                failures.append(f"client {index}: {traceback.format_exc()}")

        threads = [threading.Thread(target=guarded, args=pair, daemon=True) for pair in enumerate(self.clients)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE_S
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        assert not failures, "\n".join(failures)
        assert not any(t.is_alive() for t in threads), f"a client was not done after {PATIENCE_S} s"


def lock_excludes_everybody_else(bench):
    inside, most, rounds = [], [0], [0]

    def work(index, client):
        for _ in range(10):
            with client.Lock(bench.root + "/lock", f"client-{index}"):
                inside.append(index)
                most[0] = max(most[0], len(inside))
                rounds[0] += 1
                time.sleep(0.001)
                inside.pop()

    bench.in_parallel(work)
    assert most[0] == 1, f"{most[0]} clients held the lock at once"
    assert rounds[0] == 10 * CLIENTS, rounds[0]


def lock_of_a_dead_session_is_freed(bench):
    first, second = bench.clients[:2]
    held = first.Lock(bench.root + "/lock", "first")
    assert held.acquire(timeout=PATIENCE_S)
    other = second.Lock(bench.root + "/lock", "second")
    assert not other.acquire(blocking=False), "two hold one lock"
    first.stop()
    assert other.acquire(timeout=PATIENCE_S), "the lock outlived its session"
    other.release()
    first.start(timeout=PATIENCE_S)


def lock_waiters_are_served_in_order(bench):
    order = []
    holder = bench.clients[0].Lock(bench.root + "/lock", "holder")
    assert holder.acquire(timeout=PATIENCE_S)
    threads = []
    for index, client in enumerate(bench.clients[1:], 1):
        def wait(index=index, client=client):
            with client.Lock(bench.root + "/lock", f"waiter-{index}"):
                order.append(index)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        threads.append(thread)
        deadline = time.monotonic() + PATIENCE_S
        while len(holder.contenders()) < index + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
    holder.release()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == [1, 2, 3], order


def counter_loses_no_increment(bench):
    def work(_, client):
        counter = client.Counter(bench.root + "/counter")
        for _ in range(10):
            counter += 2
            counter -= 1

    bench.in_parallel(work)
    last = bench.clients[-1]
    last.sync(bench.root)
    value = last.Counter(bench.root + "/counter").value
    assert value == 10 * CLIENTS, value


def queue_gives_each_item_once_and_in_order(bench):
    producer = bench.clients[0].Queue(bench.root + "/queue")
    items = [f"{i:03}".encode() for i in range(40)]
    for item in items:
        producer.put(item)
    for client in bench.clients:
        client.sync(bench.root)
    taken = {i: [] for i in range(CLIENTS)}

    def work(index, client):
        queue = client.Queue(bench.root + "/queue")
        while (item := queue.get()) is not None:
            taken[index].append(item)

    bench.in_parallel(work)
    everything = sorted(item for items_of_one in taken.values() for item in items_of_one)
    assert everything == items, f"{len(everything)} taken, {len(set(everything))} different"
    assert all(mine == sorted(mine) for mine in taken.values()), "out of order"


def queue_respects_priorities(bench):
    queue = bench.clients[0].Queue(bench.root + "/queue")
    for value, priority in [(b"late", 900), (b"early", 5), (b"middle", 100), (b"middle2", 100)]:
        queue.put(value, priority=priority)
    got = [queue.get() for _ in range(5)]
    assert got == [b"early", b"middle", b"middle2", b"late", None], got


def locking_queue_gives_each_item_to_one(bench):
    items = [f"{i:03}".encode() for i in range(24)]
    bench.clients[0].LockingQueue(bench.root + "/queue").put_all(items)
    for client in bench.clients:
        client.sync(bench.root)
    taken = []

    def work(_, client):
        queue = client.LockingQueue(bench.root + "/queue")
        while True:
            item = queue.get(timeout=1)
            if item is None:
                return
            assert queue.holds_lock(), "an item without its lock"
            taken.append(item)
            assert queue.consume(), "the item could not be consumed"

    bench.in_parallel(work)
    assert sorted(taken) == items, f"{len(taken)} taken, {len(set(taken))} different"


def locking_queue_gives_back_what_was_not_consumed(bench):
    first, second = (c.LockingQueue(bench.root + "/queue") for c in bench.clients[:2])
    first.put(b"one")
    assert first.get(timeout=PATIENCE_S) == b"one"
    assert second.get(timeout=0.3) is None, "an item that another holds"
    assert first.release()
    assert second.get(timeout=PATIENCE_S) == b"one"
    assert second.consume()
    assert first.get(timeout=0.3) is None, "an item that was consumed"


def election_has_one_leader_at_a_time(bench):
    leading, most, led = [], [0], []

    def work(index, client):
        def lead():
            leading.append(index)
            most[0] = max(most[0], len(leading))
            time.sleep(0.02)
            led.append(index)
            leading.pop()

        election = client.Election(bench.root + "/election", f"client-{index}")
        for _ in range(3):
            election.run(lead)

    bench.in_parallel(work)
    assert most[0] == 1, f"{most[0]} leaders at once"
    assert sorted(led) == sorted(list(range(CLIENTS)) * 3), led


def election_passes_on_when_the_leader_goes(bench):
    elected, goes = threading.Event(), threading.Event()
    first = bench.clients[0].Election(bench.root + "/election", "first")
    second = bench.clients[1].Election(bench.root + "/election", "second")

    def lead():
        elected.set()
        goes.wait(PATIENCE_S)

    one = threading.Thread(target=lambda: first.run(lead), daemon=True)
    one.start()
    assert elected.wait(PATIENCE_S)
    followed = threading.Event()
    two = threading.Thread(target=lambda: second.run(followed.set), daemon=True)
    two.start()
    deadline = time.monotonic() + PATIENCE_S
    while first.contenders() != ["first", "second"]:
        assert time.monotonic() < deadline, first.contenders()
        time.sleep(0.01)
    assert not followed.is_set(), "two leaders"
    goes.set()
    assert followed.wait(PATIENCE_S), "nobody followed"
    one.join(PATIENCE_S)
    two.join(PATIENCE_S)


def barrier_holds_until_removed(bench):
    path = bench.root + "/barrier"
    barriers = [client.Barrier(path) for client in bench.clients]
    barriers[0].create()
    for client in bench.clients:
        client.sync(bench.root)
    passed = []
    assert not barriers[1].wait(timeout=0.2), "the barrier did not hold"

    def work(index, _):
        if index == 0:
            time.sleep(0.2)
            assert passed == [], "somebody came through"
            assert barriers[0].remove()
        else:
            assert barriers[index].wait(timeout=PATIENCE_S)
            passed.append(index)

    bench.in_parallel(work)
    assert sorted(passed) == [1, 2, 3], passed
    assert barriers[0].wait(timeout=1), "a barrier that is gone"


def double_barrier_lets_all_in_and_out_together(bench):
    entered, left, wrong = [], [], []
    lock = threading.Lock()

    def work(index, client):
        barrier = client.DoubleBarrier(bench.root + "/double", CLIENTS, f"client-{index}")
        time.sleep(0.05 * index)
        with lock:
            entered.append(index)
        barrier.enter()
        with lock:
            if len(entered) != CLIENTS:
                wrong.append(f"{index} went in with {entered}")
        time.sleep(0.05 * index)
        with lock:
            left.append(index)
        barrier.leave()
        with lock:
            if len(left) != CLIENTS:
                wrong.append(f"{index} went out with {left}")

    bench.in_parallel(work)
    assert not wrong, wrong


def transactions_move_without_losing_anything(bench):
    accounts = [f"{bench.root}/account-{i}" for i in range(3)]
    for path in accounts:
        bench.clients[0].create(path, b"100")

    def work(index, client):
        for turn in range(10):
            giver, taker = accounts[(index + turn) % 3], accounts[(index + turn + 1) % 3]
            while True:
                (giver_has, a), (taker_has, b) = client.get(giver), client.get(taker)
                move = client.transaction()
                move.set_data(giver, str(int(giver_has) - 1).encode(), version=a.version)
                move.set_data(taker, str(int(taker_has) + 1).encode(), version=b.version)
                if not any(isinstance(r, Exception) for r in move.commit()):
                    break

    bench.in_parallel(work)
    last = bench.clients[-1]
    last.sync(bench.root)
    held = [last.get(path) for path in accounts]
    assert sum(int(data) for data, _ in held) == 300, held
    assert sum(stat.version for _, stat in held) == 2 * 10 * CLIENTS, held


def a_failed_transaction_says_where_and_does_nothing(bench):
    client, path = bench.clients[0], bench.root + "/new"
    transaction = client.transaction()
    transaction.create(path)
    transaction.check(bench.root, version=77)
    transaction.delete(path)
    results = [type(r) for r in transaction.commit()]
    assert results == [RolledBackError, BadVersionError, RuntimeInconsistency], results
    assert client.exists(path) is None
    transaction = client.transaction()
    transaction.create(path, b"made", sequence=True)
    transaction.check(bench.root, version=-1)
    made = transaction.commit()[0]
    assert client.get(made)[0] == b"made", made


def acls_keep_others_out(bench):
    owner, other = bench.clients[:2]
    path = bench.root + "/own"
    owner.add_auth("digest", "owner:secret")
    owner.create(path, b"mine", acl=[make_digest_acl("owner", "secret", all=True)])
    other.sync(path)
    for refused in (lambda: other.get(path), lambda: other.set(path, b"x"), lambda: other.create(path + "/k"),
                    lambda: other.get_acls(path), lambda: other.set_acls(path, [make_digest_acl("x", "y", all=True)])):
        try:
            refused()
        except NoAuthError:
            continue
        raise AssertionError("somebody else was let in")
    other.add_auth("digest", "owner:secret")
    assert other.get(path)[0] == b"mine"
    assert other.get_acls(path)[0][0].id.id.startswith("owner:")
    owner.set_acls(path, [make_digest_acl("owner", "secret", all=True), make_digest_acl("guest", "pw", read=True)])
    third = bench.clients[2]
    third.add_auth("digest", "guest:pw")
    third.sync(path)
    assert third.get(path)[0] == b"mine"


TESTS = [
    lock_excludes_everybody_else, lock_of_a_dead_session_is_freed, lock_waiters_are_served_in_order,
    counter_loses_no_increment, queue_gives_each_item_once_and_in_order, queue_respects_priorities,
    locking_queue_gives_each_item_to_one, locking_queue_gives_back_what_was_not_consumed,
    election_has_one_leader_at_a_time, election_passes_on_when_the_leader_goes, barrier_holds_until_removed,
    double_barrier_lets_all_in_and_out_together, transactions_move_without_losing_anything,
    a_failed_transaction_says_where_and_does_nothing, acls_keep_others_out,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="127.0.0.1:2181", help="H:P,.. (default 127.0.0.1:2181)")
    parser.add_argument("--zoolog", help="start this binary's `dev` in a temporary directory, and use that")
    parser.add_argument("--apache", action="store_true", help="start three servers of the Debian package, and use those")
    parser.add_argument("--executors", type=int, default=1, help="of each of its ZooKeeper nodes (default 1)")
    parser.add_argument("--port", type=int, default=23181, help="first port of that (default %(default)s)")
    parser.add_argument("--only", default="", help="run only tests whose name contains this")
    args = parser.parse_args()
    if args.zoolog:
        with tempfile.TemporaryDirectory() as directory:
            topology = Topology(args.zoolog, f"{directory}/data", args.port, args.port + 100,
                                more=["--executors", str(args.executors)])
            topology.start()
            try:
                return run(topology.hosts, args.only)
            finally:
                topology.stop()
    if args.apache:
        with tempfile.TemporaryDirectory() as directory:
            ensemble = Ensemble(pathlib.Path(directory), 3, args.port)
            ensemble.start()
            try:
                return run(ensemble.hosts.split(","), args.only)
            finally:
                ensemble.stop()
    return run(args.hosts.split(","), args.only)


def run(hosts, only):
    """Runs the tests whose name contains `only`; returns the exit code."""
    passed = failed = 0
    for test in (t for t in TESTS if only in t.__name__):
        name, started, bench = test.__name__.replace("_", " "), time.monotonic(), None
        try:
            bench = Bench(hosts)
            test(bench)
            passed += 1
            print(f"ok      {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
        finally:
            if bench:
                try:
                    bench.close()
                except Exception as e:
                    if not isinstance(e, NoNodeError):
                        print(f"        cleaning up after it: {e!r}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
