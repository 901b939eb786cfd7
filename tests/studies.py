"What the tests of the study engine share: a small study, ways to run and to break it, and what must stay equal."

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file as load_safetensors

from sparse_sharing.files import digest, load_about, load_json, load_tensors
from sparse_sharing.masks import Mask
from sparse_sharing.study import executor
from sparse_sharing.study.progress import LOG, read_log
from sparse_sharing.study.runner import perform
from sparse_sharing.study.schema import COLUMNS
from sparse_sharing.study.units import load_result

SMALL = dict(preset="quick", alpha=0.35, min_density=0.5, warmup=1, epochs=2, seed=3)
TINY = dict(preset="quick", alpha=0.3, min_density=0.9, warmup=1, epochs=1)
TABLES = tuple(COLUMNS)
CLOCKS = ["seconds", "processor_seconds"]  # what no two runs have alike


class Threads(ThreadPoolExecutor):
    "In place of loky's processes, which take seconds to start."

    def __init__(self, workers, **_):
        super().__init__(workers)

    def shutdown(self, wait=True, kill_workers=False):
        super().shutdown(wait, cancel_futures=kill_workers)


@contextmanager
def in_threads():
    "Studies run in threads, without processes, which are tested in test_workers.py."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "ProcessPoolExecutor", Threads)
        yield patch


SCRIPT = """
import json, resource, sys, warnings
warnings.simplefilter("ignore")
from sparse_sharing.study import Experiment, run
if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    limit = settings.pop("file_size", None)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    run(Experiment(**settings))
"""


def heed_interrupts() -> None:
    "A process that was started in the background of a script would ignore Ctrl-C, and so would all that it starts."
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(script: Path, settings: dict, log: Path) -> subprocess.Popen:
    "Run an experiment in a process group of its own. What it says goes to `log`."
    script.write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, str(script), json.dumps(settings)],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
            preexec_fn=heed_interrupts,
        )


def end_group(process: subprocess.Popen) -> None:
    "Kill what `start` started, if anything of it is left."
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def unit_of(pid: int) -> Path | None:
    "The folder of the unit that a process is at: whose lock it holds."
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = Path(os.readlink(link))
        except OSError:
            continue
        if target.name == "lock":
            return target.parent
    return None


def epochs_in(home: Path) -> int:
    "Epochs that the units of a results folder have logged."
    logs = [read_log(log.read_text("utf-8")) for log in home.glob(f"units/*/{LOG}")]
    return sum(1 for lines in logs for progress in lines if progress.epoch)


def lines_of(unit: Path) -> list[str]:
    "The lines that a unit logged, an epoch each, as a person reads them."
    log = unit / LOG
    return [p.line() for p in read_log(log.read_text("utf-8"))] if log.exists() else []


def perform_killed(unit, folder, source, moves: int) -> bool:
    """Do a unit in a forked process that kills itself with SIGKILL, and say whether it did.

    Each renaming of a file counts twice, before and after; the process dies at the one with number `moves`.
    """
    child = os.fork()
    if child == 0:
        move, left = os.replace, [moves]

        def replace_or_die(*arguments):
            for act in (lambda: move(*arguments), lambda: None):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                act()

        os.replace = replace_or_die
        try:
            perform(unit, folder, source)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed"
    return os.WIFSIGNALED(status)


def without_time(result: dict) -> dict:
    "A result without what the clock says."
    curve = [{k: v for k, v in row.items() if k not in CLOCKS} for row in result["curve"]]
    return result | {"curve": curve}


def check_same_unit(home: Path, reference: Path) -> None:
    "Two folders of a unit hold the same files and numbers."
    files = sorted(p.name for p in reference.iterdir() if p.suffix in (".safetensors", ".json"))
    assert files == sorted(p.name for p in home.iterdir() if p.suffix in (".safetensors", ".json"))
    for name in files:
        if name.endswith(".safetensors"):
            ours, theirs = load_safetensors(home / name), load_safetensors(reference / name)
            assert ours.keys() == theirs.keys()
            assert digest(ours) == digest(theirs), name
    ours, theirs = (without_time(load_json(p / "result.json")) for p in (home, reference))
    assert ours == theirs


def check_same_study(home: Path, reference: Path) -> None:
    "Two results folders say the same, whenever and however they were made."
    for name in TABLES:
        ours, theirs = (
            pd.read_csv(p / f"{name}.csv", dtype=str).drop(columns=CLOCKS, errors="ignore")
            for p in (home, reference)
        )
        pd.testing.assert_frame_equal(ours, theirs)
    ours, theirs = (load_json(p / "run.json") for p in (home, reference))
    for about in (ours, theirs):
        about["experiment"].pop("workers")
    assert ours == theirs


def check_sound(folder: Path) -> dict[str, list]:
    """Every file under its own name is sound. Returns the curve so far of each unit that is not done.

    `folder` is where units are, and nobody is at work in it.
    """
    unfinished = {}
    for home in sorted(p for p in folder.iterdir() if p.is_dir()):
        if (home / "result.json").exists():
            result = load_json(home / "result.json")
            for name, checksum in result["files"].items():
                if (home / name).exists():
                    place = home / name
                    mask = name in ("mask.safetensors", "smaller.safetensors")
                    tensors = dict(Mask.load(place)) if mask else load_tensors(place)[0]
                    assert digest(tensors) == checksum, place
        else:
            path, curve = home / "checkpoint.safetensors", []
            if path.exists():
                load_tensors(path)
                curve = load_about(path)["fit"]["curve"]
            unfinished[home.name] = curve
    return unfinished


def epochs_once(folder: Path, units) -> None:
    "Each epoch of each unit was done once: a line in its log."
    for unit in units:
        assert load_result(folder, unit), unit.label
        lines = lines_of(folder / unit.name)
        assert len(lines) == unit.epochs, (unit.label, lines)
