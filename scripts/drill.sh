#!/usr/bin/env bash
# Fault drills on real processes: `scripts/drill.sh zk|log|examples --help`. Uses target/release unless --zoolog says otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
    *" --zoolog "* | *" --zoolog="* | *" -h "* | *" --help "*) ;;
    *)
        cargo build --release --quiet --bins -p zoolog -p zoolog-loadgen
        [ "${1:-}" != examples ] || cargo build --release --quiet --examples -p zoolog-client --features rt
        set -- "$@" --zoolog target/release/zoolog ;;
esac
exec python3 scripts/drill.py "$@"
