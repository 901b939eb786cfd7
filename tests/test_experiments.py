"The experiment notebooks: what each takes, and that it runs to its end, small."

import re

import nbformat
import pandas as pd
import papermill
import pytest
from helpers import NOTEBOOKS, page

from sparse_sharing.study.schema import COLUMNS

EXPERIMENTS = [
    p for p in NOTEBOOKS if not re.match(r".*/|index|api|running|your_|replication", page(p))
]
PARAMETERS = {
    *("data_dir", "embeddings", "preset", "alpha", "min_density", "warmup", "epochs"),
    *("seed", "n_seeds", "workers", "scheduler", "device", "results_dir"),
}
SMALL = dict(alpha=0.4, min_density=0.65, warmup=1, epochs=1, workers=2)
each_experiment = pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
LONG = {"maturity": {}, "combinations": {"alpha": None, "min_density": None}}  # own settings
SLOW = {*LONG, "negative_transfer", "relatedness", "hidden_settings"}
each_in_its_time = pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=pytest.mark.slow if p.stem in SLOW else pytest.mark.e2e, id=p.stem)
        for p in EXPERIMENTS
    ],
)


@each_experiment
def test_an_experiment_takes_the_parameters_of_all(path):
    tags = [t for c in nbformat.read(path, 4).cells for t in c.metadata.get("tags", [])]
    assert tags.count("parameters") == 1
    found = papermill.inspect_notebook(str(path))
    assert not PARAMETERS - found.keys(), "parameters that every experiment takes are missing"
    bare = [n for n, p in found.items() if not p["help"] or p["inferred_type_name"] == "None"]
    assert not bare, f"parameters without a type or a comment: {bare}"


@each_in_its_time
def test_an_experiment_runs_and_writes_its_tables(path, tmp_path):
    settings = SMALL | LONG.get(path.stem, {}) | {"results_dir": str(tmp_path / "results")}
    papermill.execute_notebook(
        str(path),
        str(tmp_path / "out.ipynb"),
        settings,
        kernel_name="python3",
        progress_bar=False,
        cwd=str(tmp_path),
    )
    assert (tmp_path / "results" / "run.json").is_file()
    written = ["results", "curves"]
    if path.stem != "budget":  # which prunes nothing
        written += ["candidates", "overlap"]
    for name in written:
        table = pd.read_csv(tmp_path / "results" / f"{name}.csv")
        assert list(table) == COLUMNS[name] and len(table)


@pytest.mark.e2e
def test_results_are_found_again_from_another_folder(tmp_path):
    "From the root of a clone, and from the notebook's folder, as JupyterLab starts it."
    notebook = nbformat.read(next(p for p in EXPERIMENTS if p.stem == "exp1"), 4)
    sources = [cell.source for cell in notebook.cells]
    last = next(i for i, source in enumerate(sources) if "run(experiment)" in source)
    notebook.cells = notebook.cells[: last + 1]
    (tmp_path / "nbs").mkdir()
    (tmp_path / "settings.ini").touch()
    nbformat.write(notebook, tmp_path / "nbs" / "exp1.ipynb")
    told = []
    for place in (tmp_path, tmp_path / "nbs"):
        done = papermill.execute_notebook(
            str(tmp_path / "nbs" / "exp1.ipynb"),
            str(tmp_path / "out.ipynb"),
            dict(systems="single", warmup=1, epochs=1),
            kernel_name="python3",
            progress_bar=False,
            cwd=str(place),
        )
        printed = "".join(o.get("text", "") for cell in done.cells for o in cell.get("outputs", []))
        assert f"writes to {tmp_path / 'results'}\n" in printed
        told.append((tmp_path / "results" / "progress.log").read_text())
    assert told[0] == told[1] and len(told[0].splitlines()) == 6, "all is done once"
    assert not (tmp_path / "nbs" / "results").exists()
