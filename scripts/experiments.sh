#!/bin/sh
# The original experiments, repeated and extended: what do policies, nodes, intervals and failures cost? See --help and
# docs/EXPERIMENTS.md.
exec python3 "$(dirname "$0")/lib/experiments.py" "$@"
