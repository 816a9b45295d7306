"""What do the writers notice? `loadgen audit` as a child, and when each of its writers was acknowledged something."""

import bisect
import json
import signal
import subprocess
import threading
import time

from lib.drill.nodes import end_with_parent


class Writers:
    """Writers and followers, until `finish`."""

    def __init__(self, loadgen, cluster, folder, writers=0, followers=0, rate=None):
        self.folder = folder
        command = [str(loadgen), "audit", "--orderers", cluster.known_orderers(), "--writers", str(writers),
                   "--followers", str(followers)]
        if rate:
            command += ["--rate", str(rate)]
        with open(folder / "audit.err", "ab") as err:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True,
                                            preexec_fn=end_with_parent)
        self.times = [[] for _ in range(writers)]  # per writer: when it was acknowledged something, wall seconds
        self.acked = [0] * writers
        self.followed = [0] * followers
        self.result = None
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        with open(self.folder / "audit.out", "a") as copy:
            for line in self.process.stdout:
                says = json.loads(line)
                if says.get("done"):
                    self.result = says
                    copy.write(line)
                    continue
                at = says["at_ms"] / 1e3
                for i, acked in enumerate(says["acked"]):
                    if acked > self.acked[i]:
                        self.acked[i] = acked
                        self.times[i].append(at)
                self.followed = says["followed"]

    def since(self, at):
        """Which writers have been acknowledged nothing since the wall second `at`."""
        return [i for i, times in enumerate(self.times) if not times or times[-1] < at]

    def longest_pause(self, begin, end):
        """(longest time without an acknowledgement of one writer, of all of them together) that touches the time from
        `begin` to `end`, in seconds."""
        each = [longest_gap(times, begin, end) for times in self.times]
        together = longest_gap(sorted(t for times in self.times for t in times[-20_000:]), begin, end)
        return max(each), together

    def finish(self, wait_s):
        """Ends the writers, has the log read back; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(wait_s)

    def wait(self, wait_s):
        try:
            code = self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.thread.join(10)
        return code

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def longest_gap(times, begin, end):
    """Longest time between two of the ascending `times` of which any part lies in `begin` to `end`."""
    first = max(0, bisect.bisect_right(times, begin) - 1)
    last = bisect.bisect_left(times, end)
    near = times[first:last + 1]
    return max((b - a for a, b in zip(near, near[1:])), default=0.0)


def now():
    """The wall clock that the writers' lines carry."""
    return time.time()
