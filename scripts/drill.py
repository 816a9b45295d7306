#!/usr/bin/env python3
"""Fault drills on real processes. The exit code is 0 if all checks passed.

    scripts/drill.sh zk  --zoolog target/release/zoolog
    scripts/drill.sh log --zoolog target/release/zoolog --for 10m
    scripts/drill.sh examples --for 5m

Without `zk`, `log` or `examples` in front, it is `zk`.
"""

import argparse
import importlib
import signal
import sys

DRILLS = {"zk": "kill every node of a whole Zoolog, one by one and all at once, under ZooKeeper clients",
          "log": "kill, pause, cut off, delay, fill and slow down the nodes of a log under its writers, for as long as asked",
          "examples": "kill, leave behind and move to a cluster the three examples, and hold every answer against their promises"}


def main():
    words = sys.argv[1:]
    if words and words[0] not in ("-h", "--help", *DRILLS):
        words.insert(0, "zk")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    drills = parser.add_subparsers(dest="drill", required=True)
    for name, text in DRILLS.items():
        # Only what is asked for is loaded: the ZooKeeper drill installs its client.
        if words[:1] == [name]:
            drill = importlib.import_module(f"lib.drill.{name}")
            formatter = argparse.RawDescriptionHelpFormatter
            drill.options(drills.add_parser(name, help=text, description=drill.__doc__, formatter_class=formatter))
        else:
            drills.add_parser(name, help=text, add_help=False)
    args = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it holds is given back then, too
    return drill.DRILL(args).carry_out()


if __name__ == "__main__":
    sys.exit(main())
