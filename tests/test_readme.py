"What the README and its neighbours say: commands, examples, a result, and that `.ci/run` does the same."

import configparser
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import papermill
from helpers import NOTEBOOKS, ROOT, page, run
from packaging.requirements import Requirement

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SETTINGS = configparser.ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")


def guide() -> str:
    "The text of the guide on running experiments."
    cells = json.loads((ROOT / "nbs/running.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def commands(tool: str, text: str = README) -> list[list[list[str]]]:
    "The one-line commands with a step that starts with `tool`: their steps, as lists of words."
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
    lines = [[shlex.split(step) for step in x.split(" && ")] for x in shell.splitlines()]
    return [steps for steps in lines if any(step[:1] == [tool] for step in steps)]


def test_the_two_commands_set_up_alike():
    setup = commands("python3.11")
    assert [steps[-1][0] for steps in setup] == ["papermill", "pytest"]
    experiment, tests = setup
    assert experiment[:-1] == tests[:-1] and tests[-1] == ["pytest"]
    torch, project = experiment[2:4]
    assert Requirement(torch[-1]).specifier.contains(version("torch")), "another torch is here"
    assert project[-1] == ".[dev]"


def test_papermill_commands_name_what_exists():
    found = commands("papermill") + commands("papermill", guide())
    assert len(found) == 8
    for _, notebook, out, *options in (steps[-1] for steps in found):
        assert out == "out.ipynb" and (ROOT / notebook).is_file()
        known = papermill.inspect_notebook(str(ROOT / notebook))
        assert set(options[::3]) <= {"-p"} and set(options[1::3]) <= known.keys()


def test_files_that_it_names_exist():
    paths = set(re.findall(r"(?:nbs|docs|tests|\.ci)/[\w./-]*\w", README + CONTRIBUTING))
    assert [p for p in sorted(paths) if not (ROOT / p).exists()] == []
    assert len(paths & {f"nbs/{page(p)}.ipynb" for p in NOTEBOOKS}) > 5


def test_the_readme_is_two_screens():
    assert len(README.splitlines()) <= 100


def test_its_result_is_what_the_recorded_run_says():
    spec = importlib.util.spec_from_file_location("docs_readme", ROOT / "docs" / "readme.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.renewed(README) == README, "call `python docs/readme.py`"


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {SETTINGS['DEFAULT']['version']}\n" in citation


def test_what_contributors_are_told_works(tmp_path):
    "A mask finder, a corpus and a system, each in a few lines."
    examples = re.findall(r"^```python\n(.*?)^```", CONTRIBUTING, re.M | re.S)
    assert len(examples) == 3
    for number, example in enumerate(examples):
        (tmp_path / f"example{number}.py").write_text(example, encoding="utf-8")
        run("python", f"example{number}.py", cwd=tmp_path)


def example() -> str:
    "The loop of the diff, after the change, on a small network; each side of it is valid Python."
    diff = re.search(r"^```diff\n(.*?)^```", README, re.M | re.S)[1].splitlines()
    old, new = (
        "\n".join(line[2:] for line in diff if line[:1] in (side, " ", "")) for side in "-+"
    )
    compile(old, "README.md", "exec")
    before = """
from torch import nn, ones
from sparse_sharing.masks import Mask
encoder, heads = nn.Linear(2, 2, bias=False), {"a": nn.Linear(2, 3)}
masks = {"a": Mask({"weight": (ones(2, 2) * ones(2).diag()).bool()})}
first = encoder.weight.detach().clone()
batches = [("a", ones(4, 2), ones(4).long())]
"""
    after = """
changed = (encoder.weight != first).tolist()
assert changed == [[True, False], [False, True]], changed
"""
    return before + new + after


def test_the_example_runs(tmp_path):
    (tmp_path / "example.py").write_text(example(), encoding="utf-8")
    run("python", tmp_path / "example.py")


def test_ci_runs_the_command_of_the_readme(tmp_path):
    "`.ci/run` in a folder with another README, and a `pytest` that only says that it ran."
    (tmp_path / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "pytest").write_text("#!/bin/sh\necho 3 passed with $OMP_NUM_THREADS\n")
    (tmp_path / "pytest").chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CI": "true"}

    def closing(readme: str) -> tuple[int, str]:
        (tmp_path / "README.md").write_text(readme, encoding="utf-8")
        command: list[str | Path] = ["bash", tmp_path / ".ci" / "run"]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout

    assert closing("Type\n\n    true\n\necho set up && pytest\n") == (
        0,
        "set up\n3 passed with 1\n",
    )
    assert closing("false && pytest\n") == (1, "")
    assert closing("no command\n") == (1, "")
