#!/bin/sh
# Which settings are best on this machine? See --help and docs/TUNING.md.
exec python3 "$(dirname "$0")/lib/tune.py" "$@"
