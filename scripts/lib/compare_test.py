"""Do the comparison's sums and texts say what was measured? Run with: python3 scripts/lib/compare_test.py"""

import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import peers, ratios, tuning, works  # noqa: E402
from lib.bench import seconds  # noqa: E402
from lib.folder import Folder  # noqa: E402
from lib.ratios import Row  # noqa: E402
from lib.works import reading  # noqa: E402

MORE = Row("set", "set", "set", "/s", "apache", ">=", 10)
LESS = Row("p99", "set", "p99", "us", "apache", "<=", 0.5)
ALONE = Row("bytes", "znodes", "memory", "B", "", "<=", 250, absolute=True)


def numbers(row, ours, theirs=()):
    """Measured numbers of rounds 1, 2, ...; None leaves a round out."""
    both = [(ratios.ZOOLOG, ours), (row.peer, theirs)]
    return [{"row": row.key, "side": side, "round": i + 1, "value": v}
            for side, values in both for i, v in enumerate(values) if v is not None]


class Ratios(unittest.TestCase):
    def judge(self, row, ours, theirs=(), rounds=None):
        return ratios.judge(row, numbers(row, ours, theirs), rounds or max(len(ours), len(theirs)))

    def test_a_ratio_is_of_one_round_and_its_spread_is_shown(self):
        j = self.judge(MORE, [100, 220, 360], [10, 20, 30])
        self.assertEqual(j["ratio"], (11, 10, 12))
        self.assertEqual(j["verdict"], "yes")
        self.assertIn("11.0 (10.0 to 12.0)", ratios.table([j], {}))

    def test_rounds_that_miss_a_side_give_no_ratio_and_are_told(self):
        j = self.judge(MORE, [100, None, 300], [10, 20, None])
        self.assertEqual(j["ratio"], (10, 10, 10))
        self.assertFalse(j["complete"])
        self.assertIn("some rounds are missing", ratios.table([j], {}))

    def test_a_verdict_is_that_of_all_rounds(self):
        for ours, verdict in [([10, 12, 15], "yes"), ([9, 12, 15], "yes at the median, not in all rounds"),
                              ([5, 6, 15], "no at the median, in some rounds"), ([5, 6, 7], "no")]:
            self.assertEqual(self.judge(MORE, ours, [1, 1, 1])["verdict"], verdict, ours)
        self.assertEqual(self.judge(LESS, [4, 5], [10, 10])["verdict"], "yes")
        self.assertEqual(self.judge(LESS, [6, 7], [10, 10])["verdict"], "no")

    def test_a_target_without_a_peer_is_for_the_number(self):
        self.assertEqual(self.judge(ALONE, [249, 250])["verdict"], "yes")
        self.assertEqual(self.judge(ALONE, [251])["verdict"], "no")
        self.assertIn("at most 250 B", ratios.table([self.judge(ALONE, [100])], {}))

    def test_what_was_not_measured_is_no_success(self):
        j = self.judge(MORE, [], [1, 2])
        self.assertEqual(j["verdict"], "not measured")
        self.assertIn("FAILED", ratios.table([j], {"set": ["it died"]}))
        j = self.judge(MORE, [100], [1])
        self.assertIn("SOME RUNS FAILED", ratios.table([j], {"set": ["round 2 died"]}))

    def test_nothing_breaks_on_zero_or_nonsense(self):
        self.assertEqual(self.judge(MORE, [5], [0])["verdict"], "not measured")
        self.assertIsNone(ratios.spread([float("nan"), None]))


class Works(unittest.TestCase):
    def test_every_row_has_one_key_and_its_peer_a_name(self):
        rows = [row for group in works.GROUPS for row in group.ROWS]
        self.assertEqual(len(rows), len({row.key for row in rows}))
        for row in rows:
            self.assertTrue(not row.peer or row.peer in ratios.NAMES, row)
            self.assertTrue(row.peer or row.absolute or not row.op, row)

    def test_every_work_says_what_it_needs_of_known_programs(self):
        for work in works.all_works():
            self.assertTrue(any(work in group.NEEDS for group in works.GROUPS), work)
        self.assertLessEqual(set(works.needs(works.all_works())), set(peers.NEEDS))

    def test_the_rate_of_a_follower_ends_where_it_had_caught_up(self):
        told = "caught up with the log after 1.50 s and 3000 records, 2000 per second; then waited"
        self.assertEqual(reading.caught_up_rate({"per_second": 300.0, "warnings": [told]}), 2000.0)
        self.assertEqual(reading.caught_up_rate({"per_second": 300.0, "warnings": ["else"]}), 300.0)


class Outputs(unittest.TestCase):
    def test_the_peers_outputs_are_read(self):
        text = '"test","rps","p50_latency_ms"\n"XADD s * f x","111358.58","3.7"\n'
        self.assertEqual(peers.redis_rate(text), 111358.58)
        self.assertRaises(ValueError, peers.redis_rate, "ERR unknown command")
        fio = "fio: note\n" + json.dumps({"jobs": [{"write": {"bw_bytes": 5}, "read": {"bw_bytes": 7}}]})
        self.assertEqual((peers.fio_bytes_per_second(fio, "write"), peers.fio_bytes_per_second(fio, "read")), (5, 7))

    def test_times_have_units(self):
        self.assertEqual([seconds(t) for t in ("10s", "500ms", "2m", "3")], [10, 0.5, 120, 3])
        self.assertRaises(ValueError, seconds, "soon")


class Folders(unittest.TestCase):
    def test_a_folder_is_made_once_says_what_is_dirty_and_keeps_no_secret(self):
        with tempfile.TemporaryDirectory() as home:
            home = pathlib.Path(home)
            folder = Folder(home / "a", "Why?", dirty=True)
            (home / "cluster.toml").write_text('id = "1"\nsecret = "abc"\n')
            folder.config("cluster.toml", home / "cluster.toml")
            folder.command(["a", "b c"], "why")
            folder.write("| table |", {"n": 1}, "how")
            self.assertNotIn("abc", (home / "a/configs/cluster.toml").read_text())
            self.assertEqual((home / "a/commands.txt").read_text(), "a 'b c'   # why\n")
            self.assertIn("NOT A CLEAN TREE", (home / "a/summary.md").read_text())
            self.assertTrue(json.loads((home / "a/summary.json").read_text())["dirty"])
            self.assertRaises(SystemExit, Folder, home / "a", "Why?", dirty=False)


class Tuning(unittest.TestCase):
    def test_a_difference_within_the_noise_wins_nothing(self):
        base, other = [100, 110, 105], [104, 111, 103]
        self.assertEqual(tuning.compare(base, other, more_is_better=True).verdict, "within the noise")

    def test_what_is_better_in_every_round_wins(self):
        said = tuning.compare([100, 110, 105], [130, 140, 135], more_is_better=True)
        self.assertEqual(said.verdict, "better")
        self.assertAlmostEqual(said.gain, 135 / 105, places=2)
        self.assertEqual(tuning.compare([100, 110, 105], [130, 140, 135], more_is_better=False).verdict, "worse")

    def test_one_round_alone_decides_nothing(self):
        self.assertEqual(tuning.compare([100], [300], more_is_better=True).verdict, "too few rounds")

    def test_a_candidate_must_be_no_worse_anywhere_and_better_somewhere(self):
        better, worse, same = (tuning.Said(v, 1.1) for v in ("better", "worse", "within the noise"))
        self.assertTrue(tuning.wins([better, same]))
        self.assertFalse(tuning.wins([better, worse]))
        self.assertFalse(tuning.wins([same, same]))


if __name__ == "__main__":
    unittest.main()
