"The page of public names: each stands on it, with arguments, errors and chapter, and none is thin."

import ast
import dataclasses
import inspect
import re
import textwrap
from dataclasses import is_dataclass

import pytest
import torch
from helpers import ROOT
from nbformat import read

import sparse_sharing

PAGE = ROOT / "nbs" / "api.ipynb"
each_name = pytest.mark.parametrize("name", sparse_sharing.__all__)


def shown() -> str:
    "What the page shows."
    outputs = [o for c in read(PAGE, 4).cells for o in c.get("outputs", [])]
    return "\n".join(o["data"].get("text/markdown", "") for o in outputs if "data" in o)


def raises(made) -> set[str]:
    "Errors that a function raises itself; of a class, those of its constructor."
    if is_dataclass(made) or (inspect.isclass(made) and "__init__" not in vars(made)):
        return set()
    source = inspect.getsource(made.__init__ if inspect.isclass(made) else inspect.unwrap(made))
    calls = [
        n.exc for n in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(n, ast.Raise)
    ]
    return {call.func.id for call in calls if isinstance(call, ast.Call)}


def sections() -> dict[str, str]:
    "What the page says of each name."
    parts = shown().split("### `")[1:]
    return {part.split("`")[0]: part for part in parts}


def lacking(made, section: str) -> list[str]:
    "What the documentation of a function or class does not say."
    text, missing = inspect.getdoc(made) or "", []
    if len(text) < 40 or not text.split("\n")[0].endswith((".", "`")):
        missing.append("a sentence")
    missing += [error for error in raises(made) if error not in text]
    return missing + re.findall(r"^\| (\S+) \|  \|$", section, re.M)


def typed(made) -> dict[str, str]:
    "Argument -> its type, for those that hold tensors."
    if is_dataclass(made):
        types = {f.name: str(f.type) for f in dataclasses.fields(made)}
    else:
        made = made.__init__ if inspect.isclass(made) else inspect.unwrap(made)
        types = {name: str(kind) for name, kind in inspect.get_annotations(made).items()}
    return {name: kind for name, kind in types.items() if "Tensor" in kind or "ndarray" in kind}


def shapeless(made, section: str) -> list[str]:
    "Arguments that are tensors, whose remark on the page says no shape."
    found = []
    for name in typed(made):
        shown = r"\*returns\*" if name == "return" else f"`{name}`"
        (remark,) = set(re.findall(rf"^\| {shown} \| (.*) \|$", section, re.M)) or {""}
        if not re.search(r"shape|scalar|\([^)]*,[^)]*\)", remark):
            found.append(name)
    return found


@each_name
def test_tensors_have_shapes(name):
    made, (whole, *methods) = getattr(sparse_sharing, name), sections()[name].split("**`.")
    assert shapeless(made, whole) == []
    for part in methods:
        method = getattr(made, part.split("`")[0])
        assert shapeless(method.fget if isinstance(method, property) else method, part) == []


def test_a_tensor_without_a_shape_is_found():
    def bare(x: torch.Tensor, y: torch.Tensor, n: int) -> torch.Tensor:
        "Does something with `x` and `y`, and gives a third."

    section = "| `x` | a tensor |\n| `y` | (batch, words) |\n| *returns* | a scalar |"
    assert shapeless(bare, section) == ["x"]


@each_name
def test_it_stands_on_the_page_as_it_is_now(name):
    made, section = getattr(sparse_sharing, name), sections()[name]
    assert (inspect.getdoc(made) or "") in section
    wanted = inspect.signature(made).parameters
    assert [a for a in wanted if f"| `{a}` | " not in section and a not in ("args", "kwds")] == []
    assert ".ipynb)" in section


@each_name
def test_its_documentation_is_not_thin(name):
    assert lacking(getattr(sparse_sharing, name), sections()[name]) == []


def test_what_is_thin_is_found():
    def thin(x):
        "Does."
        raise ValueError("no")

    assert lacking(thin, "| `x` |  |\n| `y` | a number |") == ["a sentence", "ValueError", "`x`"]
