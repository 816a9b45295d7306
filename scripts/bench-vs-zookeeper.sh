#!/bin/sh
# How does Zoolog compare with Apache ZooKeeper on this machine?
set -eu
usage() {
    cat <<'TEXT'
usage: scripts/bench-vs-zookeeper.sh [options]

Runs the same loadgen commands alternately against three Apache ZooKeeper servers (stock settings, fsync on)
and against `zoolog dev --zk 3 --isolate process`, both up in one run: set, create and get with 48 sessions x 32
in flight, and set with one client and one request in flight. Leaves a results folder with the question, the
commands, the machine, every raw result and a summary with ratios.

  --rounds N        interleaved rounds (default 3)
  --duration TIME   measured time of each run (default 10s)
  --warmup TIME     before each (default 3s)
  --question WORDS  last part of the folder's name (default zoolog-vs-zookeeper)
  --results DIR     where the folder is made (default results)
  --work DIR        where both systems keep their data (default: a temporary directory; not a RAM disk)
  --zoolog PATH     binary (default: built with cargo build --release)
  --loadgen PATH    binary (default: the same)
  --allow-dirty     run though files are changed; the commit then does not tell what was measured
TEXT
}
cd "$(dirname "$0")/.."
rounds=3 duration=10s warmup=3s question=zoolog-vs-zookeeper results=results work='' zoolog='' loadgen='' dirty=no
invocation="scripts/bench-vs-zookeeper.sh $*"
while [ $# -gt 0 ]; do
    case "$1" in
        -h|--help) usage; exit 0 ;;
        --allow-dirty) dirty=yes; shift; continue ;;
    esac
    [ $# -ge 2 ] || { usage >&2; exit 2; }
    case "$1" in
        --rounds) rounds=$2 ;;
        --duration) duration=$2 ;;
        --warmup) warmup=$2 ;;
        --question) question=$2 ;;
        --results) results=$2 ;;
        --work) work=$2 ;;
        --zoolog) zoolog=$2 ;;
        --loadgen) loadgen=$2 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift 2
done
if [ "$dirty" = no ] && [ -n "$(git status --porcelain)" ]; then
    echo "files are changed: commit them first, so that the result names what was measured (or --allow-dirty)" >&2
    exit 1
fi
if [ -z "$zoolog" ] || [ -z "$loadgen" ]; then
    cargo build --release -p zoolog -p zoolog-loadgen
    target=${CARGO_TARGET_DIR:-target}/release
    zoolog=${zoolog:-$target/zoolog} loadgen=${loadgen:-$target/loadgen}
fi
folder=$results/$(date +%Y-%m-%d)-$(hostname)-$question
[ ! -e "$folder" ] || { echo "$folder exists: results are never changed; choose another --question" >&2; exit 1; }
exec python3 scripts/lib/compare.py --folder "$folder" --zoolog "$zoolog" --loadgen "$loadgen" --work "$work" \
    --rounds "$rounds" --duration "$duration" --warmup "$warmup" --invocation "$invocation"
