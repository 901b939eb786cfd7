"""A notebook that is stopped as people stop it, or whose process dies, ends as an unbroken one with the same command.

Ctrl-C in the terminal of papermill, its end by SIGTERM and SIGKILL, the end of its kernel, an interrupt and a restart
of a kernel as JupyterLab asks for them, and two notebooks on one folder at once.
"""

import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from helpers import ROOT
from jupyter_client.manager import start_new_kernel
from kills import SETTINGS, Study, group, in_one_go, is_worker, units_of
from studies import check_same_study, end_group, epochs_once, heed_interrupts
from tiny import write_corpus

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:.*not in training"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc of Linux"),
]

PATIENCE = 600  # seconds
GIVEN = {k: v for k, v in SETTINGS.items() if k != "name"}
SAID = "interrupted: what is done is kept, and the same call goes on from here"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus"))


@pytest.fixture(scope="module")
def unbroken(corpus, tmp_path_factory):
    return in_one_go(corpus, tmp_path_factory.mktemp("unbroken"))


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    "Experiment 1 as far as its run: tables and figures are looked at elsewhere."
    whole = nbformat.read(ROOT / "nbs" / "exp1.ipynb", 4)
    sources = [cell.source for cell in whole.cells]
    whole.cells = whole.cells[: sources.index("folder = run(experiment)") + 1]
    path = tmp_path_factory.mktemp("notebook") / "exp1.ipynb"
    nbformat.write(whole, path)
    return path


def alive(pids) -> list[int]:
    "Those of some processes that have not ended."
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [pid] if state not in "ZX" else []
    return found


def until_gone(pids, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while left := alive(pids):
        assert time.monotonic() < end, f"{left} lived on for {seconds} s"
        time.sleep(0.05)


class Command(Study):
    "The same study as a command of papermill, in a process group of its own."

    def __init__(self, folder, notebook, corpus):
        super().__init__(folder, corpus, workers=2)
        self.out = folder / "out.ipynb"
        given = GIVEN | dict(data_dir=corpus, workers=2, results_dir=str(self.home))
        self.command = [
            sys.executable, "-m", "papermill", str(notebook), str(self.out), "-k", "python3",
            *(word for name, value in given.items() for word in ("-p", name, str(value))),
        ]  # fmt: skip

    def start(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.log.parent, stdout=log, stderr=log,
                start_new_session=True, env=environment, preexec_fn=heed_interrupts,
            )  # fmt: skip

    def kernel(self) -> int:
        "The process of its kernel, which leads a group of its own."
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (found,) = [int(pid) for pid in children.read_text().split() if alive([pid])]
        return found

    def stop(self, how: str) -> None:
        "Once there is some progress; and see it end, with all that it started."
        goal = self.progress() + 3
        assert self.wait(lambda: self.progress() >= goal), self.log.read_text()
        kernel = self.kernel()
        everybody = [self.process.pid, *group(kernel)]
        assert any(map(is_worker, everybody))
        hit, number = how.split()
        if hit == "group":
            os.killpg(self.process.pid, signal.Signals[number])
        else:
            pid = kernel if hit == "kernel" else self.process.pid
            os.kill(pid, signal.Signals[number])
        assert self.process.wait(60) != 0
        until_gone(everybody)
        if number == "SIGINT":
            assert SAID in self.out.read_text(encoding="utf-8")
        self.check()


def stop_again_and_again(folder, notebook, corpus, unbroken, hows):
    study = Command(folder, notebook, corpus)
    try:
        for how in hows:
            study.start()
            study.stop(how)
        study.start()
        study.process.wait(PATIENCE)
        assert study.process.returncode == 0, study.log.read_text()
        study.check_end(unbroken, corpus)
        assert SAID not in study.out.read_text(encoding="utf-8")
    finally:
        if study.process:
            end_group(study.process)


def test_papermill_is_stopped_and_goes_on(tmp_path, notebook, corpus, unbroken):
    "Ctrl-C goes to the terminal's processes, and papermill tells its kernel."
    stop_again_and_again(tmp_path, notebook, corpus, unbroken, ["group SIGINT"])


@pytest.mark.slow
def test_papermill_or_its_kernel_dies_and_it_goes_on(
    tmp_path, notebook, corpus, unbroken, record_property
):
    "In one study, one after the other."
    hows = ["papermill SIGTERM", "papermill SIGKILL", "kernel SIGTERM", "kernel SIGKILL"]
    hows += ["kernel SIGINT", "group SIGTERM"]
    record_property("tries", len(hows))
    stop_again_and_again(tmp_path, notebook, corpus, unbroken, hows)


@pytest.mark.slow
def test_two_commands_on_one_folder_share_the_work(tmp_path, notebook, corpus, unbroken):
    "Both end, with the tables of one; each epoch of each unit was done once."
    commands = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        commands.append(Command(tmp_path / name, notebook, corpus))
    home = commands[0].home
    commands[1].command = [
        word.replace(str(commands[1].home), str(home)) for word in commands[1].command
    ]
    try:
        for command in commands:
            command.start()
        for command in commands:
            assert command.process.wait(PATIENCE) == 0, command.log.read_text()
    finally:
        for command in commands:
            if command.process:
                end_group(command.process)
    check_same_study(home, unbroken)
    epochs_once(home / "units", units_of(home, corpus))
    shares = [command.out.read_text(encoding="utf-8").count("  dev ") for command in commands]
    assert min(shares) > 0, "both took part"


class Kernel:
    "Cells of a notebook, as JupyterLab has them run."

    def __init__(self, notebook: Path, folder: Path, given: dict):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.manager, self.client = start_new_kernel(
            kernel_name="python3", cwd=str(folder), env=environment, startup_timeout=PATIENCE
        )
        self.cells = []
        for cell in nbformat.read(notebook, 4).cells:
            if cell.cell_type == "code":
                self.cells.append(cell.source)
            if "parameters" in cell.metadata.get("tags", []):
                self.cells.append("\n".join(f"{name} = {value!r}" for name, value in given.items()))

    @property
    def pid(self) -> int:
        return self.manager.provisioner.pid

    def ask(self, source: str) -> str:
        "Have a cell run, without waiting for it."
        return self.client.execute(source)

    def answer(self, question: str) -> dict:
        "How a cell ended."
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                reply = self.client.get_shell_msg(timeout=1)
            except queue.Empty:
                continue
            if reply["parent_header"].get("msg_id") == question:
                return reply["content"]
        raise AssertionError("no answer")

    def until_run(self) -> None:
        "The cells before the run."
        for cell in self.cells[:-1]:
            content = self.answer(self.ask(cell))
            assert content["status"] == "ok", content

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_kernel_is_interrupted_and_restarted(
    tmp_path, notebook, corpus, unbroken, record_property
):
    "The cell that was interrupted is run again, then the kernel is restarted, and all cells are run again."
    study = Study(tmp_path, corpus)
    given = GIVEN | dict(data_dir=corpus, workers=2, results_dir=str(study.home))
    kernel = Kernel(notebook, tmp_path, given)
    record_property("tries", 4)

    def until_progress():
        goal, end = study.progress() + 3, time.monotonic() + PATIENCE
        while study.progress() < goal:
            assert time.monotonic() < end, "nothing happens"
            time.sleep(0.01)
        workers = [pid for pid in group(kernel.pid) if is_worker(pid)]
        assert workers
        return workers

    try:
        kernel.until_run()
        for _ in range(3):
            question = kernel.ask(kernel.cells[-1])
            workers = until_progress()
            kernel.manager.interrupt_kernel()
            content = kernel.answer(question)
            assert (content["status"], content["ename"]) == ("error", "KeyboardInterrupt")
            until_gone(workers)
            study.check()
        kernel.ask(kernel.cells[-1])
        everybody = [kernel.pid, *until_progress()]
        kernel.manager.restart_kernel(now=True)
        kernel.client.wait_for_ready(timeout=PATIENCE)
        until_gone(everybody)
        study.check()
        kernel.until_run()
        content = kernel.answer(kernel.ask(kernel.cells[-1]))
        assert content["status"] == "ok", content
    finally:
        kernel.close()
    study.check_end(unbroken, corpus)
