"A whole study on a tiny corpus: its tables, and that they do not depend on how it was run."

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from helpers import ROOT
from tiny import write_corpus, write_glove

from sparse_sharing import study
from sparse_sharing.masks import Mask, chance_overlap, overlap_ratio, union
from sparse_sharing.study import (
    COLUMNS,
    PRESETS,
    Experiment,
    _work_behind,
    plan,
    run,
    write_tables,
)
from sparse_sharing.systems import LEVEL, TASKS, read_data
from sparse_sharing.tagger import Sizes
from sparse_sharing.units import load_result

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

SMALL = dict(preset="quick", alpha=0.35, min_density=0.5, warmup=1, epochs=2, seed=3)
ROUNDS = 2  # 0.65 ** 2 is less than one half
SIZES = PRESETS["quick"].training.sizes
SYSTEMS = ("single", "subnet", "hard", "soft", "hierarchical", "sparse", "sparse_table4")
METRICS = {"pos": ["accuracy"], "ner": ["f1", "f1_strict"], "chunk": ["f1", "f1_strict"]}
TABLE4 = {"pos": 0.5012, "ner": 0.5623, "chunk": 0.4467}  # the paper's densities


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    "Where the corpus and its word vectors are."
    folder = tmp_path_factory.mktemp("hidden-place")
    glove = write_glove(folder / "glove.txt", SIZES.word)
    return dict(data_dir=str(write_corpus(folder / "corpus")), embeddings=str(glove))


@pytest.fixture(scope="module")
def experiment(source, tmp_path_factory):
    return Experiment("exp1", **source, **SMALL, results_dir=str(tmp_path_factory.mktemp("one")))


@pytest.fixture(scope="module")
def unbroken(experiment):
    "The folder of a run with one worker, and the lines that it logged."
    lines = []
    return run(experiment, lines.append), lines


@pytest.fixture(scope="module")
def tables(unbroken):
    return {name: pd.read_csv(unbroken[0] / f"{name}.csv") for name in COLUMNS}


@pytest.fixture(scope="module")
def masks(unbroken):
    "Task and round -> the mask that was kept."
    found = {}
    for path in sorted((unbroken[0] / "masks").iterdir()):
        task, round_ = re.fullmatch(r"(\w+)-seed3-round(\d\d)\.safetensors", path.name).groups()
        found[task, int(round_)] = Mask.load(path)
    return found


@pytest.fixture(scope="module")
def chosen(tables):
    "System -> task -> round, by the rules: best on dev, the sparser of equals; or nearest to Table 4."
    rounds = tables["candidates"].query("round > 0")
    found = {"sparse": {}, "sparse_table4": {}}
    for task, part in rounds.groupby("task"):
        best = part[part.dev == part.dev.max()]
        found["sparse"][task] = int(best.loc[best.density.idxmin(), "round"])
        distance = (part.density - TABLE4[task]).abs()
        found["sparse_table4"][task] = int(part.loc[distance.idxmin(), "round"])
    return found | {"subnet": found["sparse"]}


@pytest.fixture(scope="module")
def planned(experiment, unbroken, source):
    return plan(experiment, read_data(**source), unbroken[0] / "units")


class TestTables:
    def test_their_columns(self, tables):
        assert {name: list(table) for name, table in tables.items()} == {
            "results": "experiment data preset system task seed metric dev test epoch parameters"
            " density seconds".split(),
            "curves": "system task seed epoch loss dev seconds".split(),
            "candidates": "task seed round density dev".split(),
            "overlap": "tasks seed overlap chance".split(),
        }
        assert not any(table.isna().any().any() for table in tables.values())

    def test_every_score_of_every_system_is_there_once(self, tables):
        results = tables["results"]
        found = sorted(zip(results.system, results.task, results.metric, strict=True))
        assert found == sorted((s, t, m) for s in SYSTEMS for t in TASKS for m in METRICS[t])
        assert set(results.seed) == {3} and set(results.experiment) == {"exp1"}
        assert set(results.data) == {"conll2003"} and set(results.preset) == {"quick"}
        assert results[["dev", "test"]].stack().between(0, 100).all()

    def test_candidates_are_those_of_the_definition(self, tables, masks):
        size = masks["pos", 0].size
        assert len(tables["candidates"]) == 3 * (ROUNDS + 1) == len(masks)
        for row in tables["candidates"].itertuples():
            mask = masks[row.task, row.round]
            assert mask.kept == round(size * 0.65**row.round) and row.density == mask.density
            assert mask <= masks[row.task, max(row.round - 1, 0)]

    def test_subnets_are_chosen_by_the_rules(self, tables, masks, chosen):
        densities = tables["results"].groupby(["system", "task"]).density.first()
        for system in SYSTEMS:
            for task in TASKS:
                rounds = chosen.get(system)
                density = masks[task, rounds[task]].density if rounds else 1
                assert densities[system, task] == density, (system, task)

    def test_parameters_count_whole_systems(self, tables, masks, chosen):
        s = SIZES
        conv = s.char * s.filters * s.window, s.filters
        first = 2 * 4 * s.hidden * (s.word + s.filters + s.hidden), 2 * 2 * 4 * s.hidden
        second = 2 * 4 * s.hidden * (2 * s.hidden + s.hidden), 2 * 2 * 4 * s.hidden
        encoder = sum(conv) + sum(first)
        biases = conv[1] + first[1]
        assert masks["pos", 0].size == encoder - biases

        def of(system):
            return [masks[t, chosen[system][t]] for t in TASKS]

        expected = {
            "single": 3 * encoder,
            "subnet": sum(m.kept for m in of("subnet")) + 3 * biases,
            "hard": encoder,
            "soft": 3 * sum(first) + sum(conv),
            "hierarchical": encoder + sum(second),
            "sparse": union(of("sparse")).kept + biases,
            "sparse_table4": union(of("sparse_table4")).kept + biases,
        }
        found = tables["results"].groupby("system").parameters.unique()
        assert {k: v.tolist() for k, v in found.items()} == {k: [v] for k, v in expected.items()}

    def test_overlaps_are_those_of_the_masks(self, tables, masks, chosen):
        rows = tables["overlap"].set_index("tasks")
        groups = [g for n in (2, 3) for g in combinations(TASKS, n)]
        assert sorted(rows.index) == sorted("-".join(g) for g in groups)
        for group in groups:
            some = [masks[t, chosen["sparse"][t]] for t in group]
            assert rows.loc["-".join(group), "overlap"] == overlap_ratio(some)
            assert rows.loc["-".join(group), "chance"] == chance_overlap(some)

    def test_every_system_has_the_same_budget(self, tables):
        for _, curve in tables["curves"].groupby(["system", "task"]):
            assert curve.epoch.tolist() == [1, 2, 3]
        assert tables["curves"].groupby(["system", "task"]).ngroups == len(SYSTEMS) * len(TASKS)

    def test_the_epoch_is_the_best_of_the_second_phase(self, tables):
        "By the mean dev score over the tasks of a model, the earliest on ties."
        curves = tables["curves"][tables["curves"].epoch > 1]
        headlines = tables["results"].query("metric != 'f1_strict'").set_index(["system", "task"])
        for system in SYSTEMS:
            models = [[t] for t in TASKS] if system in ("single", "subnet") else [list(TASKS)]
            for tasks in models:
                part = curves[(curves.system == system) & curves.task.isin(tasks)]
                epoch = part.groupby("epoch").dev.mean().idxmax()
                best = part[part.epoch == epoch].set_index("task").dev
                rows = headlines.loc[[(system, t) for t in tasks]]
                assert (rows.epoch == epoch).all()
                assert rows.dev.tolist() == pytest.approx(best[tasks].tolist(), abs=1e-9)

    def test_sparse_sharing_starts_with_the_warmup_of_hard_sharing(self, tables):
        first = tables["curves"].query("epoch == 1").set_index("task")
        hard, sparse, single = (
            first[first.system == s][["loss", "dev"]] for s in ("hard", "sparse", "single")
        )
        assert hard.equals(sparse) and not hard.equals(single)

    def test_seconds_count_all_that_a_system_needs(self, tables):
        seconds = tables["results"].groupby(["system", "task"]).seconds.first()
        spent = tables["curves"].groupby(["system", "task"]).seconds.sum()
        for system in SYSTEMS:
            for task in TASKS:
                if system in ("subnet", "sparse", "sparse_table4"):  # and the chains besides
                    assert seconds[system, task] > spent[system, task]
                else:
                    assert seconds[system, task] == pytest.approx(spent[system, task])

    def test_run_json_says_how_and_not_where(self, unbroken, source):
        text = (unbroken[0] / "run.json").read_text()

        def refuse(constant):
            raise AssertionError(f"{constant} is not JSON")

        about = json.loads(text, parse_constant=refuse)
        assert about["settings"]["alpha"] == 0.35 and about["experiment"]["seed"] == 3
        assert about["settings"]["training"]["sizes"]["hidden"] == SIZES.hidden
        assert about["data"]["name"] == "conll2003" and about["data"]["vectors"] is True
        assert len(about["data"]["coverage"]) == 3 and about["versions"]["torch"]
        assert re.fullmatch("[0-9a-f]{64}", about["data"]["checksum"])
        assert "/" not in text and "\\" not in text

    def test_nothing_written_names_a_place(self, unbroken):
        written = [p for p in unbroken[0].rglob("*") if p.suffix in (".json", ".csv", ".txt")]
        assert len(written) > 30
        assert not [
            p for p in written if "hidden-place" in p.read_text() or "/tmp" in p.read_text()
        ]

    def test_the_log_has_a_line_per_epoch(self, unbroken):
        lines = unbroken[1]
        starts = [line for line in lines if line.endswith("starts")]
        epochs = [line for line in lines if " epoch " in line]
        assert len(starts) + len(epochs) == len(lines)
        assert len(starts) == len(list((unbroken[0] / "units").iterdir()))
        assert all(line.startswith("seed 3 ") for line in lines)


class TestRunningAgain:
    def test_a_second_run_trains_nothing(self, experiment, unbroken):
        files = [p for p in (unbroken[0] / "units").rglob("*") if p.is_file()]
        before = {p: p.stat().st_mtime_ns for p in files}
        reports = {p: p.read_bytes() for p in unbroken[0].glob("*.*")}
        lines = []
        assert run(experiment, lines.append) == unbroken[0] and not lines
        assert {p: p.stat().st_mtime_ns for p in files} == before
        assert {p: p.read_bytes() for p in unbroken[0].glob("*.*")} == reports

    def test_killed_and_run_again_with_other_workers(self, experiment, unbroken, source, tmp_path):
        "All processes at once, with epochs behind them. The tables are those of one worker."
        home = tmp_path / "results"
        script = tmp_path / "script.py"
        script.write_text(
            "import json, sys\n"
            "from sparse_sharing.study import Experiment, run\n"
            "if __name__ == '__main__':\n"
            "    run(Experiment('exp1', **json.loads(sys.argv[1])))\n"
        )
        settings = SMALL | source | dict(workers=2, results_dir=str(home))
        done = subprocess.Popen(
            [sys.executable, str(script), json.dumps(settings)],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + 300
            while time.monotonic() < end and done.poll() is None:
                finished = len(list(home.glob("units/*/result.json")))
                if finished >= 10 and list(home.glob("units/*/checkpoint.safetensors")):
                    break
                time.sleep(0.002)
            assert done.poll() is None, "it ended before it could be killed"
        finally:
            os.killpg(done.pid, signal.SIGKILL)
            done.wait()
        assert not (home / "results.csv").exists()
        before = {p: p.read_bytes() for p in home.glob("units/*/result.json")}
        assert len(before) >= 10
        run(Experiment("exp1", **settings), lambda line: None)
        assert {p: p.read_bytes() for p in before} == before, "a finished unit was done again"
        self.check_same(home, unbroken[0])

    def check_same(self, home, reference):
        for name in COLUMNS:
            ours, theirs = (
                pd.read_csv(p / f"{name}.csv", dtype=str).drop(columns="seconds", errors="ignore")
                for p in (home, reference)
            )
            pd.testing.assert_frame_equal(ours, theirs)
        ours, theirs = (
            {m.name: m.read_bytes() for m in (p / "masks").iterdir()} for p in (home, reference)
        )
        assert ours == theirs
        ours, theirs = (json.loads((p / "run.json").read_text()) for p in (home, reference))
        assert ours["experiment"].pop("workers") == 2 and theirs["experiment"].pop("workers") == 1
        assert ours == theirs

    def test_workers_end_with_the_process_that_started_them(self):
        "Also if it alone is killed, as a notebook's kernel is."
        worker = (
            "import os, time; from sparse_sharing.units import end_with_parent as end;"
            "end(os.getppid()); print('at work', flush=True); time.sleep(90)"
        )
        starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
        with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"at work\n"
            process.kill()
            process.communicate(timeout=60)  # until nobody is left who could write

    def test_the_place_of_the_results_is_in_no_name(self, experiment, unbroken, source, tmp_path):
        elsewhere = Experiment("exp1", **source, **SMALL, workers=2, results_dir=str(tmp_path))
        data = read_data(**source)
        folder = unbroken[0] / "units"
        assert plan(elsewhere, data, folder) == plan(experiment, data, folder)

    def test_units_of_another_setting_are_others(self, experiment, unbroken, source):
        data, folder = read_data(**source), unbroken[0] / "units"

        def names(**changes):
            settings = source | SMALL | changes
            planned = plan(Experiment("exp1", **settings), data, folder)
            return {u.name for us in planned.values() for u in us}

        assert not names(seed=4) & names() and not names(preset="study") & names()
        assert names(n_seeds=2) == names() | names(seed=4)
        assert names(epochs=1) & names(), "the warmup and its masks are the same"
        assert not names(warmup=2) & names()

    def test_a_unit_that_fails_is_named_and_stops_the_run(self, source, tmp_path, monkeypatch):
        class Threads(ThreadPoolExecutor):
            def __init__(self, workers, **_):
                super().__init__(workers)

            def shutdown(self, wait, kill_workers):
                super().shutdown(wait, cancel_futures=kill_workers)

        def perform(unit, *_):
            raise FloatingPointError(f"the loss of {unit.tasks[0]!r} is nan")

        monkeypatch.setattr(study, "ProcessPoolExecutor", Threads)
        monkeypatch.setattr(study, "perform", perform)
        lines = []
        with pytest.raises(FloatingPointError, match="is nan"):
            run(Experiment("exp1", **source, **SMALL, results_dir=str(tmp_path)), lines.append)
        assert len(lines) == 2 and lines[1] == lines[0].replace("starts", "failed")
        assert not (tmp_path / "results.csv").exists()

    def test_a_system_is_reported_when_it_is_whole(self, source, tmp_path):
        experiment = Experiment("exp1", **source, **SMALL, results_dir=str(tmp_path))
        home = write_tables(experiment, read_data(**source))
        for name, columns in COLUMNS.items():
            table = pd.read_csv(home / f"{name}.csv")
            assert list(table) == columns and table.empty

    def test_masks_of_an_earlier_setting_do_not_stay(self, unbroken, source, tmp_path):
        "Tables and masks of a folder are those of the same run."
        masks = tmp_path / "masks"
        masks.mkdir()
        (masks / "pos-seed0-round09.safetensors").write_bytes(b"from another time")
        experiment = Experiment("exp1", **source, **SMALL, results_dir=str(tmp_path))
        write_tables(experiment, read_data(**source))
        assert not list(masks.iterdir())


class TestPlan:
    def test_all_is_done(self, planned, unbroken):
        units = [u for us in planned.values() for u in us]
        assert all(load_result(unbroken[0] / "units", u) for u in units)
        folders = {p.name for p in (unbroken[0] / "units").iterdir()}
        assert folders == {u.name for u in units}, "nothing was trained that nobody needs"

    def test_what_starts_where(self, planned):
        warmup, main = planned["hard", "all", 3]
        assert main.start == warmup.name and not warmup.start
        assert (warmup.epochs, main.epochs) == (1, 2) and warmup.keep == "last"
        for task in TASKS:
            chain = planned["imp", task, 3]
            assert {u.start for u in chain} == {warmup.name}
            assert [u.previous for u in chain] == ["", *(u.name for u in chain[:-1])]
            subnet, single = planned["subnet", task, 3], planned["single", task, 3]
            assert not subnet[0].start and subnet[0].masks == subnet[1].masks != ()
            assert not single[0].start and not single[0].masks
        for system in ("sparse", "sparse_table4"):
            first, second = planned[system, "all", 3]
            assert first == warmup and second.start == warmup.name and len(second.masks) == 3
        assert set(LEVEL) == set(TASKS)

    def test_before_anything_is_done_no_subnet_is_planned(self, experiment, source, tmp_path):
        planned = plan(experiment, read_data(**source), tmp_path)
        assert {s for s, _, _ in planned} == {"hard", "imp", "single", "soft", "hierarchical"}

    def test_the_longest_way_comes_first(self, source, tmp_path):
        "The warmup that all masks wait for, when the rounds are what takes time."
        experiment = Experiment("exp1", **source, preset="paper", results_dir=str(tmp_path))
        planned = plan(experiment, read_data(**source | {"embeddings": ""}), tmp_path)
        units = {u.name: u for us in planned.values() for u in us}
        behind = _work_behind(list(units.values()))
        assert units[max(behind, key=behind.__getitem__)] == planned["hard", "all", 0][0]


class TestParameters:
    def test_a_notebooks_names(self, source, tmp_path):
        class Thing:
            pass

        names = SMALL | source | dict(results_dir=str(tmp_path), np=np, Thing=Thing, print=print)
        names |= dict(_secret=1, __name__="__main__", In=[], Out={}, exit=print, alpha=None)
        experiment = Experiment.from_notebook("exp1", names)
        assert experiment.name == "exp1" and experiment.epochs == 2
        assert experiment.settings.alpha == PRESETS["quick"].alpha
        assert experiment.settings.min_density == 0.5

    @pytest.mark.parametrize("name", ["typo", "sede", "name", "lr"])
    def test_a_name_that_it_does_not_know(self, name):
        with pytest.raises(ValueError, match=f"unknown parameter {name}: this notebook knows") as e:
            Experiment.from_notebook("exp1", {"preset": "quick", name: 1})
        assert "n_seeds" in str(e.value) and "results_dir" in str(e.value)

    @pytest.mark.parametrize("value", ["", 1, 0.5, None, True, [1], {"a": 1}])
    def test_a_name_is_unknown_whatever_its_value(self, value):
        with pytest.raises(ValueError, match="unknown parameter typo"):
            Experiment.from_notebook("exp1", {"typo": value})

    @pytest.mark.parametrize(
        "wrong, message",
        [
            (dict(preset="fast"), "preset is 'fast': take one of quick, study, paper"),
            (dict(alpha=0.0), "alpha is 0.0"),
            (dict(alpha=1.0), "alpha is 1.0"),
            (dict(alpha="0.1"), "alpha is '0.1'"),
            (dict(min_density=1.5), "min_density is 1.5"),
            (dict(warmup=-1), "warmup is -1: give a whole number, 0 or more"),
            (dict(epochs=0), "epochs is 0: give a whole number, 1 or more"),
            (dict(epochs=2.5), "epochs is 2.5"),
            (dict(n_seeds=0), "n_seeds is 0"),
            (dict(workers=0), "workers is 0"),
            (dict(seed="1"), "seed is '1'"),
            (dict(scheduler="tcp://here:1"), "only local processes"),
            (dict(data_dir="nowhere/at/all"), "no such folder: give the folder of a corpus"),
            (dict(embeddings="nowhere.txt"), "no such file: give a GloVe text file"),
            (dict(device="gpu"), "device is 'gpu'"),
        ],
        ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
    )
    def test_a_value_that_makes_no_sense(self, wrong, message):
        with pytest.raises(ValueError) as error:
            Experiment("exp1", **wrong)
        assert message in str(error.value)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_device_that_is_not_there(self):
        with pytest.raises(ValueError, match="device is 'cuda'"):
            Experiment("exp1", device="cuda")

    def test_an_experiment_that_there_is_not(self):
        with pytest.raises(ValueError, match="exp1"):
            Experiment("exp7")

    def test_the_presets(self):
        assert set(PRESETS) >= {"quick", "study", "paper"}
        assert PRESETS["study"].alpha == pytest.approx(1 - 0.1 ** (1 / 20))
        assert (PRESETS["paper"].alpha, PRESETS["paper"].epochs) == (0.1, 100)
        assert PRESETS["paper"].magnitudes == "last"
        assert PRESETS["study"].training.sizes == PRESETS["paper"].training.sizes == Sizes()
        changed = Experiment("exp1", warmup=0, alpha=0.2).settings
        assert (changed.warmup, changed.alpha) == (0, 0.2)
        assert changed.epochs == PRESETS["quick"].epochs


@pytest.mark.skipif(not (ROOT / "nbs" / "exp1.ipynb").exists(), reason="there is no exp1 yet")
def test_a_parameter_that_the_notebook_does_not_know_stops_it(tmp_path):
    "The whole of a good run is in test_experiments.py."
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter typo") as error:
        papermill.execute_notebook(
            str(ROOT / "nbs" / "exp1.ipynb"),
            str(tmp_path / "out.ipynb"),
            dict(typo=1),
            kernel_name="python3",
            progress_bar=False,
            cwd=str(tmp_path),
        )
    assert error.value.ename == "ValueError" and "this notebook knows" in error.value.evalue
    assert not (tmp_path / "results").exists()
