"A study in a process group of its own, that is stopped in one way or another, looked at, and started again."

import os
import random
import signal
import time
from pathlib import Path

from studies import check_same_study, check_sound, end_group, in_threads, lines_of, start, unit_of

from sparse_sharing.study import run, status
from sparse_sharing.study.config import Experiment
from sparse_sharing.study.data import read_data
from sparse_sharing.study.plan import plan
from sparse_sharing.study.units import load_result

SETTINGS = dict(name="exp1", preset="quick", alpha=0.3, min_density=0.9, warmup=1, epochs=2)
PATIENCE = 300  # seconds until something is taken to hang; two cores may have much else to do


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


def in_one_go(corpus: str, home: Path) -> Path:
    "The same study in this process, without a stop."
    with in_threads():
        run(Experiment(**SETTINGS, data_dir=corpus, results_dir=str(home)), lambda line: None)
    return home


def at_work(pids: list[int]) -> dict[int, str]:
    "Process -> the unit whose lock it has open."
    units = {pid: unit_of(pid) for pid in pids}
    return {pid: unit.name for pid, unit in units.items() if unit}


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
        self._end_main(signal.SIGKILL)

    def kill_term(self) -> None:
        "As `kill`, `systemctl stop` and `docker stop` do."
        self._end_main(signal.SIGTERM)

    def _end_main(self, how: signal.Signals) -> None:
        "And see its workers go, those at work before they could take a step."
        leader = self.process.pid
        busy = at_work(group(leader))
        assert leader not in busy
        os.kill(leader, how)
        assert self.process.wait(60) == -how
        self.until_gone(list(busy), 1)
        self.until_gone(group(leader), 60)  # one that just started is still importing
        before = written(self.home)
        time.sleep(0.3)
        assert written(self.home) == before, "somebody still writes"

    def kill_interrupt(self) -> None:
        "Ctrl-C in a terminal goes to all processes."
        before = self.log.stat().st_size
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(60)
        said = self.log.read_text()[before:]
        assert self.process.returncode and "KeyboardInterrupt" in said, said
        self.until_gone(group(self.process.pid), 60)

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
        if self.process.returncode == 0:  # it needed that worker no more
            return
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


def kill_again_and_again(
    tmp_path, corpus, unbroken, hows: list[str], seed: int, workers: tuple[int, ...] = (2,)
) -> int:
    """Start a study, kill it in each of these ways, and let it end. Returns how often it was killed.

    Each start draws one of these numbers of workers.
    """
    rng = random.Random(seed)
    study, kills = Study(tmp_path, corpus), 0
    try:
        for how in hows:
            study.settings["workers"] = rng.choice(workers)
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
