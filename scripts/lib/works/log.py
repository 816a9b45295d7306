"""What do the works on the log itself share? A topology without ZooKeeper nodes, loaded by `loadgen log`."""

from lib.bench import Up

REPLICAS = 2  # `zoolog dev` keeps this many copies


def up(bench):
    """The log alone: three orderers, three data servers, two copies, no ZooKeeper node."""
    return Up(bench, "zoolog", zk=0)


def load(bench, system, op, name, size, times, more=(), measured=True):
    """One run of `loadgen log`. `times` are its flags for warm-up and duration."""
    flags = ["--orderers", system.ready["orderers"], "--op", op, "--size", str(size), *times, *more]
    return bench.loadgen("log", flags, name, measured=measured)
