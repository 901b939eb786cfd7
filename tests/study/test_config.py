"Designs, settings, parameters, and the units that an experiment unfolds into."

import dataclasses
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from studies import SMALL
from tiny import hidden_source

from sparse_sharing.files import Damaged, digest, save_json
from sparse_sharing.masks import Mask
from sparse_sharing.pruning import target
from sparse_sharing.study import run
from sparse_sharing.study.chains import prunable_weights, rounds
from sparse_sharing.study.config import DENSITIES, DESIGNS, Experiment
from sparse_sharing.study.data import TASKS, Source, read_data
from sparse_sharing.study.executor import cost, work_behind
from sparse_sharing.study.models import LEVEL
from sparse_sharing.study.paper import table4
from sparse_sharing.study.plan import ANALYSES, agenda, plan
from sparse_sharing.study.presets import PRESETS, Settings
from sparse_sharing.study.schema import Key
from sparse_sharing.study.units import MASK, SMALLER, Training, Unit
from sparse_sharing.tagging.corpora import FormatError
from sparse_sharing.tagging.encoder import Sizes

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

SIZES = PRESETS["quick"].training.sizes
PAPERS = ("exp1", "exp2", "exp3")  # the three comparisons that Table 4 is about


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return hidden_source(tmp_path_factory.mktemp("hidden-place"), SIZES.word)


@pytest.fixture(scope="module")
def experiment(source):
    return Experiment("exp1", **source, **SMALL)


@pytest.fixture(scope="module")
def data(experiment):
    return read_data(experiment.source)


def pretend(folder, chain, devs):
    "Put rounds into a folder as if they had been done, with these dev scores."
    for z, (unit, dev) in enumerate(zip(chain, devs, strict=False)):
        keep = torch.zeros(1000, dtype=torch.bool)
        keep[: target(1000, unit.alpha, z)] = True
        smaller = keep.clone()
        smaller[target(1000, unit.alpha, z + 1) :] = False
        files = {MASK: {"w": keep}, SMALLER: {"w": smaller}}
        for name, tensors in files.items():
            Mask(tensors).save(folder / unit.name / name)
        result = dict(
            unit=json.loads(json.dumps(dataclasses.asdict(unit))),
            label=unit.label, mean=dev, curve=[], inputs={}, made_with={}, dev={},
            density=float(keep.float().mean()),
            files={n: digest(t) for n, t in files.items()},
        )  # fmt: skip
        save_json(folder / unit.name / "result.json", result)


@pytest.fixture(scope="module")
def chains(experiment, data, tmp_path_factory):
    "A folder in which all rounds are done, the middle one with the best score."
    folder = tmp_path_factory.mktemp("units")
    planned = plan(experiment, data.checksum, folder)
    for task in TASKS:
        pretend(folder, planned[Key("imp", (task,), seed=3)], (90.0, 70.0, 60.0))
    return folder


@pytest.fixture(scope="module")
def whole(experiment, data, chains):
    return plan(experiment, data.checksum, chains)


class TestPlan:
    def test_what_starts_where(self, whole):
        planned = whole
        warmup, main = planned[Key("hard", TASKS, seed=3)]
        assert main.start == warmup.name and not warmup.start
        assert (warmup.epochs, main.epochs) == (1, 2) and warmup.keep == "last"
        for task in TASKS:
            chain = planned[Key("imp", (task,), seed=3)]
            assert {u.start for u in chain} == {warmup.name}
            assert [u.previous for u in chain] == ["", *(u.name for u in chain[:-1])]
            subnet, single = (
                planned[Key("subnet", (task,), seed=3)],
                planned[Key("single", (task,), seed=3)],
            )
            assert not subnet[0].start and subnet[0].masks == subnet[1].masks != ()
            assert not single[0].start and not single[0].masks
        for system in ("sparse", "sparse_table4"):
            first, second = planned[Key(system, TASKS, seed=3)]
            assert first == warmup and second.start == warmup.name and len(second.masks) == 3
        assert set(LEVEL) == set(TASKS)

    def test_before_anything_is_done_no_subnet_is_planned(self, experiment, source, tmp_path):
        planned = plan(experiment, read_data(experiment.source).checksum, tmp_path)
        assert {key.system for key in planned} == {"hard", "imp", "single", "soft", "hierarchical"}

    def test_a_subnet_is_named_when_its_chain_is_whole(self, experiment, data, tmp_path):
        planned = plan(experiment, data.checksum, tmp_path)
        chain = planned[Key("imp", ("ner",), seed=3)]
        assert len(chain) == 3, "0.65 ** 2 is less than one half"
        pretend(tmp_path, chain[:2], (90.0, 70.0))
        assert Key("subnet", ("ner",), seed=3) not in plan(experiment, data.checksum, tmp_path)
        pretend(tmp_path, chain, (90.0, 70.0, 71.0))
        after = plan(experiment, data.checksum, tmp_path)
        assert after[Key("subnet", ("ner",), seed=3)][0].masks == (chain[2].name,)
        assert (
            Key("subnet", ("pos",), seed=3) not in after
            and Key("sparse", TASKS, seed=3) not in after
        )
        assert set(planned) < set(after) and all(after[k] == planned[k] for k in planned)

    def test_masks_are_chosen_by_the_rules(self, experiment, data, tmp_path):
        "Best on dev, the sparser of equals, never round 0; or nearest to Table 4."
        planned = plan(experiment, data.checksum, tmp_path)
        scores = {"pos": (99.0, 70.0, 70.0), "ner": (99.0, 71.0, 70.0), "chunk": (99.0, 70.0, 71.0)}
        for task, devs in scores.items():
            pretend(tmp_path, planned[Key("imp", (task,), seed=3)], devs)
        after = plan(experiment, data.checksum, tmp_path)
        names = {t: [u.name for u in planned[Key("imp", (t,), seed=3)]] for t in TASKS}
        best = {"pos": 2, "ner": 1, "chunk": 2}
        for task, z in best.items():
            assert after[Key("subnet", (task,), seed=3)][1].masks == (names[task][z],)
        sparse, table = (
            after[Key("sparse", TASKS, seed=3)][1],
            after[Key("sparse_table4", TASKS, seed=3)][1],
        )
        assert sparse.masks == tuple(names[t][best[t]] for t in TASKS)
        found = {1: 0.65, 2: 0.4225}
        near = {
            t: min(found, key=lambda z: abs(found[z] - DENSITIES["exp1"][t]))  # noqa: B023
            for t in TASKS
        }
        assert table.masks == tuple(names[t][near[t]] for t in TASKS)

    def test_a_damaged_mask_is_named(self, experiment, data, tmp_path):
        chain = plan(experiment, data.checksum, tmp_path)[Key("imp", ("pos",), seed=3)]
        pretend(tmp_path, chain, (90.0, 70.0, 71.0))
        path = tmp_path / chain[1].name / MASK
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(Damaged) as error:
            plan(experiment, data.checksum, tmp_path)
        assert error.value.path == path

    def test_rounds_go_on_with_what_the_settings_say(self, whole, experiment):
        s = experiment.settings
        for task in TASKS:
            for z, unit in enumerate(whole[Key("imp", (task,), seed=3)]):
                assert (unit.round, unit.alpha, unit.keep) == (z, s.alpha, s.magnitudes)
                assert unit.epochs == s.round_epochs and unit.training == s.training

    @pytest.mark.parametrize("name", [*PAPERS, "negative_transfer"])
    def test_the_systems_of_a_comparison(self, name, tmp_path):
        "Those of an analysis are in test_unfold.py."
        planned = plan(Experiment(name, **SMALL), "d" * 64, tmp_path)
        layerwise = {"soft", "hierarchical"} if name in ("exp1", "exp2") else set()
        layerwise |= {"meta"} if name == "exp3" else set()
        tasks = ("ner", "pp") if name == "negative_transfer" else TASKS
        assert set(planned) == {
            *(Key(s, tasks, seed=3) for s in {"hard"} | layerwise),
            *(Key(s, (t,), seed=3) for s in ("imp", "single") for t in tasks),
        }

    def test_a_design_is_a_comparison_or_an_analysis(self):
        assert set(DESIGNS) == {*PAPERS, "negative_transfer"} | set(ANALYSES)
        assert set(ANALYSES) == {
            "relatedness",
            "sparsity",
            "warmup",
            "budget",
            "maturity",
            "combinations",
            "hidden_settings",
        }

    @pytest.mark.parametrize("name", sorted(set(DESIGNS) - {"combinations"}))
    def test_every_unit_has_the_head_and_the_encoder_of_its_design(self, name, tmp_path):
        for units in plan(Experiment(name, **SMALL), "d" * 64, tmp_path).values():
            for unit in units:
                assert unit.training.head == ("crf" if name == "exp3" else "linear")
                assert unit.training.sizes.layers == (2 if name == "exp2" else 1)
                assert bool(unit.training.sizes.filters) == (name != "negative_transfer")

    def test_the_place_of_the_results_is_in_no_name(self, source, experiment, data, chains):
        elsewhere = replace(experiment, workers=2, results_dir="/elsewhere", scheduler="tcp://a:1")
        elsewhere = replace(elsewhere, data_dir="", embeddings="")
        assert plan(elsewhere, data.checksum, chains) == plan(experiment, data.checksum, chains)

    def test_units_of_another_setting_are_others(self, experiment, data, chains):
        def names(folder=chains, checksum=data.checksum, **changes):
            planned = plan(replace(experiment, **changes), checksum, folder)
            return {u.name for us in planned.values() for u in us}

        assert not names(seed=4) & names() and not names(preset="study") & names()
        assert names(n_seeds=2) == names() | names(seed=4)
        assert not names(device="cuda") & names() and not names(checksum="0" * 64) & names()
        assert not names(warmup=2) & names()

    def test_experiments_share_what_they_have_in_common(self, experiment, data, tmp_path):
        def units(**changes):
            planned = plan(replace(experiment, **changes), data.checksum, tmp_path)
            return {k: {u.name for u in us} for k, us in planned.items()}

        before = units()
        deeper, longer, finer = units(min_density=0.2), units(epochs=5), units(alpha=0.1)
        for key in before:
            if key.system == "imp":
                assert before[key] < deeper[key] and before[key] == longer[key]
                assert not before[key] & finer[key]
            else:
                assert before[key] == deeper[key] == finer[key]
                assert len(before[key] & longer[key]) == 1, "the warmup"


class TestCost:
    def test_before_anything_is_done_what_follows_is_counted(self, experiment, data, tmp_path):
        now = agenda(experiment, data, tmp_path)
        planned = plan(experiment, data.checksum, tmp_path)
        assert [u.name for u in now.units] == list(
            {u.name: u for us in planned.values() for u in us}
        )
        assert set(now.cost) == {u.name for u in now.units} and min(now.cost.values()) > 0
        assert set(now.later) == {planned[Key("imp", (t,), seed=3)][-1].name for t in TASKS}
        subnet = sum(cost(u, data) for u in planned[Key("single", ("ner",), seed=3)])
        co_training = cost(planned[Key("hard", TASKS, seed=3)][1], data)
        expected = pytest.approx(subnet + 2 * co_training / 3)
        assert now.later[planned[Key("imp", ("ner",), seed=3)][-1].name] == expected

    def test_what_has_a_name_is_not_counted_twice(self, experiment, data, chains, whole):
        now = agenda(experiment, data, chains)
        assert now.later == {}
        assert len(now.units) == len({u.name for us in whole.values() for u in us})

    def test_costs_go_with_epochs_layers_and_text(self, data):
        unit = Unit("training", "hard", TASKS, data.checksum, 2, "main")
        one = cost(unit, data)
        assert cost(replace(unit, epochs=4), data) == pytest.approx(2 * one)
        parts = [cost(replace(unit, tasks=(t,)), data) for t in TASKS]
        assert sum(parts) == pytest.approx(one)
        assert cost(replace(unit, system="soft"), data) == pytest.approx(3 * one)
        assert one < cost(replace(unit, system="hierarchical"), data) < 3 * one
        two = replace(unit.training, sizes=Sizes(layers=2))
        assert 2 * one < cost(replace(unit, training=two), data) < 4 * one
        train, dev = data.splits["pos"]["train"].tokens, data.splits["pos"]["dev"].tokens
        assert parts[0] == pytest.approx(2 * (len(train) + len(dev) / 4) / 1e6)

    def test_the_longest_way_comes_first(self, data, source, tmp_path):
        "The warmup that all masks wait for, when the rounds are what takes time."
        experiment = Experiment("exp1", **source, preset="paper")
        now = agenda(experiment, data, tmp_path)
        behind = work_behind(now)
        first = plan(experiment, data.checksum, tmp_path)[Key("hard", TASKS, seed=0)][0]
        assert max(behind, key=behind.__getitem__) == first.name

    def test_every_round_is_before_the_one_that_follows(self, experiment, data, tmp_path):
        behind = work_behind(agenda(experiment, data, tmp_path))
        for task in TASKS:
            chain = plan(experiment, data.checksum, tmp_path)[Key("imp", (task,), seed=3)]
            values = [behind[u.name] for u in chain]
            assert values == sorted(values, reverse=True) and len(set(values)) == len(values)


class TestDesigns:
    def test_the_papers_numbers_of_weights(self):
        assert prunable_weights(Sizes()) == 530_700
        assert prunable_weights(Sizes(layers=2)) == 1_490_700

    def test_weights_of_any_encoder(self):
        s = Sizes(word=50, hidden=50)
        conv = s.char * s.filters * s.window
        assert prunable_weights(s) == conv + 2 * 4 * s.hidden * (s.word + s.filters + s.hidden)

    @pytest.mark.parametrize(
        "alpha, least, last",
        [(0.1, 0.1, 22), (0.35, 0.5, 2), (0.3, 0.9, 1), (0.5, 0.5, 1), (0.5, 0.49, 2)],
    )
    def test_the_last_round_is_the_first_that_is_sparse_enough(self, alpha, least, last):
        settings = Settings(alpha=alpha, min_density=least)
        size = prunable_weights(settings.training.sizes)
        assert rounds(settings) == last
        assert target(size, alpha, last) <= round(least * size) < target(size, alpha, last - 1)

    def test_designs_differ_as_the_paper_says(self):
        "The analyses take the encoder, the head and the corpus of experiment 1."
        settings = {n: Experiment(n).settings for n in DESIGNS}
        assert {n: (s.training.sizes.layers, s.training.head) for n, s in settings.items()} == {
            "exp1": (1, "linear"),
            "exp2": (2, "linear"),
            "exp3": (1, "crf"),
            "negative_transfer": (1, "linear"),
        } | dict.fromkeys(ANALYSES, (1, "linear"))
        assert {n: Experiment(n).source for n in DESIGNS} == {
            "exp1": Source(),
            "exp2": Source(),
            "exp3": Source(separate=True),
            "negative_transfer": Source(auxiliary="pp"),
        } | dict.fromkeys(ANALYSES, Source())

    @pytest.mark.parametrize("preset", PRESETS)
    def test_analyses_differ_from_experiment_1_in_how_far_they_prune(self, preset):
        "In whatever preset, so that what they have in common has common names."
        first = Experiment("exp1", preset=preset).settings
        for name, least in dict(relatedness=0.57, sparsity=0.1, warmup=0.57).items():
            own = Experiment(name, preset=preset).settings
            assert own == replace(first, min_density=least)
            asked = Experiment(name, preset=preset, min_density=0.3).settings
            assert asked.min_density == 0.3, "what a notebook says goes before the design"

    @pytest.mark.parametrize("preset", PRESETS)
    def test_negative_transfer_has_a_small_encoder_without_characters(self, preset):
        s = Experiment("negative_transfer", preset=preset).settings
        own = PRESETS[preset].training.sizes
        assert s.training.sizes == replace(own, word=50, hidden=50, filters=0)
        assert prunable_weights(s.training.sizes) == 2 * 4 * 50 * (50 + 50)
        common = PRESETS[preset]
        rest = replace(s, training=common.training, together=common.together)
        assert rest == common, "and otherwise the budgets of all"

    @pytest.mark.parametrize("name", PAPERS)
    def test_a_study_meets_every_density_of_table_4(self, name):
        "Within half of what a round removes."
        s = Experiment(name, preset="study").settings
        size = prunable_weights(s.training.sizes)
        found = [target(size, s.alpha, z) / size for z in range(1, rounds(s) + 1)]
        for density in DENSITIES[name].values():
            assert min(abs(d - density) for d in found) < 5e-4, density

    def test_densities_are_those_of_table_4(self):
        rows = table4()
        assert set(DENSITIES) == set(PAPERS) == set(rows.experiment) < set(DESIGNS)
        for row in rows.itertuples():
            assert DENSITIES[row.experiment][row.task] == row.density

    def test_what_a_notebook_says_goes_before_preset_and_design(self):
        s = Experiment("exp2", preset="study", alpha=0.2, warmup=0).settings
        assert (s.alpha, s.warmup) == (0.2, 0)
        assert (
            s.min_density
            == DESIGNS["exp2"].presets["study"]["min_density"]
            != Settings().min_density
        )
        assert s.epochs == PRESETS["study"].epochs
        quick = Experiment("exp2").settings
        assert quick.min_density == PRESETS["quick"].min_density, "`study` has its own"
        assert Experiment("exp2", preset="paper").settings.min_density == 0.1


class TestParameters:
    def test_a_notebooks_names(self, source, tmp_path):
        class Thing:
            pass

        names = SMALL | source | dict(results_dir=str(tmp_path), np=np, Thing=Thing, print=print)
        names |= dict(_secret=1, __name__="__main__", In=[], Out={}, exit=print, alpha=None)
        experiment = Experiment.from_notebook("exp1", names)
        assert experiment.name == "exp1" and experiment.epochs == 2
        assert experiment.scheduler == "" and experiment.workers == 0
        assert experiment.settings.alpha == PRESETS["quick"].alpha
        assert experiment.settings.min_density == 0.5

    def test_results_are_in_one_place_wherever_a_notebook_was_started(
        self, tmp_path, monkeypatch, capsys
    ):
        "In a clone at its root, elsewhere where one is; and the place is told."
        for folder in ("clone/nbs/study", "elsewhere"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "clone" / "settings.ini").touch()
        found = {}
        for place in ("clone", "clone/nbs", "clone/nbs/study", "elsewhere"):
            monkeypatch.chdir(tmp_path / place)
            found[place] = Experiment.from_notebook(
                "exp1", {"results_dir": "my/results"}
            ).results_dir
            assert f"writes to {found[place]}\n" in capsys.readouterr().out
        there = {place: str(tmp_path / place.split("/")[0] / "my/results") for place in found}
        assert found == there and not list(tmp_path.rglob("results"))
        absolute = Experiment.from_notebook("exp1", {"results_dir": str(tmp_path / "r")})
        assert absolute.results_dir == str(tmp_path / "r")

    @pytest.mark.parametrize("name", ["typo", "sede", "name", "lr", "design", "settings"])
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
            (dict(preset="fast"), "preset is 'fast': take one of quick, study, annealed, paper"),
            (dict(alpha=0.0), "alpha is 0.0"),
            (dict(alpha=1.0), "alpha is 1.0"),
            (dict(alpha="0.1"), "alpha is '0.1'"),
            (dict(min_density=1.5), "min_density is 1.5"),
            (dict(warmup=-1), "warmup is -1: give a whole number from 0 to 10,000"),
            (dict(epochs=0), "epochs is 0: give a whole number from 1 to 10,000"),
            (dict(epochs=2.5), "epochs is 2.5"),
            (dict(n_seeds=0), "n_seeds is 0"),
            (dict(workers=-1), "workers is -1: give a whole number from 0 to 256"),
            (dict(seed="1"), "seed is '1'"),
            (dict(scheduler="here:8786"), "give an address such as tcp://host:8786"),
            (dict(device="gpu"), "device is 'gpu'"),
        ],
        ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
    )
    def test_a_value_that_makes_no_sense(self, wrong, message):
        with pytest.raises(ValueError) as error:
            Experiment("exp1", **wrong)
        assert message in str(error.value)

    @pytest.mark.parametrize(
        "name, wrong, message",
        [
            ("exp1", dict(relatedness=0.5), "a knob of the generated corpus in negative_transfer"),
            ("relatedness", dict(relatedness=0.5), "leave it out, or leave data_dir out"),
            ("negative_transfer", dict(relatedness=0.5, data_dir="x"), "leave data_dir out"),
            ("negative_transfer", dict(relatedness=1.01), "relatedness is 1.01: give a number"),
            ("negative_transfer", dict(relatedness=-0.5), "relatedness is -0.5: give a number"),
        ],
    )
    def test_relatedness_is_a_share_and_for_negative_transfer_alone(self, name, wrong, message):
        with pytest.raises(ValueError) as error:
            Experiment(name, **wrong)
        assert message in str(error.value)

    @pytest.mark.parametrize("share", [0, 0.0, 0.25, 1, 1.0])
    def test_relatedness_puts_another_task_in_place_of_positions(self, share, tmp_path):
        "Also when it is zero, which is not the same as leaving it out."
        experiment = Experiment("negative_transfer", relatedness=share, **SMALL)
        assert experiment.source == Source(auxiliary="aux", relatedness=share)
        planned = plan(experiment, "d" * 64, tmp_path)
        assert {key.tasks for key in planned if key.system == "single"} == {("ner",), ("aux",)}
        assert Key("hard", ("ner", "aux"), seed=3) in planned
        assert DESIGNS["negative_transfer"].tasks == ("ner", "pp"), "the design is left alone"

    def test_negative_transfer_takes_no_vectors(self, source, tmp_path):
        "Told when it is read, after whether they are there."
        experiment = Experiment("negative_transfer", **source, results_dir=str(tmp_path / "r"))
        with pytest.raises(ValueError, match="trains random vectors, .* leave embeddings out"):
            run(experiment, pytest.fail)
        assert not (tmp_path / "r").exists()
        with pytest.raises(ValueError, match="no such file"):
            replace(experiment, embeddings="nowhere.txt").read()
        data = replace(experiment, embeddings="").read()
        assert set(data.splits) == {"ner", "pp"}

    @pytest.mark.parametrize("seed, n_seeds, all_", [(0, 1, [0]), (3, 2, [3, 4])])
    def test_seeds_are_counted_from_the_first(self, seed, n_seeds, all_):
        assert list(Experiment("exp1", seed=seed, n_seeds=n_seeds).seeds) == all_

    @pytest.mark.parametrize(
        "wrong, message",
        [
            (dict(data_dir="nowhere/at/all"), "no such folder: give the folder of a corpus"),
            (dict(embeddings="nowhere.txt"), "no such file: give a GloVe text file"),
            (dict(device="cuda:99"), "device is 'cuda:99', and nothing can be computed there"),
        ],
        ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
    )
    def test_what_is_not_there_is_told_when_it_is_read(self, wrong, message, tmp_path):
        "Not before: a results folder can be looked at where its data never were."
        experiment = Experiment("exp1", **wrong, results_dir=str(tmp_path / "results"))
        for ask in (
            experiment.read,
            lambda: Experiment.from_notebook("exp1", wrong),
            lambda: run(experiment, pytest.fail),
        ):
            with pytest.raises(ValueError) as error:
                ask()
            assert message in str(error.value)
        assert not (tmp_path / "results").exists()

    def test_a_corpus_of_another_kind_is_told(self, source):
        with pytest.raises(
            ValueError, match="exp2 is about ontonotes or masc, and this is conll2003"
        ):
            Experiment("exp2", data_dir=source["data_dir"]).read()
        with pytest.raises(ValueError, match="exp2 is about ontonotes"):
            Experiment.from_notebook("exp2", dict(data_dir=source["data_dir"]))

    def test_exp3_takes_a_folder_of_three(self, source):
        "One corpus for all is not its case."
        with pytest.raises(FormatError):
            Experiment("exp3", data_dir=source["data_dir"]).read()

    def test_an_experiment_that_there_is_not(self):
        with pytest.raises(ValueError, match="exp1"):
            Experiment("exp7")

    def test_the_presets(self):
        assert set(PRESETS) >= {"quick", "study", "paper"}
        assert PRESETS["study"].alpha == pytest.approx(1 - 0.1 ** (1 / 20))
        assert (PRESETS["paper"].alpha, PRESETS["paper"].epochs) == (0.1, 100)
        assert PRESETS["paper"].magnitudes == "last"
        assert PRESETS["study"].training.sizes == PRESETS["paper"].training.sizes == Sizes()
        released = PRESETS["released"]
        assert released.alpha == PRESETS["study"].alpha and released.min_density == 0.1
        assert (released.warmup, released.epochs, released.round_epochs) == (20, 100, 100)
        assert released.training == Training() and released.magnitudes == "best"
        assert released.together == Training(
            schedule="fixed", clipped="value", draws="in_turn", leak=True
        )
        changed = Experiment("exp1", warmup=0, alpha=0.2).settings
        assert (changed.warmup, changed.alpha) == (0, 0.2)
        assert changed.epochs == PRESETS["quick"].epochs


@pytest.mark.parametrize("name", ["exp1", "exp2", "exp3"])
@pytest.mark.parametrize("preset", ["study", "annealed", "paper", "released", "practice"])
def test_pruning_goes_on_until_the_densities_of_table_4(name, preset):
    experiment = Experiment(name, preset=preset)
    settings, wanted = experiment.settings, experiment.densities
    assert wanted and "sparse_table4" in experiment.known_systems
    rounds = math.ceil(math.log(settings.min_density) / math.log(1 - settings.alpha))
    assert (1 - settings.alpha) ** (rounds + 1) < min(wanted.values())


def test_the_warmups_of_the_text():
    found = {n: Experiment(n, preset="paper").settings.warmup for n in ("exp1", "exp2", "exp3")}
    assert found == {"exp1": 20, "exp2": 10, "exp3": 10}  # paper, Experiments
