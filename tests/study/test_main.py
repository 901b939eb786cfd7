"A whole study on a tiny corpus: its tables, what it tells, and reading it without its corpus."

import dataclasses
import json
import os
import re
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import papermill
import pytest
from filelock import FileLock
from helpers import ROOT
from studies import CLOCKS, SMALL, TINY, check_same_study, in_threads, perform_killed
from tiny import hidden_source

from sparse_sharing.files import Damaged, load_json, save_json
from sparse_sharing.masks import Mask, chance_overlap, overlap_ratio, union
from sparse_sharing.study import data as data_module
from sparse_sharing.study import minutes, rebuild, run, status
from sparse_sharing.study.config import Experiment
from sparse_sharing.study.data import TASKS, read_data
from sparse_sharing.study.executor import Agenda
from sparse_sharing.study.machine import made_with
from sparse_sharing.study.overlaps import part_overlaps
from sparse_sharing.study.plan import names_of, plan
from sparse_sharing.study.presets import PRESETS
from sparse_sharing.study.schema import COLUMNS, Key
from sparse_sharing.study.tables import LATER, write_tables
from sparse_sharing.study.units import MASK, WEIGHTS, load_result
from sparse_sharing.tagging.corpora import Corpus, read_corpus

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

ROUNDS = 2  # 0.65 ** 2 is less than one half
SIZES = PRESETS["quick"].training.sizes
SYSTEMS = ("single", "subnet", "hard", "soft", "hierarchical", "sparse", "sparse_table4")
SPAN_METRICS = ["f1", "f1_strict", "f1_released_single", "f1_released_multi", "f1_legal"]
METRICS = {"pos": ["accuracy"], "ner": SPAN_METRICS, "chunk": SPAN_METRICS}
TABLE4 = {"pos": 0.5012, "ner": 0.5623, "chunk": 0.4467}  # the paper's densities


@pytest.fixture(scope="module", autouse=True)
def in_process():
    with in_threads():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return hidden_source(tmp_path_factory.mktemp("hidden-place"), SIZES.word)


@pytest.fixture(scope="module")
def experiment(source, tmp_path_factory):
    return Experiment("exp1", **source, **SMALL, results_dir=str(tmp_path_factory.mktemp("one")))


@pytest.fixture(scope="module")
def unbroken(experiment):
    "The folder of a run with one worker, and the lines that it logged."
    lines = []
    return run(experiment, lines.append), lines


@pytest.fixture
def home(unbroken, tmp_path):
    "A copy of it, to be broken."
    return shutil.copytree(unbroken[0], tmp_path / "results")


@pytest.fixture(scope="module")
def tables(unbroken):
    return {name: pd.read_csv(unbroken[0] / f"{name}.csv") for name in COLUMNS}


@pytest.fixture(scope="module")
def masks(unbroken, planned):
    "Task and round -> the mask that was kept."
    return {
        (task, unit.round): Mask.load(unbroken[0] / "units" / unit.name / MASK)
        for task in TASKS
        for unit in planned[Key("imp", (task,), seed=3)]
    }


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
def planned(experiment, unbroken):
    return plan(experiment, read_data(experiment.source).checksum, unbroken[0] / "units")


class TestTables:
    def test_their_columns(self, tables):
        what = ["system", "variant", "level", "tasks"]
        assert {name: list(table) for name, table in tables.items()} == {
            "results": ["experiment", "data", "preset", *what]
            + "task seed metric dev test epoch parameters density seconds".split()
            + ["processor_seconds", "task_epochs"],
            "genres": [*what, *"task seed genre words metric dev test".split()],
            "curves": [*what, *"task seed epoch loss dev seconds".split()],
            "candidates": "task seed round density dev".split(),
            "overlap": "tasks variant level seed overlap chance union".split(),
            "parts": "tasks variant level seed layer direction weight gate weights density overlap"
            " chance".split(),
            "chains": "variant level task seed round density dev".split(),
        }
        parts = tables["parts"]
        others = [table for name, table in tables.items() if name != "parts"]
        unused = ["variant", "level"]  # a comparison has but masks of two densities
        for name, table in tables.items():
            assert table.reindex(columns=["level"]).isna().all(axis=None)
            variants = set(table.reindex(columns=["variant"])["variant"].dropna())
            assert variants == ({"densities of Table 4"} if name in ("overlap", "parts") else set())
        assert not any(
            table.drop(columns=unused, errors="ignore").isna().any(axis=None) for table in others
        )
        words = ["direction", "weight", "gate"]  # empty for what is not of an LSTM
        assert parts[words].isna().any(axis=1).eq(~parts.layer.str.startswith("LSTM")).all()
        assert not parts.drop(columns=words + unused).isna().any(axis=None)
        assert tables["chains"].empty, "a comparison has none besides its candidates"

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
        rows = tables["overlap"].query("variant.isna()").set_index("tasks")
        groups = [g for n in (2, 3) for g in combinations(TASKS, n)]
        assert sorted(rows.index) == sorted("+".join(g) for g in groups)
        for group in groups:
            some = [masks[t, chosen["sparse"][t]] for t in group]
            assert rows.loc["+".join(group), "overlap"] == overlap_ratio(some)
            assert rows.loc["+".join(group), "chance"] == chance_overlap(some)

    def test_parts_are_those_of_the_masks_and_add_up(self, tables, masks, chosen):
        "A row per group and part; weights, and those that are common, are those of the whole."
        parts = tables["parts"].query("variant.isna()")
        parts = parts.fillna(dict(direction="", weight="", gate=""))
        groups = [g for n in (2, 3) for g in combinations(TASKS, n)]
        assert set(parts.tasks) == {"+".join(g) for g in groups} and set(parts.seed) == {3}
        for group in groups:
            some = [masks[t, chosen["sparse"][t]] for t in group]
            own = parts[parts.tasks == "+".join(group)]
            own = own.drop(columns=["tasks", "variant", "level", "seed"])
            expected = part_overlaps(some)
            assert len(own) == len(expected) == 1 + 2 * 2 * 4
            for ours, theirs in zip(
                own.to_dict("records"), expected.to_dict("records"), strict=True
            ):
                assert ours == pytest.approx(theirs)
            assert own.weights.sum() == some[0].size
            kept = sum(m.kept for m in some) / len(some)
            assert (own.weights * own.density).sum() == pytest.approx(kept)

    def test_every_system_has_the_same_budget(self, tables):
        for _, curve in tables["curves"].groupby(["system", "task"]):
            assert curve.epoch.tolist() == [1, 2, 3]
        assert tables["curves"].groupby(["system", "task"]).ngroups == len(SYSTEMS) * len(TASKS)

    def test_the_epoch_is_the_best_of_the_second_phase(self, tables):
        "By the mean dev score over the tasks of a model, the earliest on ties."
        curves = tables["curves"][tables["curves"].epoch > 1]
        headlines = (
            tables["results"].query("metric in ('accuracy', 'f1')").set_index(["system", "task"])
        )
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
        assert set(about) == {"experiment", "settings", "data", "made_with", "mixed", "sha256"}
        assert about["settings"]["alpha"] == 0.35 and about["experiment"]["seed"] == 3
        assert about["settings"]["training"]["sizes"]["hidden"] == SIZES.hidden
        assert about["data"]["name"] == "conll2003" and len(about["data"]["coverage"]) == 3
        assert re.fullmatch("[0-9a-f]{64}", about["data"]["checksum"])
        assert re.fullmatch("[0-9a-f]{64}", about["data"]["identity"])
        assert about["made_with"] == [made_with()] and about["mixed"] == []
        places = ("data_dir", "embeddings", "results_dir", "scheduler")
        assert [about["experiment"][k] for k in places] == [""] * 4
        assert "/" not in text and "\\" not in text

    def test_nothing_written_names_a_place(self, unbroken):
        written = [p for p in unbroken[0].rglob("*") if p.suffix in (".json", ".csv", ".txt")]
        assert len(written) > 30
        assert not [
            p for p in written if "hidden-place" in p.read_text() or "/tmp" in p.read_text()
        ]

    def test_a_line_for_each_unit_says_what_matters(self, unbroken):
        "Who, its dev scores, how many are done of how many, and how long the rest takes."
        pattern = re.compile(
            r"seed 3  (?P<system>[\w]+) +(?P<tasks>[\w+]+) +(warmup|main|round \d) +"
            r"dev(?P<dev>( \d+\.\d)+) +\[(?P<done>\d+)/(?P<all>\d+)(?P<more>\+?), \d+ s left\]"
        )
        found = [pattern.fullmatch(line) for line in unbroken[1]]
        assert all(found), [ln for ln, m in zip(unbroken[1], found, strict=True) if not m]
        assert max(map(len, unbroken[1])) <= 100
        for m in found:
            assert len(m["dev"].split()) == len(m["tasks"].split("+"))
        units = len(list((unbroken[0] / "units").iterdir()))
        assert [int(m["done"]) for m in found] == [*range(1, units + 1)]
        assert (
            int(found[-1]["all"]) == units and found[-1]["more"] == "" and found[0]["more"] == "+"
        )
        assert [m["system"] for m in found][:6] == ["single"] * 6, "what all is compared with"

    def test_the_lines_are_in_a_file(self, unbroken):
        assert (unbroken[0] / "progress.log").read_text().splitlines() == unbroken[1]

    @pytest.mark.parametrize("what", ["link", "folder"])
    def test_nothing_is_written_through_a_link_in_the_place_of_that_file(
        self, experiment, home, tmp_path, what
    ):
        (home / "progress.log").unlink()
        if what == "link":
            (home / "progress.log").symlink_to(tmp_path / "elsewhere")
        else:
            (home / "progress.log").mkdir()
        with pytest.raises(Damaged, match="progress.log"):
            run(replace(experiment, results_dir=str(home)))
        assert not (tmp_path / "elsewhere").exists()


class TestRunningAgain:
    def test_a_second_run_trains_nothing(self, experiment, unbroken):
        files = [p for p in (unbroken[0] / "units").rglob("*") if p.is_file()]
        before = {p: p.stat().st_mtime_ns for p in files}
        reports = {p: p.read_bytes() for p in unbroken[0].glob("*.*")}
        lines = []
        assert run(experiment, lines.append) == unbroken[0] and not lines
        assert {p: p.stat().st_mtime_ns for p in files} == before
        assert {p: p.read_bytes() for p in unbroken[0].glob("*.*")} == reports

    def test_all_is_done_and_nothing_that_nobody_needs(self, planned, unbroken):
        units = [u for us in planned.values() for u in us]
        assert all(load_result(unbroken[0] / "units", u) for u in units)
        folders = {p.name for p in (unbroken[0] / "units").iterdir()}
        assert folders == {u.name for u in units}

    def test_what_stays_on_the_disk(self, planned, unbroken):
        "Masks, results and logs; weights of the common warmup and of hard sharing, and no checkpoint."
        units = unbroken[0] / "units"
        assert not list(units.glob("*/checkpoint.safetensors"))
        assert {p.parent.name for p in units.glob(f"*/{WEIGHTS}")} == {
            planned[Key("hard", TASKS, seed=3)][0].name
        }
        rounds = {u.name for t in TASKS for u in planned[Key("imp", (t,), seed=3)]}
        assert {p.parent.name for p in units.glob(f"*/{MASK}")} == rounds
        assert not [p for p in unbroken[0].rglob("*") if p.name.startswith(".")], "no drafts"

    def test_a_longer_experiment_uses_what_is_there(self, experiment, home):
        "Only what differs is trained: another round, and what takes its mask."
        before = {p.name for p in (home / "units").iterdir()}
        logs = {p: p.read_bytes() for p in (home / "units").glob("*/log.jsonl")}
        deeper = replace(experiment, min_density=0.3, results_dir=str(home))
        run(deeper, lambda line: None)
        assert {p: p.read_bytes() for p in logs} == logs
        added = {p.name for p in (home / "units").iterdir()} - before
        labels = [load_json(home / "units" / n / "result.json")["label"] for n in added]
        assert sum("round 3" in x for x in labels) == len(TASKS)
        assert all("round 3" in x or "sparse" in x or "subnet" in x for x in labels)
        assert len(pd.read_csv(home / "candidates.csv")) == len(TASKS) * 4

    def test_two_seeds_are_two_studies(self, source, tmp_path):
        both = Experiment(
            "exp1", **source, **TINY, seed=1, n_seeds=2, results_dir=str(tmp_path / "2")
        )
        run(both, lambda line: None)
        one = replace(both, seed=2, n_seeds=1, results_dir=str(tmp_path / "1"))
        run(one, lambda line: None)
        for name in ("results", "candidates", "overlap"):
            table, alone = (pd.read_csv(tmp_path / d / f"{name}.csv") for d in "21")
            assert set(table.seed) == {1, 2}
            part = (
                table[table.seed == 2].reset_index(drop=True).drop(columns=CLOCKS, errors="ignore")
            )
            pd.testing.assert_frame_equal(part, alone.drop(columns=CLOCKS, errors="ignore"))

    def test_a_system_is_reported_when_it_is_whole(self, source, tmp_path):
        experiment = Experiment("exp1", **source, **SMALL, results_dir=str(tmp_path))
        home = write_tables(experiment, read_data(experiment.source).about)
        for name, columns in COLUMNS.items():
            table = pd.read_csv(home / f"{name}.csv")
            assert list(table) == columns and table.empty

    @pytest.mark.parametrize("system", ["single", "hard", "sparse"])
    def test_a_system_that_lacks_a_unit_is_not_reported(self, home, planned, system):
        unit = planned[Key(system, ("ner",) if system == "single" else TASKS, seed=3)][-1]
        (home / "units" / unit.name / "result.json").unlink()
        table = pd.read_csv(rebuild(home) / "results.csv")
        assert set(table.system) == set(SYSTEMS) - {system}

    def test_nothing_is_deleted_that_is_not_ours(self, source, tmp_path):
        "Neither a file that somebody laid beside the tables, nor one behind a link."
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "precious.safetensors").write_bytes(b"not ours")
        home = tmp_path / "results"
        home.mkdir()
        (home / "masks").symlink_to(tmp_path / "elsewhere")
        experiment = Experiment("exp1", **source, **SMALL, results_dir=str(home))
        write_tables(experiment, read_data(experiment.source).about)
        with pytest.raises(FileNotFoundError, match="left as they are"):
            rebuild(home)
        assert (tmp_path / "elsewhere" / "precious.safetensors").read_bytes() == b"not ours"

    def test_a_corpus_that_changed_is_another(self, experiment, home, tmp_path):
        corpus = shutil.copytree(experiment.data_dir, tmp_path / "corpus")
        text = (corpus / "eng.testa").read_text()
        (corpus / "eng.testa").write_text(text.replace(" NN ", " NNP ", 1))
        other = replace(experiment, data_dir=str(corpus), results_dir=str(home), **TINY)
        before = set((home / "units").iterdir())
        run(other, lambda line: None)
        assert before < set((home / "units").iterdir())
        rows = status(home, names=True)
        assert set(rows.state) == {"done", "other"}
        assert {*rows[rows.state == "other"].name} == {p.name for p in before}


class TestRunJson:
    def test_units_of_several_days_are_told_apart(self, home, planned):
        "Versions that differ stand side by side."
        path = home / "units" / planned[Key("single", ("pos",), seed=3)][1].name / "result.json"
        content = load_json(path)
        content["made_with"] |= dict(torch="1.0.0")
        save_json(path, content)
        rebuild(home)
        about = load_json(home / "run.json")
        assert sorted(m["torch"] for m in about["made_with"]) == sorted(
            ["1.0.0", made_with()["torch"]]
        )

    def test_units_of_files_that_were_made_elsewhere_are_named(self, home, planned):
        "As when a mask is made again on a machine where other bits come out."
        chain = planned[Key("imp", ("chunk",), seed=3)]
        path = home / "units" / chain[2].name / "result.json"
        content = load_json(path)
        before = f"{chain[1].name}/smaller.safetensors"
        assert before in content["inputs"]
        content["inputs"][before] = "0" * 64
        save_json(path, content)
        rebuild(home)
        assert load_json(home / "run.json")["mixed"] == [dict(unit=chain[2].label, input=before)]

    def test_while_it_runs_it_is_there_already(self, source, tmp_path):
        seen = []
        experiment = Experiment("exp1", **source, **TINY, results_dir=str(tmp_path))
        run(experiment, lambda line: seen.append(load_json(tmp_path / "run.json")))
        assert seen[0]["made_with"] == [] and seen[0]["settings"]["warmup"] == 1
        assert load_json(tmp_path / "run.json")["made_with"] == [made_with()]

    def test_what_was_asked_for_can_be_asked_for_again(self, experiment, unbroken):
        about = load_json(unbroken[0] / "run.json")
        places = {k: getattr(experiment, k) for k in ("data_dir", "embeddings", "results_dir")}
        assert Experiment(**about["experiment"] | places) == experiment
        expected = json.loads(json.dumps(dataclasses.asdict(experiment.settings)))
        for name in LATER:  # which nobody asked for
            expected.pop(name, None), expected["training"].pop(name, None)
        assert about["settings"] == expected


class TestRebuild:
    def test_all_follows_from_the_units_alone(self, home, source, tmp_path):
        "Tables, byte for byte, where the corpus never was."
        files = [*home.glob("*.csv"), home / "run.json"]
        before = {p: p.read_bytes() for p in files}
        assert len(before) == len(COLUMNS) + 1
        for path in home.glob("*.csv"):
            path.unlink()
        away = shutil.move(Path(source["data_dir"]).parent, tmp_path / "away")
        data_module._read_once.cache_clear()
        try:
            assert rebuild(home) == home
            assert {p: p.read_bytes() for p in files} == before
            assert rebuild(str(home)) == home and status(home).state.eq("done").all()
        finally:
            shutil.move(away, Path(source["data_dir"]).parent)

    def test_no_unit_is_touched(self, home):
        before = {p: p.stat().st_mtime_ns for p in (home / "units").rglob("*")}
        rebuild(home)
        assert {p: p.stat().st_mtime_ns for p in (home / "units").rglob("*")} == before

    def test_a_folder_of_somebody_else_is_refused(self, tmp_path):
        for ask in (rebuild, status):
            with pytest.raises(FileNotFoundError, match="run.json is missing: give the folder"):
                ask(tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("file", ["run.json", "result.json", MASK])
    def test_a_damaged_file_is_named_and_no_table_is_written(self, home, planned, file):
        path = home / file
        if file != "run.json":
            path = home / "units" / planned[Key("imp", ("pos",), seed=3)][1].name / file
        before = {p: p.read_bytes() for p in home.glob("*.csv")}
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(Damaged) as error:
            rebuild(home)
        assert error.value.path == path
        assert {p: p.read_bytes() for p in home.glob("*.csv")} == before


class TestStatus:
    WHO = ["seed", "system", "tasks", "phase"]
    COLUMNS = [*WHO, "state", "epochs", "dev", "density", "minutes"]

    def row(self, home, unit):
        table = status(home, names=True).set_index("name")
        return table.loc[unit.name]

    def test_what_is_done_and_what_it_cost(self, home, planned, tables):
        assert list(status(home)) == self.COLUMNS, "no hashes"
        found = status(home, names=True)
        assert list(found) == [*self.COLUMNS, "name"] and set(found.state) == {"done"}
        units = {u.name: u for us in planned.values() for u in us}
        called = Agenda([], {}, called=names_of(planned))
        assert sorted(found.name) == sorted(units) and found.name.is_unique
        for row in found.itertuples():
            unit, result = units[row.name], load_result(home / "units", units[row.name])
            who = [f"seed {row.seed}", row.system, row.tasks, row.phase]
            assert (
                who == re.split("  +", called.label(unit).strip())
                and row.epochs == f"{unit.epochs}/{unit.epochs}"
            )
            assert row.dev == result["mean"]
            seconds = sum({r["epoch"]: r["seconds"] for r in result["curve"]}.values())
            assert row.minutes == pytest.approx(seconds / 60)
            assert 0 < row.density <= 1 and (row.density < 1) == (
                unit.system in ("sparse", "single")
                and bool(unit.masks)
                or unit.kind == "round"
                and unit.round > 0
            )

    def test_before_it_starts_all_is_missing(self, source, tmp_path):
        experiment = Experiment("exp1", **source, **SMALL, results_dir=str(tmp_path))
        write_tables(experiment, read_data(experiment.source).about)
        found = status(tmp_path)
        assert set(found.state) == {"missing"} and len(found) == 2 + 9 + 6 + 4
        assert set(found.epochs) == {"0/1", "0/2"}
        assert minutes(tmp_path).to_dict("index") == {"missing": dict(units=len(found), minutes=0)}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_interrupted_running_and_missing(self, home, experiment, planned):
        unit = planned[Key("soft", TASKS, seed=3)][0]
        folder = home / "units"
        shutil.rmtree(folder / unit.name)
        assert self.row(home, unit).state == "missing" and self.row(home, unit).epochs == "0/1"
        unit = planned[Key("hard", TASKS, seed=3)][1]
        (folder / unit.name / "result.json").unlink()
        assert self.row(home, unit).state == "missing"
        assert perform_killed(unit, folder, experiment.source, 2)
        row = self.row(home, unit)
        assert (row.state, row.epochs) == ("interrupted", "1/2") and row.minutes > 0
        with FileLock(folder / unit.name / "lock"):
            row = self.row(home, unit)
            assert (row.state, row.epochs) == ("running", "1/2")
        assert self.row(home, unit).state == "interrupted"
        run(replace(experiment, results_dir=str(home)), lambda line: None)
        assert self.row(home, unit).state == "done"

    def test_a_unit_that_has_just_begun_is_running(self, home, planned):
        unit = planned[Key("hard", TASKS, seed=3)][1]
        (home / "units" / unit.name / "result.json").unlink()
        with FileLock(home / "units" / unit.name / "lock"):
            row = self.row(home, unit)
        assert (row.state, row.epochs) == ("running", "0/2")

    @pytest.mark.parametrize("system", ["hard", "imp", "subnet"])
    def test_a_damaged_result_is_shown_where_it_is(self, home, planned, system):
        unit = planned[Key(system, TASKS if system == "hard" else ("pos",), seed=3)][1]
        path = home / "units" / unit.name / "result.json"
        path.write_text(path.read_text().replace('"mean": ', '"mean": 1'))
        found = status(home, names=True)
        assert found[found.state == "damaged"].name.tolist() == [unit.name]

    def test_a_damaged_mask_is_shown_where_it_is(self, home, planned):
        unit = planned[Key("imp", ("pos",), seed=3)][1]
        path = home / "units" / unit.name / MASK
        path.write_bytes(path.read_bytes()[:-4])
        found = status(home, names=True)
        assert found[found.state == "damaged"].name.tolist() == [unit.name]

    def test_a_damaged_checkpoint_is_shown_where_it_is(self, home, planned):
        unit = planned[Key("hard", TASKS, seed=3)][1]
        (home / "units" / unit.name / "result.json").unlink()
        (home / "units" / unit.name / "checkpoint.safetensors").write_bytes(b"half")
        assert self.row(home, unit).state == "damaged"

    def test_units_of_other_experiments(self, home, experiment, planned):
        run(replace(experiment, epochs=1, results_dir=str(home)), lambda line: None)
        found = status(home, names=True)
        others = found[found.state == "other"]
        mine = {us[-1].name for key, us in planned.items() if key.system != "imp"}
        assert set(others.name) == mine
        assert set(others.tasks) == {*TASKS, "+".join(TASKS)} and "sparse" in set(others.system)
        path = home / "units" / others.name.iloc[0] / "result.json"
        path.write_bytes(b"")
        assert self.row(home, planned[Key("hard", TASKS, seed=3)][0]).state == "done"
        assert status(home, names=True).set_index("name").loc[path.parent.name].state == "damaged"


class TestGenres:
    def test_scores_of_a_genre_have_a_table_of_their_own(self, source, tmp_path, monkeypatch):
        plain = read_corpus(source["data_dir"])
        kinds = ("nw", "bn", "")

        def told(sentences):
            return [replace(s, genre=kinds[i % 3]) for i, s in enumerate(sentences)]

        corpus = Corpus("conll2003", *(told(s) for s in plain.splits.values()))
        monkeypatch.setattr(data_module, "read_corpus", lambda _: corpus)
        data_module._read_once.cache_clear()
        experiment = Experiment(
            "exp1", data_dir=source["data_dir"], **TINY, results_dir=str(tmp_path)
        )
        run(experiment, lambda line: None)
        data_module._read_once.cache_clear()
        table, results = (pd.read_csv(tmp_path / f"{n}.csv") for n in ("genres", "results"))
        assert list(table) == COLUMNS["genres"] and set(table.genre) == {"nw", "bn"}
        found = sorted(zip(table.system, table.task, table.genre, strict=True))
        systems_ = set(results.system)
        assert found == sorted((s, t, g) for s in systems_ for t in TASKS for g in ("nw", "bn"))
        words = {g: sum(len(s.words) for s in corpus.test if s.genre == g) for g in ("nw", "bn")}
        assert all(words[r.genre] == r.words for r in table.itertuples())
        assert "genre" not in results and len(results) == len(systems_) * (
            1 + 2 * len(SPAN_METRICS)
        )
        both = table.query("system == 'hard' and task == 'pos'")
        assert both.test.between(0, 100).all() and set(table.metric) == {"accuracy", "f1"}


class TestSeparateCorpora:
    def test_a_study_of_tasks_with_corpora_of_their_own(self, tmp_path, monkeypatch):
        "Exp3, generated: a CRF head, generated weights, each task scored on its corpus."
        generate = data_module.generated.generate
        monkeypatch.setattr(
            data_module.generated, "generate", lambda n, seed: generate(n // 40, 15, 15, seed=seed)
        )
        data_module._read_once.cache_clear()
        experiment = Experiment("exp3", **TINY, results_dir=str(tmp_path))
        run(experiment, lambda line: None)
        data_module._read_once.cache_clear()
        results = pd.read_csv(tmp_path / "results.csv")
        assert set(results.system) == set(SYSTEMS) - {"soft", "hierarchical"} | {"meta"}
        assert set(results.data) == {"generated"} and set(results.experiment) == {"exp3"}
        about = load_json(tmp_path / "run.json")
        assert about["settings"]["training"]["head"] == "crf"
        assert {r["tasks"] for r in about["data"]["corpus"]} == set(TASKS)
        before = {p: p.read_bytes() for p in tmp_path.glob("*.*")}
        rebuild(tmp_path)
        assert {p: p.read_bytes() for p in tmp_path.glob("*.*")} == before


def test_an_interrupt_says_that_the_same_call_goes_on(experiment, unbroken, tmp_path):
    lines = []

    def stop_at_the_first(line):
        lines.append(line)
        if len(lines) == 1:
            raise KeyboardInterrupt

    here = replace(experiment, results_dir=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run(here, stop_at_the_first)
    assert lines[1:] == ["interrupted: what is done is kept, and the same call goes on from here"]
    assert "missing" in set(status(tmp_path).state)
    run(here, lines.append)
    check_same_study(tmp_path, unbroken[0])


def test_where_it_was_run_does_not_count(experiment, unbroken, tmp_path):
    "Two threads, and another folder."
    other = replace(experiment, workers=2, results_dir=str(tmp_path))
    run(other, lambda line: None)
    check_same_study(tmp_path, unbroken[0])


@pytest.mark.skipif(not (ROOT / "nbs" / "exp1.ipynb").exists(), reason="there is no exp1 here")
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


def test_tables_without_units_are_not_emptied(home):
    "Where only the tables were kept, they are all there is."
    before = {p: p.read_bytes() for p in home.glob("*.csv")}
    shutil.rmtree(home / "units")
    with pytest.raises(FileNotFoundError, match="its tables are left as they are"):
        rebuild(home)
    assert {p: p.read_bytes() for p in home.glob("*.csv")} == before
