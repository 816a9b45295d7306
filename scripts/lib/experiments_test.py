"""Is the plan of the experiments sound, and do its tables and drawings show what was measured? Run with:
python3 scripts/lib/experiments_test.py"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import experiments  # noqa: E402
from lib.trials import setups, shown  # noqa: E402

BOTH = [list(setups.parts(short)) for short in (True, False)]


def measured_all(part, rounds=2):
    """A number for everything that a part may measure."""
    return [{"row": shown.row(part.key, load, metric), "side": setup.name, "round": n, "value": 100.0 * n}
            for setup in part.setups for load, metric, _ in shown.columns(part) for n in range(1, rounds + 1)]


class Plan(unittest.TestCase):
    def test_names_are_unique_and_loads_are_known(self):
        for parts in BOTH:
            self.assertEqual(len({p.key for p in parts}), len(parts))
            for part in parts:
                names = [s.name for s in part.setups]
                self.assertEqual(len(set(names)), len(names), part.key)
                slugs = {experiments.slug(n) for n in names}
                self.assertEqual(len(slugs), len(names), "files would overwrite each other")
                for setup in part.setups:
                    self.assertTrue(setups.loads_of(part, setup))
                    self.assertLessEqual({load.key for load in setups.loads_of(part, setup)}, set(part.loads))

    def test_all_that_the_issue_asks_for_is_in_it(self):
        whole = {p.key: p for p in BOTH[1]}
        said = " ".join(word for s in whole["policies"].setups for word in s.flags)
        for fetch in setups.FETCHES:
            self.assertIn(fetch, said)
        self.assertEqual({s.x for s in whole["nodes"].setups if s.system == "zoolog"}, {1, 3, 5})
        self.assertEqual({s.x for s in whole["nodes"].setups if s.system == "apache"}, {1, 3, 5})
        self.assertIn("mixed-10", whole["mix"].loads)
        half_second = [s for s in whole["intervals"].setups if "order.cut_interval_us=500000" in s.flags]
        self.assertEqual(len(half_second), 1 + len(setups.FETCHES))
        for setup in half_second:
            self.assertIn("shard.report_interval_us=500000", setup.flags)

    def test_who_waits_long_is_measured_long(self):
        part = next(p for p in BOTH[1] if p.key == "defer")
        times = {s.x: (setups.duration_s(s, 1.0), setups.warmup_s(s, 0.1)) for s in part.setups}
        self.assertEqual((times[1], times[500]), ((1.0, 0.1), (3.0, 0.5)))


class Numbers(unittest.TestCase):
    def test_a_p99_needs_answers(self):
        load = setups.LOADS["mixed-50-1x1"]

        def result(count):
            return {"per_second": 9.0, "ops": {"get": {"latency_us": {"count": count, "p50": 1.0, "p99": 2.0}}}}
        self.assertEqual(experiments.value_of(result(99), load, "get p50"), 1.0)
        self.assertIsNone(experiments.value_of(result(99), load, "get p99"))
        self.assertEqual(experiments.value_of(result(100), load, "get p99"), 2.0)
        self.assertIsNone(experiments.value_of(result(100), load, "set p50"), "none was answered")
        self.assertEqual(experiments.value_of(result(1), setups.LOADS["create"], "per second"), 9.0)

    def test_ports_that_outgoing_connections_get_are_told(self):
        self.assertFalse(experiments.ports_may_be_taken(70_000))
        low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        self.assertTrue(experiments.ports_may_be_taken(low))

    def test_bytes_are_those_of_the_records_in_between(self):
        self.assertEqual(experiments.per_record([(100, 10), (0, 10)], [(400, 110), (100, 110)]), 2.0)
        self.assertEqual(experiments.per_record([(5, 10)], [(5, 10)]), 0)


class Shown(unittest.TestCase):
    def test_every_part_has_a_line_for_each_setup_and_panels_with_all_of_them(self):
        for part in BOTH[1]:
            measured = measured_all(part)
            lines = shown.table(part, measured, {}).splitlines()
            self.assertEqual(len(lines), 2 + len(part.setups))
            self.assertEqual({line.count("|") for line in lines}, {lines[0].count("|")})
            self.assertIn("150 (100 to 200)", lines[2])
            drawing = shown.drawing(part, measured)
            self.assertLessEqual(1, len(drawing["panels"]))
            for panel in drawing["panels"]:
                drawn = {s["name"] for s in panel["series"]}
                self.assertEqual(drawn, {s.series for s in part.setups}, part.key)
                for point in (p for s in panel["series"] for p in s["points"]):
                    self.assertEqual((point["y"], point["low"], point["high"]), (150, 100, 200))
                    self.assertLess(point["x"], len(panel["x"]["names"]) if "names" in panel["x"] else 1000)

    def test_what_was_not_measured_is_not_drawn_and_what_failed_is_told(self):
        part = BOTH[0][0]
        self.assertIsNone(shown.drawing(part, []))
        broken = {f"{part.key}: {part.setups[0].name}": ["it died"]}
        self.assertIn("FAILED", shown.table(part, [], broken).splitlines()[2])
        only = measured_all(part)[:2]
        self.assertEqual(len(shown.drawing(part, only)["panels"]), 1)


if __name__ == "__main__":
    unittest.main()
