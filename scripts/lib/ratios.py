"""What do the measured numbers say? Rows of a comparison, each with a target; medians, ratios of the rounds with
their spread, verdicts, and the table that shows them. Pure: numbers in, text out."""

import dataclasses
import math
import statistics

ZOOLOG = "zoolog"
# What the summary calls them.
NAMES = {"apache": "Apache", "redis": "Redis", "fio": "fio"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the comparison: what is compared, in which unit, with whom, and what is wanted of it."""

    key: str
    work: str
    what: str
    unit: str
    peer: str = ""  # "" if the target is a number and not a ratio
    op: str = ""  # ">=" or "<=", "" if nothing is wanted
    target: float = 0.0
    absolute: bool = False  # whether the target is for Zoolog's number itself


def spread(numbers):
    """(median, least, greatest), or None without numbers."""
    numbers = [n for n in numbers if n is not None and math.isfinite(n)]
    if not numbers:
        return None
    return statistics.median(numbers), min(numbers), max(numbers)


def ratios(ours, theirs):
    """Zoolog's number by the peer's, for each round that has both. `ours` and `theirs` map round to number."""
    both = sorted(set(ours) & set(theirs))
    return [ours[r] / theirs[r] for r in both if theirs[r]]


def of(measured, key, side):
    """round -> number of one row and side. `measured` is a list of {row, side, round, value}."""
    return {m["round"]: m["value"] for m in measured if m["row"] == key and m["side"] == side}


def judge(row, measured, rounds):
    """Everything that is said about one row, as a dictionary for JSON."""
    ours, theirs = of(measured, row.key, ZOOLOG), of(measured, row.key, row.peer)
    ratio = spread(ratios(ours, theirs)) if row.peer else None
    judged = spread(ours.values()) if row.absolute or not row.peer else ratio
    said = {
        "key": row.key, "work": row.work, "what": row.what, "unit": row.unit, "peer": row.peer,
        "zoolog": spread(ours.values()), "peer_value": spread(theirs.values()), "ratio": ratio,
        "target": f"{row.op} {number(row.target)}" if row.op else "", "target_is": "value" if row.absolute else "ratio",
        "rounds": len(ours), "complete": len(ours) >= rounds and (not row.peer or len(theirs) >= rounds),
    }
    said["verdict"] = verdict(row, judged)
    return said


def verdict(row, judged):
    """`yes` if all rounds reach the target, `no` if none does, `at times` between, `not measured`."""
    if judged is None:
        return "not measured"
    if not row.op:
        return ""
    reached = (lambda n: n >= row.target) if row.op == ">=" else (lambda n: n <= row.target)
    median, least, greatest = judged
    if reached(least) and reached(greatest):
        return "yes"
    if not reached(least) and not reached(greatest):
        return "no"
    return "yes at the median, not in all rounds" if reached(median) else "no at the median, in some rounds"


def number(n):
    """A number for people: no more digits than it has worth."""
    size = abs(n)
    if size >= 1000:
        return f"{n:,.0f}"
    if size >= 100:
        return f"{n:.0f}"
    return f"{n:.1f}" if size >= 10 else f"{n:.2f}"


def cell(values, unit=""):
    """`median (least to greatest)`, or a dash."""
    if values is None:
        return "-"
    median, least, greatest = values
    text = number(median) + (f" {unit}" if unit else "")
    return text if least == greatest else f"{text} ({number(least)} to {number(greatest)})"


def table(judged, failures):
    """Markdown. `judged` are dictionaries of `judge`; `failures` maps a work to what went wrong."""
    lines = ["| work | what | Zoolog | peer | ratio | wanted | reached |", "|---|---|--:|--:|--:|--:|---|"]
    for j in judged:
        wanted = j["target"] and j["target"].replace(">=", "at least").replace("<=", "at most")
        wanted += f" {j['unit']}" if wanted and j["target_is"] == "value" else " x" if wanted else ""
        peer = f"{NAMES.get(j['peer'], j['peer'])}: {cell(j['peer_value'], j['unit'])}" if j["peer"] else ""
        reached = j["verdict"]
        if failures.get(j["work"]):
            reached = "FAILED" if reached == "not measured" else f"{reached}; SOME RUNS FAILED"
        elif not j["complete"] and reached != "not measured":
            reached += "; some rounds are missing"
        lines.append(f"| {j['work']} | {j['what']} | {cell(j['zoolog'], j['unit'])} | {peer} |"
                     f" {cell(j['ratio'])} | {wanted} | {reached} |")
    return "\n".join(lines)
