"""What do operators see? Four-letter words and admin commands of both, held against each other by their shapes: the lines
and keys that tools parse. What may differ is what docs/COMPATIBILITY.md says differs."""

import fnmatch
import json
import pathlib
import re
import socket
import urllib.error
import urllib.request

from lib import jute
from lib.apache import four_letters
from lib.oracle_scenes_lib import goodbye, joined

COMPATIBILITY = pathlib.Path(__file__).resolve().parents[2] / "docs" / "COMPATIBILITY.md"
# Keys that only a Java process has, and that are told of the machine in other ways.
OF_JAVA = re.compile(r"java\.|jvm\.|sun\.|jdk\.|awt\.|user\.(timezone|language|country)|file\.|line\.|path\.|native\."
                     r"|zookeeper\.(?!version)|os\.memory|znode\.|4lw\.|.*juteMaxBuffer")


def masked(text):
    """Digits become one N, hexadecimal ones behind 0x one X: what is left is the shape."""
    return re.sub(r"\d+", "N", re.sub(r"0x[0-9a-f]+", "0xX", re.sub(r"-1\b", "N", text)))


def word(host, text):
    """The answer to a word; None if there is none."""
    name, port = host.rsplit(":", 1)
    return four_letters(name, int(port), text)


def keys_of(text, separator):
    """What stands before the separator, line by line."""
    return [line.split(separator, 1)[0] for line in text.splitlines() if separator in line]


def guest(host):
    """A session with an ephemeral and two data watches, so that there is something to be told."""
    connection, answer = joined(host)
    connection.call(jute.CREATE, jute.create("/words", b"x"))
    connection.call(jute.CREATE, jute.create("/words/e", b"x", 1))
    connection.call(jute.EXISTS, jute.path_watch("/words/none", True))
    connection.call(jute.GET_DATA, jute.path_watch("/words", True))
    return connection, answer.session


def words(scene):
    """four-letter words have the lines and keys of the original"""
    def play(host):
        connection, session = guest(host)
        shapes = {}
        for name in ("ruok", "isro", "gtmk", "dirs", "crst", "srst"):
            shapes[name] = masked(word(host, name))
        shapes["srvr"] = keys_of(word(host, "srvr"), ":")
        stat = word(host, "stat")
        shapes["stat"] = keys_of(stat.split("\n\n")[1], ":") + [masked(stat.split("\n\n")[0]).splitlines()[1:][0]]
        shapes["clients"] = {masked(line) for line in stat.split("\n\n")[0].splitlines()[2:]}
        shapes["version"] = re.sub(r"(\d+\.\d+\.\d+)-.*, built on .*", r"V, built on D", stat.splitlines()[0])
        ours = [line for line in word(host, "cons").splitlines() if f"sid=0x{session:x}," in line]
        shapes["cons"] = [masked(re.sub(r"lop=\w+", "lop=W", line)) for line in ours]
        shapes["conf"] = [key for key in keys_of(word(host, "conf"), "=")]
        shapes["envi"] = [key for key in keys_of(word(host, "envi"), "=") if not OF_JAVA.match(key)]
        shapes["wchs"] = word(host, "wchs")
        shapes["wchc"] = sorted(word(host, "wchc").replace(f"0x{session:x}", "SESSION").splitlines())
        shapes["wchp"] = sorted(word(host, "wchp").replace(f"0x{session:x}", "SESSION").splitlines())
        dump = word(host, "dump")
        shapes["dump"] = [line for line in dump.splitlines() if line in ("SessionTracker dump:", "ephemeral nodes dump:")]
        mine = dump.split(f"0x{session:x}:\n", 1)
        shapes["dump, of a session"] = mine[1].split("\n0x")[0].split("Connections dump")[0].split() if mine[1:] else dump
        name, port = host.rsplit(":", 1)
        with socket.create_connection((name, int(port)), timeout=5) as unknown:
            unknown.sendall(b"zzzz")
            shapes["a word that is none"] = unknown.recv(100)
        goodbye(connection)
        return shapes

    scene.on_both(play)


def listed():
    """Patterns of what COMPATIBILITY.md says of metrics."""
    text = COMPATIBILITY.read_text().split("### Metrics under ZooKeeper's names", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"`([^`]+)`", text)
    return found + [f"{name}client_response_size" for name in found if name in ("last_", "min_", "max_")]


def unlisted(keys):
    """Those that the document says nothing about, by their own name or by that of the summary they belong to."""
    patterns = listed()
    base = re.compile(r"^(avg|min|max|cnt|sum|p50|p95|p99|p999)_")

    def is_listed(key):
        names = {key, base.sub("", key), re.sub(r"^\d+_", "N_", base.sub("", key))}
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)
    return sorted(key for key in keys if not is_listed(key))


def figures(scene):
    """mntr has the keys of the original, but for those that COMPATIBILITY.md names"""
    got = {name: {line.split("\t")[0] for line in word(host, "mntr").splitlines()} for name, host in scene.hosts.items()}
    missing = {key.removeprefix("zk_") for key in got["Apache"] - got["Zoolog"]}
    scene.expect("keys that are missing and in no table", unlisted(missing), [])
    # Else nothing was compared.
    scene.expect("many keys are alike", len(got["Apache"] & got["Zoolog"]) > 20, True)


def http(admin, path, method="GET"):
    """Status and text of an HTTP answer."""
    asked = urllib.request.Request(f"http://{admin}{path}", method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def shape(value, depth=0):
    """Keys and kinds of what JSON has, some levels deep; of a list, those of its elements."""
    if isinstance(value, dict) and depth < 3:
        return {key: shape(v, depth + 1) for key, v in sorted(value.items())}
    if isinstance(value, list):
        return sorted({json.dumps(shape(v, depth + 1), sort_keys=True) for v in value})
    kinds = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}
    return kinds.get(type(value), "object")


# What these say is another thing here, as COMPATIBILITY.md has it.
OTHER_THINGS = {"environment", "system_properties", "monitor", "hash", "dump", "leader", "set_trace_mask",
                "initial_configuration", "voting_view", "zabstate", "watches", "watches_by_path"}


def admin(scene):
    """admin commands have the names, abbreviations and fields of the original"""
    names = {}
    for name, at in scene.admin.items():
        status, text = http(at, "/commands")
        names[name] = (status, sorted(set(re.findall(r"/commands/(\w+)", text))))
    scene.expect("commands", names["Zoolog"], names["Apache"])

    def play(name):
        host, at = scene.hosts[name], scene.admin[name]
        connection, session = guest(host)
        shapes = {}
        for command in (*names["Apache"][1], "conf", "cons", "env", "lsnp", "icfg", "mntr", "srvr", "stat", "wchs", "nonsense"):
            status, text = http(at, f"/commands/{command}")
            try:
                answer = json.loads(text)
            except ValueError as e:
                raise ValueError(f"{name} {command}: {e}: {text}") from e
            # An Apache that is alone has no leader, and says so as an error.
            both = (status, answer["command"], answer.get("error") is None or answer["command"] == "leader")
            shapes[command] = both if answer["command"] in OTHER_THINGS else (*both, shape(answer))
        for command in ("watches", "watches_by_path", "dump"):
            answer = json.loads(http(at, f"/commands/{command}")[1])
            # On a server that is alone Apache knows when; Zoolog is as a follower.
            answer.pop("expiry_time_to_session_ids", None)
            for lists in answer.values():
                if isinstance(lists, dict):
                    lists.update({key: sorted(value) for key, value in lists.items()})
            text = json.dumps(answer, sort_keys=True)
            shapes[f"{command}, in full"] = text.replace(str(session), "SESSION").replace(f"0x{session:x}", "SESSION")
        for method in ("POST", "HEAD", "PUT"):
            shapes[method] = http(at, "/commands/ruok", method)[0]
        goodbye(connection)
        return shapes

    got = {name: play(name) for name in scene.hosts}
    for key, wanted in got["Apache"].items():
        scene.expect(f"/commands/{key}", got["Zoolog"].get(key), wanted)


SCENES = [words, figures, admin]
