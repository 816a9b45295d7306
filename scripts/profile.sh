#!/bin/sh
# What is a load limited by? See --help and docs/PERFORMANCE.md.
exec python3 "$(dirname "$0")/lib/profile.py" "$@"
