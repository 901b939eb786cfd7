"Systems over a corpus, names of units, results that are not trusted, and work that breaks off anywhere."

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import seqeval.metrics
import seqeval.scheme
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import WIDTH, write_corpus, write_glove

from sparse_sharing import training, units
from sparse_sharing.corpora import FormatError, read_corpus
from sparse_sharing.masks import Mask, union
from sparse_sharing.pruning import target
from sparse_sharing.steps import SubnetSGD
from sparse_sharing.systems import (
    TASKS,
    build,
    final_scores,
    predict,
    read_data,
    tagging_task,
)
from sparse_sharing.tagger import Sizes
from sparse_sharing.training import evaluate, fit
from sparse_sharing.units import Training, Unit, candidates, load_result, perform

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

SMALL = Sizes(word=WIDTH, char=4, filters=5, hidden=6)
HOW = Training(sizes=SMALL)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    "What `perform` and `read_data` are told: a folder and a file."
    folder = tmp_path_factory.mktemp("tiny")
    return str(write_corpus(folder / "corpus")), str(write_glove(folder / "glove.txt"))


@pytest.fixture(scope="module")
def data(source):
    return read_data(*source)


@pytest.fixture(scope="module")
def corpus(source):
    return read_corpus(source[0])


@pytest.fixture(scope="module")
def masks(data):
    encoder = build("hard", TASKS, data, SMALL, 0).encoder
    return {
        t: Mask.random(encoder, d, torch.Generator().manual_seed(0))
        for t, d in zip(TASKS, (0.8, 0.5, 0.3), strict=True)
    }


@pytest.fixture(scope="module")
def trained(data):
    "A model after some steps, which predicts more than one tag."
    sizes = replace(SMALL, filters=10, hidden=20, dropout=0.0)
    model = build("hard", TASKS, data, sizes, seed=0)
    tasks = [tagging_task(t, data, 10, "cpu") for t in TASKS]
    fit(model, tasks, 6, optimizer=SubnetSGD(model), log=None)
    return model.eval()


def one_by_one(model, corpus, split, task, data):
    "Gold and predicted tags of a split, from sentences as they were read and without any batch."
    tags = [*data.vocab.tags[task], *data.vocab.unseen[task]]
    gold, found = [], []
    with torch.no_grad():
        for i, sentence in enumerate(corpus.splits[split]):
            scores = model(data.splits[split].batch(np.array([i])), task)
            found.append([tags[t] for t in scores[:, 0].argmax(1)])
            gold.append(list(sentence.tags[task]))
    return gold, found


class TestData:
    def test_it_is_the_corpus(self, data, corpus):
        assert data.name == "conll2003" and list(data.splits) == ["train", "dev", "test"]
        assert {k: len(v) for k, v in data.splits.items()} == {
            k: len(v) for k, v in corpus.splits.items()
        }
        assert data.vocab.unseen["pos"] == ("UH",)
        assert data.rows and set(data.rows) <= set(data.vocab.words)
        about = json.loads(json.dumps(data.about))
        assert about["checksum"] == corpus.checksum and len(about["coverage"]) == 3

    def test_its_checksum_knows_tags_and_vectors(self, data, source, tmp_path):
        folder, glove = (shutil.copytree(source[0], tmp_path / "c"), tmp_path / "g.txt")
        shutil.copy(source[1], glove)
        assert read_data(str(folder), str(glove)).checksum == data.checksum
        assert read_data(str(folder), "").checksum != data.checksum
        (tmp_path / "h.txt").write_text(glove.read_text().replace(" 0.", " 1.", 1))
        assert read_data(str(folder), str(tmp_path / "h.txt")).checksum != data.checksum
        text = (folder / "eng.testb").read_text().replace("VBD", "VBN", 1)
        (shutil.copytree(folder, tmp_path / "d") / "eng.testb").write_text(text)
        assert read_data(str(tmp_path / "d"), str(glove)).checksum != data.checksum

    def test_another_kind_of_corpus_is_refused(self, tmp_path):
        (tmp_path / "notes.txt").write_text("nothing to see")
        with pytest.raises(FormatError, match=r"no corpus we know .* leave `data_dir` empty"):
            read_data(str(tmp_path), "")


class TestSystems:
    def test_all_systems_of_a_seed_share_their_first_weights(self, data, masks):
        hard = build("hard", TASKS, data, SMALL, 0).state_dict()
        stem = {k[8:]: v for k, v in hard.items() if k.startswith("encoder.stem.")}
        layer = {k[17:]: v for k, v in hard.items() if k.startswith("encoder.layers.0.")}
        heads = {k: v for k, v in hard.items() if k.startswith("heads.")}
        assert len(stem) == 4 and len(layer) == 8 and len(heads) == 6

        def same(state, part, prefix=""):
            return all(torch.equal(state[prefix + k], v) for k, v in part.items())

        for system in ("soft", "hierarchical", "sparse"):
            state = build(system, TASKS, data, SMALL, 0, masks).state_dict()
            assert same(state, heads), system
            assert same(state, stem, "" if system == "soft" else "encoder."), system
            places = (
                [f"stacks.{t}.0." for t in TASKS] if system == "soft" else ["encoder.layers.0."]
            )
            assert all(same(state, layer, place) for place in places), system
        for task in TASKS:
            for within in (None, {task: masks[task]}):
                state = build("single", (task,), data, SMALL, 0, within).state_dict()
                assert same(state, stem, f"encoders.{task}.")
                assert same(state, layer, f"encoders.{task}.layers.0.")
                assert same(state, {k: v for k, v in heads.items() if f".{task}." in k})

    def test_another_seed_has_other_weights(self, data):
        first, second = (build("hard", TASKS, data, SMALL, s).state_dict() for s in (0, 1))
        differ = {k for k, v in first.items() if not torch.equal(v, second[k])}
        constant = {k for k in first if k.startswith("encoder.layers") and "bias" in k}
        constant |= {k for k in first if k.startswith("heads") and "bias" in k}
        assert differ == set(first) - constant

    def test_words_with_a_vector_start_from_it(self, data):
        table = build("hard", TASKS, data, SMALL, 0).get_parameter("encoder.stem.words.weight")
        for word, row in data.rows.items():
            assert table[data.vocab.words.index(word)].tolist() == row.tolist()

    def test_making_a_model_disturbs_no_random_stream(self, data):
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        build("soft", TASKS, data, SMALL, 0)
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize(
        "system, layers, size",
        [
            ("single", 1, 1_601_790),
            ("single", 2, 4_491_390),
            ("hard", 1, 533_930),
            ("hard", 2, 1_497_130),
            ("soft", 1, 1_596_330),
            ("soft", 2, 4_485_930),
            ("hierarchical", 1, 1_497_130),
            ("hierarchical", 2, 1_497_130),
        ],
    )
    def test_the_papers_sizes(self, data, system, layers, size):
        paper = replace(data, rows={})
        assert build(system, TASKS, paper, Sizes(layers=layers), 0).count_parameters() == size

    def test_masks_count(self, data, masks):
        biases = 5 + 2 * 2 * 4 * 6
        kept = [m.kept for m in masks.values()]
        subnets = build("single", TASKS, data, SMALL, 0, masks)
        sparse = build("sparse", TASKS, data, SMALL, 0, masks)
        assert subnets.count_parameters() == sum(kept) + 3 * biases
        assert sparse.count_parameters() == union(masks.values()).kept + biases

    @pytest.mark.parametrize("system", ["hierarchial", "sparse", ""])
    def test_an_unknown_system_is_refused(self, data, system):
        with pytest.raises(ValueError, match="system"):
            build(system, TASKS, data, SMALL, 0)


class TestPrediction:
    @pytest.mark.parametrize("task", TASKS)
    def test_tags_come_in_the_order_of_the_corpus(self, trained, data, corpus, task):
        tags = np.array([*data.vocab.tags[task], *data.vocab.unseen[task]])
        with torch.no_grad():
            found = tags[predict(trained, data.splits["dev"], task, "cpu")].tolist()
        expected = [t for s in one_by_one(trained, corpus, "dev", task, data)[1] for t in s]
        assert found == expected and len(set(found)) > 1
        assert not set(found) & set(data.vocab.unseen[task])

    def test_the_loss_is_the_mean_over_words(self, trained, data):
        task = tagging_task("chunk", data, 10, "cpu")
        batch = next(iter(task.batches(np.random.default_rng(0))))
        scores = [
            F.log_softmax(trained(data.splits["train"].batch(np.array([i])), "chunk")[:, 0], 1)
            for i in batch.sentences
        ]
        starts = data.splits["train"].starts
        gold = [
            data.splits["train"].tags["chunk"][starts[i] : starts[i + 1]] for i in batch.sentences
        ]
        words = [-s[range(len(g)), g] for s, g in zip(scores, gold, strict=True)]
        assert torch.allclose(task.loss(trained, batch), torch.cat(words).mean(), atol=1e-5)
        assert task.size == len(data.splits["train"]) and len(batch.sentences) == 10

    def test_scores_are_those_of_seqeval(self, trained, data, corpus):
        modes = {
            "f1": {},
            "f1_strict:chunk": dict(mode="strict", scheme=seqeval.scheme.IOB2),
            "f1_strict:ner": dict(mode="strict", scheme=seqeval.scheme.IOBES),
        }
        with torch.no_grad():
            rows = {
                t: {r["metric"]: r for r in final_scores(trained, data, t, "cpu")} for t in TASKS
            }
        assert [list(r) for r in rows.values()] == [["accuracy"], *[["f1", "f1_strict"]] * 2]
        dev = evaluate(trained, [tagging_task(t, data, 10, "cpu") for t in TASKS])
        for split in ("dev", "test"):
            for task in TASKS:
                gold, found = one_by_one(trained, corpus, split, task, data)
                for metric, row in rows[task].items():
                    if metric == "accuracy":
                        score = seqeval.metrics.accuracy_score(gold, found)
                    else:
                        options = modes.get(f"{metric}:{task}", modes["f1"])
                        score = seqeval.metrics.f1_score(gold, found, **options)
                    assert row[split] == pytest.approx(100 * score, abs=1e-9), (split, task, metric)
        for task in TASKS:
            assert dev[task] == pytest.approx(next(iter(rows[task].values()))["dev"], abs=1e-9)


UNITS = st.builds(
    Unit,
    kind=st.sampled_from(["training", "round"]),
    system=st.sampled_from(["hard", "single"]),
    tasks=st.sampled_from([TASKS, ("pos",), ("ner",)]),
    data=st.sampled_from(["a", "b"]),
    epochs=st.integers(0, 2),
    phase=st.sampled_from(["warmup", "main", "round"]),
    seed=st.integers(0, 2),
    start=st.sampled_from(["", "x"]),
    masks=st.sampled_from([(), ("m",), ("m", "n")]),
    keep=st.sampled_from(["best", "last"]),
    round=st.integers(0, 2),
    alpha=st.sampled_from([0.0, 0.1, 0.10875, 1 - 0.1 ** (1 / 20)]),
    training=st.builds(
        Training,
        batch=st.integers(9, 10),
        lr=st.sampled_from([0.1, 0.2]),
        sizes=st.builds(Sizes, hidden=st.integers(199, 200), dropout=st.sampled_from([0.0, 0.5])),
    ),
)
UNIT = Unit("training", "hard", TASKS, "a" * 64, 2, "warmup", keep="last", training=HOW)


class TestNames:
    @settings(deadline=None, max_examples=300)
    @given(UNITS, UNITS)
    def test_equal_names_are_equal_units(self, a, b):
        assert (a.name == b.name) == (a == b)
        assert a.name == replace(a).name and len(a.name) == 16 and int(a.name, 16) >= 0

    @pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Unit)])
    def test_every_field_counts(self, field):
        value = getattr(UNIT, field)
        other = {
            str: "round" if field == "kind" else "other",
            int: 7,
            float: 0.7,
            tuple: ("other",),
            Training: replace(HOW, momentum=0.5),
        }[type(value)]
        assert replace(UNIT, **{field: other}).name != UNIT.name

    @pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Sizes)])
    def test_every_size_counts(self, field):
        sizes = replace(SMALL, **{field: getattr(SMALL, field) + 2})  # a window stays odd
        assert replace(UNIT, training=replace(HOW, sizes=sizes)).name != UNIT.name

    def test_a_new_option_leaves_old_names_alone(self):
        @dataclass(frozen=True)
        class Later(Unit):
            option: str = "as before"

        values = {f.name: getattr(UNIT, f.name) for f in dataclasses.fields(Unit)}
        assert Later(**values).name == UNIT.name != Later(**values, option="new").name

    def test_another_meaning_has_another_name(self, monkeypatch):
        before = UNIT.name
        monkeypatch.setitem(units.VERSIONS, "training", units.VERSIONS["training"] + 1)
        assert UNIT.name != before

    def test_labels_are_for_people(self):
        assert UNIT.label.split() == ["seed", "0", "hard", "pos+ner+chunk", "warmup"]
        subnet = Unit("training", "single", ("ner",), "a", 2, "main", 3, masks=("m",))
        assert subnet.label.split() == ["seed", "3", "subnet", "ner", "main"]
        step = Unit("round", "hard", ("ner",), "a", 2, "round", round=4)
        assert step.label.split()[-2:] == ["round", "4"]


def done(folder, unit, source):
    "Do a unit if it is not done, and read what it found."
    if load_result(folder, unit) is None:
        perform(unit, folder, *source)
    return load_result(folder, unit)


def without_seconds(result):
    curve = [{k: v for k, v in row.items() if k != "seconds"} for row in result["curve"]]
    return result | {"curve": curve}


@pytest.fixture(scope="module")
def plan(data):
    "A warmup, what hard sharing makes of it, and two rounds."
    warmup = replace(UNIT, data=data.checksum)
    main = replace(warmup, phase="main", start=warmup.name, keep="best")
    first = Unit(
        "round", "hard", ("chunk",), data.checksum, 2, "round",
        start=warmup.name, alpha=0.3, training=HOW,
    )  # fmt: skip
    second = replace(first, previous=first.name, round=1)
    return dict(warmup=warmup, main=main, first=first, second=second)


@pytest.fixture(scope="module")
def finished(plan, source, tmp_path_factory):
    "A folder in which these are done."
    folder = tmp_path_factory.mktemp("units")
    for unit in plan.values():
        perform(unit, folder, *source)
    return folder


class TestResults:
    @pytest.fixture
    def folder(self, finished, tmp_path):
        return shutil.copytree(finished, tmp_path / "units")

    def test_what_is_not_there_is_not_done(self, tmp_path, plan):
        assert load_result(tmp_path, plan["warmup"]) is None
        (tmp_path / plan["warmup"].name).mkdir()
        assert load_result(tmp_path, plan["warmup"]) is None

    def test_what_is_done_tells_its_settings(self, folder, plan):
        for unit in plan.values():
            result = load_result(folder, unit)
            assert result["unit"] == json.loads(json.dumps(dataclasses.asdict(unit)))
            assert not list((folder / unit.name).glob("*checkpoint*"))
            log = (folder / unit.name / "log.txt").read_text().splitlines()
            assert len(log) == unit.epochs and all(unit.label in line for line in log)

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"null", b"[]", b"3", b'"text"', b"\xff\xfe", b'{"unit": 3}', "half"],
        ids=str,
    )
    def test_a_damaged_result_is_named(self, folder, plan, content):
        path = folder / plan["main"].name / "result.json"
        text = path.read_bytes()
        path.write_bytes(text[: len(text) // 2] if content == "half" else content)
        with pytest.raises(ValueError) as error:
            load_result(folder, plan["main"])
        assert str(error.value).startswith(str(path)) and "delete its folder" in str(error.value)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda u: u.update(seed=1), id="another seed"),
            pytest.param(lambda u: u["training"].update(lr=0.2), id="another rate"),
            pytest.param(lambda u: u["training"]["sizes"].update(hidden=7), id="another size"),
            pytest.param(lambda u: u.update(tasks=["ner", "pos", "chunk"]), id="another order"),
            pytest.param(lambda u: u.update(gone=1), id="an option that is gone"),
            pytest.param(lambda u: u.clear(), id="nothing"),
            pytest.param(lambda u: u.update(training={}), id="nothing of the training"),
        ],
    )
    def test_a_result_of_other_settings_is_refused(self, folder, plan, change):
        path = folder / plan["main"].name / "result.json"
        result = json.loads(path.read_text())
        change(result["unit"])
        path.write_text(json.dumps(result))
        with pytest.raises(
            ValueError, match="made with other settings: delete its folder"
        ) as error:
            load_result(folder, plan["main"])
        assert str(path) in str(error.value)

    def test_a_result_from_before_an_option_was_there_counts(self, folder, plan):
        path = folder / plan["main"].name / "result.json"
        result = json.loads(path.read_text())
        del result["unit"]["device"], result["unit"]["training"]["sizes"]["window"]
        path.write_text(json.dumps(result))
        assert load_result(folder, plan["main"])["dev"] == result["dev"]

    def test_candidates_of_a_chain(self, folder, plan):
        chain = [plan["first"], plan["second"]]
        both = candidates(chain, folder)
        assert [c.round for c in both] == [0, 1] and both[1].mask <= both[0].mask
        assert both[0].mask.density == 1
        assert both[1].mask.kept == target(both[1].mask.size, 0.3, 1)
        assert [c.dev for c in both] == [load_result(folder, u)["dev"]["chunk"] for u in chain]
        shutil.rmtree(folder / plan["first"].name)
        assert candidates(chain, folder) == []


class TestPerform:
    def test_a_training_ends_with_scores_or_with_weights(self, finished, plan):
        warmup, main = (load_result(finished, plan[k]) for k in ("warmup", "main"))
        assert "scores" not in warmup and set(main["scores"]) == set(TASKS)
        for part in (warmup, main):
            assert [(r["epoch"], r["task"]) for r in part["curve"]] == [
                (e, t) for e in (1, 2) for t in TASKS
            ]
            means = [np.mean([r["dev"] for r in part["curve"] if r["epoch"] == e]) for e in (1, 2)]
            assert part["epoch"] == 1 + int(means[1] > means[0])
            assert part["mean"] == pytest.approx(max(means))
            assert part["dev"] == {
                r["task"]: r["dev"] for r in part["curve"] if r["epoch"] == part["epoch"]
            }
        for task in TASKS:
            assert main["scores"][task][0]["dev"] == pytest.approx(main["dev"][task], abs=1e-9)

    def test_a_round_ends_with_a_smaller_mask(self, finished, plan):
        for z, key in enumerate(["first", "second"]):
            home = finished / plan[key].name
            mask, smaller = (Mask.load(home / f"{n}.safetensors") for n in ("mask", "smaller"))
            assert mask.kept == target(mask.size, 0.3, z)
            assert smaller.kept == target(mask.size, 0.3, z + 1) and smaller <= mask
            result = load_result(finished, plan[key])
            assert result["density"] == mask.density and "scores" not in result

    @pytest.mark.parametrize("key", ["warmup", "main", "second"])
    def test_again_gives_the_same(self, finished, plan, source, tmp_path, key):
        folder = shutil.copytree(finished, tmp_path / "units")
        home = folder / plan[key].name
        shutil.rmtree(home)
        torch.manual_seed(random.randrange(1000))  # what went on before does not matter
        perform(plan[key], folder, *source)
        self.check_same(home, finished / plan[key].name)

    def check_same(self, home, reference):
        files = sorted(p.name for p in reference.iterdir())
        assert sorted(p.name for p in home.iterdir()) == files
        for name in files:
            if name.endswith(".safetensors"):
                ours, theirs = load_file(home / name), load_file(reference / name)
                assert ours.keys() == theirs.keys()
                assert all(torch.equal(v, theirs[k]) for k, v in ours.items()), name
        ours, theirs = (json.loads((p / "result.json").read_text()) for p in (home, reference))
        assert without_seconds(ours) == without_seconds(theirs)

    @pytest.mark.parametrize("key", ["warmup", "main", "second"])
    def test_it_may_break_off_at_any_file(self, finished, plan, source, tmp_path, monkeypatch, key):
        "Before and after each file that it puts in its place; then the rest of it is done."
        unit, steps, moved = plan[key], [], os.replace
        writes = {"warmup": 4, "main": 3, "second": 5}[key]

        class PowerCut(BaseException):
            pass

        def counted(*arguments):
            steps.append(1)
            return take_step(*arguments)

        take_step = training.train_step
        monkeypatch.setattr(training, "train_step", counted)
        for cut in range(2 * writes + 1):
            folder, left = tmp_path / str(cut), [cut]

            def replace_or_cut(source, target, left=left):
                for act in (lambda: None, lambda: moved(source, target)):
                    if left[0] == 0:
                        raise PowerCut
                    left[0] -= 1
                    act()

            for other in plan.values():
                if other is not unit and (finished / other.name).exists():
                    shutil.copytree(finished / other.name, folder / other.name)
            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", replace_or_cut)
                if cut < 2 * writes:
                    with pytest.raises(PowerCut):
                        perform(unit, folder, *source)
                    assert load_result(folder, unit) is None or cut == 2 * writes - 1
                else:
                    perform(unit, folder, *source)
                    assert left == [0], f"{writes} files are no longer what it writes"
            if load_result(folder, unit) is None:
                perform(unit, folder, *source)
            home = folder / unit.name
            for scrap in [p for p in home.iterdir() if p.name.startswith(".")]:
                shutil.rmtree(scrap) if scrap.is_dir() else scrap.unlink()
            (home / "checkpoint.safetensors").unlink(missing_ok=True)
            self.check_same(home, finished / unit.name)
            epoch = -(-len(unit.tasks) * 60 // 10)
            assert len(steps) <= (unit.epochs + 1) * epoch, "it repeated more than one epoch"
            steps.clear()

    def test_hard_sharing_is_sparse_sharing_with_all_ones(self, finished, plan, source, tmp_path):
        "Bit for bit, from the same warmup. The mask of round 0 is all ones."
        folder = shutil.copytree(finished, tmp_path / "units")
        hard = replace(plan["main"], keep="last")
        sparse = replace(hard, system="sparse", masks=(plan["first"].name,) * 3)
        results = [without_seconds(done(folder, u, source)) for u in (hard, sparse)]
        assert results[0]["curve"] == results[1]["curve"]
        assert results[0]["parameters"] == results[1]["parameters"]
        assert results[1]["density"] == dict.fromkeys(TASKS, 1.0)
        ours, theirs = (load_file(folder / u.name / "weights.safetensors") for u in (hard, sparse))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(v, theirs[k]) for k, v in ours.items())
        assert any(
            not torch.equal(v, ours[k])
            for k, v in load_file(folder / plan["warmup"].name / "weights.safetensors").items()
        )
        best = replace(sparse, keep="best")
        reference = load_result(folder, plan["main"])
        assert done(folder, best, source)["scores"] == reference["scores"]

    def test_the_test_split_is_read_once_after_selection(
        self, plan, source, data, finished, monkeypatch, tmp_path
    ):
        reads = []

        class Watched(Mapping):
            def __getitem__(self, name):
                if name == "test":
                    reads.append(len(steps))
                return data.splits[name]

            def __iter__(self):
                return iter(data.splits)

            def __len__(self):
                return len(data.splits)

        steps, take_step = [], training.train_step
        watched = replace(data, splits=Watched())
        monkeypatch.setattr(units, "read_data", lambda *_: watched)
        monkeypatch.setattr(training, "train_step", lambda *a: steps.append(1) or take_step(*a))
        for key, expected in [("warmup", []), ("first", []), ("main", [36] * 3)]:
            reads.clear()
            steps.clear()
            perform(plan[key], tmp_path, *source)
            assert reads == expected, key

    def test_no_warmup_means_the_first_weights(self, plan, source, data, tmp_path):
        warmup = replace(plan["warmup"], epochs=0)
        result = done(tmp_path, warmup, source)
        assert result["curve"] == [] and result["epoch"] == 0
        weights = load_file(tmp_path / warmup.name / "weights.safetensors")
        first = build("hard", TASKS, data, SMALL, 0).state_dict()
        assert all(torch.equal(v, weights[k]) for k, v in first.items())
        again = done(tmp_path, replace(plan["first"], start=warmup.name), source)
        assert len(again["curve"]) == 2

    @pytest.mark.parametrize("what", ["weights", "smaller"])
    def test_a_damaged_file_of_another_unit_is_named(self, finished, plan, source, tmp_path, what):
        folder = shutil.copytree(finished, tmp_path / "units")
        owner, user = {"weights": ("warmup", "main"), "smaller": ("first", "second")}[what]
        path = folder / plan[owner].name / f"{what}.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(ValueError, match=f"{plan[owner].name}/{what}.safetensors"):
            perform(plan[user], folder, *source)

    def test_a_damaged_checkpoint_is_named(self, plan, source, tmp_path):
        home = tmp_path / plan["warmup"].name
        home.mkdir()
        (home / "checkpoint.safetensors").write_bytes(b"not at all")
        with pytest.raises(ValueError, match=f"{home.name}/checkpoint.safetensors .*delete it"):
            perform(plan["warmup"], tmp_path, *source)

    def test_data_that_changed_meanwhile_are_refused(self, plan, source, tmp_path):
        unit = replace(plan["warmup"], data="0" * 64)
        with pytest.raises(ValueError, match="data"):
            perform(unit, tmp_path, *source)
        assert load_result(tmp_path, unit) is None

    def test_a_training_that_diverges_is_not_done(self, plan, source, tmp_path):
        unit = replace(plan["warmup"], training=replace(HOW, lr=1e30, clip=1e30))
        with pytest.raises(FloatingPointError, match="lower the learning rate"):
            perform(unit, tmp_path, *source)
        assert load_result(tmp_path, unit) is None


def test_the_generated_corpus_can_be_learnt(tmp_path):
    "One pass over it: chunks are found that a tagger without any training would miss."
    data = read_data("", "")
    assert data.name == "generated" and not data.rows and data.about["coverage"] is None
    how = Training(sizes=Sizes(word=20, hidden=20))
    unit = Unit("training", "single", ("chunk",), data.checksum, 1, "main", training=how)
    perform(unit, tmp_path, "", "")
    scores = {r["metric"]: r for r in load_result(tmp_path, unit)["scores"]["chunk"]}
    assert 50 < scores["f1"]["test"] < 100 and 50 < scores["f1"]["dev"] < 100
