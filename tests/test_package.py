"The library that a user installs, and the form of its code."

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from helpers import ROOT, modules, run
from lowest import versions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_readme import example

MODULES = modules()
COMMANDS = {"bench.py", "rerun.py"}  # which need the extra study
OPTIONAL = {"hub.py": {"hub"}, "tagging/metrics.py": {"study"}}  # modules that need an extra


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    "A copy of the sources: a build in the checkout would pick up what older ones left."
    copy = tmp_path_factory.mktemp("sources") / "copy"
    leave = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "_build", "__pycache__", "results"
    )
    shutil.copytree(ROOT, copy, ignore=leave)
    return copy


@pytest.fixture(scope="module")
def wheel(sources):
    "The wheel, built from the copy."
    run("pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "wheels", ".", cwd=sources)
    return next((sources / "wheels").glob("*.whl"))


def requirements(wheel: Path) -> list[str]:
    "What the wheel asks for, extras included."
    with zipfile.ZipFile(wheel) as z:
        metadata = z.read(next(n for n in z.namelist() if n.endswith("/METADATA"))).decode()
    return re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)


def needed(names: list[str], extra: str = "") -> dict[str, Requirement]:
    "The distributions that these requirements need, themselves included, by name."
    chosen: dict[str, Requirement] = {}
    queue = [Requirement(n) for n in names]
    while queue:
        req = queue.pop()
        name = canonicalize_name(req.name)
        asked = req.marker is None or req.marker.evaluate({"extra": extra})
        if asked and name not in chosen:
            chosen[name] = req
            queue += map(Requirement, distribution(name).requires or [])
    return chosen


def environment(place: Path, wheel: Path, extra: str = "", tools: Iterable[str] = ()) -> Path:
    """The Python of a new environment with the wheel, what its metadata asks for, and tools, nothing else.

    To save a download of torch, the requirements are links to this environment's copies. The
    project is not among them: it can only come from the wheel."""
    run("python", "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    run("pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    site = next((place / "lib").glob("python*/site-packages"))
    for name in needed([*requirements(wheel), *tools], extra):
        dist = distribution(name)
        tops = {f.parts[0] for f in dist.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(dist.locate_file(top)))
    return python


@pytest.fixture(scope="module")
def plain_python(wheel, tmp_path_factory):
    "An environment as `pip install .` makes it."
    return environment(tmp_path_factory.mktemp("plain") / "env", wheel)


@pytest.fixture(scope="module")
def study_python(wheel, tmp_path_factory):
    "An environment as `pip install '.[study]'` makes it."
    return environment(tmp_path_factory.mktemp("study") / "env", wheel, "study")


def says(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess:
    "What Python says to some code, away from the checkout."
    command = [python, "-I", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def dotted(modules: Iterable[str]) -> list[str]:
    "Names of modules, from their files below the package."
    places = [Path("sparse_sharing", name).with_suffix("") for name in modules]
    names = [".".join(p.parts).removesuffix(".__init__") for p in places]
    return [n for n in names if not n.endswith("._modidx")]


@pytest.mark.e2e
def test_the_wheel_holds_the_modules_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as z:
        files = [n for n in z.namelist() if ".dist-info/" not in n]
        licences = [n for n in z.namelist() if n.endswith(".dist-info/licenses/LICENSE")]
    assert sorted(files) == sorted(f"sparse_sharing/{name}" for name in MODULES)
    assert licences


@pytest.mark.e2e
def test_the_source_distribution_makes_the_same_wheel(wheel, sources, tmp_path):
    "`pip install` of either brings every module, in whatever folder it lies."
    code = "from setuptools.build_meta import build_sdist; build_sdist('sources')"
    run("python", "-c", code, cwd=sources)
    archive = next((sources / "sources").glob("*.tar.gz"))
    run("pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, archive)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as other:
        ours, theirs = ({n for n in z.namelist() if ".dist-info/" not in n} for z in (one, other))
    assert ours == theirs


@pytest.mark.e2e
def test_every_module_is_imported_with_the_extra_study(study_python, tmp_path):
    names = dotted(n for n in MODULES if n not in OPTIONAL)
    code = f"import {', '.join(names)}, sys; print(*[sys.modules[n].__file__ for n in {names}])"
    done = says(study_python, code, tmp_path)
    assert done.returncode == 0, done.stderr
    env = study_python.parents[1]
    assert all(Path(f).is_relative_to(env) for f in done.stdout.split()), done.stdout
    dev = says(study_python, "import nbdev", tmp_path)
    assert dev.returncode != 0, "the environment is not clean: it has nbdev"


@pytest.mark.e2e
def test_the_library_is_imported_without_any_extra(plain_python, tmp_path):
    names = dotted(
        name
        for name in MODULES
        if name.split("/")[0] not in {"study", "report"} and name not in COMMANDS | OPTIONAL.keys()
    )
    done = says(plain_python, f"import {', '.join(names)}", tmp_path)
    assert done.returncode == 0, done.stderr
    hub = says(plain_python, "import sparse_sharing.hub", tmp_path)
    assert "pip install 'sparse-sharing[hub]'" in hub.stderr
    pandas = says(plain_python, "import pandas", tmp_path)
    assert pandas.returncode != 0, "the environment is not plain: it has pandas"


@pytest.mark.e2e
def test_the_example_of_the_readme_runs_without_any_extra(plain_python, tmp_path):
    done = says(plain_python, example(), tmp_path)
    assert done.returncode == 0, done.stderr


# One file of tests for each part of the library: all of them take minutes, and the others need no more packages.
PLAIN = (
    "masks",
    "sharing",
    "fit",
    "pruning",
    "regimes",
    "persistence",
    "export",
    "files",
    "several",
)


@pytest.mark.e2e
def test_the_librarys_tests_pass_without_any_extra(wheel, tmp_path):
    "Those that need one are skipped, and say which. There is no checkout that could be imported instead."
    python = environment(tmp_path / "env", wheel, tools=("pytest", "pytest-xdist", "hypothesis"))
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow and not e2e"]
    done = subprocess.run(
        [python, "-m", "pytest", *options, *(f"tests/method/test_{name}.py" for name in PLAIN)],
        cwd=copy, capture_output=True, text=True, env=environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 200, done.stdout
    skipped = re.findall(r"^SKIPPED .*", done.stdout, re.M)
    extras = "loky|pandas|huggingface_hub|onnx|torchjd|transformers|CUDA"
    assert not [line for line in skipped if not re.search(extras, line)], skipped


@pytest.mark.e2e
def test_a_missing_extra_is_named_with_its_cure(plain_python, tmp_path):
    asked = {
        "import sparse_sharing.study": "pandas",
        "import sparse_sharing.report": "seaborn",
        "import sparse_sharing.bench": "seqeval",
        "import sparse_sharing.tagging.metrics": "seqeval",
        "sparse_sharing.Mask.ones(torch.nn.Linear(2, 2)).densities()": "pandas",
    }
    code = f"""
import torch
import sparse_sharing
for line in {list(asked)}:
    try:
        exec(line)
    except ModuleNotFoundError as error:
        print(error)
"""
    done = says(plain_python, code, tmp_path)
    assert done.returncode == 0, done.stderr
    for message, package in zip(done.stdout.splitlines(), asked.values(), strict=True):
        assert package in message
        assert message.endswith("pip install 'sparse-sharing[study]'")


@pytest.mark.e2e
def test_the_face_is_quick_to_import_and_brings_no_tables(study_python, tmp_path):
    code = """
import sys, time
import torch
start = time.perf_counter()
import sparse_sharing
print(time.perf_counter() - start)
strange = {"pandas", "matplotlib", "seqeval", "sparse_sharing.study"} & sys.modules.keys()
assert not strange, strange
for name in sparse_sharing.__all__:
    getattr(sparse_sharing, name)
"""
    done = [says(study_python, code, tmp_path) for _ in range(3)]
    assert not done[0].returncode, done[0].stderr
    assert min(float(d.stdout) for d in done) < 0.3, "seconds more than torch alone"


# Extras whose packages a module of a folder may import at its top; in a function, any extra's.
EXTRAS = {"": set(), "tagging": set(), "study": {"study"}, "report": {"study"}}


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    "The packages that a source imports, and whether at its top, where it counts without being called."
    late = set()
    for node in ast.walk(tree):
        guard = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if guard or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            late |= {id(n) for n in ast.walk(node)}
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [str(node.module)]
        for name in names:
            yield name.split(".")[0], id(node) not in late


def asked_for(wheel: Path, extras: set[str]) -> set[str]:
    "The distributions that the wheel names for itself and for some extras."
    reqs = [Requirement(r) for r in requirements(wheel)]
    markers = {f'extra == "{extra}"' for extra in extras}
    return {canonicalize_name(r.name) for r in reqs if not r.marker or str(r.marker) in markers}


@pytest.mark.e2e
def test_what_a_module_imports_is_a_requirement(wheel):
    "Not only something that a requirement brings along."
    kernel = {"IPython"}  # asked for by code that only a notebook's kernel reaches
    known = sys.stdlib_module_names | {"sparse_sharing"} | kernel
    owners, bare = packages_distributions(), []
    for name, path in MODULES.items():
        folder = EXTRAS[str(Path(name).parent).removeprefix(".")]
        at_top = asked_for(wheel, folder | OPTIONAL.get(name, set()))
        anywhere = asked_for(wheel, {"study", "dask", "hub"})
        for package, top in imports(ast.parse(path.read_text(encoding="utf-8"))):
            makers = {canonicalize_name(d) for d in owners.get(package, [])}
            if package not in known and not makers & (at_top if top else anywhere):
                bare.append(f"{name}: {package}")
    assert not bare, f"add to the requirements in settings.ini, or import it in a function: {bare}"


def test_what_is_required_has_a_lowest_version():
    "Which `tests/lowest.py` installs. Extras, too."
    extras = ["study", "dask", "hub", "onnx", "transformers", "torchjd"]
    chosen = versions(extras)
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", version) for version in chosen)
    assert len(chosen) == len(set(chosen)) > 20


def test_code_is_linted_and_formatted():
    run("ruff", "check", "nbs", "tests", "docs", "setup.py")
    run("ruff", "format", "--check", "nbs", "tests", "docs", "setup.py")


@pytest.mark.e2e
def test_types_are_right():
    run("mypy")
