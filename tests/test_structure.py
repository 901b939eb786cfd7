"The plan of the house: which module may import which, without circles, and how long a thing may be."

import ast
import json
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest
from helpers import NOTEBOOKS, modules

# What a module of each folder may import besides its neighbours: folders, and single modules.
PLAN: dict[str, set[str]] = {
    "": set(),  # the library: any network, any task
    "tagging": {"files", "extras"},
    "study": {"", "tagging"},
    "report": {"study.paper", "study.schema"},
}
COMMANDS = {  # `python -m sparse_sharing.bench`
    "bench": "study.bench",
    "rerun": "study.rerun",
    "tag": "tagging.command",
}
# The one module of tagging that knows the method: a tagger is kept in the folder of its model.
MEETING = {"tagging.tagger": {"persistence", "sharing"}}

# Private names that are not the package's: each is PyTorch's, but for the first one.
OF_OTHERS = {
    "bytask.py": {"_buffers", "_load_from_state_dict", "_non_persistent_buffers_set"},
    "executor.py": {"_exit"},  # os._exit is documented: it ends a process at once
    "export.py": {"_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks"},
    "fitting.py": {"_parameters", "_python_dispatch"},
    "several.py": {"_version"},
    "subnets.py": {"_parameters", "_modules"},
    "views.py": {
        "_C",
        "_are_functorch_transforms_active",
        "_cdata",
        "_current_graph_task_id",
        "_flat_weights_names",
        "_parameters",
        "_use_count",
    },
}


def folder(module: str) -> str:
    "The folder of a module: `study` for `study.plan`, nothing for `masks`."
    return module.rpartition(".")[0]


def imported(source: str, module: str, known: set[str]) -> set[str]:
    "The modules of the package that the source of a module imports, wherever in it the import stands."
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = ["sparse_sharing", *module.split(".")][: -node.level] if node.level else []
            base = ".".join([*home, node.module] if node.module else home)
            names |= {base, *(f"{base}.{a.name}" for a in node.names)}
    return {n.removeprefix("sparse_sharing.") for n in names} & known


def arrows(files: dict[str, Path]) -> dict[str, set[str]]:
    "Each module of a package, and those that it imports. The faces of packages are left out."
    names = {Path(f).with_suffix("").as_posix().replace("/", "."): p for f, p in files.items()}
    known = {n: p for n, p in names.items() if not n.rpartition(".")[2].startswith("_")}
    return {n: imported(p.read_text("utf-8"), n, set(known)) for n, p in known.items()}


def wrong(graph: dict[str, set[str]]) -> list[str]:
    "The imports that the plan does not allow."
    found = []
    for module, targets in graph.items():
        home = folder(module)
        for target in sorted(targets):
            neighbours = folder(target) == home
            planned = {folder(target), target} & (
                PLAN.get(home, set()) | MEETING.get(module, set())
            )
            if not (neighbours or planned or COMMANDS.get(module) == target):
                found.append(f"{module} imports {target}")
        if home not in PLAN:
            found.append(f"{module} is in a folder without a place in the plan")
    return found


def test_the_plan_is_kept():
    graph = arrows(modules())
    assert {folder(m) for m in graph} == set(PLAN)
    assert wrong(graph) == []


def test_no_import_runs_in_a_circle():
    tuple(TopologicalSorter(arrows(modules())).static_order())


@pytest.mark.parametrize("path", modules().values(), ids=modules().keys())
def test_a_module_is_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400 or path.name == "_modidx.py", f"{path.name} has {lines} lines"


def long_functions(source: str, limit: int = 60) -> list[str]:
    "Functions of more lines than that, their signatures and docstrings counted."
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > limit:
                found.append(f"{node.name} has {lines} lines")
    return found


@pytest.mark.parametrize("path", modules().values(), ids=modules().keys())
def test_a_function_is_short(path):
    assert long_functions(path.read_text("utf-8")) == []


def exported_cells(path: Path) -> list[int]:
    "Lines of each exported cell of a notebook that defines something."
    sources = ("".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"])
    exported = [s for s in sources if s.startswith("#| export")]
    return [
        len(source.splitlines())
        for source in exported
        if any(isinstance(n, (ast.FunctionDef, ast.ClassDef)) for n in ast.parse(source).body)
    ]


def test_half_of_the_exported_cells_are_short():
    "What a cell defines is shown before the next one; a cell of two screens is the exception."
    lines = [n for path in NOTEBOOKS for n in exported_cells(path)]
    assert median(lines) <= 25 and sum(1 for n in lines if n > 100) <= 10


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(source: str) -> set[str]:
    "Private names that a source takes from somewhere else: it imports them, or nothing in it defines them."
    tree, imported_names, attributes, own = ast.parse(source), set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imported_names |= {a.name.rpartition(".")[2] for a in node.names}
            imported_names |= set((getattr(node, "module", "") or "").split("."))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
    return {name for name in imported_names | (attributes - own) if is_private(name)}


@pytest.mark.parametrize("path", modules().values(), ids=modules().keys())
def test_private_names_stay_in_their_module(path):
    assert private_uses(path.read_text("utf-8")) <= OF_OTHERS.get(path.name, set())


def test_long_functions_and_private_names_are_found():
    long = "def f():\n" + "    pass\n" * 60
    assert (
        long_functions(long) == ["f has 61 lines"]
        and long_functions(long[: -len("    pass\n")]) == []
    )
    assert long_functions("class A:\n    async def g(self):\n" + "        pass\n" * 60)
    source = (
        "from .masks import _pairs, Mask\nMask.__name__\nself._mine = Mask()._theirs\nself._mine"
    )
    assert private_uses(source) == {"_pairs", "_theirs"}


def test_what_breaks_the_plan_is_found(tmp_path):
    "In a folder that is new, too."
    sources = {
        "masks.py": "def f():\n    from . import study",
        "sharing.py": "from .study.plan import x",
        "study/plan.py": "from ..masks import Mask\nfrom .. import report, sharing",
        "study/cafe.py": "import sparse_sharing.report.tables as t",
        "report/tables.py": "from sparse_sharing.study import plan",
        "new/thing.py": "import torch.nn\nfrom pathlib import Path",
    }
    for name, source in sources.items():
        (tmp_path / "sparse_sharing" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sparse_sharing" / name).write_text(source)
    graph = arrows(modules(tmp_path))
    assert sorted(wrong(graph)) == [
        "new.thing is in a folder without a place in the plan",
        "report.tables imports study.plan",
        "sharing imports study.plan",
        "study.cafe imports report.tables",
    ]
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "source",
    [
        "from ..masks import Mask",
        "from .. import masks",
        "from sparse_sharing.masks import Mask",
        "from sparse_sharing import masks",
        "import sparse_sharing.masks as m",
        "def f():\n    from sparse_sharing.masks import Mask",
    ],
)
def test_an_import_is_seen(source):
    known = {"masks", "pruning", "study.plan"}
    assert imported(source + "\nimport torch.nn", "study.plan", known) == {"masks"}
