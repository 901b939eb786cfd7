"Parameters that make no sense: each is refused by the first cell, with parameter, value and cure, and nothing is written."

import dataclasses
import os
import re
import socket
import time

import nbformat
import papermill
import pytest
from helpers import NOTEBOOKS, ROOT, page
from tiny import write_corpus, write_glove

from sparse_sharing.study import machine
from sparse_sharing.study.config import Experiment
from sparse_sharing.study.machine import check_folder, cores, memory, processes
from sparse_sharing.study.parameters import PARAMETERS, shown

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

EXPERIMENTS = [
    p for p in NOTEBOOKS if not re.match(r".*/|index|api|running|your_|replication", page(p))
]
NAN, INF, HUGE = float("nan"), float("inf"), 10**400
ODD = {
    "preset": [None, 1, True, "", "Quick", "quick ", ["quick"], {"a": 1}, "q" * 3000],
    "alpha": ["0.1", True, 0, 1, -0.1, 1e-5, 1e-300, 0.9999, NAN, INF, -INF, HUGE, [0.1]],
    "min_density": ["", False, 0, 1, 1.5, 1e-9, NAN, INF, {}],
    "warmup": [-1, 0.5, 2.0, "2", True, HUGE, 10**9, []],
    "epochs": [0, -3, 1e3, "ten", False, 10**6, NAN],
    "round_epochs": [0, "1", 1.5, True, 10**5],
    "seed": [None, -1, 0.0, "None", True, HUGE, 10**5000, [1]],
    "n_seeds": [None, 0, -1, 1.0, "3", True, 10**7, HUGE],
    "workers": [None, -1, 1.0, "all", True, 10**9, HUGE],
    "scheduler": [None, 8786, True, "localhost:8786", "here\n://there", ["tcp://a:1"]],
    "device": [None, 0, "", "gpu", "meta", "cuda:99", "cpu\0", "CPU", "tpu:0", ["cpu"], True],
    "results_dir": [None, "", " ", 7, True, "a\0b", "a\nb", "x" * 3000, "\ud800", ["results"]],
    "data_dir": [None, 5, True, "nowhere", "a\0b", "n" * 1500, ["a", "b"], {}],
    "embeddings": [None, 5, "nowhere.txt", ".", "\0", ["glove"]],
    "systems": [None, 3, "hard,single", "everything", " ", ["hard"]],
    "tasks": [None, 4, "ner chunk sentiment", ["ner"]],
    "levels": [None, 2, "pos", "pos=0", "pos=99", "pos=x", "love=1", {"pos": 1}],
    "columns": [None, 1, ["word"]],
    "schemes": [1, "ner=bioes"],
    "comments": [False, "#"],
    "delimiter": [1, "tab"],
    "splits": [1, "train=a"],
    "relatedness": ["half", True, 0.5, -1, 2, NAN, [0.5]],
}  # fmt: skip
CASES = [(name, value) for name, values in ODD.items() for value in values]


def refused(experiment, given):
    "What the first cell says of parameters, which has to come soon."
    start = time.monotonic()
    with pytest.raises((ValueError, ConnectionError)) as error:
        Experiment.from_notebook(experiment, given)
    assert time.monotonic() - start < 5
    message = str(error.value)
    assert len(message) < 600
    return message


@pytest.mark.parametrize("name, value", CASES, ids=lambda x: shown(x)[:30])
def test_an_odd_value_is_refused_with_its_name_and_a_cure(name, value, here):
    message = refused("exp1", {name: value})
    assert name in message, message
    cures = "give|take one|leave|write|name |knows|the tasks are|it has|say what"
    assert re.search(cures, message), message
    assert not list(here.iterdir()), "something was written"


def test_there_are_sixty_cases_and_a_case_for_each_parameter():
    assert len(CASES) >= 60 and ODD.keys() == PARAMETERS.keys()


def test_the_table_has_every_parameter_and_the_defaults_are_within_it():
    names = [field.name for field in dataclasses.fields(Experiment)]
    assert sorted(names) == sorted(["name", *PARAMETERS])
    for path in EXPERIMENTS:
        assert papermill.inspect_notebook(str(path)).keys() <= PARAMETERS.keys(), path


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_uses_all_cores_by_default(path):
    found = papermill.inspect_notebook(str(path))
    assert found["workers"]["default"] == "0"
    (cell,) = [
        c for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", [])
    ]
    assert "0: one for each core" in cell.source


class TestPlaces:
    def test_results_where_a_file_is(self, here):
        (here / "file").write_text("precious")
        for place in ("file", "file/results"):
            assert "is not a folder: give another" in refused("exp1", dict(results_dir=place))
        assert (here / "file").read_text() == "precious"

    def test_results_where_a_link_leads_nowhere(self, here):
        (here / "link").symlink_to(here / "nowhere" / "at" / "all")
        message = refused("exp1", dict(results_dir="/proc/version/results"))
        assert "is not a folder" in message
        assert not (here / "nowhere").exists()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_results_where_nobody_may_write(self, here):
        "Root may write everywhere, so an ordinary user is asked."
        (here / "mine").mkdir(mode=0o755)
        child = os.fork()
        if child == 0:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            else:
                (here / "mine").chmod(0o555)
            try:
                check_folder("mine/results")
            except ValueError as error:
                os._exit(5 if "this user may not write to" in str(error) else 6)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        assert not list((here / "mine").iterdir())

    def test_vectors_with_a_header_of_words(self, here):
        write_glove(here / "glove.txt", 50)
        text = (here / "glove.txt").read_text()
        (here / "glove.txt").write_text("these are vectors\n" + text)
        before = sorted(here.iterdir())
        write_corpus(here / "corpus")
        message = refused("exp1", dict(embeddings="glove.txt", data_dir="corpus"))
        assert "glove.txt:1: 2 numbers, where others have 50" in message
        assert "if this is a header line, take it out" in message
        assert sorted(here.iterdir()) == sorted([*before, here / "corpus"])

    def test_vectors_of_another_width(self, here):
        write_glove(here / "glove.txt", 20)
        write_corpus(here / "corpus")
        message = refused("exp1", dict(embeddings="glove.txt", data_dir="corpus"))
        assert "embeddings" in message and "20" in message and "50" in message

    def test_more_rounds_than_anybody_can_wait_for(self, here):
        given = dict(alpha=0.01, min_density=0.001, n_seeds=100)
        message = refused("exp1", given)
        assert "rounds of pruning" in message and "fewer seeds" in message


class TestSchedulers:
    @pytest.fixture(autouse=True)
    def dask(self):
        pytest.importorskip("distributed", reason="Dask is not installed")

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://here", "tcp://"])
    def test_one_that_is_not_there(self, address, here):
        message = refused("exp1", dict(scheduler=address))
        assert "is it running?" in message and "leave scheduler out" in message
        assert not list(here.iterdir())

    def test_one_that_listens_and_says_nothing(self, here):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            message = refused("exp1", dict(scheduler=f"tcp://127.0.0.1:{port}"))
        assert "is it running?" in message


class TestProcesses:
    def test_a_number_that_was_asked_for_is_taken(self):
        assert [processes(n) for n in (1, 2, 5)] == [1, 2, 5]

    def test_an_accelerator_has_one(self):
        assert processes(0, "cuda") == processes(0, "mps") == 1

    def test_limits_of_a_container_count(self, tmp_path, monkeypatch):
        "Of its own group and of those above it."
        monkeypatch.setattr(machine, "GROUPS", tmp_path)
        monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")
        monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(16)))
        (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 64000000 kB\n")
        assert cores() == processes(0) == 16
        (tmp_path / "cpu.max").write_text("350000 100000\n")
        assert cores() == processes(0) == 3
        (tmp_path / "cpu.max").write_text("50000 100000\n")
        assert cores() == 1, "half a core is one process"
        (tmp_path / "cpu.max").write_text("max 100000\n")
        (tmp_path / "memory.max").write_text("6000000000\n")
        (tmp_path / "memory.current").write_text("3500000000\n")
        assert memory() == 2_500_000_000 and processes(0) == 2
        (tmp_path / "memory.current").write_text("5999999999\n")
        assert processes(0) == 1, "one process there is always"

    def test_a_system_that_says_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(machine, "GROUPS", tmp_path)
        monkeypatch.setattr(machine, "MEMORY", tmp_path / "nothing")
        assert memory() is None and processes(0) == cores() >= 1

    @pytest.mark.parametrize(
        "given, said",
        [
            (dict(workers=3), "trains with 3 processes side by side"),
            (dict(workers=1), "trains with 1 process side by side"),
            (dict(), "as cores and memory allow"),
        ],
    )
    def test_the_first_cell_says_how_many(self, given, said, here, capsys):
        Experiment.from_notebook("exp1", dict(data_dir=str(write_corpus(here / "c"))) | given)
        first, second = capsys.readouterr().out.splitlines()
        assert first.endswith(said) and second == f"writes to {here / 'results'}"


@pytest.mark.e2e
@pytest.mark.parametrize(
    "given, said",
    [
        (dict(alpha=1e-5), "alpha is 1e-05: give a number from 0.01 to 0.99"),
        (dict(device="meta"), "device is 'meta', and nothing can be computed there"),
        (dict(workers=10**9), "workers is 1000000000: give a whole number from 0 to 256"),
    ],
    ids=["alpha", "device", "workers"],
)
def test_papermill_stops_in_the_first_cell(given, said, here):
    with pytest.raises(papermill.PapermillExecutionError) as error:
        papermill.execute_notebook(
            str(ROOT / "nbs" / "exp1.ipynb"), "out.ipynb", given,
            kernel_name="python3", progress_bar=False, cwd=str(here),
        )  # fmt: skip
    assert error.value.ename == "ValueError" and said in error.value.evalue
    assert [p.name for p in here.iterdir()] == ["out.ipynb"]
