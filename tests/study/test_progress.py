"Where a run says how far it is: a cell, papermill's terminal, a file."

import os
import pty
import sys
import threading
import time
from pathlib import Path

import nbformat
import papermill
import pytest

from sparse_sharing.study import progress
from sparse_sharing.study.progress import LAST, WIDTH, Cell, Progress, Teller, tell

LINUX = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc of Linux")


def process(home: Path, standard_error: Path, *words: str) -> Path:
    "What /proc has of a process."
    (home / "fd").mkdir(parents=True)
    (home / "fd" / "2").symlink_to(standard_error)
    (home / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    return home


@pytest.mark.parametrize("name", ["pos", "a_task_with_a_name_that_is_longer_than_all_others" * 2])
def test_no_line_is_wider_than_a_hundred_columns(name):
    dev = {f"{name}{i}": 100.0 for i in range(3)}
    label = f"seed 12  {'hierarchical':12}  {'+'.join(dev):14}  {'warmup':8}"
    line = Progress(label, 100, 99, dev, seconds=99).line("[1234/5678+, 118 min left]")
    assert len(line) <= WIDTH == 100 and "…" in line
    assert line.endswith("epoch 99/100  dev 100.0 100.0 100.0  [1234/5678+, 118 min left]")


def test_a_usual_line_is_whole():
    label = f"seed 0  {'hierarchical':12}  {'pos+ner+chunk':14}  {'main':8}"
    dev = dict(pos=97.1, ner=88.2, chunk=93.3)
    line = Progress(label, 100, 99, dev, seconds=99).line("[12/39+, 44 min left]")
    assert len(line) <= WIDTH and "…" not in line


@pytest.mark.parametrize(
    "seconds, shown",
    [(1, [60, 120]), (25, [3, 5, 8]), (60, [*range(1, 130)]), (200, [*range(1, 130)]), (0.1, [])],
)
def test_a_unit_shows_an_epoch_a_minute(seconds, shown):
    epochs = [Progress("a", 130, i, seconds=seconds) for i in range(1, 131)]
    found = [p.epoch for p in epochs if p.is_shown]
    assert found[: len(shown)] == shown and 130 not in found
    assert Progress("a", 3, note="starts over").is_shown


@pytest.mark.parametrize(
    "words, found",
    [
        (["python3", "/usr/bin/papermill", "a.ipynb"], True),
        (["python3", "-m", "papermill", "a.ipynb"], True),
        (["python3", "/usr/bin/jupyter-lab", "papermill.ipynb"], False),
        ([], False),
    ],
)
def test_papermill_is_known_by_its_name(tmp_path, words, found):
    os.mkfifo(tmp_path / "pipe")
    home = process(tmp_path / "p", tmp_path / "pipe", *words)
    assert progress.papermill(home) == (home / "fd" / "2" if found else None)


def test_a_file_is_left_alone_and_so_is_what_is_gone(tmp_path):
    "Who writes to a file from two places overwrites one of them."
    (tmp_path / "log").write_text("its own")
    assert progress.papermill(process(tmp_path / "p", tmp_path / "log", "papermill")) is None
    assert progress.papermill(process(tmp_path / "q", tmp_path / "gone", "papermill")) is None
    assert progress.papermill(tmp_path / "none") is None


def test_a_pipe_that_is_full_or_has_no_reader_holds_nobody_up(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    tell(pipe, "nobody reads")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    tell(pipe, "first")
    assert os.read(reader, 100) == b"\rfirst\n"
    before = time.monotonic()
    for _ in range(2000):
        tell(pipe, "x" * 100)
    assert time.monotonic() - before < 10
    os.close(reader)


def test_a_cell_has_one_output_with_the_last_lines(monkeypatch):
    shown = []

    class Output:
        def update(self, bundle, raw):
            shown[-1] = bundle

    def display(bundle, raw, display_id):
        shown.append(bundle)
        return Output()

    monkeypatch.setattr("IPython.display.display", display)
    cell = Cell()
    for i in range(LAST + 5):
        cell(f"line {i}")
    assert shown == [{"text/plain": "\n".join(f"line {i}" for i in range(5, LAST + 5))}]


def test_all_lines_are_in_the_file_of_all_runs(tmp_path):
    for line in ("one", "two"):
        Teller(tmp_path, lambda line: None)(line)
    assert (tmp_path / "progress.log").read_text() == "one\ntwo\n"


def notebook(path: Path, folder: Path) -> Path:
    "A notebook that tells forty lines."
    cell = nbformat.v4.new_code_cell(
        "from pathlib import Path\n"
        "from sparse_sharing.study.progress import Teller\n"
        f"tell = Teller(Path({str(folder)!r}))\n"
        "for i in range(40):\n    tell(f'line {i} of 40')\n"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), path)
    return path


@LINUX
@pytest.mark.e2e
def test_lines_reach_the_terminal_that_papermill_was_started_in(tmp_path):
    "And the cell keeps the last ones, in one output."
    path = notebook(tmp_path / "in.ipynb", tmp_path)
    screen, program = pty.openpty()
    words = [sys.executable, "-m", "papermill", str(path), str(tmp_path / "out.ipynb")]
    pid = os.posix_spawn(
        sys.executable,
        words,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, program, n) for n in (1, 2)],
    )
    os.close(program)
    read = []

    def follow() -> None:
        try:
            while text := os.read(screen, 10_000):
                read.append(text)
        except OSError:  # all have closed the terminal
            pass

    reader = threading.Thread(target=follow)
    reader.start()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    reader.join(60)
    text = b"".join(read).decode()
    assert [i for i in range(40) if f"\r\x1b[Kline {i} of 40\r\n" in text] == [*range(40)]
    (output,) = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs
    assert output.data["text/plain"].split("\n") == [
        f"line {i} of 40" for i in range(40 - LAST, 40)
    ]


@pytest.mark.e2e
def test_where_papermill_is_a_library_the_cell_is_all(tmp_path, capfd):
    path = notebook(tmp_path / "in.ipynb", tmp_path)
    papermill.execute_notebook(
        str(path), str(tmp_path / "out.ipynb"), progress_bar=False, kernel_name="python3"
    )
    assert "of 40" not in capfd.readouterr().err
    assert len(nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs) == 1
