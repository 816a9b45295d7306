"""Which settings are best, and is the difference real? The rules by which a sweep is judged. Pure: numbers in,
verdicts out."""

import dataclasses
import statistics

# A difference of the medians below this share is not worth a setting, however steady.
LEAST_GAIN = 0.02


@dataclasses.dataclass(frozen=True)
class Said:
    """What is said of a candidate against the best so far, in one load."""

    verdict: str  # better, worse, within the noise, too few rounds, not measured
    gain: float  # the candidate's median by the best's; above 1 is better, whatever the unit


def compare(base, other, more_is_better):
    """Judges numbers of the same rounds. A candidate differs if its numbers and the other's do not overlap, or if it
    is ahead (or behind) in every round and the medians are further apart than either is spread."""
    if not base or not other:
        return Said("not measured", 1.0)
    ahead = (lambda a, b: a / b if b else 1.0) if more_is_better else (lambda a, b: b / a if a else 1.0)
    gain = ahead(statistics.median(other), statistics.median(base))
    if min(len(base), len(other)) < 2:
        return Said("too few rounds", gain)
    rounds = [ahead(o, b) for o, b in zip(other, base)]
    apart = min(other) > max(base) or max(other) < min(base)
    steady = all(r > 1 for r in rounds) or all(r < 1 for r in rounds)
    wide = max(spread(base), spread(other))
    if abs(gain - 1) < LEAST_GAIN or not (apart or (steady and abs(gain - 1) > wide)):
        return Said("within the noise", gain)
    return Said("better" if gain > 1 else "worse", gain)


def spread(numbers):
    """Half of the range, as a share of the median."""
    return (max(numbers) - min(numbers)) / 2 / statistics.median(numbers)


def wins(said):
    """Whether a candidate replaces the best so far: better in a load, worse in none."""
    verdicts = [s.verdict for s in said]
    return "better" in verdicts and all(v in ("better", "within the noise") for v in verdicts)
