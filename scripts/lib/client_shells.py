"""How are other people's shells driven, and what of their output is compared? Each is a child that gets its commands on
stdin, one when the output of the last has come to rest. What it prints is put into a form in which two servers' may be
held against each other."""

import os
import pathlib
import re
import selectors
import socket
import subprocess
import threading
import time

from lib import jute
from lib.apache import JAR, LOGGING

CLI_MT = pathlib.Path("/usr/lib/zookeeper/bin/cli_mt")
PROGRAMS = pathlib.Path(__file__).resolve().parent / "java"
GO_PROGRAM = pathlib.Path(__file__).resolve().parent / "go" / "go_client.go"
# Where Debian's packages put sources of Go.
GO_PATH = pathlib.Path("/usr/share/gocode")
GO_ZOOKEEPER = GO_PATH / "src/github.com/samuel/go-zookeeper/zk"
CURATOR = [pathlib.Path("/usr/share/java") / f"{name}.jar"
           for name in ("curator-client", "curator-framework", "curator-recipes", "guava")]
ZKCLI_SH = pathlib.Path("/usr/share/zookeeper/bin/zkCli.sh")
JVM = ["-XX:TieredStopAtLevel=1", "-Dzookeeper.root.logger=OFF"]
# Where other versions of Java's client and of Curator are, if not those of Debian's packages are tried: *.jar.
jars = None
QUIET_S = 0.08
PATIENCE_S = 20


def java(*command):
    """A Java program that has the clients' libraries."""
    path = [LOGGING, JAR, *CURATOR] if jars is None else sorted(jars.glob("*.jar"))
    return ["java", *JVM, "-cp", ":".join(map(str, path)), *command]


def has_curator():
    """Whether its recipes are among them."""
    return any(jars.glob("curator-recipes*.jar")) if jars else all(jar.exists() for jar in CURATOR)


def zkcli_command(host):
    """`zkCli.sh`, without its shell script."""
    return java("org.apache.zookeeper.ZooKeeperMain", "-server", host)


class Proxy:
    """A port, `host`, that leads to a server, and can cut all connections that go through it."""

    def __init__(self, host):
        self.target = host.rsplit(":", 1)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.pairs = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        """Takes connections until the port is closed."""
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection((self.target[0], int(self.target[1])))
            except OSError:
                return
            self.pairs.append((client, server))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, sink):
        """Carries bytes one way."""
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def cut(self):
        """Ends every connection."""
        for pair in self.pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs = []

    def close(self):
        """No more connections."""
        self.listener.close()
        self.cut()


class Shell:
    """A child, and what it has printed."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        bufsize=0)
        self.output = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def rest(self, until=None, quiet_s=QUIET_S):
        """Reads until something like `until` has come, then until nothing more comes for a while. Whether the child
        lives."""
        deadline, start = time.monotonic() + PATIENCE_S, len(self.output)
        while True:
            waiting = until is not None and not re.search(until, self.output[start:])
            if not self.selector.select(0.5 if waiting else quiet_s):
                if not waiting:
                    return True
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{until!r} was not printed, but {self.output[start:]!r}")
                continue
            part = self.process.stdout.read(65536)
            if not part:
                return False
            self.output += part

    def say(self, line):
        """A command."""
        self.process.stdin.write(line.encode() + b"\n")

    def end(self):
        """Lets it go; what it printed."""
        try:
            self.say("quit")
            while self.rest(quiet_s=PATIENCE_S):
                pass
        except OSError:
            pass
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        return self.output.decode(errors="replace")


def lines_of(commands, host):
    """The commands of a scene."""
    return [line.strip().replace("HOST", host) for line in commands.strip().splitlines()]


def set_by_another(host, path, data):
    """A write over a connection of its own."""
    other = jute.Connection(host)
    other.handshake()
    err, _ = other.call(jute.SET_DATA, jute.set_data(path, data))
    assert err == 0, f"set {path}: {err}"
    other.call(jute.CLOSE)
    other.close()


def play(shell, lines, host, proxy, back, answer):
    """Says the lines one by one. `back` is what it prints when it is connected again, `answer` when a command is done."""
    for line in lines:
        if line == "!cut":
            proxy.cut()
            shell.rest(until=back)
        elif line.startswith("!set"):
            set_by_another(host, *line.split()[1:])
            shell.rest(until=rb"path[ :]/")
        else:
            shell.say(line)
            try:
                shell.rest(until=answer(line))
            except RuntimeError as e:
                raise RuntimeError(f"{line}: {e}") from e


def zkcli(host, commands, chroot=""):
    """What Apache's shell prints, all commands at once: it does one after the other."""
    text = "\n".join(lines_of(commands, host)) + "\nquit\n"
    done = subprocess.run(zkcli_command(host + chroot), input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60, check=False)
    return normal(done.stdout, host)


def zkcli_alone(host, commands):
    """What the script itself prints, and its exit code, a process per command."""
    lines = []
    for command in commands:
        done = subprocess.run([str(ZKCLI_SH), "-server", host, *command.split()], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=60, check=False,
                              env=os.environ | {"CLIENT_JVMFLAGS": " ".join(JVM)})
        lines += [f"> {command}: {done.returncode}", *normal(done.stdout, host)]
    return lines


def zkcli_reconnects(host, commands):
    """The same while its connection breaks."""
    proxy = Proxy(host)
    shell = Shell(zkcli_command(proxy.host))
    try:
        shell.rest(until=b"SyncConnected")
        play(shell, lines_of(commands, host), host, proxy, rb"state:SyncConnected type:None",
             lambda line: rb"Sync is" if line.startswith("sync") else None)
    finally:
        text = shell.end()
        proxy.close()
    return normal(text, proxy.host)


def java_program(name, host):
    """What a program of ours prints that uses Java clients, and its exit code. Java compiles it as it starts it."""
    done = subprocess.run(java(str(PROGRAMS / f"{name}.java"), host), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, timeout=300, check=False)
    return [*normal(done.stdout, host), f"exit code {done.returncode}"]


def built_go_program(home):
    """The program that uses go-zookeeper."""
    program = home / "go_client"
    subprocess.run(["go", "build", "-o", str(program), str(GO_PROGRAM)], check=True, timeout=600,
                   env={**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOCACHE": str(home / "go-cache")})
    return program


def go_program(program, host):
    """What it prints, and its exit code."""
    done = subprocess.run([str(program), host], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          text=True, timeout=300, check=False)
    return [*normal(done.stdout, host), f"exit code {done.returncode}"]


def cli_mt_answer(line):
    """What shows that a command is done."""
    if line.startswith("addauth"):
        return rb"Authentication failure" if "nobody" in line else None
    if "exists" in line:
        return None  # done before it reads on, and silent if all is well
    return rb"rc = -?\d+|Error -\d+|ephemeralOwner|Path must|aversion"


def cli_mt(host, commands, through_proxy=False):
    """What the C client's shell prints."""
    proxy = Proxy(host) if through_proxy else None
    at = proxy.host if proxy else host
    shell = Shell([str(CLI_MT), at])
    try:
        shell.rest(until=b"CONNECTED_STATE")
        play(shell, lines_of(commands, host), host, proxy, rb"state = CONNECTED_STATE", cli_mt_answer)
    finally:
        text = shell.end()
        if proxy:
            proxy.close()
    return normal(text, at)


# Of the program, not of the server. Its own end it prints if there is time.
NOISE = re.compile(r"^WatchedEvent state:Closed type:None|ZOO_(INFO|ERROR|WARN|DEBUG)@|^session Id|^time = |^Watcher SESSION_EVENT|Client environment"
                   r"|^SLF4J|^Got a new session id|^Quitting|^\s*$|^WATCHER::$")
MASKS = [
    (re.compile(r"0x[0-9a-f]{15,16}"), "SESSION"),
    (re.compile(r"(ephemeralOwner = )(?!0$|SESSION)[0-9a-f]{8,}$"), r"\1SESSION"),
    # Behind a proof that was refused: whichever the shell notices first.
    (re.compile(r"^(Not connected|KeeperErrorCode = AuthFailed for /\w+)$"), "NO MORE"),
    (re.compile(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d (UTC )?\d{4}"), "TIME"),
]
# Of a Stat, and of an event as Java's client 3.9 shows it, in tens.
ZXID = re.compile(r"^(\s*[cmp]z?[Zz]xid ?= ?)(?:0x)?([0-9a-f]+)$|^(WatchedEvent .* zxid: )(\d+)$")
SET = re.compile(r"^\[(.*, .*)\]$")


def normal(text, host):
    """The lines that must be alike: first all but events, then the events."""
    lines, events = [], []
    for line in text.splitlines():
        if NOISE.search(line):
            continue
        line = line.rstrip().replace(host, "HOST")
        for mask, with_what in MASKS:
            line = mask.sub(with_what, line)
        if found := SET.match(line):
            line = f"[{', '.join(sorted(found[1].split(', ')))}]"
        is_event = line.startswith(("WatchedEvent", "Watcher "))
        (events if is_event else lines).append(line)
    ranks = ranked(lines + events)
    return in_groups(ranks[:len(lines)]) + ranks[len(lines):]


def ranked(lines):
    """zxids become their places in the order of all that were seen."""
    found = [ZXID.match(line) for line in lines]
    zxids = [f and (int(f[2], 16) if f[2] else int(f[4])) for f in found]
    order = sorted({zxid for zxid in zxids if zxid is not None})
    return [f"{f[1] or f[3]}#{order.index(zxid)}" if f else line for f, zxid, line in zip(found, zxids, lines)]


def in_groups(lines):
    """Lines that may come in any order, sorted within their group: indented names, and who one is."""
    def kind(line):
        if re.match(r"^\t[^=]*$", line):
            return "name"
        return "who" if re.match(r"^(ip|digest|super|world): ", line) else None
    result, group = [], []
    for line in lines + [""]:
        if group and kind(line) != kind(group[0]):
            result += sorted(group)
            group = []
        if kind(line):
            group.append(line)
        else:
            result.append(line)
    return result[:-1]
