#!/bin/sh
# How soon does a ZooKeeper node serve that was killed, or that has nothing, and for how long is nobody answered when the log is
# exchanged? See --help; docs/OPERATING.md tells how a node gets another's snapshot.
exec python3 "$(dirname "$0")/lib/bootstrap.py" "$@"
