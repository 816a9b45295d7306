"""What did the drill's clients do, and is it all there? Writers that remember what was acknowledged and what
is unknown, and the checks of what is found afterwards."""

import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, ConnectionLoss, KazooException, NodeExistsError, OperationTimeoutError
from kazoo.exceptions import SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

ROOT = "/drill"
# Outcomes that the client never learns.
UNKNOWN = (ConnectionLoss, SessionExpiredError, OperationTimeoutError, KazooTimeoutError)


def client_for(hosts, first=0):
    """A client that starts at one of the hosts and never gives up reconnecting."""
    turned = hosts[first % len(hosts):] + hosts[:first % len(hosts)]
    patient = KazooRetry(max_tries=-1, delay=0.05, backoff=2, max_delay=0.5)
    return KazooClient(hosts=",".join(turned), timeout=10, randomize_hosts=False, connection_retry=patient)


class Writer(threading.Thread):
    """One client that writes without pause until it is told to stop. It never repeats a write whose outcome
    it does not know."""

    def __init__(self, index, hosts):
        super().__init__(daemon=True, name=f"writer-{index}")
        self.index, self.home = index, f"{ROOT}/w{index}"
        self.client = client_for(hosts, index)
        self.stopping = threading.Event()
        self.acknowledged = 0
        self.unknown = 0
        self.wrong = []
        self.nodes = []            # names of acknowledged creates, in order
        self.maybe_nodes = set()
        self.sequential = {}       # number -> path, acknowledged
        self.maybe_sequential = set()
        self.version = 0           # of the node `v`, as far as known
        self.value = "0"
        self.maybe_value = None    # of a set whose outcome is unknown
        self.last_ack_s = 0.0

    def open(self):
        """Makes the writer's own nodes, before any fault."""
        self.client.start(timeout=60)
        self.client.ensure_path(self.home)
        self.client.ensure_path(ROOT + "/seq")
        self.client.create(self.home + "/v", b"0")

    def run(self):
        n = 0
        while not self.stopping.is_set():
            n += 1
            try:
                [self.create, self.create_sequential, self.set][n % 3](n)
            except KazooException as e:
                self.wrong.append(f"write {n}: unexpected {e!r}")
                time.sleep(0.1)

    def acked(self):
        self.acknowledged += 1
        self.last_ack_s = time.monotonic()

    def lost(self):
        self.unknown += 1
        time.sleep(0.02)

    def create(self, n):
        name = f"n{n:08}"
        try:
            self.client.create_async(f"{self.home}/{name}", f"{self.index}:{n}".encode()).get(timeout=60)
            self.nodes.append(name)
            self.acked()
        except NodeExistsError:
            self.wrong.append(f"{name}: exists before it was made: something was written twice")
        except UNKNOWN:
            self.maybe_nodes.add(name)
            self.lost()

    def create_sequential(self, n):
        path = f"{ROOT}/seq/w{self.index}-{n:08}-"
        try:
            made = self.client.create_async(path, f"{self.index}:{n}".encode(), sequence=True).get(timeout=60)
            self.sequential[n] = made
            self.acked()
        except UNKNOWN:
            self.maybe_sequential.add(n)
            self.lost()

    def set(self, n):
        path = self.home + "/v"
        if self.maybe_value is not None and not self.resolve(path):
            return
        try:
            stat = self.client.set_async(path, str(n).encode(), version=self.version).get(timeout=60)
            if stat.version != self.version + 1:
                self.wrong.append(f"{path}: version {self.version} became {stat.version} by one set")
            self.version, self.value = stat.version, str(n)
            self.acked()
        except BadVersionError:
            self.wrong.append(f"{path}: is not at version {self.version}, though nobody else sets it")
            self.maybe_value = str(n)
        except UNKNOWN:
            self.maybe_value = str(n)
            self.lost()

    def resolve(self, path):
        """Finds out whether a set took effect. False while that can't be found out."""
        try:
            self.client.sync_async(path).get(timeout=60)
            data, stat = self.client.get_async(path).get(timeout=60)
        except UNKNOWN:
            time.sleep(0.05)
            return False
        self.judge(path, data.decode(), stat.version)
        return True

    def judge(self, path, value, version):
        """Holds what is there against what may be there."""
        took_effect = self.maybe_value is not None and (value, version) == (self.maybe_value, self.version + 1)
        if not took_effect and (value, version) != (self.value, self.version):
            self.wrong.append(f"{path}: holds {value!r} at version {version}, acknowledged was "
                              f"{self.value!r} at {self.version}, unknown {self.maybe_value!r}")
        self.value, self.version, self.maybe_value = value, version, None

    def close(self):
        """Stops writing and ends the session; False if it hangs."""
        self.stopping.set()
        self.join(90)
        self.client.stop()
        self.client.close()
        return not self.is_alive()


def everything(client, path):
    """The subtree: path -> (data, stat), read with many requests in flight."""
    found, wave = {}, [path]
    while wave:
        gets = [(p, client.get_async(p), client.get_children_async(p)) for p in wave]
        wave = []
        for p, get, children in gets:
            found[p] = get.get(timeout=60)
            wave += [f"{p}/{name}" for name in children.get(timeout=60)]
    return found


def missing_and_doubled(writers, tree):
    """What is wrong with the tree: acknowledged writes that are not there, and any that are there twice, out
    of order, changed, or were never made. One line each."""
    wrong = []
    sequence = {}
    for path in tree:
        if path.startswith(ROOT + "/seq/"):
            writer, number, suffix = path[len(ROOT + "/seq/"):].split("-")
            sequence.setdefault((int(writer[1:]), int(number)), []).append(path)
            if len(suffix) != 10:
                wrong.append(f"{path}: odd suffix")
    suffixes = [path[-10:] for paths in sequence.values() for path in paths]
    if len(suffixes) != len(set(suffixes)):
        wrong.append(f"{len(suffixes) - len(set(suffixes))} sequence numbers were given twice")
    for w in writers:
        wrong += of_writer(w, tree, sequence)
    known = {w.index for w in writers}
    wrong += [f"{paths}: of no writer" for (i, _), paths in sequence.items() if i not in known]
    return wrong


def of_writer(w, tree, sequence):
    """The part of `missing_and_doubled` that is about one writer."""
    wrong = []
    for name in w.nodes:
        path, want = f"{w.home}/{name}", f"{w.index}:{int(name[1:])}".encode()
        if path not in tree:
            wrong.append(f"{path}: acknowledged, but missing")
        elif tree[path][0] != want or tree[path][1].version != 0:
            wrong.append(f"{path}: holds {tree[path][0]!r} at version {tree[path][1].version}")
    there = {p.rsplit("/", 1)[1] for p in tree if p.startswith(w.home + "/n")}
    for name in there - set(w.nodes) - w.maybe_nodes:
        wrong.append(f"{w.home}/{name}: there, but never asked for")
    zxids = [tree[f"{w.home}/{name}"][1].czxid for name in w.nodes if f"{w.home}/{name}" in tree]
    if any(a >= b for a, b in zip(zxids, zxids[1:])):
        wrong.append(f"writer {w.index}: its creates are out of order")
    for n, path in w.sequential.items():
        if sequence.get((w.index, n)) != [path]:
            wrong.append(f"{path}: acknowledged, but found {sequence.get((w.index, n))}")
    for (i, n), paths in sequence.items():
        if i == w.index and (len(paths) > 1 or (n not in w.sequential and n not in w.maybe_sequential)):
            wrong.append(f"{paths}: written twice, or never asked for")
    path = w.home + "/v"
    if path in tree:
        w.judge(path, tree[path][0].decode(), tree[path][1].version)
    else:
        wrong.append(f"{path}: missing")
    return wrong
