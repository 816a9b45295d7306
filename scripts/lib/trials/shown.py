"""What do the experiments' numbers say? Tables and drawings of what was measured. Pure: numbers in, text and
descriptions of drawings (`loadgen plot --help`) out."""

from lib import ratios
from lib.trials.setups import LOADS, loads_of


def row(part, load, metric):
    """Under which name a number is kept."""
    return f"{part} {load} {metric}"


def spread(measured, part, load, metric, side):
    """(median, least, greatest) over the rounds, or None."""
    return ratios.spread(ratios.of(measured, row(part, load, metric), side).values())


def extra(part):
    """Columns of a part that come with none of its loads: (load, metric, unit)."""
    return [("create", "location bytes per record", "B")] if part.key == "policies" else []


def columns(part):
    """(load, metric, unit) of all that is shown of a setup; where loads are many, no p99."""
    shown = [(load, metric, unit) for load in part.loads for metric, unit in LOADS[load].metrics()]
    return [c for c in shown if not (part.by_load and c[1].endswith("p99"))] + extra(part)


def table(part, measured, failures):
    """Markdown: a line for each setup."""
    shown = columns(part)
    heads = " | ".join(f"{load}, {metric} ({unit})" for load, metric, unit in shown)
    lines = [f"| {part.x} | | {heads} |", "|---|---|" + "--:|" * len(shown)]
    for setup in part.setups:
        cells = [ratios.cell(spread(measured, part.key, load, metric, setup.name)) for load, metric, _ in shown]
        broken = " FAILED" if failures.get(f"{part.key}: {setup.name}") else ""
        lines.append(f"| {setup.group or f'{setup.x:g}'}{broken} | {setup.series} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spot(x, values):
    """A point of a drawing."""
    median, least, greatest = values
    return {"x": x, "y": median} | ({"low": least, "high": greatest} if least < greatest else {})


def panel(part, measured, load, metric, unit):
    """One chart, or None if there is nothing to be seen."""
    log_y = unit == "us"
    groups = list(dict.fromkeys(s.group for s in part.setups)) if part.setups[0].group else []
    series = {}
    for setup in part.setups:
        values = spread(measured, part.key, load, metric, setup.name)
        if values and values[0] > 0:
            x = groups.index(setup.group) if groups else setup.x
            series.setdefault(setup.series, []).append(spot(x, values))
    return chart(part, f"{load}: {metric}, {unit}", groups, series, log_y)


def chart(part, y, names, series, log_y):
    """A panel as `loadgen plot` takes it, or None without any point."""
    if not series:
        return None
    x = {"name": part.x, "names": names} if names else {"name": part.x, "log": part.log_x}
    ordered = [{"name": name, "points": sorted(points, key=lambda p: p["x"])} for name, points in series.items()]
    return {"x": x, "y": {"name": y, "log": log_y}, "series": ordered}


def by_load(part, measured):
    """Panels whose groups are the loads: one for each metric."""
    kinds = dict.fromkeys((metric, unit, LOADS[load].is_timed) for load in part.loads for metric, unit in LOADS[load].metrics()
                          if not metric.endswith("p99"))
    for metric, unit, one in kinds:
        loads = [load for load in part.loads if LOADS[load].is_timed == one]
        series = {}
        for setup in part.setups:
            for i, load in enumerate(loads):
                values = spread(measured, part.key, load, metric, setup.name)
                if values and values[0] > 0:
                    series.setdefault(setup.series, []).append(spot(i, values))
        names = [LOADS[load].what.split(":")[0] for load in loads]
        yield chart(part, f"{metric}, {unit}" + (", one at a time" if one else ""), names, series, unit == "us")


def drawing(part, measured):
    """What `loadgen plot` is to draw for a part, or None if nothing was measured."""
    if part.by_load:
        panels = by_load(part, measured)
    else:
        panels = (panel(part, measured, *column) for column in columns(part) if not column[1].endswith("p99"))
    panels = [p for p in panels if p]
    return {"title": part.question, "panels": panels} if panels else None


def runs(part):
    """How many runs of loadgen a round of a part has."""
    return sum(len(loads_of(part, setup)) for setup in part.setups)
