"""Which settings are best on this machine? Sweeps one setting after the other around the best so far, the candidates
of each interleaved round by round, and writes a results folder with the table and the settings that won. Called by
scripts/tune.sh."""

import argparse
import math
import os
import pathlib
import shlex
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import tuning  # noqa: E402
from lib.bench import Failed, Up, begin, seconds  # noqa: E402
from lib.ratios import cell, spread  # noqa: E402

QUESTION = "Which settings are best on this machine?"
# Settings (as for `zoolog dev --set`) and what is tried. Those that this build does not know are left out, loudly.
CANDIDATES = {
    "spin_us": ["0", "5", "20", "50", "200"],
    "order.cut_interval_us": ["0", "200", "500", "1000", "2000"],
    "shard.slots": ["1", "2", "4"],
    # More executors than cores only wait for each other; two tell whether a second core is worth a queue.
    "zk.executors": [str(n) for n in (1, 2, 3, 5, 8) if n <= max(2, os.cpu_count() or 1)],
}
# Metric and loadgen's flags: what must get better somewhere and worse nowhere.
LOADS = ["p50=--op set --sessions 1 --depth 1", "per_second=--op set --sessions 48 --depth 32"]
METRICS = ("per_second", "p50", "p90", "p99", "p99_9")
HOW = """Settings were swept one after the other, in the order of the tables, each around the best so far:
{rounds} rounds with every candidate once, the order turned by one each round, each start with empty directories,
{duration} measured behind {warmup} of warm-up per load. Loads (`loadgen zk`): {loads}.

A candidate wins if it is better than the best so far in a load and worse in none. It is better (or worse) if the
numbers of the two do not overlap, or if it is ahead in every round by more than either is spread, and by at least
2 %. Anything else is within the noise and changes nothing.
"""


def options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/tune.sh", description=QUESTION)
    add = parser.add_argument
    add("--only", metavar="KEY,..", help=f"only these settings (default: {', '.join(CANDIDATES)})")
    add("--try", dest="tries", metavar="KEY=V,V,..", action="append", default=[],
        help="values to try for a setting, also one that is not among the defaults; may be given several times")
    add("--start", metavar="KEY=VALUE", action="append", default=[], help="a setting to start from; may be repeated")
    add("--load", metavar="METRIC=FLAGS", action="append",
        help=f"a load: one of {', '.join(METRICS)}, and flags of `loadgen zk`; may be repeated (default: {LOADS})")
    add("--rounds", type=int, help="rounds per setting (default 5); below 2 nothing can be told")
    add("--duration", metavar="TIME", help="measured time of one load (default 5s)")
    add("--warmup", metavar="TIME", help="load before it (default 2s)")
    add("--quick", action="store_true", help="2 short rounds: a trial, not a result")
    add("--out", metavar="DIR", help="the folder to make (default results/DATE-HOST-tune)")
    add("--work", metavar="DIR", help="where the data goes: the disk under test (default: a temporary directory)")
    add("--bin", metavar="DIR", help="where zoolog and loadgen are (default: built here with cargo build --release)")
    add("--base-port", type=int, default=12181, help="ports from 200 above this on are used (default 12181)")
    add("--dirty", action="store_true", help="run though files are changed; the summary says so in large letters")
    args = parser.parse_args()
    for name, usual, quick in (("rounds", 5, 2), ("duration", "5s", "1s"), ("warmup", "2s", "500ms")):
        if getattr(args, name) is None:
            setattr(args, name, quick if args.quick else usual)
    try:
        args.loads = [load_of(text) for text in args.load or LOADS]
        tries = dict(pair(text) for text in args.tries)
        args.base = dict(pair(text) for text in args.start)
        seconds(args.duration), seconds(args.warmup)
    except ValueError as e:
        parser.error(str(e))
    chosen = args.only.split(",") if args.only else [*CANDIDATES, *(k for k in tries if k not in CANDIDATES)]
    args.candidates = {k: tries[k].split(",") if k in tries else CANDIDATES.get(k) for k in chosen}
    unknown = [k for k, values in args.candidates.items() if not values]
    if unknown:
        parser.error(f"say what to try for {unknown[0]}: --try {unknown[0]}=V,V")
    return args


def pair(text):
    """KEY=VALUE."""
    key, found, value = text.partition("=")
    if not found or not key or not value:
        raise ValueError(f"KEY=VALUE, not {text!r}")
    return key, value


def load_of(text):
    """(metric, flags) out of METRIC=FLAGS."""
    metric, flags = pair(text)
    if metric not in METRICS:
        raise ValueError(f"a load begins with one of {', '.join(METRICS)} and `=`, not {text!r}")
    return metric, shlex.split(flags)


def value_of(result, metric):
    """The number that a load is judged by; of several kinds of operations the worst latency."""
    if metric == "per_second":
        return result["per_second"]
    return max(op["latency_us"][metric] for op in result["ops"].values())


class Tuning:
    """One sweep."""

    def __init__(self, bench):
        self.bench, self.settings = bench, bench.settings
        self.best = dict(self.settings.base)
        self.sections, self.changes, self.data = [], [], []

    def flags(self, config):
        """Those of `zoolog dev`."""
        return [word for key, value in config.items() for word in ("--set", f"{key}={value}")]

    def knows(self, key, value):
        """Whether this build takes a setting; says so if not."""
        try:
            with Up(self.bench, "zoolog", label="trial", zk=1, more=self.flags({**self.best, key: value})):
                return True
        except Failed as e:
            if "--set" in str(e):
                self.bench.note(f"{key}={value} was LEFT OUT: {e}.")
                self.bench.say(f"LEFT OUT {key}={value}: {e}")
            else:
                self.bench.fail(f"{key}={value}", str(e))
            return False

    def measure(self, configs, what):
        """{name: [[number per round] per load]}; the candidates take turns, and whoever is first changes."""
        names = list(configs)
        numbers = {name: [[] for _ in self.settings.loads] for name in names}
        for number in range(self.settings.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                try:
                    values = self.run_once(configs[name], f"{what}-{name}-{number + 1}")
                except Failed as e:
                    self.bench.fail(f"{what}={name}", f"round {number + 1}: {e}")
                    values = [math.nan] * len(self.settings.loads)
                for into, value in zip(numbers[name], values):
                    into.append(value)
                self.bench.say(f"  {what} {name:14} round {number + 1}: " + "  ".join(f"{v:12,.1f}" for v in values))
        self.data.append({"setting": what, "numbers": numbers})
        return numbers

    def run_once(self, config, name):
        """All loads against a fresh topology."""
        name = name.replace("/", "-").replace(" ", "")
        with Up(self.bench, "zoolog", label=name.rsplit("-", 1)[0], more=self.flags(config)) as system:
            values = []
            for i, (metric, flags) in enumerate(self.settings.loads):
                words = ["--servers", system.ready["zk"], *flags, "--prefix", f"/load{i}", *self.bench.times()]
                values.append(value_of(self.bench.loadgen("zk", words, f"{name}-load{i}"), metric))
            return values

    def sweep(self, key, values):
        """Tries the values of one setting; keeps the winner."""
        values = [v for v in dict.fromkeys(values) if v != self.best.get(key)]
        values = [v for v in values if self.knows(key, v)]
        if not values:
            return
        self.bench.say(f"{key}: {', '.join(values)} against the best so far")
        configs = {"best so far": dict(self.best), **{v: {**self.best, key: v} for v in values}}
        numbers = self.measure(configs, key)
        said = {v: self.judge(numbers["best so far"], numbers[v]) for v in values}
        winners = [v for v in values if tuning.wins(said[v])]
        self.sections.append(f"## {key}\n\n" + self.table(numbers, said))
        if winners:
            won = max(winners, key=lambda v: math.prod(s.gain for s in said[v]))
            gains = ", ".join(f"{self.name(i)} {s.gain:.2f} x ({s.verdict})" for i, s in enumerate(said[won]))
            self.best[key] = won
            self.changes.append(f"`{key} = {won}`: {gains}")
        else:
            noise = all(s.verdict == "within the noise" for all_ in said.values() for s in all_)
            self.changes.append(f"`{key}` stays at {self.best.get(key, 'its default')}: "
                                + ("all differences are within the noise" if noise else "nothing is better without being worse"))
        self.bench.say(self.changes[-1])

    def judge(self, base, other):
        """One verdict per load; rounds that failed on either side do not count."""
        said = []
        for (metric, _), b, o in zip(self.settings.loads, base, other):
            both = [(x, y) for x, y in zip(b, o) if math.isfinite(x) and math.isfinite(y)]
            said.append(tuning.compare([x for x, _ in both], [y for _, y in both], metric == "per_second"))
        return said

    def name(self, i):
        """A load in words."""
        metric, flags = self.settings.loads[i]
        return f"{metric} of `{shlex.join(flags)}`"

    def table(self, numbers, said):
        """Medians with their ranges, and verdicts."""
        heads = [self.name(i) for i in range(len(self.settings.loads))]
        lines = ["| value | " + " | ".join(f"{h} | |" for h in heads)[:-1] + "|", "|---|" + "--:|---|" * len(heads)]
        for name, values in numbers.items():
            cells = []
            for i, of_load in enumerate(values):
                verdict = f"{said[name][i].gain:.2f} x, {said[name][i].verdict}" if name in said else ""
                cells.append(f"{cell(spread(of_load))} | {verdict}")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def confirm(self):
        """What won, against what it began with, in rounds of their own."""
        if not self.sections:
            self.conclusion = "**Nothing was measured.**"
            return
        if self.best == self.settings.base:
            self.conclusion = "**Nothing is better than the settings it began with, by more than the noise.**"
            return
        numbers = self.measure({"begun with": dict(self.settings.base), "won": dict(self.best)}, "confirm")
        said = {"won": self.judge(numbers["begun with"], numbers["won"])}
        verdicts = [s.verdict for s in said["won"]]
        sure = "confirmed" if tuning.wins(said["won"]) else "NOT CONFIRMED when run again"
        self.sections.append("## What won, against what it began with\n\n" + self.table(numbers, said))
        gains = ", ".join(f"{self.name(i)}: {s.gain:.2f} x ({s.verdict})" for i, s in enumerate(said["won"]))
        self.conclusion = f"**Won ({sure}):** {gains}"
        self.bench.say(f"{sure}: {', '.join(verdicts)}")

    def write(self):
        """The folder's texts."""
        s, best = self.settings, self.best
        lines = [getattr(self, "conclusion", "**Not finished.**"), ""]
        if best:
            lines += ["    zoolog dev " + shlex.join(self.flags(best)), "",
                      "In the nodes' files (`KIND.KEY` is KEY in the files of that kind, `KEY` in all that know it):",
                      "", *(f"    {key} = {value}" for key, value in best.items()), ""]
        lines += [f"- {change}" for change in self.changes] + ["", *self.sections]
        for title, all_ in (("Notes", self.bench.notes),
                            ("Failed", [f"{w}: {t}" for w, texts in self.bench.failures.items() for t in texts])):
            if all_:
                lines += ["", f"## {title}", "", *(f"- {line}" for line in all_)]
        if s.quick:
            lines.insert(0, "**A quick trial: too short to be relied on.**\n")
        text = "\n".join(lines)
        how = HOW.format(rounds=s.rounds, duration=s.duration, warmup=s.warmup,
                         loads="; ".join(self.name(i) for i in range(len(s.loads))))
        self.bench.folder.write(text, {"settings": vars(s), "best": best, "data": self.data,
                                       "failures": self.bench.failures, "notes": self.bench.notes}, how)
        return text


def main():
    args = options()
    bench = begin("tune", QUESTION, args)
    tune = Tuning(bench)
    cores = os.cpu_count() or 1
    if cores < 4:
        bench.note(f"Only {cores} cores: servers and load take time from each other, so spinning shows worse than it is.")
    try:
        for key, values in args.candidates.items():
            tune.sweep(key, values)
            tune.write()
        tune.confirm()
    except KeyboardInterrupt:
        bench.fail("the sweep", "interrupted")
    finally:
        print("\n" + tune.write() + f"\n\nkept in {bench.folder.path}")
        bench.close()
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
