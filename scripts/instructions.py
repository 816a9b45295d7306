#!/usr/bin/env python3
"""What does one operation cost, and has it become worse? Runs the scenarios of `zoolog-count`, which counts
allocations, turns of machines and writes of logs itself, has callgrind count the instructions, and compares with
sim/instructions.toml. All are exact: the same build gives the same figures, however busy the machine is. The exit code
is 1 if an operation needs more than 3 % more instructions than its baseline, or any more of the others.

    scripts/instructions.py                         compares (the same as --check)
    scripts/instructions.py --update                writes the baseline anew: for changes that are worth their price
    scripts/instructions.py --only zk/ state/       only the operations whose names start so
    scripts/instructions.py --profile zk/get        where the instructions of one operation go
    scripts/instructions.py --profile zk/get --lines=zk/src/node/mod.rs    the same, line by line of one file

`zoolog-count list` says what each operation is, `zoolog-count run NAME --tell` which turns and writes it consists of.
Needs valgrind; without it the instructions are not compared, and that is said.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = ROOT / "sim" / "instructions.toml"
# The function whose insides are counted, in sim/src/bin/zoolog-count/meter.rs.
COUNTED = "*counted_part*"
# The C library copies and zeroes longer stretches with one instruction that callgrind counts once per byte, from a
# length on that depends on the processor: never, here.
ENVIRONMENT = os.environ | {
    "GLIBC_TUNABLES": ":".join(
        f"glibc.cpu.{name}_threshold=1000000000" for name in ("x86_rep_stosb", "x86_rep_movsb", "x86_non_temporal")
    )
}
MISSING = "!!! valgrind is not installed: INSTRUCTIONS ARE NOT COMPARED, only the rest !!!"
# Share by which instructions may grow before the check fails.
TOLERANCE = 0.03
# What an operation costs, in the order in which `zoolog-count run` prints it behind the instructions.
FIGURES = ("instructions", "allocations", "bytes", "turns", "writes")
# Of which there may never be more.
EXACT = ("allocations", "turns", "writes")
# What rounding in the baseline may hide.
ROUNDING = 0.0006
HEAD = """# Instructions, allocations, bytes allocated, turns of machines and writes of logs, per operation: what
# `scripts/instructions.py` compares with.
# Written by `scripts/instructions.py --update`; `zoolog-count list` says what each operation is.
"""


def output(command, **kwargs):
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def build():
    """Builds the counting program as it is shipped, and says where it is."""
    args = ["cargo", "build", "--release", "--quiet", "-p", "zoolog-sim", "--bin", "zoolog-count"]
    subprocess.run(args, cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "zoolog-count"


def callgrind(profile, program, name):
    """The command that runs a scenario under callgrind."""
    options = ["--collect-atstart=no", f"--toggle-collect={COUNTED}", f"--callgrind-out-file={profile}"]
    return ["valgrind", "--quiet", "--tool=callgrind", *options, program, "run", name]


def measure(program, name, with_valgrind):
    """What one operation of a scenario costs: a figure for each of FIGURES, instructions only with valgrind."""
    with tempfile.NamedTemporaryFile(prefix="zoolog-callgrind-") as found:
        command = callgrind(found.name, program, name) if with_valgrind else [program, "run", name]
        printed = output(command, env=ENVIRONMENT)
        total = re.search(r"^summary: (\d+)$", pathlib.Path(found.name).read_text(), re.MULTILINE)
    _, operations, *counted = printed.split("\t")
    if with_valgrind:
        if not total or int(total[1]) == 0:
            sys.exit(f"{name}: callgrind has counted nothing; is {COUNTED} still the name of the counted function?")
        counted = [total[1], *counted]
    return dict(zip(FIGURES if with_valgrind else FIGURES[1:], (int(c) / int(operations) for c in counted)))


def judge(figures, baseline):
    """Prints one table; gives the operations that are worse, better, and new."""
    worse, better, new = [], [], []
    print(f"{'operation':<20}{'instructions':>13}{'before':>13}{'change':>8}", end="")
    print(f"{'allocations':>13}{'before':>10}{'bytes':>10}{'turns':>8}{'before':>8}{'writes':>8}{'before':>8}")
    for name, now in figures.items():
        known = baseline.get(name, {})
        change = now["instructions"] / known["instructions"] - 1 if known and "instructions" in now else 0.0
        more = [now[f] - known[f] for f in EXACT] if known else [0.0]
        note = ""
        if not known:
            new.append(name)
            note = "  new"
        elif change > TOLERANCE or max(more) > ROUNDING:
            worse.append(name)
            note = "  WORSE"
        elif change < -TOLERANCE or min(more) < -ROUNDING:
            better.append(name)
            note = "  better"
        told = lambda of, figure, digits: f"{of[figure]:,.{digits}f}" if figure in of else ""
        shown = f"{change:+.1%}" if known and "instructions" in now else ""
        print(f"{name:<20}{told(now, 'instructions', 1):>13}{told(known, 'instructions', 1):>13}{shown:>8}", end="")
        print(f"{told(now, 'allocations', 3):>13}{told(known, 'allocations', 3):>10}{told(now, 'bytes', 0):>10}", end="")
        for figure in ("turns", "writes"):
            print(f"{told(now, figure, 3):>8}{told(known, figure, 3):>8}", end="")
        print(note)
    return worse, better, new


def write(figures, rustc):
    """Writes the baseline."""
    lines = [HEAD, f'rustc = "{rustc}"\n\n[operations]\n']
    for name, of in figures.items():
        digits = {"instructions": 1, "bytes": 1}
        told = ", ".join(f"{f} = {of[f]:.{digits.get(f, 3)}f}" for f in FIGURES)
        lines.append(f'"{name}" = {{ {told} }}\n')
    BASELINE.write_text("".join(lines))


def by_function(annotated):
    """(instructions, function), most first, of callgrind_annotate's lines, which are per function and source file."""
    sums = {}
    for line in annotated.splitlines():
        # Instructions, share, then file:function [object]; a Rust function's name holds colons, a file's doesn't.
        found = re.match(r" *([\d,]+) \([^)]*\) +[^:]*:(.*?)( \[[^\]]*\])?$", line)
        if found:
            sums[found[2]] = sums.get(found[2], 0) + int(found[1].replace(",", ""))
    return sorted(((n, f) for f, n in sums.items()), reverse=True)


def profile(program, name, lines):
    """Prints where the instructions of an operation go: each function, with what was inlined into it."""
    with tempfile.NamedTemporaryFile(prefix="zoolog-callgrind-") as found:
        operations = int(output(callgrind(found.name, program, name), env=ENVIRONMENT).split("\t")[1])
        annotate = ["callgrind_annotate", "--show-percs=yes"]
        if lines:
            print(output([*annotate, f"--include={ROOT}", found.name, *lines.split(",")]))
            return
        functions = by_function(output([*annotate, "--threshold=100", "--auto=no", found.name]))
    total = sum(n for n, _ in functions)
    print(f"{name}: {total / operations:,.1f} instructions per operation; each function without what it calls")
    for n, function in functions[:50]:
        print(f"{n / operations:>12,.1f} {n / total:>7.1%}  {function[:140]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the baseline (the default)")
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    parser.add_argument("--only", nargs="+", metavar="PREFIX", help="only operations whose names start so")
    parser.add_argument("--profile", metavar="NAME", help="where the instructions of one operation go")
    parser.add_argument("--lines", metavar="FILE,..", help="with --profile: these files line by line")
    parser.add_argument("--program", type=pathlib.Path, help="a zoolog-count that is built already")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="scenarios at a time (default: cores)")
    args = parser.parse_args()
    with_valgrind = shutil.which("valgrind") is not None
    if not with_valgrind:
        print(MISSING)
        if args.update or args.profile:
            sys.exit("install the package valgrind for that")
    program = args.program or build()
    if args.profile:
        return profile(program, args.profile, args.lines)

    names = [line.split("\t")[0] for line in output([program, "list"]).splitlines()]
    picked = [n for n in names if not args.only or n.startswith(tuple(args.only))]
    if not picked:
        sys.exit(f"no operation starts so; there are {', '.join(names)}")
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        measured = pool.map(lambda name: measure(program, name, with_valgrind), picked)
        figures = dict(zip(picked, measured))
    stored = tomllib.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    baseline, rustc = stored.get("operations", {}), output(["rustc", "--version"], cwd=ROOT).strip()
    worse, better, new = judge(figures, baseline)
    gone = [n for n in baseline if n not in names]
    if args.update:
        write({n: figures.get(n) or baseline[n] for n in names if n in figures or n in baseline}, rustc)
        print(f"\nwritten: {BASELINE.relative_to(ROOT)}")
        return
    if stored and stored.get("rustc") != rustc:
        print(f"\nnote: the baseline is from {stored.get('rustc')}, this build from {rustc}")
    if better:
        print(f"\nbetter: {', '.join(better)}\n  hold it: scripts/instructions.py --update")
    if new or gone:
        print(f"\nwithout baseline: {new}, without scenario: {gone}\n  scripts/instructions.py --update")
    if worse:
        print(f"\nWORSE: {', '.join(worse)}\n  look: scripts/instructions.py --profile {worse[0]}")
        print("  if it is worth it, say so in the commit: scripts/instructions.py --update")
    if not with_valgrind:
        print(f"\n{MISSING}")
    sys.exit(1 if worse or new or gone else 0)


if __name__ == "__main__":
    main()
