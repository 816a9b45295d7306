"""Does the drill notice what it must notice? Run with: python3 scripts/lib/history_test.py"""

import collections
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.deps import ensure_kazoo  # noqa: E402

ensure_kazoo()

from lib.history import ROOT, Writer, missing_and_doubled  # noqa: E402

Stat = collections.namedtuple("Stat", "version czxid")


def scene():
    """A writer that was acknowledged two creates, a sequential one and a set, and the tree that shows them."""
    w = Writer(0, ["127.0.0.1:1"])
    w.nodes, w.sequential, w.version, w.value = ["n00000001", "n00000004"], {2: ROOT + "/seq/w0-00000002-0000000007"}, 1, "3"
    tree = {
        ROOT: (b"", Stat(0, 1)), ROOT + "/seq": (b"", Stat(0, 2)), w.home: (b"", Stat(0, 3)),
        w.home + "/n00000001": (b"0:1", Stat(0, 10)), w.home + "/n00000004": (b"0:4", Stat(0, 13)),
        w.sequential[2]: (b"0:2", Stat(0, 11)), w.home + "/v": (b"3", Stat(1, 4)),
    }
    return w, tree


class History(unittest.TestCase):
    def found(self, w, tree):
        return missing_and_doubled([w], tree) + w.wrong

    def test_what_was_acknowledged_passes(self):
        self.assertEqual(self.found(*scene()), [])

    def test_unknown_writes_may_be_there_or_not(self):
        w, tree = scene()
        w.maybe_nodes, w.maybe_sequential, w.maybe_value = {"n00000007", "n00000010"}, {5, 8}, "6"
        self.assertEqual(self.found(w, tree), [])
        w.maybe_value = "6"
        tree[w.home + "/n00000007"] = (b"0:7", Stat(0, 20))
        tree[ROOT + "/seq/w0-00000005-0000000008"] = (b"0:5", Stat(0, 21))
        tree[w.home + "/v"] = (b"6", Stat(2, 4))
        self.assertEqual(self.found(w, tree), [])

    def test_every_kind_of_loss_and_doubling_is_noticed(self):
        def lost_node(w, tree): del tree[w.home + "/n00000004"]
        def changed_node(w, tree): tree[w.home + "/n00000004"] = (b"0:9", Stat(0, 13))
        def rewritten_node(w, tree): tree[w.home + "/n00000004"] = (b"0:4", Stat(1, 13))
        def invented_node(w, tree): tree[w.home + "/n00000099"] = (b"0:99", Stat(0, 30))
        def disordered(w, tree): tree[w.home + "/n00000004"] = (b"0:4", Stat(0, 9))
        def lost_sequential(w, tree): del tree[w.sequential[2]]
        def doubled_sequential(w, tree): tree[ROOT + "/seq/w0-00000002-0000000009"] = (b"0:2", Stat(0, 40))
        def one_suffix_twice(w, tree):
            w.maybe_sequential = {5}
            tree[ROOT + "/seq/w0-00000005-0000000007"] = (b"0:5", Stat(0, 40))
        def lost_set(w, tree): tree[w.home + "/v"] = (b"0", Stat(0, 4))
        def doubled_set(w, tree): tree[w.home + "/v"] = (b"3", Stat(2, 4))
        def twice_unknown_set(w, tree):
            w.maybe_value = "6"
            tree[w.home + "/v"] = (b"6", Stat(3, 4))
        for spoil in [lost_node, changed_node, rewritten_node, invented_node, disordered, lost_sequential,
                      doubled_sequential, one_suffix_twice, lost_set, doubled_set, twice_unknown_set]:
            w, tree = scene()
            spoil(w, tree)
            self.assertNotEqual(self.found(w, tree), [], spoil.__name__)


if __name__ == "__main__":
    unittest.main()
