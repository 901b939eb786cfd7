"Builds the site into docs/_build/html from the notebooks, with the outputs kept in them: `python docs/build.py`."

import re
import shutil
import subprocess
import sys
from pathlib import Path

import names
from nbdev.serve import proc_nbs

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "docs" / "_build"

if __name__ == "__main__":
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "nbs", BUILD / "src", ignore=shutil.ignore_patterns(".*", "units"))
    for nb in (BUILD / "src").rglob("*.ipynb"):  # pages show the code that the module is made of
        text = nb.read_text(encoding="utf-8")
        nb.write_text(re.sub(r'"#\|\s*export\b(?=\\n|")', '"#| exports', text), encoding="utf-8")
    # runs the exported cells, and each `show_doc`
    pages = proc_nbs(BUILD / "src", n_workers=2, force=True)
    for nb in pages.rglob("*/*.ipynb"):  # a page is known by its folder, too
        text, folder = nb.read_text(encoding="utf-8"), nb.parent.relative_to(pages).as_posix()
        text = re.sub(r"(?<=output-file: )(?=[\w-]+\.html)", f"{folder}/", text)
        nb.write_text(text, encoding="utf-8")
    names.write(pages)
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    places = ["-c", ROOT / "docs", "-d", BUILD / "doctrees", pages, BUILD / "html"]
    sys.exit(subprocess.call([*sphinx, *map(str, places)]))
