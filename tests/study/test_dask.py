"A study on a real Dask scheduler: workers are lost, late, or not alike, and the scheduler itself dies."

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ROOT
from studies import TINY, check_same_study, in_threads, lines_of, unit_of
from tiny import write_corpus

from sparse_sharing.study import executor, run
from sparse_sharing.study.config import Experiment
from sparse_sharing.study.data import Source, read_data
from sparse_sharing.study.executor import Workers, work
from sparse_sharing.study.plan import plan
from sparse_sharing.study.units import load_result

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:.*not in training")]

PATIENCE = 300  # seconds until something is taken to hang


class Cluster:
    "A scheduler and workers, each a process, on this machine alone."

    def __init__(self, folder: Path, count: int):
        self.folder, self.processes = folder, []
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", str(file),
        )  # fmt: skip
        self._until(file.exists)
        self._until(lambda: file.read_text().strip().endswith("}"))
        self.address = json.loads(file.read_text())["address"]
        self.workers: list[subprocess.Popen] = []
        for _ in range(count):
            self.add_worker()

    def add_worker(self, package: Path = ROOT) -> subprocess.Popen:
        "One more, which has the package of that folder."
        worker = self._start(
            "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--host", "127.0.0.1", "--name", f"worker-{len(self.workers)}",
            "--local-directory", str(self.folder), package=package,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def _start(self, command: str, *options: str, package: Path = ROOT) -> subprocess.Popen:
        code = f"from distributed.cli.dask_{command} import main; main()"
        with (self.folder / f"{command}.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", code, *options],
                cwd=self.folder,  # or Python would look for the package in the checkout first
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(package)},
            )
        self.processes.append(process)
        return process

    def _until(self, ready) -> None:
        end = time.monotonic() + PATIENCE
        while not ready():
            assert self.scheduler.poll() is None, (self.folder / "scheduler.txt").read_text()
            assert time.monotonic() < end, "the scheduler does not come up"
            time.sleep(0.05)

    def until_there(self, count: int) -> None:
        "Workers take seconds to start, like any process that imports as much."
        from distributed import Client

        with Client(self.address) as client:
            client.wait_for_workers(count, timeout=PATIENCE)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install distributed")
    made = Cluster(tmp_path_factory.mktemp("dask"), 2)
    try:
        made.until_there(2)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", n_train=120))


@pytest.fixture(scope="module")
def unbroken(corpus, tmp_path_factory):
    "The same study on this machine, with one worker."
    home = tmp_path_factory.mktemp("unbroken")
    with in_threads():
        run(Experiment("exp1", **TINY, data_dir=corpus, results_dir=str(home)), lambda line: None)
    return home


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc of Linux")
def test_a_study_survives_the_loss_of_a_worker(cluster, corpus, unbroken, tmp_path):
    "The unit that it was at goes to the other one. Tables and masks are those of local processes."
    victim, hit, over = cluster.workers[0], [], threading.Event()

    def kill():
        units = tmp_path / "units"
        while not over.is_set() and not hit:
            if len(list(units.glob("*/result.json"))) >= 3 and (unit := unit_of(victim.pid)):
                os.kill(victim.pid, signal.SIGSTOP)
                if unit_of(victim.pid) == unit and not (unit / "result.json").exists():
                    os.kill(victim.pid, signal.SIGKILL)
                    hit.append(unit)
                else:
                    os.kill(victim.pid, signal.SIGCONT)
            time.sleep(0.001)

    killer = threading.Thread(target=kill)
    killer.start()
    lines = []
    experiment = Experiment(
        "exp1", **TINY, data_dir=corpus, scheduler=cluster.address, results_dir=str(tmp_path)
    )
    try:
        run(experiment, lines.append)
    finally:
        over.set()
        killer.join()
    assert hit, "it was over before the worker could be killed"
    assert victim.wait(PATIENCE) == -signal.SIGKILL and cluster.workers[1].poll() is None
    check_same_study(tmp_path, unbroken)
    planned = plan(experiment, read_data(experiment.source).checksum, tmp_path / "units")
    for unit in {u.name: u for us in planned.values() for u in us}.values():
        assert load_result(tmp_path / "units", unit)
        assert len(lines_of(tmp_path / "units" / unit.name)) <= unit.epochs
    assert (hit[0] / "result.json").exists()
    assert sum("  dev " in line for line in lines) >= 20
    assert "tcp" not in (tmp_path / "run.json").read_text()


@pytest.fixture
def empty(tmp_path_factory):
    "A scheduler of one's own, without workers."
    pytest.importorskip("distributed", reason="Dask is not installed: pip install distributed")
    made = Cluster(tmp_path_factory.mktemp("own"), 0)
    yield made
    made.close()


class Run:
    "A study on a scheduler, run beside the test."

    def __init__(self, cluster: Cluster, corpus: str, home: Path):
        self.lines: list[str] = []
        self.home = home
        self.experiment = Experiment(
            "exp1", **TINY, data_dir=corpus, scheduler=cluster.address, results_dir=str(home)
        )
        self.pool = ThreadPoolExecutor(1)
        self.start()

    def start(self) -> None:
        self.done: Future[Path] = self.pool.submit(run, self.experiment, self.lines.append)

    def until(self, ready: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not ready():
            if self.done.done():
                raise AssertionError(f"it has ended: {self.done.exception()}")
            assert time.monotonic() < end, self.lines
            time.sleep(0.002)

    def waits(self) -> bool:
        return any("has no worker yet" in line for line in self.lines)

    def results(self) -> int:
        return len(list(self.home.glob("units/*/result.json")))

    def trained(self) -> list[Path]:
        return [*self.home.glob("units/*/log.jsonl"), *self.home.glob("units/*/*.safetensors")]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc of Linux")
def test_workers_come_late_and_the_scheduler_dies(empty, corpus, unbroken, tmp_path):
    "A study waits for the first worker, and the second one gets its share. Without the scheduler it goes on here."
    study = Run(empty, corpus, tmp_path)
    study.until(study.waits)
    first = empty.add_worker()
    study.until(lambda: study.results() >= 2 and unit_of(first.pid))
    os.kill(first.pid, signal.SIGSTOP)  # or it might be ready before the second one is there
    late = empty.add_worker()
    study.until(lambda: unit_of(late.pid))
    os.kill(first.pid, signal.SIGCONT)
    empty.scheduler.kill()
    with pytest.raises(ConnectionError, match="is gone. Start it again, or leave it out"):
        study.done.result(PATIENCE)
    with in_threads():
        run(replace(study.experiment, scheduler="", workers=1), study.lines.append)
    check_same_study(tmp_path, unbroken)


def test_a_worker_of_another_version_is_refused_before_it_trains(empty, corpus, unbroken, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "sparse_sharing", other / "sparse_sharing")
    with (other / "sparse_sharing" / "masks.py").open("a") as file:
        file.write("# not the same any more\n")
    study = Run(empty, corpus, tmp_path / "results")
    study.until(study.waits)
    worker = empty.add_worker(package=other)
    with pytest.raises(RuntimeError, match="has another version of sparse_sharing or of torch"):
        study.done.result(PATIENCE)
    assert not study.trained()
    worker.kill()
    worker.wait(PATIENCE)
    study.start()
    study.until(study.waits)
    empty.add_worker()
    study.done.result(PATIENCE)
    check_same_study(study.home, unbroken)


def test_a_worker_with_other_data_is_refused_before_it_trains(empty, corpus, unbroken, tmp_path):
    "They are mended, and the same worker does the study."
    here = tmp_path / "corpus"
    shutil.copytree(corpus, here)
    study = Run(empty, str(here), tmp_path / "results")
    study.until(study.waits)
    write_corpus(here, n_train=30)
    empty.add_worker()
    with pytest.raises(ValueError, match="reads are not those it was made for; give it the same"):
        study.done.result(PATIENCE)
    assert not study.trained()
    shutil.copytree(corpus, here, dirs_exist_ok=True)
    study.start()
    study.done.result(PATIENCE)
    check_same_study(study.home, unbroken)


def test_what_a_unit_raises_on_a_worker_comes_home(cluster, tmp_path):
    "Also `Damaged`, with its path."
    from sparse_sharing.files import Damaged, load_json

    path = tmp_path / "x.json"
    path.write_text("{")
    crew = Workers(scheduler=cluster.address)
    try:
        assert crew.count == sum(w.poll() is None for w in cluster.workers)
        with pytest.raises(Damaged) as error:
            crew._pool.submit(load_json, path).result(PATIENCE)
        assert error.value.path == path
    finally:
        crew.close()


def test_a_scheduler_that_is_not_there_is_told_soon(tmp_path, corpus):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install distributed")
    start = time.monotonic()
    experiment = Experiment(
        "exp1", **TINY, data_dir=corpus, scheduler="tcp://127.0.0.1:9", results_dir=str(tmp_path)
    )
    with pytest.raises(OSError, match="127.0.0.1:9"):
        run(experiment, lambda line: None)
    assert time.monotonic() - start < 20


def test_without_dask_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"distributed is not installed: pip install .sparse-sharing\[dask\]",
    ):
        Workers(scheduler="tcp://127.0.0.1:9")
    crew = Workers(1)  # which needs none
    crew.close()


def test_what_is_done_needs_no_scheduler(unbroken, corpus):
    "A finished study is read where no scheduler is."
    experiment = Experiment(
        "exp1", **TINY, data_dir=corpus, scheduler="tcp://127.0.0.1:9", results_dir=str(unbroken)
    )
    assert run(experiment, pytest.fail) == unbroken
    work(lambda: executor.Agenda([], {}), unbroken, Source(), scheduler="tcp://127.0.0.1:9")
