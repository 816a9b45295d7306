#!/bin/sh
# For how long do appends stop when shards and a server are added under load? See --help and docs/COMPARING.md.
exec python3 "$(dirname "$0")/lib/grow.py" "$@"
