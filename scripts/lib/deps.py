"""Where does kazoo come from? From this Python if it is installed, else from pip into target/python."""

import importlib
import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TARGET = REPOSITORY / "target" / "python"
KAZOO = "kazoo==2.10.0"


def ensure_kazoo():
    """Makes `import kazoo` work, installing it once when it is missing. Exits with the cure if it can't."""
    sys.path.insert(0, str(TARGET))
    try:
        return importlib.import_module("kazoo")
    except ImportError:
        pass
    print(f"installing {KAZOO} into {TARGET} ...", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--target", str(TARGET), KAZOO]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"kazoo could not be installed; install it yourself: pip install {KAZOO}")
    importlib.invalidate_caches()
    return importlib.import_module("kazoo")
