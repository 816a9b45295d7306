#!/usr/bin/env bash
# Fault drills on real processes: `scripts/drill.sh zk|log --help`. Uses target/release unless --zoolog says otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
    *" --zoolog "* | *" --zoolog="* | *" -h "* | *" --help "*) ;;
    *)
        cargo build --release --quiet --bins -p zoolog -p zoolog-loadgen
        set -- "$@" --zoolog target/release/zoolog ;;
esac
exec python3 scripts/drill.py "$@"
