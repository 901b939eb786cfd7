"The plan of the house: which module may import which, and how long one may be."

import ast
from itertools import chain

import pytest
from helpers import ROOT

# Each wing from the ground up. A module imports modules of lower floors of its own wing only.
METHOD = [{"files"}, {"masks"}, {"controls", "sharing"}, {"steps"}, {"training"}, {"pruning"}]
TAGGING = [
    *({"chunking", "sentences"}, {"ontonotes", "ptb"}, {"corpora"}),
    *({"scoring", "toy"}, {"auxiliary", "batches"}, {"tagger"}, {"crf"}),
]
# The study knows both wings, from `systems` on, and the published numbers.
STUDY = [
    *(
        {"paper"},
        {"labels", "parts", "systems"},
        {"units"},
        {"workers"},
        {"plans"},
        {"unfold"},
        {"study"},
    ),
    *({"report", "rerun", "bench"}, {"figures", "verdicts"}, {"analyses"}),
]

MODULES = sorted(p for p in (ROOT / "sparse_sharing").glob("*.py") if not p.name.startswith("_"))
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)


def allowed() -> dict[str, set[str]]:
    "Each module of the plan, and the modules that it may import."
    rules = {}
    for wing in (METHOD, TAGGING, STUDY):
        below = set()
        for floor in wing:
            rules |= {name: set(below) for name in floor}
            below |= floor
    for name in chain(*STUDY[1:]):
        rules[name] |= set(chain(*METHOD, *TAGGING))
    for name in ("figures", "verdicts", "analyses"):  # they show and judge what `report` has loaded
        rules[name] -= {"study", "bench"}
    return rules


def imported(source: str) -> set[str]:
    "The modules of the package that a source imports, wherever in it the import stands."
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "sparse_sharing" * (node.level > 0) + "." * bool(node.level and node.module)
            base += node.module or ""
            names |= {f"{base}.{a.name}" for a in node.names}
    parts = [n.split(".") for n in names]
    return {p[1] for p in parts if p[0] == "sparse_sharing" and p[1:] and p[1] != "__version__"}


@each_module
def test_arrows_run_downwards_only(path):
    rules = allowed()
    assert path.stem in rules, "a module without a place in the plan: give it one above"
    wrong = imported(path.read_text(encoding="utf-8")) - rules[path.stem]
    assert not wrong, f"{path.stem} must not import {sorted(wrong)}"


@each_module
def test_a_module_is_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{path.name} has {lines} lines"


def test_the_plan_keeps_the_wings_apart():
    rules = allowed()
    assert rules["pruning"] == {"files", "masks", "controls", "sharing", "steps", "training"}
    assert rules["controls"] == {"files", "masks"}, "a control knows nothing of what it is for"
    readers = {"chunking", "sentences", "ontonotes", "ptb", "corpora"}
    assert rules["batches"] == readers | {"scoring", "toy"}
    assert rules["ontonotes"] == rules["ptb"] == {"chunking", "sentences"}
    assert rules["paper"] == rules["files"] == rules["chunking"] == set()
    assert {m for m, below in rules.items() if "study" in below} == {"report", "rerun", "bench"}
    assert "plans" not in rules["workers"], "who does units knows nothing of experiments"
    assert {"pruning", "tagger", "paper"} <= rules["systems"]
    assert "parts" not in rules["systems"] and "unfold" not in rules["plans"]
    assert "toy" not in rules["scoring"] and "bench" not in rules["report"]


@pytest.mark.parametrize(
    "source",
    [
        "from .masks import Mask",
        "from . import masks",
        "from sparse_sharing.masks import Mask",
        "from sparse_sharing import masks",
        "import sparse_sharing.masks as m",
        "def f():\n    from sparse_sharing.masks import Mask",
    ],
)
def test_an_import_is_seen(source):
    assert imported(source + "\nimport torch.nn\nfrom pathlib import Path") == {"masks"}
