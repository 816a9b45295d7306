"""What have all drills in common? Checks that are counted and told, a home that stays if something failed, one exit
code."""

import pathlib
import shutil
import tempfile
import time
import traceback


class Frame:
    """A drill; `run` is its own, `close` gives back what it holds."""

    def __init__(self, args):
        self.args = args
        self.home = pathlib.Path(args.dir or tempfile.mkdtemp(prefix="zoolog-drill-")).resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        self.passed = self.failed = 0
        self.started = time.monotonic()

    def say(self, text):
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)

    def check(self, name, wrong):
        """A check passes if nothing is wrong."""
        wrong = list(wrong)
        if not wrong:
            self.passed += 1
            self.say(f"ok      {name}")
            return
        self.failed += 1
        self.say(f"FAILED  {name}")
        for line in wrong[:10]:
            print(f"            {line}")
        if len(wrong) > 10:
            print(f"            and {len(wrong) - 10} more")

    def run(self):
        """All of it."""
        raise NotImplementedError

    def close(self):
        """Whatever happened: nothing of it runs on."""

    def carry_out(self):
        """Runs it; the exit code."""
        try:
            self.run()
        except KeyboardInterrupt:
            self.failed += 1
            print("interrupted")
        except Exception:
            self.failed += 1
            print(f"FAILED  the drill came to its end\n{traceback.format_exc()}", flush=True)
        finally:
            self.close()
        if self.failed:
            print(f"data and logs are in {self.home}; again with --seed {self.args.seed}")
        elif not self.args.dir:
            shutil.rmtree(self.home, ignore_errors=True)
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def seconds(text):
    """`45s`, `10m`, `1h` or seconds."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    return float(text[:-1]) * unit if unit else float(text)


def common_options(parser, port):
    """Options that all drills have."""
    parser.add_argument("--zoolog", required=True, help="the built binary")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is drawn (default: the time)")
    parser.add_argument("--port", type=int, default=port, help=f"first port (default {port})")
    parser.add_argument("--dir", help="where to keep data and logs (default: a temporary directory, removed if all is well)")
