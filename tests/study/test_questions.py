"Budget, maturity, unequal densities and hidden settings: which trainings they ask for, and a small study of each."

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from studies import TINY, in_threads
from tiny import write_corpus

from sparse_sharing.files import load_json, save_json
from sparse_sharing.masks import Mask, overlap_ratio, union
from sparse_sharing.study import Experiment, rebuild, run, status
from sparse_sharing.study.chains import IMP
from sparse_sharing.study.config import DENSITIES
from sparse_sharing.study.overlaps import groups
from sparse_sharing.study.plan import plan, units_of
from sparse_sharing.study.presets import HIDDEN, PRESETS
from sparse_sharing.study.questions import ALL, COMBINATIONS, sweep, ways
from sparse_sharing.study.schema import Key
from sparse_sharing.study.tables import write_run
from sparse_sharing.study.units import MASK, load_file

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")
TASKS = ("pos", "ner", "chunk")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus"))


def planned(name, **changes):
    return plan(Experiment(name, preset="annealed", seed=100, **changes), "d" * 64, Path("nowhere"))


class TestBudget:
    def test_both_systems_get_the_same_settings(self):
        units = planned("budget", n_seeds=2)
        for system, tasks in (("single", ("ner",)), ("hard", TASKS)):
            for seed in (100, 101):
                own = {k: u for k, u in units.items() if k.system == system and k.seed == seed}
                settings = [(u[-1].training.lr, u[-1].epochs) for u in own.values()]
                assert settings == sweep(Experiment("budget", preset="annealed"))
                assert {k.tasks for k in own} == {tasks}

    def test_what_differs_in_length_alone_shares_its_warmup(self):
        by_rate = {}
        for key, units in planned("budget").items():
            by_rate.setdefault((key.system, units[-1].training.lr), set()).add(units[0].name)
        assert all(len(names) == 1 for names in by_rate.values()) and len(by_rate) == 4


class TestMaturity:
    def test_every_way_has_the_same_budget_and_ends_at_table_4(self):
        for key, units in planned("maturity").items():
            if key.system != IMP or key.level is None:
                continue
            rounds, mask = [u for u in units if u.kind == "round"], units[-1]
            (task,) = key.tasks
            assert len(rounds) == key.level and sum(u.epochs for u in rounds) == 30
            kept = (1 - rounds[0].alpha) ** len(rounds)
            assert kept == pytest.approx(DENSITIES["exp1"][task])
            assert (mask.kind, mask.previous) == ("mask", rounds[-1].name)

    def test_one_round_is_the_system_long_round(self):
        "So the trainings of Exp1 are found again."
        own = units_of(planned("maturity"))
        exp1 = planned("exp1", systems="long_round")[Key("long_round", TASKS, seed=100)]
        assert {unit.name for unit in exp1} <= own.keys()

    def test_second_masks_differ_in_the_order_of_the_data_alone(self):
        units = planned("maturity")
        for count in ways(Experiment("maturity", preset="annealed")):
            one, other = (
                units[Key(IMP, ("ner",), count, variant, 100)][0] for variant in ("", "again")
            )
            assert one != other and replace(other, phase=one.phase) == one


@pytest.fixture(scope="module")
def mature(corpus, tmp_path_factory):
    "Its experiment and its folder, done in threads."
    home = tmp_path_factory.mktemp("maturity")
    settings = TINY | dict(min_density=0.5, alpha=0.35)
    experiment = Experiment("maturity", data_dir=corpus, results_dir=str(home), **settings)
    with in_threads(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", replace(PRESETS["quick"], long_epochs=3))
        run(experiment, lambda line: None)
        yield experiment, home


class TestStudyOfMaturity:
    def test_every_way_is_in_the_tables(self, mature):
        experiment, home = mature
        assert set(status(home).state) == {"done"}
        results = pd.read_csv(home / "results.csv", keep_default_na=False)
        rows = set(results[["system", "variant", "level"]].itertuples(index=False, name=None))
        # three epochs in one round or in three: two ways, of which one counts twice
        assert {("sparse", "", 3), ("sparse", "", 1), ("sparse", "no warmup", 1)} <= {
            (s, v, int(n)) for s, v, n in rows if n != ""
        }
        assert {("sparse", "full depth", ""), ("hard", "", ""), ("one_shot", "", "")} <= rows
        for task in TASKS:
            own = results[(results.task == task) & (results.variant == "") & (results.level != "")]
            assert own.density.sub(DENSITIES["exp1"][task]).abs().max() < 0.01

    def test_overlaps_are_those_of_the_masks(self, mature):
        experiment, home = mature
        units = plan(experiment, _identity(home), home / "units")
        table = pd.read_csv(home / "overlap.csv", keep_default_na=False)
        compared = groups(experiment, units)
        assert len(table) == len(compared)
        for row, (key, names) in zip(table.itertuples(), compared.items(), strict=True):
            masks = [Mask(load_file(home / "units", f"{name}/{MASK}")) for name in names]
            assert row.tasks == "+".join(key.tasks) and row.variant == key.variant
            assert row.overlap == pytest.approx(overlap_ratio(masks))
            assert row.union == pytest.approx(union(masks).density)


def _identity(home):
    return load_json(home / "run.json")["data"]["identity"]


class TestMixedInputs:
    def test_what_hangs_on_files_of_two_machines_is_left_out(self, mature, tmp_path):
        experiment, home = mature
        copy = Path(shutil.copytree(home, tmp_path / "copy"))
        units = plan(experiment, _identity(home), home / "units")
        warmup, *_ = units[Key("hard", TASKS, seed=0)]
        before = pd.read_csv(copy / "results.csv", keep_default_na=False)

        path = copy / "units" / warmup.name / "result.json"
        result = load_json(path)
        result["files"]["weights.safetensors"] = "0" * 64  # as if made on another machine
        save_json(path, result)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rebuild(copy)
        assert any("was made from another" in str(w.message) for w in caught)
        after = pd.read_csv(copy / "results.csv", keep_default_na=False)
        assert set(after.variant) == {"no warmup"} and len(after) < len(before)


def test_ten_combinations_of_unequal_densities(tmp_path):
    units = planned("combinations")
    sparse = [key for key in units if key.system == "sparse"]
    assert len(sparse) == len(COMBINATIONS) == 10
    for key, rounds in zip(sparse, COMBINATIONS, strict=True):
        masks = units[key][-1].masks
        own = [units[Key(IMP, (t,), seed=100)][z].name for t, z in zip(TASKS, rounds, strict=True)]
        assert list(masks) == own and len(set(rounds)) == 3


class TestHiddenSettings:
    def mains(self, **changes):
        units = planned("hidden_settings", **changes)
        return {key: own for key, own in units.items() if key.system != IMP}

    def test_nothing_but_the_second_phase_differs(self):
        "In the settings that the variant names."
        own = self.mains()
        assert [(k.system, k.variant) for k in own] == [
            (system, variant) for system in ("hard", "sparse") for variant in ("", *HIDDEN, ALL)
        ]
        every = {name: value for new in HIDDEN.values() for name, value in new.items()}
        assert len(every) == 4
        for system in ("hard", "sparse"):
            warmup, base = own[Key(system, TASKS, seed=100)]
            assert base.training == PRESETS["annealed"].training
            for variant, new in {**HIDDEN, ALL: every}.items():
                first, main = own[Key(system, TASKS, variant=variant, seed=100)]
                changes = {k: v for k, v in new.items() if system == "sparse" or k != "leak"}
                assert first == warmup and replace(main, training=base.training) == base
                assert main.training == replace(base.training, **changes)

    def test_hard_sharing_has_no_outside(self):
        own = self.mains()
        leak = own[Key("hard", TASKS, variant="leaking momentum", seed=100)]
        assert leak == own[Key("hard", TASKS, seed=100)]

    def test_masks_are_those_of_table_4_and_the_rounds_are_those_of_exp1(self):
        units = planned("hidden_settings")
        exp1 = planned("exp1")
        masks = units[Key("sparse", TASKS, seed=100)][-1].masks
        for task, mask, z in zip(TASKS, masks, (6, 5, 7), strict=True):
            rounds = units[Key(IMP, (task,), seed=100)]
            assert rounds == exp1[Key(IMP, (task,), seed=100)][: z + 1]
            assert rounds[-1].name == mask
        assert units[Key("hard", TASKS, seed=100)] == exp1[Key("hard", TASKS, seed=100)]

    def test_its_masks_are_compared_once(self):
        experiment = Experiment("hidden_settings", preset="annealed", seed=100)
        compared = groups(experiment, planned("hidden_settings"))
        assert len(compared) == 4 and {key.variant for key in compared} == {""}

    def test_a_preset_that_has_them_already_is_refused(self):
        with pytest.raises(ValueError, match="preset is 'released'.* take another one"):
            Experiment("hidden_settings", preset="released")


class TestReleased:
    def test_several_tasks_are_trained_in_another_way_than_one(self):
        systems = "single hard soft alone long_round subnet single_matched hard_matched"
        experiment = Experiment("exp1", preset="released", systems=systems)
        settings = experiment.settings
        for units in plan(experiment, "d" * 64, Path("nowhere")).values():
            for unit in units:
                several = unit.kind == "training" and len(unit.tasks) > 1
                assert unit.training == (settings.together if several else settings.training)

    def test_head_and_encoder_are_those_of_the_design(self):
        settings = Experiment("exp3", preset="released").settings
        assert settings.together.head == settings.training.head == "crf"
        deep = Experiment("exp2", preset="released", levels="pos=1").settings
        assert deep.together.sizes == deep.training.sizes and deep.together.sizes.layers == 2
        assert deep.together.levels == deep.training.levels == (("pos", 1),)

    def test_run_json_says_new_settings_where_they_were_asked_for(self, tmp_path):
        "So that a folder of before has the same file when it is rebuilt."
        told = {}
        for preset in ("annealed", "released"):
            experiment = Experiment("exp1", preset=preset, results_dir=str(tmp_path))
            write_run(experiment, {}, {})
            told[preset] = load_json(tmp_path / "run.json")["settings"]
        assert not {"together", "draws", "clipped", "leak"} & {
            *told["annealed"],
            *told["annealed"]["training"],
        }
        assert told["released"]["together"]["draws"] == "in_turn"
        assert "draws" not in told["released"]["training"]
