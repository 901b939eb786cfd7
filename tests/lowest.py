"""Makes an environment with the lowest versions that settings.ini promises, and runs the tests there.

    python tests/lowest.py FOLDER                # what the library needs, and its tests
    python tests/lowest.py FOLDER study dask     # these extras, too, and the tests of all folders

CI does not run it: the oldest torch of a package index may be a CUDA build, which takes gigabytes and minutes. Only
fast tests run. A second call with the same folder installs nothing, and runs them again.
"""

import os
import re
import shlex
import subprocess
import sys
import venv
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = {"pytest", "pytest-xdist", "hypothesis"}  # as pinned
MORE = {"papermill", "ipykernel", "seqscore", "conlleval"}  # for the tests of extras


def asked_for(settings: ConfigParser, key: str) -> list[str]:
    "Requirements of settings.ini, such as `torch>=2.6,<2.15`."
    return shlex.split(settings["DEFAULT"][key])


def lowest(requirement: str) -> str:
    "The oldest version that a requirement allows: `torch==2.6`."
    name, bound = re.match(r"([\w.-]+)[>=]=([^,]+)", requirement).groups()
    return f"{name}=={bound}"


def versions(extras: list[str]) -> list[str]:
    "What to install: the lowest of what is promised, and tools that have nothing to do with it."
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    keys = ["requirements", *(f"{extra}_requirements" for extra in extras)]
    promised = [lowest(r) for key in keys for r in asked_for(settings, key)]
    tools = TOOLS | MORE if extras else TOOLS
    pinned = asked_for(settings, "dev_requirements")
    return promised + [r for r in pinned if r.partition("==")[0] in tools]


def main(folder: Path, *extras: str) -> int:
    "The exit status of pytest."
    python = folder / "bin" / "python"
    wanted = versions(list(extras))
    print("lowest versions:", *wanted, flush=True)
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    folders = ["method", "tagging", "study", "report"] if extras else ["method"]
    tests = [str(ROOT / "tests" / name) for name in folders]
    command = [python.parent / "pytest", "-q", "-m", "not slow and not e2e", *tests]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]).absolute(), *sys.argv[2:]))
