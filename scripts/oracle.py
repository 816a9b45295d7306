#!/usr/bin/env python3
"""Does Zoolog answer as Apache ZooKeeper does? Starts both, sends both the same random scripts over raw sockets,
and compares replies, errors, Stats, watch events and their order; then plays scenes that random scripts don't reach
(broken handshakes, unknown operations, half frames, clients that never read). Each difference is printed with its
seed and step; the exit code is 0 if there was none.

    scripts/oracle.py --zoolog target/release/zoolog --seeds 20 --ops 300
"""

import argparse
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from lib import oracle_more_scenes, oracle_scenes, oracle_words
from lib.apache import Ensemble
from lib.oracle_play import Player, play_both
from lib.oracle_scenes_lib import Scene
from lib.oracle_scripts import Script
from lib.topology import Topology

# Times to live are on in Zoolog; a sweep in the middle of a script would come at another moment in each.
PROPERTIES = ("zookeeper.extendedTypesEnabled=true", "znode.container.checkIntervalMs=86400000",
              "zookeeper.4lw.commands.whitelist=*")


class Oracle:
    """Both systems, and how many comparisons passed and failed."""

    def __init__(self, args):
        self.args = args
        self.home = pathlib.Path(args.dir or tempfile.mkdtemp(prefix="zoolog-oracle-"))
        self.admin = {"Apache": f"127.0.0.1:{args.port + 300}", "Zoolog": f"127.0.0.1:{args.port + 400}"}
        self.apache = Ensemble(self.home / "apache", args.nodes, args.port, PROPERTIES, args.port + 300,
                               args.jars)
        self.zoolog = Topology(pathlib.Path(args.zoolog).resolve(), self.home / "zoolog" / "data", args.port + 100,
                               args.port + 200, zk=args.nodes, more=[
                                   "--executors", str(args.executors), "-D", "4lw.commands.whitelist=*",
                                   "--set", f"zk.admin_listen={self.admin['Zoolog']}"])
        self.passed = self.failed = 0
        self.started = time.monotonic()

    def say(self, text):
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)

    def count(self, name, wrong):
        """Notes the end of a seed or a scene."""
        if wrong:
            self.failed += 1
            self.say(f"FAILED  {name}")
        else:
            self.passed += 1
            if self.args.verbose or not name.startswith("seed"):
                self.say(f"ok      {name}")

    def run(self):
        """All of it, ending both systems whatever happens."""
        try:
            self.apache.start()
            self.zoolog.start()
            self.say(f"up: Apache at {self.apache.hosts}, Zoolog at {','.join(self.zoolog.hosts)}")
            self.play_seeds()
            self.play_scenes()
        finally:
            self.zoolog.stop()
            self.apache.stop()
        if not self.args.dir and not self.failed:
            shutil.rmtree(self.home, ignore_errors=True)
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0

    def play_seeds(self):
        """Random scripts, one after the other, on the same servers."""
        players = [Player("Apache", self.apache.hosts.split(","), False), Player("Zoolog", self.zoolog.hosts, True)]
        for seed in range(self.args.seed, self.args.seed + self.args.seeds):
            script = Script(seed, self.args.ops)

            def told(step, text, seed=seed):
                self.say(f"seed {seed} step {step}: {text}")
            self.count(f"seed {seed}", play_both(script, players, told))

    def play_scenes(self):
        """Everything that is no random script."""
        scenes = oracle_more_scenes.SCENES + oracle_words.SCENES + oracle_scenes.SCENES
        for play in (s for s in scenes if self.args.scenes and self.args.only in s.__name__):
            scene = Scene(self.apache.hosts.split(","), self.zoolog, self.admin)
            try:
                play(scene)
            except Exception as e:  # noqa: BLE001 - whatever a scene meets is a difference
                scene.wrong.append(f"{type(e).__name__}: {e}")
            for text in scene.wrong:
                self.say(f"{play.__name__}: {text}")
            self.count(play.__doc__.splitlines()[0], scene.wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoolog", default="target/release/zoolog", help="the program (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=20, help="random scripts; may be 0 (default %(default)s)")
    parser.add_argument("--ops", type=int, default=300, help="operations in each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default %(default)s)")
    parser.add_argument("--nodes", type=int, default=1, help="servers of each system (default %(default)s)")
    parser.add_argument("--executors", type=int, default=1, help="of each of Zoolog's nodes (default %(default)s)")
    parser.add_argument("--port", type=int, default=14181, help="first port; some 1000 to 2200 above it are used too")
    parser.add_argument("--dir", help="folder for data and logs, kept (default: a temporary one)")
    parser.add_argument("--jars", type=pathlib.Path, metavar="DIR", help="*.jar of another version of Apache ZooKeeper, with all "
                        "that it needs (default: Debian's package)")
    parser.add_argument("--no-scenes", dest="scenes", action="store_false", help="random scripts only")
    parser.add_argument("--only", default="", help="only scenes whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="a line for each seed")
    oracle = Oracle(parser.parse_args())
    # So that both systems are ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    sys.exit(oracle.run())


if __name__ == "__main__":
    main()
