"""The study: experiments that are asked for in one line, and go on where they were stopped.

Its names are looked up when they are asked for: whoever wants the paper's numbers alone loads no network."""

from importlib import import_module
from typing import TYPE_CHECKING

from ..extras import require

if TYPE_CHECKING:
    from .config import Experiment
    from .main import minutes, rebuild, run, status

require("study", "pandas", "seqeval", "loky", "filelock")

_HOME = {
    "Experiment": "config",
    "run": "main",
    "status": "main",
    "rebuild": "main",
    "minutes": "main",
}
__all__ = ["Experiment", "run", "status", "rebuild", "minutes"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
