"What the tests of the tool chain share."

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("method", "tagging", "study", "report")  # of notebooks, in reading order


def notebooks(root: Path = ROOT) -> list[Path]:
    "Every notebook of a checkout, in whatever folder: chapters in reading order, then those at the top."
    found = [p for p in (root / "nbs").rglob("*.ipynb") if not p.name.startswith(("_", "."))]
    found = [p for p in found if ".ipynb_checkpoints" not in p.parts]

    def place(path: Path) -> tuple[int, str]:
        folder = path.relative_to(root / "nbs").parts[0]
        rank = FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)
        return rank, str(path)

    return sorted(found, key=place)


def page(path: Path, root: Path = ROOT) -> str:
    "The place of a notebook below `nbs`, without its suffix: `method/00_masks`."
    return path.relative_to(root / "nbs").with_suffix("").as_posix()


def modules(root: Path = ROOT) -> dict[str, Path]:
    "Every Python file of the package, in whatever folder, by its path below the package."
    package = root / "sparse_sharing"
    return {p.relative_to(package).as_posix(): p for p in sorted(package.rglob("*.py"))}


NOTEBOOKS = notebooks()


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
        timeout=1800,  # the site is built in two minutes, on a busy machine in ten
    )
    assert done.returncode == 0, f"{tool} ended with {done.returncode}\n{done.stdout}"
    return done.stdout
