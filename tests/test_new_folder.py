"A notebook in a folder that nobody has heard of is noticed by every check, since they walk the folders."

import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT, run
from nbformat import write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytestmark = pytest.mark.e2e
EXPORT = "tests/test_sync.py::test_the_module_is_what_the_notebooks_export"
OUTPUTS = "tests/test_sync.py::test_a_notebook_keeps_its_outputs_and_no_errors[garden/00_rose]"
FRONT_PAGE = "tests/test_sync.py::test_the_front_page_names_every_notebook"
PLAN = "tests/test_structure.py::test_the_plan_is_kept"
WHEEL = "tests/test_package.py::test_the_wheel_holds_the_modules_and_nothing_else"
SITE = "tests/test_site.py::test_links_and_images_lead_somewhere"


@pytest.fixture
def checkout(tmp_path):
    "A copy of the checkout with a new folder, whose notebook was neither run nor exported."
    copy = tmp_path / "copy"
    leave = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "_build", "_proc", "units")
    shutil.copytree(ROOT, copy, ignore=leave)
    cells = [
        new_markdown_cell("# Rose\n\n> A flower."),
        new_code_cell("#| default_exp garden.rose"),
        new_code_cell("#| export\ndef scent() -> float:\n    return 1.0"),
        new_code_cell("scent()"),
    ]
    (copy / "nbs" / "garden").mkdir()
    write(new_notebook(cells=cells), copy / "nbs" / "garden" / "00_rose.ipynb")
    return copy


def complaints(checkout, *checks: str) -> set[str]:
    "Those of the checks that fail in a checkout."
    how = ["-q", "-n", "0", "--tb=no", "-rfE", "-m", ""]
    command = [sys.executable, "-m", "pytest", *how, *checks]
    env = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout
    return set(re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M))


def test_a_new_folder_is_noticed(checkout):
    fresh = complaints(checkout, EXPORT, OUTPUTS, FRONT_PAGE, PLAN, WHEEL)
    assert fresh == {EXPORT, OUTPUTS, FRONT_PAGE}
    run("nbdev_export", cwd=checkout)
    exported = complaints(checkout, EXPORT, FRONT_PAGE, PLAN, WHEEL, SITE)
    assert exported == {FRONT_PAGE, PLAN, SITE}, "it is exported and packed, and has no place yet"
