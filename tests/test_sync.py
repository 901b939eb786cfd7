"The notebooks are the source: the module, and the notebooks' own form, follow from them."

import ast
import re
import shutil

import nbformat
import pytest
from helpers import NOTEBOOKS, ROOT, run

MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|tmp|root|home|Users)/\S*")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    "A copy of the sources, cleaned and exported anew, so that the checkout is left alone."
    copy = tmp_path_factory.mktemp("fresh")
    for name in ["settings.ini", "README.md"]:
        shutil.copy2(ROOT / name, copy)
    shutil.copytree(ROOT / "nbs", copy / "nbs", ignore=shutil.ignore_patterns(".*", "units"))
    run("nbdev_clean", cwd=copy)
    run("nbdev_export", cwd=copy)
    return copy


def test_the_module_is_what_the_notebooks_export(fresh):
    want, got = (
        {p.name: p.read_text(encoding="utf-8") for p in (d / "sparse_sharing").glob("*.py")}
        for d in (fresh, ROOT)
    )
    stale = sorted(n for n in want.keys() | got.keys() if want.get(n) != got.get(n))
    assert not stale, f"not what the notebooks export: {stale}; edit the notebook, nbdev_export"


@each_notebook
def test_a_notebook_is_clean(path, fresh):
    clean = (fresh / "nbs" / path.name).read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8") == clean, "run nbdev_clean"


def shows_a_value(source: str) -> bool:
    "Whether a cell ends with an expression that Jupyter displays. Calls may return nothing."
    code = "\n".join("" if line.startswith(("%", "!")) else line for line in source.split("\n"))
    body = ast.parse(code).body
    return (
        bool(body)
        and isinstance(body[-1], ast.Expr)
        and not isinstance(body[-1].value, (ast.Call, ast.Await))
        and not source.rstrip().endswith(";")
    )


@each_notebook
def test_a_notebook_keeps_its_outputs_and_no_errors(path):
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    outputs = [o for c in cells for o in c.outputs]
    assert outputs, "run it (docs/run_nb.py) and keep its outputs"
    assert path.stat().st_size < 1_000_000, "docs/run_nb.py makes pictures small: run it with that"
    assert not [o for o in outputs if o.output_type == "error"]
    skipped = re.compile(r"^#\|\s*(export|hide|slow|eval:\s*false)", re.M)
    shown = [c for c in cells if not skipped.search(c.source)]
    bare = [c.source for c in shown if shows_a_value(c.source) and not c.outputs]
    assert not bare, f"cells that show a value, but kept none: {bare}"


@pytest.mark.parametrize(
    "source, shown", [("x = 1\nx", True), ("x;", False), ("show(x)", False), ("", False)]
)
def test_which_cells_show_a_value(source, shown):
    assert shows_a_value(source) == shown


def test_numbered_notebooks_and_guides_run(fresh):
    run("nbdev_test", "--n_workers", "2", "--file_re", r"^(\d|index|your_)", cwd=fresh)


def test_no_path_of_a_machine_is_committed():
    places = [
        *("*.md", "*.ini", "*.toml", "docs/*.*", "tests/*.py", "sparse_sharing/*.py"),
        *("nbs/**/*.ipynb", "nbs/**/*.csv", "nbs/**/*.json"),
    ]
    files = sorted(f for pattern in places for f in ROOT.glob(pattern) if f.is_file())
    found = {
        str(f.relative_to(ROOT)): paths
        for f in files
        if (paths := MACHINE_PATH.findall(f.read_text(encoding="utf-8")))
    }
    assert not found


def test_a_path_of_a_machine_is_found():
    path = "/".join(["", "home", "ann", "x.py"])
    assert MACHINE_PATH.search(f'File "{path}"')
    assert not MACHINE_PATH.search(f"https://example.org{path}")


def test_the_front_page_names_every_notebook():
    "In reading order, with nothing that is not there."
    front = nbformat.read(ROOT / "nbs" / "index.ipynb", 4)
    text = "\n".join(c.source for c in front.cells if c.cell_type == "markdown")
    named = re.findall(r"^- \[[^]]+\]\((\w+)\.ipynb\)", text, re.M)
    assert sorted(named) == sorted(p.stem for p in NOTEBOOKS if p.stem != "index")
    numbered = [n for n in named if n[0].isdigit()]
    assert numbered == sorted(numbered) == named[: len(numbered)]


def phrases(words: list[str]) -> set[tuple[str, ...]]:
    "Six words in a row, most of them no numbers and no short words."
    runs = zip(*(words[i:] for i in range(6)), strict=False)
    return {r for r in runs if sum(len(w) > 2 and w.isalpha() for w in r) >= 4}


def test_no_sentence_of_a_corpus_that_is_not_ours(data_dir):
    "As running text, and as a column of words beside a column of tags."
    theirs = set()
    for path in [*data_dir.glob("conll200*/*"), *data_dir.glob("chunklink/*")]:
        for sentence in path.read_text(encoding="utf-8").split("\n\n"):
            rows = [line.split() for line in sentence.splitlines() if len(line.split()) > 2]
            theirs |= phrases([r[0] for r in rows])
            theirs |= phrases([w for r in rows for w in r[:2]])
    assert len(theirs) > 100_000
    files = [*NOTEBOOKS, *ROOT.glob("nbs/**/*.csv"), *ROOT.glob("tests/*.py")]
    for path in files:
        text = re.sub(r"<[^>]*>|\\[nt]", " ", path.read_text(encoding="utf-8"))
        found = theirs & phrases(re.findall(r"[\w.$-]+", text))
        assert not found, f"{path.name} quotes a corpus: {sorted(found)[:3]}"
