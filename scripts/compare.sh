#!/bin/sh
# How does Zoolog compare with its peers on this machine? See --help and docs/COMPARING.md.
exec python3 "$(dirname "$0")/lib/compare.py" "$@"
