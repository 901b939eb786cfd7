"""A study that is killed with SIGKILL at random moments ends as if nobody had touched it.

Whole process groups, the main process alone, a worker alone; several studies on one folder; a full disk. The short
versions run always, `pytest -m slow` has the long ones. A failure prints the seed of its moments, and
`KILL_SEED=... pytest` repeats them as far as a clock can be repeated.
"""

import os
import random
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from studies import (
    TABLES,
    check_same_study,
    check_sound,
    end_group,
    epochs_once,
    in_threads,
    lines_of,
    start,
)
from tiny import write_corpus

from sparse_sharing.files import load_json
from sparse_sharing.study import run, status
from sparse_sharing.study.config import Experiment
from sparse_sharing.study.data import read_data
from sparse_sharing.study.plan import plan
from sparse_sharing.study.units import load_result

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:.*not in training"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc of Linux"),
]

SETTINGS = dict(name="exp1", preset="quick", alpha=0.3, min_density=0.9, warmup=1, epochs=2)
PATIENCE = 300  # seconds until something is taken to hang; two cores may have much else to do


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus"))


@pytest.fixture(scope="module")
def unbroken(corpus, tmp_path_factory):
    "The same study with one worker, in one go."
    home = tmp_path_factory.mktemp("unbroken")
    with in_threads():
        run(Experiment(**SETTINGS, data_dir=corpus, results_dir=str(home)), lambda line: None)
    return home


def units_of(home, corpus, **changes):
    "All units of the study in a folder, when it is done."
    experiment = Experiment(**SETTINGS | changes, data_dir=corpus, results_dir=str(home))
    planned = plan(experiment, read_data(experiment.source).checksum, home / "units")
    return list({u.name: u for us in planned.values() for u in us}.values())


def group(leader: int) -> list[int]:
    "Processes of a group that are alive."
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its) == leader and state not in "ZX":
            found.append(int(path.parent.name))
    return sorted(found)


def at_work(pids: list[int]) -> dict[int, str]:
    "Process -> the unit whose lock it has open."
    found = {}
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = Path(os.readlink(link))
            except OSError:
                continue
            if target.name == "lock":
                found[pid] = target.parent.name
    return found


def written(home: Path) -> dict[Path, tuple[int, int]]:
    "All files, when they were changed and how long they are."
    return {p: (s.st_mtime_ns, s.st_size) for p in home.rglob("*") if (s := p.lstat())}


class Study:
    "A study in a process group of its own, that is killed and started again."

    def __init__(self, tmp_path, corpus, **changes):
        self.home, self.log = tmp_path / "results", tmp_path / "log.txt"
        self.script, self.process = tmp_path / "script.py", None
        self.settings = SETTINGS | changes | dict(data_dir=corpus, results_dir=str(self.home))
        self.curves: dict[str, list] = {}  # unit -> epochs that were done when it was killed
        self.moments: list[str] = []

    def progress(self) -> int:
        "Epochs done, and units."
        units = self.home / "units"
        return sum(len(lines_of(p.parent)) for p in units.glob("*/log.jsonl")) + len(
            list(units.glob("*/result.json"))
        )

    def start(self) -> None:
        self.process = start(self.script, self.settings, self.log)

    def wait(self, until) -> bool:
        "Whether it came to that before it ended."
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            if until():
                return True
            assert time.monotonic() < end, f"nothing happens:\n{self.log.read_text()}"
            time.sleep(0.002)
        return False

    def to_a_moment(self, rng: random.Random) -> bool:
        "Wait for some progress, and a little longer."
        goal, delay = self.progress() + rng.randrange(1, 9), rng.random() * 0.2
        self.moments.append(f"progress {goal} + {delay:.3f} s")
        came = self.wait(lambda: self.progress() >= goal)
        time.sleep(delay)
        return came and self.process.poll() is None

    def end(self) -> str:
        "Wait until it is done, and give what it said since it was started."
        before = self.log.stat().st_size
        self.process.wait(PATIENCE)
        return self.log.read_text()[before:]

    def kill_all(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.until_gone(group(self.process.pid), 60)

    def kill_main(self) -> None:
        "And see its workers go, those at work before they could take a step."
        leader = self.process.pid
        busy = at_work(group(leader))
        assert leader not in busy
        os.kill(leader, signal.SIGKILL)
        self.process.wait()
        self.until_gone(list(busy), 1)
        self.until_gone(group(leader), 60)  # one that just started is still importing
        before = written(self.home)
        time.sleep(0.3)
        assert written(self.home) == before, "somebody still writes"

    def kill_worker(self, rng: random.Random) -> None:
        "And see the study end with an error that says so."
        busy, others = [], []
        for _ in range(600):  # between two units there may be none, and a new one takes its time
            busy = sorted(at_work(group(self.process.pid)))
            members = group(self.process.pid)
            others = [p for p in members if p != self.process.pid and is_worker(p)]
            if busy or others or self.process.poll() is not None:
                break
            time.sleep(0.1)
        if not busy and not others:  # it has just ended by itself
            assert self.process.wait(PATIENCE) == 0, self.log.read_text()
            return
        self.moments[-1] += f", worker of {len(busy)} at work"
        os.kill(rng.choice(busy or others), signal.SIGKILL)
        self.process.wait(PATIENCE)
        said = self.log.read_text()
        assert self.process.returncode == 1, said
        assert "a worker was ended from outside" in said or "TerminatedWorkerError" in said
        self.until_gone(group(self.process.pid), 60)

    def until_gone(self, pids: list[int], seconds: float) -> None:
        end = time.monotonic() + seconds
        while left := set(pids) & set(group(self.process.pid)):
            assert time.monotonic() < end, f"{left} lived on for {seconds} s"
            time.sleep(0.01)

    def check(self) -> None:
        "What is there is sound, and no epoch that was done is gone."
        unfinished = check_sound(self.home / "units")
        for name, curve in self.curves.items():
            if name in unfinished:
                assert unfinished[name][: len(curve)] == curve, f"{name} lost an epoch"
        for name, curve in unfinished.items():
            self.curves[name] = max(curve, self.curves.get(name, []), key=len)
        assert len([n for n in unfinished if n not in self.curves]) == 0

    def check_end(self, unbroken, corpus) -> None:
        "The same tables and masks, and no epoch that was done before a kill was repeated."
        check_same_study(self.home, unbroken)
        units = units_of(self.home, corpus)
        assert {u.name for u in units} == {p.name for p in (self.home / "units").iterdir()}
        for unit in units:
            curve = load_result(self.home / "units", unit)["curve"]
            before = self.curves.get(unit.name, [])
            assert curve[: len(before)] == before, f"{unit.label} repeated a whole epoch"
            assert len(lines_of(self.home / "units" / unit.name)) <= unit.epochs
        assert set(status(self.home).state) == {"done"}


def is_worker(pid: int) -> bool:
    try:
        return b"popen_loky" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def kill_again_and_again(tmp_path, corpus, unbroken, hows: list[str], seed: int) -> int:
    "Start a study, kill it in each of these ways, and let it end. Returns how often it was killed."
    rng = random.Random(seed)
    study, kills = Study(tmp_path, corpus, workers=2), 0
    try:
        for how in hows:
            study.start()
            if not study.to_a_moment(rng):
                break
            getattr(study, f"kill_{how}")(*([rng] if how == "worker" else []))
            kills += 1
            study.check()
        study.start()
        study.end()
        assert study.process.returncode == 0, study.log.read_text()
        study.check_end(unbroken, corpus)
    except BaseException:
        print(f"KILL_SEED={seed}", *zip(hows, study.moments, strict=False), sep="\n")
        print(study.log.read_text() if study.log.exists() else "")
        raise
    finally:
        end_group(study.process)
    return kills


SEED = int(os.environ.get("KILL_SEED", random.randrange(10**6)))


def test_killed_at_some_moments_it_ends_as_if_unbroken(tmp_path, corpus, unbroken):
    "The main process alone, a worker, all together."
    hows = ["main", "worker", "all"]
    assert kill_again_and_again(tmp_path, corpus, unbroken, hows, SEED) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["all", "main", "worker"])
def test_killed_at_many_moments_it_ends_as_if_unbroken(tmp_path, corpus, unbroken, how):
    "Twelve moments of each kind, in as many studies as it takes."
    kills, turn = 0, 0
    while kills < 12:
        folder = tmp_path / str(turn)
        folder.mkdir()
        kills += kill_again_and_again(folder, corpus, unbroken, [how] * (12 - kills), SEED + turn)
        turn += 1
        assert turn < 12


@pytest.mark.slow
def test_killed_while_it_starts(tmp_path, corpus, unbroken):
    "Before there is any progress: while it imports, reads its data, makes the first folder."
    rng = random.Random(SEED)
    study = Study(tmp_path, corpus, workers=2)
    try:
        for _ in range(5):
            study.start()
            time.sleep(rng.random() * 6)
            if study.process.poll() is None:
                study.kill_all()
            if study.home.exists():
                study.check()
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
