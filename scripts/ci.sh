#!/usr/bin/env bash
# Everything that must hold before a change lands. Runs from a clean checkout; installs what it needs.
#   scripts/ci.sh            all steps, in two lanes beside each other: compilers use both cores, and clusters mostly wait
#   scripts/ci.sh STEP ...   only these, one after the other: fmt clippy docs purity test sim instructions release recipes oracle drill
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in -h|--help) sed -n '2,4p' "$0"; exit 0 ;; esac

export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
say() { printf '\n=== %s (%ss) ===\n' "$1" "$SECONDS"; }
# Only one at a time may install.
lock=${TMPDIR:-/tmp}/zoolog-ci-install.lock
install() { flock "$lock" apt-get install -y -qq --no-install-recommends "$@"; }
need() { # COMMAND DEBIAN-PACKAGE
    command -v "$1" >/dev/null && return
    say "installing $2"
    flock "$lock" apt-get update -qq && install "$2"
}

if [ $# -eq 0 ]; then
    set -m # each lane is a group of processes, so that it can be ended
    bash "$0" fmt clippy docs purity test sim instructions &
    checks=$!
    (bash "$0" release recipes oracle drill 2>&1 | sed -u 's/^/ | /'; exit "${PIPESTATUS[0]}") &
    runs=$!
    trap 'kill -- -$checks -$runs 2>/dev/null || true' EXIT
    # The first that fails ends the other.
    wait -n && wait -n || { say "FAILED"; exit 1; }
    say "all green"
    exit
fi
steps=("$@")

need cc gcc
need make make
need git git
need python3 python3

for step in "${steps[@]}"; do
    say "$step"
    case $step in
        fmt) cargo fmt --all --check ;;
        clippy) cargo clippy --workspace --all-targets --quiet -- -D warnings ;;
        docs) RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet ;;
        # The pure halves must not reach the kernel: neither io_uring nor sockets in the simulator's tree.
        purity)
            if cargo tree -p zoolog-sim -e normal --prefix none | grep -E '^(io-uring|socket2|mio|tokio) '; then
                echo "a pure half depends on the runtime"; exit 1
            fi ;;
        test)
            cargo test --workspace --exclude zoolog-sim --quiet
            python3 scripts/lib/history_test.py
            python3 scripts/lib/compare_test.py
            python3 scripts/lib/experiments_test.py
            python3 scripts/lib/bootstrap_test.py
            python3 scripts/lib/drill/drill_test.py ;;
        sim)
            # Its tests, too, are seeds, and take a tenth of the time so.
            cargo test --profile sim --quiet -p zoolog-sim
            cargo build --profile sim --quiet -p zoolog-sim
            target/sim/zoolog-sim meta 1
            target/sim/zoolog-sim seeds 1 200
            # At least 100 seeds of each policy, each node having its own: what they promise doesn't depend on each other.
            target/sim/zoolog-sim seeds 1 200 --policies each ;;
        # Exact, so a line can be held: no operation of the machines may cost more than sim/instructions.toml says.
        instructions)
            need valgrind valgrind || echo "valgrind can't be installed: instructions are not counted"
            python3 scripts/instructions.py --check ;;
        release)
            cargo build --release --quiet --workspace --bins
            cargo build --release --quiet --examples -p zoolog-client --features rt ;;
        recipes)
            python3 scripts/kazoo_recipes.py --zoolog target/release/zoolog
            python3 scripts/kazoo_recipes.py --zoolog target/release/zoolog --executors 3
            ;;
        # Against Apache ZooKeeper of the Debian package.
        oracle)
            need java default-jre-headless || true
            [ -f /usr/share/java/zookeeper.jar ] || install zookeeper || true
            if command -v java >/dev/null && [ -f /usr/share/java/zookeeper.jar ]; then
                python3 scripts/oracle.py --zoolog target/release/zoolog --seeds 40
                python3 scripts/oracle.py --zoolog target/release/zoolog --seeds 20 --seed 100 --executors 3 --no-scenes
                [ -x /usr/lib/zookeeper/bin/cli_mt ] || install zookeeper-bin || true
                need javac default-jdk-headless || true
                [ -f /usr/share/java/curator-recipes.jar ] ||
                    install libcurator-recipes-java || true
                [ -d /usr/share/gocode/src/github.com/samuel/go-zookeeper ] && command -v go >/dev/null ||
                    install golang-go golang-github-samuel-go-zookeeper-dev || true
                python3 scripts/clients.py --zoolog target/release/zoolog
                python3 scripts/kazoo_recipes.py --apache
                python3 scripts/imports.py --zoolog target/release/zoolog
            else
                echo "!!! Apache ZooKeeper can't be installed: ANSWERS ARE NOT COMPARED !!!"
            fi ;;
        drill)
            need mkfs.ext4 e2fsprogs || echo "no mkfs.ext4: disks won't be full"
            python3 scripts/drill.py zk --zoolog target/release/zoolog
            python3 scripts/drill.py log --zoolog target/release/zoolog --for 45s
            python3 scripts/drill.py examples --zoolog target/release/zoolog --for 20s
            python3 scripts/drill_full.py --zoolog target/release/zoolog ;;
        *) echo "no such step: $step"; exit 2 ;;
    esac
done
say "$(printf '%s ' "${steps[@]}")green"
