"What the tests of the tool chain share."

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").glob("*.ipynb") if not p.name.startswith("_"))


def run(tool: str, *args: str | Path, cwd: Path = ROOT) -> str:
    "The output of a tool of this environment, which must succeed."
    done = subprocess.run(
        [Path(sys.executable).parent / tool, *args],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{tool} ended with {done.returncode}\n{done.stdout}"
    return done.stdout
