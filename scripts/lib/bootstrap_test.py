"""Is the plan of the bootstrap measurements sound, and do their tables say what was measured? Run with:
python3 scripts/lib/bootstrap_test.py"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import bootstrap  # noqa: E402


def measured(**values):
    """Numbers as they are kept."""
    return [{"row": row, "side": "zoolog", "round": n, "value": v} for row, all_of in values.items() for n, v in enumerate(all_of, 1)]


class Options(unittest.TestCase):
    def test_short_is_small_and_what_is_said_counts(self):
        usual, short = bootstrap.options([]), bootstrap.options(["--short", "--znodes", "7"])
        self.assertEqual((usual.rounds, usual.znodes, usual.parts), (3, 1_250_000, list(bootstrap.PARTS)))
        self.assertEqual((short.rounds, short.znodes, short.base_port), (1, 7, 12181))
        self.assertEqual(bootstrap.options(["--only", "switch", "--port", "22000"]).parts, ["switch"])

    def test_what_makes_no_sense_is_refused(self):
        for wrong in (["--only", "x"], ["--rounds", "0"], ["--size", "x"], ["--duration", "1s"]):
            with self.assertRaises(SystemExit):
                bootstrap.options(wrong)

    def test_the_plan_grows_with_the_znodes(self):
        small, large = (bootstrap.plan(bootstrap.options(["--znodes", str(n)])) for n in (10_000, 1_000_000))
        self.assertTrue(all(small[0][part] <= large[0][part] for part in large[0]) and small[1] < large[1])
        self.assertEqual(set(large[0]), {"filling", *bootstrap.PARTS})
        self.assertEqual(bootstrap.plan(bootstrap.options(["--only", "switch"]))[0]["filling"], 0)
        self.assertEqual([bootstrap.mean_bytes(s) for s in ("500", "uniform:200-1000", "lognormal:300:2")], [500, 600, 300])

    def test_how_can_be_said_of_all_options(self):
        self.assertIn("1,250,000 znodes", bootstrap.HOW.format(**vars(bootstrap.options([]))))


class Table(unittest.TestCase):
    def test_medians_are_held_against_what_is_wanted(self):
        lines, reached = bootstrap.table(measured(restart=[1, 2, 9], rate=[100, 199.9, 500], pause=[40, 50]))
        self.assertEqual(reached, {"restart": True, "rate": False})
        self.assertIn("| 2.00 s | 1.00, 2.00, 9.00 | <= 3 s: reached |", lines[2])
        self.assertIn("NOT reached", lines[3])
        self.assertTrue(lines[4].endswith("| 45.00 ms | 40.00, 50.00 |  |"), lines[4])
        self.assertEqual(len(lines), 5)

    def test_a_bound_itself_is_reached(self):
        self.assertEqual([bootstrap.outcome("restart", [3]), bootstrap.outcome("rate", [200]), bootstrap.outcome("rate", []),
                          bootstrap.outcome("pause", [1])], [True, True, None, None])


if __name__ == "__main__":
    unittest.main()
