"""A study that is stopped at random moments ends as if nobody had touched it.

Whole process groups, the main process alone, a worker alone; Ctrl-C and SIGTERM; several studies on one folder; a full
disk. The short
versions run always, `pytest -m slow` has the long ones. A failure prints the seed of its moments, and
`KILL_SEED=... pytest` repeats them as far as a clock can be repeated.
"""

import os
import random
import resource
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from kills import SETTINGS, Study, at_work, group, in_one_go, kill_again_and_again, units_of
from studies import (
    TABLES,
    check_same_study,
    check_sound,
    end_group,
    epochs_once,
    in_threads,
    lines_of,
)
from tiny import write_corpus

from sparse_sharing.files import load_json
from sparse_sharing.study import run
from sparse_sharing.study.config import Experiment

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:.*not in training"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc of Linux"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus"))


@pytest.fixture(scope="module")
def unbroken(corpus, tmp_path_factory):
    return in_one_go(corpus, tmp_path_factory.mktemp("unbroken"))


SEED = int(os.environ.get("KILL_SEED", random.randrange(10**6)))


def test_killed_at_some_moments_it_ends_as_if_unbroken(tmp_path, corpus, unbroken, record_property):
    "The main process alone, a worker, all together."
    hows = ["main", "worker", "all"]
    kills = kill_again_and_again(tmp_path, corpus, unbroken, hows, SEED)
    record_property("tries", kills)
    assert kills >= 2


def test_stopped_as_people_and_systems_do_it_goes_on(tmp_path, corpus, unbroken, record_property):
    "Ctrl-C in its terminal, and SIGTERM to the main process."
    hows = ["interrupt", "term"]
    kills = kill_again_and_again(tmp_path, corpus, unbroken, hows, SEED)
    record_property("tries", kills)
    assert kills >= 1


def test_an_interrupt_of_a_worker_changes_nothing(tmp_path, corpus, unbroken, record_property):
    "Ctrl-C is for the main process: a worker that gets it trains on."
    study = Study(tmp_path, corpus, workers=2)
    hit = set()
    try:
        study.start()
        while len(hit) < 2 and study.wait(lambda: at_work(group(study.process.pid)).keys() - hit):
            for pid in at_work(group(study.process.pid)):
                os.kill(pid, signal.SIGINT)
                hit.add(pid)
        study.end()
        assert len(hit) == 2 and study.process.returncode == 0, study.log.read_text()
        record_property("tries", len(hit))
    finally:
        end_group(study.process)
    check_same_study(study.home, unbroken)
    epochs_once(study.home / "units", units_of(study.home, corpus))


@pytest.mark.slow
def test_one_study_that_is_stopped_twenty_times_with_any_number_of_workers(
    tmp_path, corpus, unbroken, record_property
):
    "Each start has between one and four, and each end is drawn, too."
    rng, kills, turn = random.Random(SEED), 0, 0
    while kills < 20:
        hows = rng.choices(["all", "main", "worker", "interrupt", "term"], k=20 - kills)
        folder = tmp_path / str(turn)
        folder.mkdir()
        kills += kill_again_and_again(folder, corpus, unbroken, hows, SEED + turn, (1, 2, 3, 4))
        turn += 1
        assert turn < 12
    record_property("tries", kills)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["all", "main", "worker"])
def test_killed_at_many_moments_it_ends_as_if_unbroken(
    tmp_path, corpus, unbroken, how, record_property
):
    "Twelve moments of each kind, in as many studies as it takes."
    kills, turn = 0, 0
    while kills < 12:
        folder = tmp_path / str(turn)
        folder.mkdir()
        kills += kill_again_and_again(folder, corpus, unbroken, [how] * (12 - kills), SEED + turn)
        turn += 1
        assert turn < 12
    record_property("tries", kills)


@pytest.mark.slow
def test_killed_while_it_starts(tmp_path, corpus, unbroken, record_property):
    "Before there is any progress: while it imports, reads its data, makes the first folder."
    rng = random.Random(SEED)
    study = Study(tmp_path, corpus, workers=2)
    try:
        kills = 0
        for _ in range(5):
            study.start()
            time.sleep(rng.random() * 6)
            if study.process.poll() is None:
                study.kill_all()
                kills += 1
            if study.home.exists():
                study.check()
        record_property("tries", kills)
        study.start()
        study.end()
        study.check_end(unbroken, corpus)
    except BaseException:
        print(f"KILL_SEED={SEED}")
        raise
    finally:
        end_group(study.process)


def together(studies) -> None:
    "Let all of them run at once, to their ends."
    try:
        for study in studies:
            study.start()
        for study in studies:
            study.end()
            assert study.process.returncode == 0, study.log.read_text()
    finally:
        for study in studies:
            end_group(study.process)


def side_by_side(tmp_path, corpus, *changes) -> list[Study]:
    "Studies on one results folder."
    studies = []
    for i, change in enumerate(changes):
        (tmp_path / str(i)).mkdir()
        studies.append(Study(tmp_path / str(i), corpus, **change))
        studies[-1].home = studies[0].home
        studies[-1].settings["results_dir"] = str(studies[0].home)
    return studies


def test_two_studies_on_one_folder_share_the_work(tmp_path, corpus, unbroken):
    "Both end, with the tables of one; each epoch of each unit was done once."
    studies = side_by_side(tmp_path, corpus, {}, {})
    together(studies)
    home = studies[0].home
    check_same_study(home, unbroken)
    epochs_once(home / "units", units_of(home, corpus))
    finished = [s.log.read_text().count("  dev ") for s in studies]
    assert min(finished) > 3, "both took part"


@pytest.mark.slow
def test_a_third_with_another_experiment_shares_what_is_common(tmp_path, corpus, unbroken):
    "Another round of pruning. The tables of a folder are those of its last study, so they are run again."
    deeper = dict(min_density=0.5)
    studies = side_by_side(tmp_path, corpus, {}, {}, deeper)
    together(studies)
    home = studies[0].home
    units = {u.name: u for c in ({}, deeper) for u in units_of(home, corpus, **c)}
    assert {p.name for p in (home / "units").iterdir()} == set(units)
    epochs_once(home / "units", units.values())
    lines = []
    first = Experiment(**SETTINGS, data_dir=corpus, results_dir=str(home))
    run(first, lines.append)
    assert not lines
    check_same_study(home, unbroken)
    run(replace(first, min_density=0.5), lines.append)
    assert not lines and pd.read_csv(home / "candidates.csv")["round"].max() == 2


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(3))
def test_two_experiments_that_share_warmups_at_once_both_end(tmp_path, corpus, unbroken, turn):
    """One is longer, and needs the weights of warmups when the other does not any more.

    What the other tidied away may be done again, but that is all: no error, no other numbers.
    """
    longer = dict(epochs=4)
    studies = side_by_side(tmp_path, corpus, {}, longer)
    together(studies)
    home = studies[0].home
    run(Experiment(**SETTINGS, data_dir=corpus, results_dir=str(home)), pytest.fail)
    check_same_study(home, unbroken)
    units = {u.name: u for c in ({}, longer) for u in units_of(home, corpus, **c)}
    for unit in units.values():
        lines = lines_of(home / "units" / unit.name)
        assert not [line for line in lines if "other numbers" in line]
        if unit.keep == "best":
            assert len(lines) == unit.epochs, unit.label


@pytest.mark.slow
def test_one_of_two_studies_is_killed_and_the_other_goes_on(tmp_path, corpus, unbroken):
    rng = random.Random(SEED)
    one, two = studies = side_by_side(tmp_path, corpus, {}, {})
    try:
        for study in studies:
            study.start()
        assert one.to_a_moment(rng)
        one.kill_all()
        two.end()
        assert two.process.returncode == 0, two.log.read_text()
        check_same_study(two.home, unbroken)
        for unit in units_of(two.home, corpus):
            assert len(lines_of(two.home / "units" / unit.name)) <= unit.epochs
    except BaseException:
        print(f"KILL_SEED={SEED}", one.moments, two.log.read_text())
        raise
    finally:
        for study in studies:
            end_group(study.process)


FULL = {
    "at the first checkpoint": dict(file_size=20_000),
    "at the first weights": dict(file_size=20_000, warmup=0),
    "later": {},
}


@pytest.mark.parametrize(
    "when",
    [pytest.param(k, marks=[pytest.mark.slow] * (k != "later")) for k in FULL],
)
def test_a_full_disk_ends_it_with_an_error_and_leaves_no_half_file(
    tmp_path, corpus, when, unbroken
):
    "Then there is space again. A disk is full for a process that may write no more than 20 kB into a file."
    study = Study(tmp_path, corpus, workers=1, **FULL[when])
    try:
        study.start()
        if when == "later":
            assert study.wait(lambda: study.progress() > 9)
            for pid in group(study.process.pid):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        study.end()
        said = study.log.read_text()
        assert study.process.returncode == 1 and "  failed" in said, said
        assert "too large" in said, "the error says what it was"
        done = check_sound_and_count(study.home)
        assert done > 0 if when == "later" else done == 0
        assert not (study.home / "results.csv").exists()
        study.settings.pop("file_size", None)
        study.check()
        study.start()
        study.end()
        assert study.process.returncode == 0, study.log.read_text()
    finally:
        end_group(study.process)
    if "warmup" not in FULL[when]:
        study.check_end(unbroken, corpus)
        return
    whole = tmp_path / "whole"
    with in_threads():
        run(
            Experiment(**SETTINGS | dict(warmup=0), data_dir=corpus, results_dir=str(whole)),
            lambda line: None,
        )
    check_same_study(study.home, whole)


def check_sound_and_count(home: Path) -> int:
    "Units that are done, after a look at every file."
    check_sound(home / "units")
    for path in home.rglob("*.csv"):
        pd.read_csv(path)
    load_json(home / "run.json")
    assert not set(TABLES) & {p.stem for p in home.glob("*.csv")}
    return len(list(home.glob("units/*/result.json")))


@pytest.fixture
def disk(tmp_path):
    "Makes a small disk, and makes it larger. Yields the function that does both, told of its size."
    place = tmp_path / "disk"
    place.mkdir()

    def size(kilobytes: int) -> None:
        how = f"size={kilobytes}k" + (",remount" if place.is_mount() else "")
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")

    yield size
    if place.is_mount():
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a disk")
def test_a_disk_that_is_full_says_so_and_the_same_call_goes_on(tmp_path, corpus, disk, unbroken):
    "A real one, which is full at the start, full in the middle, and then has room."
    study = Study(tmp_path, corpus, workers=1)  # another one would be ended while it writes
    study.home = tmp_path / "disk" / "results"
    study.settings["results_dir"] = str(study.home)
    told, progress = [], []
    try:
        for kilobytes in (64, 4_000, 64_000):
            disk(kilobytes)
            study.start()
            told.append(study.end())
            progress.append(study.progress())
            study.check()
            assert not list(study.home.rglob(".*.draft"))
        assert study.process.returncode == 0, told[-1]
        study.check_end(unbroken, corpus)
    finally:
        end_group(study.process)
    for said in told[:2]:
        assert "the disk is full. Make room, and the same call goes on from here" in said, said
    assert progress[0] < progress[1] < progress[2]


@pytest.mark.slow
def test_a_full_disk_leaves_no_litter(tmp_path, corpus):
    "A draft that could not be written takes space that is needed."
    study = Study(tmp_path, corpus, workers=1, file_size=20_000)
    try:
        study.start()
        study.end()
    finally:
        end_group(study.process)
    files = [p for p in study.home.rglob("*") if p.is_file()]
    assert files and not [p.name for p in files if p.name.startswith(".")]
