"The library that a user installs, and the form of its code."

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from helpers import ROOT, modules, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MODULES = modules()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "The wheel, built from a copy: a build in the checkout would pick up what older ones left."
    copy = tmp_path_factory.mktemp("sources") / "copy"
    leave = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "_build", "__pycache__", "units"
    )
    shutil.copytree(ROOT, copy, ignore=leave)
    run("pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "wheels", ".", cwd=copy)
    return next((copy / "wheels").glob("*.whl"))


def requirements(wheel: Path) -> list[str]:
    "What the wheel asks for, extras included."
    with zipfile.ZipFile(wheel) as z:
        metadata = z.read(next(n for n in z.namelist() if n.endswith("/METADATA"))).decode()
    return re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)


def needed(names: list[str]) -> dict[str, Requirement]:
    "The distributions that these requirements need, themselves included, by name."
    found: dict[str, Requirement] = {}
    queue = [Requirement(n) for n in names]
    while queue:
        req = queue.pop()
        name = canonicalize_name(req.name)
        if (req.marker is None or req.marker.evaluate({"extra": ""})) and name not in found:
            found[name] = req
            queue += map(Requirement, distribution(name).requires or [])
    return found


@pytest.fixture(scope="module")
def clean_python(wheel, tmp_path_factory):
    """The Python of a new environment with the wheel and what its metadata asks for, nothing else.

    To save a download of torch, the requirements are links to this environment's copies. The
    project is not among them: it can only come from the wheel."""
    env = tmp_path_factory.mktemp("clean") / "env"
    run("python", "-m", "venv", "--without-pip", env)
    python = env / "bin" / "python"
    run("pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    site = next((env / "lib").glob("python*/site-packages"))
    for name in needed(requirements(wheel)):
        dist = distribution(name)
        tops = {f.parts[0] for f in dist.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(dist.locate_file(top)))
    return python


def test_the_wheel_holds_the_modules_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as z:
        files = [n for n in z.namelist() if ".dist-info/" not in n]
        licences = [n for n in z.namelist() if n.endswith(".dist-info/licenses/LICENSE")]
    assert sorted(files) == sorted(f"sparse_sharing/{name}" for name in MODULES)
    assert licences


def test_the_wheel_is_imported_in_a_clean_environment(clean_python, tmp_path):
    places = [Path("sparse_sharing", name).with_suffix("") for name in MODULES]
    names = [".".join(p.parts).removesuffix(".__init__") for p in places if p.name != "_modidx"]
    code = f"import {', '.join(names)}, sys; print(*[sys.modules[n].__file__ for n in {names}])"
    done = subprocess.run(
        [clean_python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    env = clean_python.parents[1]
    assert all(Path(f).is_relative_to(env) for f in done.stdout.split()), done.stdout
    dev = subprocess.run([clean_python, "-I", "-c", "import nbdev"], capture_output=True)
    assert dev.returncode != 0, "the environment is not clean: it has nbdev"


def test_what_a_module_imports_is_a_requirement(wheel):
    "Not only something that a requirement brings along. A function may import what an extra is for."
    asked = [Requirement(r) for r in requirements(wheel)]
    direct = {canonicalize_name(r.name) for r in asked if r.marker is None}
    extra = {canonicalize_name(r.name) for r in asked if "dask" in str(r.marker)}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in MODULES.values()]
    functions = [n for t in trees for n in ast.walk(t) if isinstance(n, ast.FunctionDef)]
    late = {id(n) for f in functions for n in ast.walk(f)}
    owners, bare = packages_distributions(), set()
    for node in (n for tree in trees for n in ast.walk(tree)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        allowed = direct | extra if id(node) in late else direct
        for top in {n.split(".")[0] for n in names} - sys.stdlib_module_names - {"sparse_sharing"}:
            if not allowed & {canonicalize_name(d) for d in owners.get(top, [])}:
                bare.add(top)
    assert not bare, f"add to the requirements in settings.ini: {bare}"


def test_code_is_linted_and_formatted():
    run("ruff", "check", "nbs", "tests", "docs", "setup.py")
    run("ruff", "format", "--check", "nbs", "tests", "docs", "setup.py")


def test_types_are_right():
    run("mypy")
