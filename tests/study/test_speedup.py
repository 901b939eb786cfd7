"Two workers do two trainings almost as fast as two programs that know nothing of each other."

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from sparse_sharing.study.data import Source, read_data
from sparse_sharing.study.executor import Agenda, work
from sparse_sharing.study.units import Training, Unit, load_result

ALONE = """
import sys
from pathlib import Path
from test_speedup import units
from sparse_sharing.study.data import Source
from sparse_sharing.study.runner import perform
for unit in units()[int(sys.argv[2]) :: 2]:
    perform(unit, Path(sys.argv[1]), Source())
"""


def units():
    "Four trainings of some seconds each, none of which needs another."
    data = read_data(Source()).checksum
    first = Unit("training", "single", ("pos",), data, 5, "main", training=Training())
    return [replace(first, seed=seed) for seed in range(4)]


def timed(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def programs(folder, *halves) -> None:
    "Programs side by side, each with its own half of the units."
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.path.dirname(__file__)}
    running = [
        subprocess.Popen([sys.executable, "-c", ALONE, str(folder), str(h)], env=environment)
        for h in halves
    ]
    assert [p.wait() for p in running] == [0] * len(halves)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="it takes two cores")
def test_two_workers_gain_what_two_programs_gain(tmp_path, capsys):
    "The gain of `workers=2` is nine tenths or more of what two programs have over one; the results are the same."
    agenda = Agenda(units(), {u.name: 1.0 for u in units()})

    def study(name: str, workers: int) -> float:
        folder = tmp_path / name
        folder.mkdir()
        return timed(lambda: work(lambda: agenda, folder, Source(), workers, log=lambda _: None))

    one, both = (timed(lambda h=h: programs(tmp_path / str(len(h)), *h)) for h in ([0], [0, 1]))
    alone, two = study("alone", 1), study("two", 2)
    programs_gain, study_gain = 2 * one / both, alone / two
    with capsys.disabled():
        print(
            f"\ntwo programs: {programs_gain:.2f} times as fast as one; two workers: {study_gain:.2f}"
        )
    for unit in units():
        found = [load_result(tmp_path / n, unit)["curve"] for n in ("2", "alone", "two")]
        plain = [[(r["epoch"], r["loss"], r["dev"]) for r in curve] for curve in found]
        assert plain[0] == plain[1] == plain[2]
    assert study_gain >= 0.9 * programs_gain
