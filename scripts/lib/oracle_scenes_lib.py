"""What is a scene? Both systems, what is wrong so far, and connections to play on."""

from lib import jute


class Scene:
    """Both systems, and what is wrong so far."""

    def __init__(self, apache_hosts, zoolog, admin):
        self.hosts = {"Apache": apache_hosts[0], "Zoolog": zoolog.hosts[0]}
        # Where each answers admin commands.
        self.admin = admin
        self.topology = zoolog
        self.wrong = []

    def expect(self, what, got, wanted):
        """Notes what is not as it must be."""
        if got != wanted:
            self.wrong.append(f"{what}: {got!r}, not {wanted!r}")

    def on_both(self, play):
        """Plays `play(host)` on both; what it returns must be equal. Returns it."""
        got = {name: play(host) for name, host in self.hosts.items()}
        if isinstance(got["Apache"], dict):
            differ = [k for k, v in got["Apache"].items() if got["Zoolog"].get(k) != v]
            self.wrong += [f"{k}\n    Apache: {got['Apache'][k]}\n    Zoolog: {got['Zoolog'].get(k)}" for k in differ]
        elif got["Apache"] != got["Zoolog"]:
            self.wrong.append("".join(f"\n    {name}: {value}" for name, value in got.items()))
        return got["Zoolog"]


def joined(host, **asked):
    """A connection with a session, and the answer to its handshake."""
    connection = jute.Connection(host)
    return connection, connection.handshake(**asked)


def goodbye(connection):
    """Ends the connection's session."""
    connection.call(jute.CLOSE, xid=1 << 30)
    connection.close()


def remains(connection, *after):
    """What the connection still gives: frames' payloads, then "closed" or "silent"."""
    connection.send(b"".join(after))
    connection.socket.settimeout(3)
    frames = []
    try:
        while True:
            frames.append(connection.frame())
    except jute.Closed:
        return frames + ["closed"]
    except TimeoutError:
        return frames + ["silent"]
