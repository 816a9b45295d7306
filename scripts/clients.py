#!/usr/bin/env python3
"""Do clients that others wrote get from Zoolog what they get from Apache ZooKeeper? Starts both, gives Apache's
`zkCli.sh` and the C client's `cli_mt` the same commands against each, runs the same programs with Java's client, with
Curator's recipes and with go-zookeeper, and compares what they print: results, errors, Stats, events, and what comes of a
connection that breaks. Each difference is printed; the exit code is 0 if there is none.

    scripts/clients.py --zoolog target/release/zoolog

Times, session ids and ports are left out of the comparison, zxids are compared by their order, names by their set.
"""

import argparse
import difflib
import pathlib
import shutil
import signal
import sys
import tempfile

from lib import client_shells
from lib.apache import JAR, Ensemble
from lib.client_scenes import CLI_MT, CLI_MT_RECONNECT, ZKCLI, ZKCLI_ALONE, ZKCLI_CHROOT, ZKCLI_RECONNECT
from lib.topology import Topology

# Of Apache's server, and of Zoolog's nodes where they are not the default there.
PROPERTIES = ("zookeeper.extendedTypesEnabled=true", "znode.container.checkIntervalMs=86400000",
              "zookeeper.enforceQuota=true", "zookeeper.4lw.commands.whitelist=*")


def compared(name, played, verbose):
    """Whether both printed the same; says how not."""
    (_, apache), (_, zoolog) = played
    wrong = list(difflib.unified_diff(apache, zoolog, "Apache", "Zoolog", lineterm="", n=4))
    # Alike in that neither ran is not alike.
    wrong += apache if apache[-1:] and apache[-1].startswith("exit code ") and apache[-1] != "exit code 0" else []
    empty = not apache
    print(f"{'FAILED ' if wrong or empty else 'ok     '} {name}" + (": nothing was printed" if empty else ""), flush=True)
    for line in wrong or (apache if verbose else []):
        print(f"        {line}")
    return not wrong and not empty


def play(args, hosts, home):
    """All scenes; which of them differed."""
    failed = []

    def scene(name, run):
        if args.only in name and not compared(name, [(host, run(host)) for host in hosts], args.verbose):
            failed.append(name)
    for name, commands in ZKCLI.items():
        scene(f"zkCli.sh {name}", lambda host, c=commands: client_shells.zkcli(host, c))
    scene("zkCli.sh alone", lambda host: client_shells.zkcli_alone(host, ZKCLI_ALONE))
    for name, (chroot, commands) in ZKCLI_CHROOT.items():
        scene(f"zkCli.sh {name}", lambda host, c=commands, r=chroot: client_shells.zkcli(host, c, r))
    scene("zkCli.sh reconnects", lambda host: client_shells.zkcli_reconnects(host, ZKCLI_RECONNECT))
    if not shutil.which("javac"):
        print("!!! javac is missing (apt-get install default-jdk-headless): JAVA'S CLIENTS ARE NOT TRIED BEYOND zkCli.sh !!!")
    else:
        scene("Java's client", lambda host: client_shells.java_program("JavaClient", host))
        if client_shells.has_curator():
            scene("Curator's recipes", lambda host: client_shells.java_program("CuratorRecipes", host))
        else:
            print("!!! Curator is missing (apt-get install libcurator-recipes-java): ITS RECIPES ARE NOT TRIED !!!")
    if shutil.which("go") and client_shells.GO_ZOOKEEPER.exists():
        program = client_shells.built_go_program(home)
        scene("go-zookeeper", lambda host: client_shells.go_program(program, host))
    else:
        print("!!! Go or its client is missing (apt-get install golang-go golang-github-samuel-go-zookeeper-dev): "
              "GO-ZOOKEEPER IS NOT TRIED !!!")
    if not client_shells.CLI_MT.exists():
        print(f"!!! {client_shells.CLI_MT} is missing (apt-get install zookeeper-bin): THE C CLIENT IS NOT TRIED !!!")
        return failed
    for name, commands in CLI_MT.items():
        scene(f"cli_mt {name}", lambda host, c=commands: client_shells.cli_mt(host, c))
    scene("cli_mt reconnects", lambda host: client_shells.cli_mt(host, CLI_MT_RECONNECT, through_proxy=True))
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoolog", default="target/release/zoolog", help="the program (default %(default)s)")
    parser.add_argument("--port", type=int, default=15181, help="first port (default %(default)s)")
    parser.add_argument("--executors", type=int, default=1, help="of each of Zoolog's nodes (default %(default)s)")
    parser.add_argument("--jars", type=pathlib.Path, metavar="DIR", help="*.jar of another version of ZooKeeper, server and "
                        "client, and of Curator, with all that they need (default: Debian's packages)")
    parser.add_argument("--only", default="", help="only scenes whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="what was printed, too")
    args = parser.parse_args()
    client_shells.jars = args.jars
    if not JAR.exists() or not shutil.which("java"):
        sys.exit(f"{JAR} or java is missing: apt-get install zookeeper default-jre-headless")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    home = pathlib.Path(tempfile.mkdtemp(prefix="zoolog-clients-"))
    apache = Ensemble(home / "apache", 1, args.port, PROPERTIES, jars=args.jars)
    zoolog = Topology(pathlib.Path(args.zoolog).resolve(), home / "zoolog" / "data", args.port + 100, args.port + 200,
                      zk=1, more=["--executors", str(args.executors), "-D", "zookeeper.enforceQuota=true"])
    try:
        apache.start()
        zoolog.start()
        failed = play(args, [apache.hosts, zoolog.hosts[0]], home)
    finally:
        zoolog.stop()
        apache.stop()
    shutil.rmtree(home, ignore_errors=True)
    print(f"{len(failed)} scenes differ" + "".join(f"\n    {name}" for name in failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
