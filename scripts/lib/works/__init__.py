"""What can be compared? Each module holds works that share their systems; `GROUPS` is the order in which they run.

A group has `ROWS` (lib/ratios.py), of which each names its work; `NEEDS` (names of lib/peers.py) by work; and
`run(bench, number, chosen)`, one round of the chosen works. A work that fails is told to `bench.fail` and does not
stop the others."""

from lib.works import disk, idle, log, order, redis, reading, zk, znodes  # noqa: F401

GROUPS = [zk, redis, disk, reading, znodes, order, idle]


def all_works():
    """Names of all works, in their order."""
    return list(dict.fromkeys(row.work for group in GROUPS for row in group.ROWS))


def needs(chosen):
    """What the chosen works need of other people's programs."""
    return list(dict.fromkeys(n for group in GROUPS for w in chosen for n in group.NEEDS.get(w, ())))
