#!/usr/bin/env bash
# Everything that must hold before a change lands. Runs from a clean checkout; installs what it needs.
#   scripts/ci.sh            all steps
#   scripts/ci.sh STEP ...   only these: fmt clippy docs purity test sim instructions release recipes oracle drill
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in -h|--help) sed -n '2,4p' "$0"; exit 0 ;; esac
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(fmt clippy docs purity test sim instructions release recipes oracle drill)

export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
say() { printf '\n=== %s (%ss) ===\n' "$1" "$SECONDS"; }
need() { # COMMAND DEBIAN-PACKAGE
    command -v "$1" >/dev/null && return
    say "installing $2"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2"
}

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
            python3 scripts/lib/drill/drill_test.py ;;
        sim)
            # Its tests, too, are seeds, and take a tenth of the time so.
            cargo test --profile sim --quiet -p zoolog-sim
            cargo build --profile sim --quiet -p zoolog-sim
            target/sim/zoolog-sim meta 1
            target/sim/zoolog-sim seeds 1 200
            # Each policy, but with others' at the same time: what they promise doesn't depend on each other.
            target/sim/zoolog-sim seeds 1 40 --fetch lazy --acks logged --reads linearizable
            target/sim/zoolog-sim seeds 41 40 --fetch deferred --acks logged --reads log
            target/sim/zoolog-sim seeds 81 40 --fetch batched --acks logged --reads linearizable ;;
        # Exact, so a line can be held: no operation of the machines may cost more than sim/instructions.toml says.
        instructions)
            need valgrind valgrind || echo "valgrind can't be installed: instructions are not counted"
            python3 scripts/instructions.py --check ;;
        release) cargo build --release --quiet --workspace --bins ;;
        recipes)
            python3 scripts/kazoo_recipes.py --zoolog target/release/zoolog
            python3 scripts/kazoo_recipes.py --zoolog target/release/zoolog --executors 3
            ;;
        # Against Apache ZooKeeper of the Debian package.
        oracle)
            need java default-jre-headless || true
            [ -f /usr/share/java/zookeeper.jar ] || apt-get install -y -qq --no-install-recommends zookeeper || true
            if command -v java >/dev/null && [ -f /usr/share/java/zookeeper.jar ]; then
                python3 scripts/oracle.py --zoolog target/release/zoolog --seeds 40
                python3 scripts/oracle.py --zoolog target/release/zoolog --seeds 20 --seed 100 --executors 3 --no-scenes
                [ -x /usr/lib/zookeeper/bin/cli_mt ] || apt-get install -y -qq --no-install-recommends zookeeper-bin || true
                python3 scripts/clients.py --zoolog target/release/zoolog
            else
                echo "!!! Apache ZooKeeper can't be installed: ANSWERS ARE NOT COMPARED !!!"
            fi ;;
        drill)
            need mkfs.ext4 e2fsprogs || echo "no mkfs.ext4: disks won't be full"
            python3 scripts/drill.py zk --zoolog target/release/zoolog
            python3 scripts/drill.py log --zoolog target/release/zoolog --for 45s
            python3 scripts/drill_full.py --zoolog target/release/zoolog ;;
        *) echo "no such step: $step"; exit 2 ;;
    esac
done
say "all green"
