"Analyses as lists of units: what they have in common with Exp1, controls, groups of masks, and small studies of each."

import shutil
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import torch
from studies import (
    CLOCKS,
    SMALL,
    TINY,
    check_same_study,
    check_same_unit,
    in_threads,
    perform_killed,
)
from tiny import write_corpus

from sparse_sharing.files import load_json, load_tensors
from sparse_sharing.masks import Mask, chance_overlap, overlap_ratio
from sparse_sharing.study import config, run, status
from sparse_sharing.study import plan as plan_module
from sparse_sharing.study.chains import CONTROLS
from sparse_sharing.study.config import DESIGNS, Experiment
from sparse_sharing.study.data import TASKS, read_data
from sparse_sharing.study.executor import Agenda, cost
from sparse_sharing.study.overlaps import groups
from sparse_sharing.study.plan import (
    CHOSEN,
    Choice,
    agenda,
    comparison,
    names_of,
    plan,
    units_of,
)
from sparse_sharing.study.schema import GROUP, SYSTEMS, WHAT, Key, joined
from sparse_sharing.study.units import MASK, WEIGHTS, load_file, load_result, seconds
from sparse_sharing.tagging.encoder import Sizes

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

NAMES = ("exp1", "relatedness", "sparsity", "warmup", "budget")
PAIRS = list(combinations(TASKS, 2))
METRICS = {"pos": 1, "ner": 5, "chunk": 5, "pp": 1}  # how many each task has
ALIKE = ("again", "other warmup", "no warmup", "no warmup again")  # chains besides the first
MADE = (*CONTROLS, "other_task")  # all four controls
EVERY_SYSTEM = (
    "single hard subnet sparse sparse_table4 alone long_round subnet_warmup single_matched hard_matched random shuffled "
    "other_task"
)


def group(tasks, variant="", level=None, seed=3) -> Key:
    "The key of masks that are compared."
    return Key("", tasks, level, variant, seed)


def names(planned, *systems):
    "Names of all units, or of those of some systems."
    found = set()
    for key, units in planned.items():
        if not systems or key.system in systems:
            found |= {unit.name for unit in units}
    return found


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    "Experiment 1 and the analyses at one density, before anything is done."
    nothing = tmp_path_factory.mktemp("nothing")
    return {n: plan(Experiment(n, **SMALL), "d" * 64, nothing) for n in NAMES}


class TestWhatIsShared:
    "All of one folder and one setting: what two of them need is done once."

    def test_relatedness_needs_the_chains_and_hard_sharing_of_experiment_1(self, planned):
        first, own = planned["exp1"], planned["relatedness"]
        assert names(first) & names(own) == names(first, "hard", "imp")
        assert all(own[k] == first[k] for k in first if k.system in ("hard", "imp"))

    def test_sparsity_needs_all_that_experiment_1_can_name(self, planned):
        first, own = planned["exp1"], planned["sparsity"]
        assert {k: own[k] for k in first} == first

    def test_warmup_needs_the_chains_and_hard_sharing_of_experiment_1(self, planned):
        first, own = planned["exp1"], planned["warmup"]
        assert own[Key("hard", TASKS, 1, seed=3)] == first[Key("hard", TASKS, seed=3)]
        assert names(first) & names(own) == names(first, "hard", "imp")

    def test_the_masks_of_one_density_are_those_of_all_analyses(self, planned):
        related, sparse, warm = (planned[n] for n in ("relatedness", "sparsity", "warmup"))
        assert (
            related[Key("sparse", TASKS, seed=3)]
            == sparse[Key("sparse", TASKS, 2, seed=3)]
            == warm[Key("sparse", TASKS, 1, seed=3)]
        )
        for kind in MADE:
            assert related[Key(kind, TASKS, seed=3)] == sparse[Key(kind, TASKS, 2, seed=3)]

    def test_another_warmup_is_the_one_of_the_next_seed(self, planned, tmp_path):
        after = plan(Experiment("exp1", **SMALL | dict(seed=4)), "d" * 64, tmp_path)
        for task in TASKS:
            other = planned["relatedness"][Key("imp", (task,), variant="other warmup", seed=3)]
            assert other == [
                after[Key("hard", TASKS, seed=4)][0],
                *after[Key("imp", (task,), seed=4)],
            ]

    def test_no_warmup_is_that_of_the_analysis_of_the_warmup(self, planned):
        related, warm = planned["relatedness"], planned["warmup"]
        for task in TASKS:
            assert (
                related[Key("imp", (task,), variant="no warmup", seed=3)][1:]
                == warm[Key("imp", (task,), 0, seed=3)]
            )
            assert (
                related[Key("imp", (task,), variant="no warmup", seed=3)][0]
                == warm[Key("hard", TASKS, 0, seed=3)][0]
            )

    def test_a_chain_that_goes_further_begins_with_the_same_rounds(self, tmp_path):
        own = {n: plan(Experiment(n), "d" * 64, tmp_path) for n in ("relatedness", "sparsity")}
        for task in TASKS:
            short, long = (own[n][Key("imp", (task,), seed=0)] for n in own)
            assert 1 < len(short) < len(long) and long[: len(short)] == short
            z = plan_module.EVERY
            levels = [key.level for key in own["sparsity"] if key.system == "random"]
            assert levels == [z, len(long) - 1]
            at = own["sparsity"][Key("sparse", TASKS, z, seed=0)][1].masks
            assert at == tuple(own["sparsity"][Key("imp", (t,), seed=0)][z].name for t in TASKS)

    @pytest.mark.parametrize("name", sorted(set(DESIGNS) - {"combinations"}))
    def test_whatever_a_unit_needs_is_planned_before_it(self, name, tmp_path):
        "In every system, or in one that comes before."
        seen = set()
        experiment = Experiment(name, **SMALL | dict(n_seeds=2))
        for units in plan(experiment, "d" * 64, tmp_path).values():
            for unit in units:
                assert set(unit.inputs.values()) <= seen, unit.label
                seen.add(unit.name)

    @pytest.mark.parametrize("name", sorted(set(DESIGNS) - {"combinations"}))
    def test_two_seeds_are_the_plans_of_both(self, name, tmp_path):
        one, other, both = (
            plan(Experiment(name, **SMALL | s), "d" * 64, tmp_path)
            for s in (dict(seed=3), dict(seed=4), dict(seed=3, n_seeds=2))
        )
        assert both == one | other and not one.keys() & other.keys()


def test_too_few_rounds_for_combinations_are_refused(tmp_path):
    with pytest.raises(ValueError, match="give 2 rounds, and combinations takes masks of round"):
        plan(Experiment("combinations", **SMALL), "d" * 64, tmp_path)


@pytest.mark.parametrize("name", ["exp1", "exp3", "negative_transfer"])
@pytest.mark.parametrize("chosen", [False, True])
def test_every_system_can_be_asked_for_alone(name, chosen):
    "What its units begin from is planned before them, also if no other system needs it."
    for system in Experiment(name).known_systems:
        experiment = Experiment(name, preset="practice", systems=system)
        choices = {(t, 0): Choice(1, 2) for t in experiment.design.tasks} if chosen else {}
        seen = set()
        for units in comparison(experiment, "", choices).values():
            for unit in units:
                assert set(unit.inputs.values()) <= seen, (system, unit.label)
                seen.add(unit.name)
        assert seen, system


@pytest.mark.parametrize("name", ["exp1", "exp2", "exp3"])
def test_no_two_units_of_a_comparison_are_called_alike(name, tmp_path):
    experiment = Experiment(name, preset="practice", n_seeds=2, systems=EVERY_SYSTEM)
    chosen = {(t, s): Choice(1, 2) for t in experiment.design.tasks for s in experiment.seeds}
    planned = comparison(experiment, "", chosen)
    units = units_of(planned)
    found = Agenda(list(units.values()), {}, called=names_of(planned))
    lines = [found.label(unit) for unit in units.values()]
    assert len(set(lines)) == len(lines) > 50
    main = planned[Key("sparse_table4", experiment.design.tasks, seed=1)][1]
    assert found.label(main).split()[:3] == ["seed", "1", "sparse_table4"]
    assert main.label.split()[:3] == ["seed", "1", "sparse"], "alone it cannot know"


class TestRelatedness:
    def test_its_systems(self, planned):
        expected = {Key(s, TASKS, seed=3) for s in ("hard", "sparse", *MADE)}
        expected |= {Key("imp", (t,), None, v, 3) for v in ("", *ALIKE) for t in TASKS}
        expected |= {Key(s, pair, seed=3) for s in ("hard", "sparse") for pair in PAIRS}
        assert set(planned["relatedness"]) == expected

    def test_all_chains_end_at_one_density(self, planned):
        ends = [us[-1] for k, us in planned["relatedness"].items() if k.system == "imp"]
        assert len(ends) == 5 * len(TASKS) == len({u.name for u in ends})
        assert {(u.round, u.alpha) for u in ends} == {(2, SMALL["alpha"])}

    def test_masks_made_again_start_from_the_same_warmup_with_another_stream(self, planned):
        own = planned["relatedness"]
        for again, before in [("again", ""), ("no warmup again", "no warmup")]:
            for task in TASKS:
                ours = own[Key("imp", (task,), variant=again, seed=3)][-3:]
                theirs = own[Key("imp", (task,), variant=before, seed=3)][-3:]
                for a, b in zip(ours, theirs, strict=True):
                    assert a.start == b.start != "" and a.seed == b.seed and a.round == b.round
                    assert (a.phase, b.phase) == ("again", "round") and a.name != b.name

    def test_another_warmup_has_another_seed_and_start(self, planned):
        own = planned["relatedness"]
        for task in TASKS:
            a, b = (
                own[Key("imp", (task,), variant="other warmup", seed=3)][-1],
                own[Key("imp", (task,), seed=3)][-1],
            )
            assert a.start != b.start and (a.seed, b.seed) == (4, 3)

    def test_no_warmup_is_no_epoch_of_it(self, planned):
        own = planned["relatedness"]
        ways = ("no warmup", "no warmup again")
        none = {own[Key("imp", (t,), variant=v, seed=3)][0] for v in ways for t in TASKS}
        assert len(none) == 1 and none.pop().epochs == 0

    def test_pairs_start_where_the_warmup_of_all_ended(self, planned):
        "Each task keeps the mask that it has in the company of all."
        own = planned["relatedness"]
        warmup, whole = own[Key("sparse", TASKS, seed=3)]
        masks = dict(zip(TASKS, whole.masks, strict=True))
        assert warmup.tasks == TASKS
        for pair in PAIRS:
            for system in ("hard", "sparse"):
                first, main = own[Key(system, pair, seed=3)]
                assert first == warmup and main.start == warmup.name
                assert (main.tasks, main.system) == (pair, system)
                assert main.masks == (tuple(masks[t] for t in pair) if system == "sparse" else ())


class TestControls:
    def test_each_takes_the_place_of_what_it_imitates(self, planned):
        "Second phases that differ in their masks alone."
        own = planned["relatedness"]
        sparse = own[Key("sparse", TASKS, seed=3)][-1]
        for kind in MADE:
            units = own[Key(kind, TASKS, seed=3)]
            assert replace(units[-1], masks=sparse.masks) == sparse
            assert units[0] == own[Key("hard", TASKS, seed=3)][0]
        assert len({own[Key(k, TASKS, seed=3)][-1].masks for k in (*MADE, "sparse")}) == 5

    def test_their_masks_are_units_of_no_epoch_that_say_what_they_imitate(self, planned):
        own = planned["relatedness"]
        warmup, sparse = own[Key("sparse", TASKS, seed=3)]
        for kind in CONTROLS:
            _, *masks, main = own[Key(kind, TASKS, seed=3)]
            assert main.masks == tuple(m.name for m in masks)
            assert [m.masks for m in masks] == [(r,) for r in sparse.masks]
            assert [m.tasks for m in masks] == [(t,) for t in TASKS]
            for mask in masks:
                start = warmup.name if kind == "one_shot" else ""
                assert (mask.kind, mask.system, mask.epochs) == ("mask", kind, 0)
                assert (mask.start, mask.previous, mask.seed) == (start, "", 3)
                needed = {mask.masks[0], start} - {""}
                assert set(mask.inputs.values()) == needed

    def test_other_task_gives_each_task_the_mask_of_the_next(self, planned):
        own = planned["relatedness"]
        masks = dict(zip(TASKS, own[Key("sparse", TASKS, seed=3)][1].masks, strict=True))
        warmup, main = own[Key("other_task", TASKS, seed=3)]
        assert dict(zip(main.tasks, main.masks, strict=True)) == {
            "pos": masks["ner"],
            "ner": masks["chunk"],
            "chunk": masks["pos"],
        }

    def test_sparsity_has_them_at_two_densities(self, planned, monkeypatch, tmp_path):
        "After `EVERY` rounds and at the end; and all tasks together at every so many rounds."
        monkeypatch.setattr(plan_module, "EVERY", 2)
        deep = Experiment("sparsity", **SMALL | dict(min_density=0.12))
        own = plan(deep, "d" * 64, tmp_path)
        last = own[Key("imp", ("pos",), seed=3)][-1].round
        assert last == 5, "0.65 ** 5 is less than 0.12"
        found = Counter(key.system for key in own)

        def levels(system):
            return {key.level for key in own if key.system == system}

        assert levels("sparse") == {0, 2, 4, 5}
        for kind in MADE:
            assert levels(kind) == {2, 5}
            for z in (2, 5):
                like = own[Key("sparse", TASKS, z, seed=3)][1].masks
                made = [u.masks[0] for u in own[Key(kind, TASKS, z, seed=3)] if u.kind == "mask"]
                assert tuple(made) == (like if kind in CONTROLS else ())
        assert found["imp"] == found["single"] == 3 and found["soft"] == 1


class TestWarmup:
    @pytest.mark.parametrize(
        "warmup, epochs, expected",
        [(1, 2, [0, 1, 2]), (4, 8, [0, 4, 8]), (0, 3, [0]), (5, 1, [0, 5]), (2, 2, [0, 2, 3])],
    )
    def test_the_sum_of_both_phases_is_the_same(self, warmup, epochs, expected, tmp_path):
        "And the second phase has an epoch at least, since it ends with the best of them."
        asked = Experiment("warmup", **SMALL | dict(warmup=warmup, epochs=epochs))
        own = plan(asked, "d" * 64, tmp_path)
        assert [key.level for key in own if key.system == "hard"] == expected
        for w in expected:
            for system in ("hard", "sparse"):
                first, main = own[Key(system, TASKS, w, seed=3)]
                assert first.epochs == w and first.epochs + main.epochs == warmup + epochs
                assert main.epochs >= 1 and main.start == first.name and main.keep == "best"

    def test_masks_are_made_from_the_warmup_that_they_are_used_after(self, planned):
        own = planned["warmup"]
        for w in (0, 1, 2):
            first, main = own[Key("sparse", TASKS, w, seed=3)]
            assert (first, main.tasks) == (own[Key("hard", TASKS, w, seed=3)][0], TASKS)
            for task, mask in zip(TASKS, main.masks, strict=True):
                rounds = own[Key("imp", (task,), None if w == 1 else w, seed=3)]
                assert {u.start for u in rounds} == {first.name} and rounds[-1].name == mask
        assert {key.level for key in own if key.system == "imp"} == {None, 0, 2}

    def test_rounds_are_as_long_after_any_warmup(self, planned):
        found = {u.epochs for us in planned["warmup"].values() for u in us if u.kind == "round"}
        assert found == {Experiment("warmup", **SMALL).settings.round_epochs}


class TestGroups:
    EACH = [*PAIRS, TASKS]

    def found(self, planned, name, **changes):
        return groups(Experiment(name, **SMALL | changes), planned[name])

    def test_of_relatedness(self, planned):
        ways = ("one-shot", "same warmup", "another warmup", "no warmup")
        expected = {group(some, way) for some in self.EACH for way in ("", "no warmup")}
        expected |= {group((task,), way) for task in TASKS for way in ways}
        assert set(self.found(planned, "relatedness")) == expected
        assert len(expected) == 2 * 4 + 3 * 4

    def test_of_sparsity_and_of_warmup(self, planned):
        "Its level is the number of the round, or of the epochs."
        for name, numbers in [("sparsity", (0, 2)), ("warmup", (0, 1, 2))]:
            expected = {group(some, level=n) for some in self.EACH for n in numbers}
            assert set(self.found(planned, name)) == expected

    def test_before_masks_are_chosen_a_comparison_has_none(self, planned):
        assert self.found(planned, "exp1") == {}

    def test_they_are_the_masks_that_the_key_says(self, planned):
        own, found = planned["relatedness"], self.found(planned, "relatedness")

        def last(variant, *tasks):
            "The last rounds of a chain for each task."
            return tuple(own[Key("imp", (t,), None, variant, 3)][-1].name for t in tasks)

        for some in self.EACH:
            assert found[group(some)] == last("", *some)
            assert found[group(some, "no warmup")] == last("no warmup", *some)
        for t in TASKS:
            assert found[group((t,), "same warmup")] == last("", t) + last("again", t)
            assert found[group((t,), "another warmup")] == last("", t) + last("other warmup", t)
            none = last("no warmup", t) + last("no warmup again", t)
            assert found[group((t,), "no warmup")] == none
            imp, one_shot = found[group((t,), "one-shot")]
            assert (imp,) == last("", t)
            assert one_shot == own[Key("one_shot", TASKS, seed=3)][-1].masks[TASKS.index(t)]

    def test_of_sparsity_they_are_the_rounds_of_that_number(self, planned):
        own, found = planned["sparsity"], self.found(planned, "sparsity")
        for z in (0, 2):
            assert found[group(("pos", "chunk"), level=z)] == tuple(
                own[Key("imp", (t,), seed=3)][z].name for t in ("pos", "chunk")
            )

    def test_each_seed_has_its_own(self, tmp_path):
        asked = Experiment("relatedness", **SMALL | dict(n_seeds=2))
        both = groups(asked, plan(asked, "d" * 64, tmp_path))
        alone = {}
        for seed in (3, 4):
            one = replace(asked, seed=seed, n_seeds=1)
            alone |= groups(one, plan(one, "d" * 64, tmp_path))
        assert both == alone and {key.seed for key in both} == {3, 4}


# ------------------------------------------------------------------ small studies


@pytest.fixture(scope="module", autouse=True)
def fast():
    "Threads in place of processes, an encoder that takes no time, and no waiting for the disk."
    with in_threads() as patch:
        patch.setattr("os.fsync", lambda file: None)
        sizes = Sizes(word=8, char=4, filters=5, hidden=6)
        quick = config.PRESETS["quick"]
        small = replace(quick, training=replace(quick.training, sizes=sizes))
        patch.setitem(config.PRESETS, "quick", small)
        design = DESIGNS["negative_transfer"]
        own = dict(design.sizes) | dict(word=8, hidden=6)
        patch.setitem(config.DESIGNS, "negative_transfer", replace(design, sizes=own))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", 30))


class Study:
    "A study that was run, and what there is to read of it."

    def __init__(self, name, corpus, home, **changes):
        settings = TINY | dict(data_dir=corpus, results_dir=str(home)) | changes
        self.experiment, self.home, self.lines = Experiment(name, **settings), Path(home), []
        run(self.experiment, self.lines.append)
        self.units = self.home / "units"
        data = read_data(self.experiment.source)
        self.planned = plan(self.experiment, data.checksum, self.units)
        self.tables = {
            path.stem: pd.read_csv(path, keep_default_na=False, dtype={"level": str})
            for path in self.home.glob("*.csv")
        }

    def what(self, key) -> tuple:
        "What stands in a row of a table about a key, in the order of `WHAT`."
        alone = SYSTEMS[key.system].apart if key.system else False
        tasks = self.experiment.design.tasks if alone else key.tasks
        return key.system, key.variant, "" if key.level is None else str(key.level), joined(tasks)

    def mask(self, unit):
        return Mask(load_file(self.units, f"{unit}/{MASK}"))

    def result(self, unit):
        return load_result(self.units, unit)


@pytest.fixture(scope="module")
def related(corpus, tmp_path_factory):
    return Study("relatedness", corpus, tmp_path_factory.mktemp("relatedness"))


@pytest.fixture(scope="module")
def sparsity(corpus, tmp_path_factory):
    return Study("sparsity", corpus, tmp_path_factory.mktemp("sparsity"), warmup=1, epochs=3)


@pytest.fixture(scope="module")
def warm(corpus, tmp_path_factory):
    return Study("warmup", corpus, tmp_path_factory.mktemp("warmup"), epochs=2)


@pytest.fixture(scope="module")
def negative(corpus, tmp_path_factory):
    return Study("negative_transfer", corpus, tmp_path_factory.mktemp("negative"))


@pytest.fixture(params=["related", "sparsity", "warm", "negative"])
def study(request):
    return request.getfixturevalue(request.param)


@pytest.mark.e2e
class TestStudies:
    def test_every_system_has_its_rows(self, study):
        "When all is done: a row for each metric of each task that it serves."
        expected = Counter()
        for key, units in study.planned.items():
            if key.system != "imp":
                expected |= {(*study.what(key), t): METRICS[t] for t in units[-1].tasks}
        rows = study.tables["results"][[*WHAT, "task"]]
        assert Counter(rows.itertuples(index=False, name=None)) == expected
        assert set(status(study.home).state) == {"done"}
        last = study.tables["curves"].groupby([*WHAT, "task"]).epoch.max()
        s = study.experiment.settings
        assert set(last[list(expected)]) == {s.warmup + s.epochs}
        others = last.drop(list(expected))  # of a pair's warmup, which all tasks had in common
        assert set(others) <= {s.warmup}
        assert {tasks for *_, tasks, _ in others.index} <= {joined(pair) for pair in PAIRS}

    def test_overlaps_are_there_with_their_parts(self, study):
        found = groups(study.experiment, study.planned)
        overlap, parts = study.tables["overlap"], study.tables["parts"]
        assert len(overlap) == len(found)
        for row, (key, units) in zip(overlap.to_dict("records"), found.items(), strict=True):
            assert [row[column] for column in GROUP] == [
                study.what(key)[WHAT.index(c)] for c in GROUP
            ]
            masks = [study.mask(n) for n in units]
            assert row["overlap"] == pytest.approx(overlap_ratio(masks))
            assert row["chance"] == pytest.approx(chance_overlap(masks))
            own = parts[(parts[GROUP] == [row[column] for column in GROUP]).all(axis=1)]
            assert own.weights.sum() == masks[0].size
            assert len(own) == 16 + (study.experiment.name != "negative_transfer")

    def test_seconds_are_those_of_all_that_a_system_needs_once(self, study):
        spent = study.tables["results"].groupby([*WHAT, "task"]).seconds.first()
        for key, units in study.planned.items():
            if key.system == "imp" or key.system in CHOSEN:
                continue
            needed, ahead = {}, list(units)
            named = {u.name: u for us in study.planned.values() for u in us}
            while ahead:
                unit = ahead.pop()
                needed[unit.name] = seconds(study.result(unit))
                inputs = [named[n] for n in unit.inputs.values()]
                for (
                    other
                ) in inputs:  # a round begins with its mask: of that alone, it is not needed
                    only_mask = other.kind == "round" and other.name in unit.masks
                    ahead += [named[n] for n in other.inputs.values()] if only_mask else [other]
            for t in units[-1].tasks:
                assert spent[*study.what(key), t] == pytest.approx(sum(needed.values()))

    def test_chains_besides_those_of_the_candidates_have_a_table(self, study):
        expected = {
            "relatedness": {(variant, "") for variant in ALIKE},
            "sparsity": set(),
            "warmup": {("", "0"), ("", "2")},
            "negative_transfer": set(),
        }[study.experiment.name]
        chains, candidates = study.tables["chains"], study.tables["candidates"]
        ways = set(chains[["variant", "level"]].itertuples(index=False, name=None))
        assert ways == expected
        tasks = study.experiment.design.tasks
        assert len(candidates) == 2 * len(tasks) and len(chains) == 2 * len(tasks) * len(expected)
        assert not (study.home / "masks").exists(), "a mask is kept once, in its unit"

    def test_no_unit_of_a_mask_takes_part_in_the_costs(self, related):
        data = read_data(related.experiment.source)
        now = agenda(related.experiment, data, related.units)
        for unit in now.units:
            assert (now.cost[unit.name] == cost(unit, data) == 0) == (unit.epochs == 0)
        assert {u.kind for u in now.units if not u.epochs} == {"training", "mask"}
        assert now.later == {}, "an analysis chooses no mask, so it can name all"


class TestMasksOfControls:
    def test_they_have_the_density_of_what_they_imitate(self, related):
        "Random and shuffled ones tensor by tensor, one-shot ones over all tensors together."
        for kind in CONTROLS:
            for unit in (u for u in related.planned[Key(kind, TASKS, seed=0)] if u.kind == "mask"):
                made, like = related.mask(unit.name), related.mask(unit.masks[0])
                counts = [{n: int(t.sum()) for n, t in m.items()} for m in (made, like)]
                assert made != like and made.kept == like.kept < like.size
                assert (counts[0] == counts[1]) or kind == "one_shot"
                assert related.result(unit)["density"] == like.density

    def masks(self, study, kind):
        return [study.mask(n) for n in study.planned[Key(kind, TASKS, seed=0)][-1].masks]

    def test_shuffled_ones_keep_the_overlap_and_random_ones_lose_it(self, related):
        sparse, shuffled, random = (
            self.masks(related, k) for k in ("sparse", "shuffled", "random")
        )
        for pair in [(0, 1), (0, 2), (1, 2), (0, 1, 2)]:
            before = overlap_ratio([sparse[i] for i in pair])
            assert overlap_ratio([shuffled[i] for i in pair]) == before
            drawn = [random[i] for i in pair]
            assert overlap_ratio(drawn) == pytest.approx(
                chance_overlap(drawn, per_tensor=True), abs=0.06
            )

    def test_one_shot_ones_keep_what_is_large_after_the_warmup(self, related):
        "Common to all tasks, since the warmup was."
        warmup, *_ = related.planned[Key("one_shot", TASKS, seed=0)]
        weights = load_tensors(related.units / warmup.name / WEIGHTS)[0]
        made = self.masks(related, "one_shot")
        assert made[0] == made[1] == made[2]
        kept, gone = (
            torch.cat([weights[f"encoder.{n}"].abs()[t] for n, t in m.items()])
            for m in (made[0], ~made[0])
        )
        assert kept.min() >= gone.max()

    def test_the_same_task_again_has_another_mask_of_that_density(self, related):
        found = groups(related.experiment, related.planned)
        for variant in ("one-shot", "same warmup", "another warmup", "no warmup"):
            for task in TASKS:
                one, other = (related.mask(n) for n in found[group((task,), variant, seed=0)])
                assert one.kept == other.kept and one != other

    @pytest.fixture
    def home(self, related, tmp_path):
        return Path(shutil.copytree(related.home, tmp_path / "results"))

    def again(self, related, home):
        lines = []
        run(replace(related.experiment, results_dir=str(home)), lines.append)
        return lines

    @pytest.mark.parametrize("kind", CONTROLS)
    def test_a_mask_that_is_gone_is_made_again(self, related, home, kind):
        "The same one, and nothing is trained."
        unit = related.planned[Key(kind, TASKS, seed=0)][2]
        path = home / "units" / unit.name / MASK
        before = path.read_bytes()
        path.unlink()
        lines = self.again(related, home)
        (line,) = lines
        assert line.startswith(f"{unit.label}  done ") and path.read_bytes() == before
        check_same_unit(path.parent, related.units / unit.name)
        check_same_study(home, related.home)

    @pytest.mark.parametrize("kind", CONTROLS)
    def test_a_damaged_mask_is_told_and_mended(self, related, home, kind):
        "As soon as somebody needs it."
        unit, main = (
            related.planned[Key(kind, TASKS, seed=0)][2],
            related.planned[Key(kind, TASKS, seed=0)][-1],
        )
        path = home / "units" / unit.name / MASK
        path.write_bytes(path.read_bytes()[:-3])
        rows = status(home, names=True)
        assert rows[rows.state == "damaged"].name.tolist() == [unit.name]
        (home / "units" / main.name / "result.json").unlink()
        lines = self.again(related, home)
        assert any(x.startswith(f"{unit.name}/{MASK} is damaged") for x in lines)
        check_same_unit(path.parent, related.units / unit.name)
        check_same_study(home, related.home)

    def test_a_mask_of_another_unit_is_not_taken(self, related, home):
        "A sound file, but not the one."
        _, one, other, _, main = related.planned[Key("random", TASKS, seed=0)]
        path = home / "units" / one.name / MASK
        shutil.copy(home / "units" / other.name / MASK, path)
        (home / "units" / main.name / "result.json").unlink()
        assert any("is damaged: it is not the one" in x for x in self.again(related, home))
        check_same_unit(path.parent, related.units / one.name)


class TestSparsity:
    def test_all_weights_for_each_task_is_hard_sharing_bit_for_bit(self, sparsity):
        "Scores, curves and what they cost in weights; computed in another way."
        first, main = sparsity.planned[Key("sparse", TASKS, 0, seed=0)]
        hard = sparsity.planned[Key("hard", TASKS, seed=0)][1]
        assert main.name != hard.name and {sparsity.mask(m).density for m in main.masks} == {1}
        ours, theirs = sparsity.result(main), sparsity.result(hard)
        assert ours["scores"] == theirs["scores"] and ours["epoch"] == theirs["epoch"]
        curves = [
            [{k: v for k, v in row.items() if k not in CLOCKS} for row in r["curve"]]
            for r in (ours, theirs)
        ]
        assert curves[0] == curves[1] and len(curves[0]) == 3 * len(TASKS)
        assert ours["parameters"] == theirs["parameters"]
        other = ["system", "level", "variant", "task_epochs", *CLOCKS]
        tables = [
            sparsity.tables["results"].query(which).drop(columns=other)
            for which in ("system == 'sparse' and level == '0'", "system == 'hard'")
        ]
        assert tables[0].values.tolist() == tables[1].values.tolist()

    def test_fewer_weights_are_another_matter(self, sparsity):
        sparse = sparsity.planned[Key("sparse", TASKS, 1, seed=0)][1]
        hard = sparsity.planned[Key("hard", TASKS, seed=0)][1]
        assert sparsity.result(sparse)["curve"] != sparsity.result(hard)["curve"]
        density = [sparsity.mask(m).density for m in sparse.masks]
        assert density == pytest.approx([1 - TINY["alpha"]] * len(TASKS), abs=1e-3)

    @pytest.mark.parametrize("stop", [1, 6, 15])
    def test_interrupted_and_continued_it_is_the_same(self, sparsity, tmp_path, stop):
        "Broken off at some line that it tells, and a unit killed between its epochs."

        class Enough(Exception):
            pass

        def log(line):
            lines.append(line)
            if len(lines) == stop:
                raise Enough

        lines = []
        broken = replace(sparsity.experiment, results_dir=str(tmp_path))
        with pytest.raises(Enough):
            run(broken, log)
        done = list((tmp_path / "units").glob("*/result.json"))
        assert len(done) < len(names(sparsity.planned))
        unit = next(
            u
            for us in sparsity.planned.values()
            for u in us
            if not (tmp_path / "units" / u.name / "result.json").exists()
            and u.epochs
            and all((tmp_path / "units" / p).exists() for p in u.inputs)
        )
        assert perform_killed(unit, tmp_path / "units", broken.source, 2)
        run(broken, lambda line: None)
        check_same_study(tmp_path, sparsity.home)
        assert {p.parent.name for p in (tmp_path / "units").glob("*/result.json")} == names(
            sparsity.planned
        )


class TestWarmupStudy:
    def test_each_warmup_has_the_curve_of_its_first_phase_in_common(self, warm):
        curves = warm.tables["curves"].set_index(["task", "epoch"])
        for w in (0, 1, 2):
            hard, sparse = (
                curves[(curves.system == s) & (curves.level == str(w))][["loss", "dev"]]
                for s in ("hard", "sparse")
            )
            for epoch in (1, 2, 3):
                same = hard.xs(epoch, level="epoch").equals(sparse.xs(epoch, level="epoch"))
                assert same == (epoch <= w)


class TestNegativeTransfer:
    def test_it_is_a_comparison_of_two_tasks(self, negative):
        "No system of Table 4, of which the paper has no density here, and none by layers."
        results = negative.tables["results"]
        assert set(results.system) == {"single", "subnet", "hard", "sparse"}
        assert set(results.task) == {"ner", "pp"}
        assert negative.tables["overlap"].tasks.tolist() == ["ner+pp"]
        about = load_json(negative.home / "run.json")
        assert about["settings"]["training"]["sizes"]["filters"] == 0
        assert about["experiment"]["relatedness"] is None

    def test_its_masks_are_chosen_from_whole_chains(self, negative):
        best = {t: negative.planned[Key("imp", (t,), seed=0)][1].name for t in ("ner", "pp")}
        assert negative.planned[Key("sparse", ("ner", "pp"), seed=0)][1].masks == tuple(
            best.values()
        )
        assert negative.planned[Key("subnet", ("pp",), seed=0)][1].masks == (best["pp"],)
        spent = negative.tables["results"].groupby(["system", "task"]).seconds.first()
        units = {u for us in negative.planned.values() for u in us}
        chain = [u for u in units if u.kind == "round"]
        main = negative.planned[Key("sparse", ("ner", "pp"), seed=0)][1]
        hard = negative.planned[Key("hard", ("ner", "pp"), seed=0)][0]
        total = sum(seconds(negative.result(u)) for u in [*chain, main, hard])
        assert spent["sparse", "ner"] == pytest.approx(total)
