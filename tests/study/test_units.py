"Names of units, results that are not trusted, and work that breaks off anywhere."

import dataclasses
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file as load_safetensors
from studies import check_same_unit, check_sound, lines_of, perform_killed, without_time
from tiny import WIDTH, write_corpus, write_glove

from sparse_sharing import training
from sparse_sharing.files import Damaged, digest, load_json, load_tensors, save_json, save_tensors
from sparse_sharing.finders import random_like, shuffled
from sparse_sharing.masks import Mask
from sparse_sharing.pruning import target
from sparse_sharing.study import machine, runner, units
from sparse_sharing.study.data import TASKS, Source, read_data
from sparse_sharing.study.machine import made_with
from sparse_sharing.study.models import build
from sparse_sharing.study.progress import LOG, read_log
from sparse_sharing.study.rerun import as_unit
from sparse_sharing.study.runner import is_running, perform
from sparse_sharing.study.units import (
    MASK,
    PREDICTIONS,
    SMALLER,
    WEIGHTS,
    Training,
    Unit,
    candidates,
    duration,
    load_file,
    load_result,
    processor_seconds,
    seconds,
)
from sparse_sharing.tagging.encoder import Sizes
from sparse_sharing.training import derive_seed

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

SMALL = Sizes(word=WIDTH, char=4, filters=5, hidden=6)
HOW = Training(sizes=SMALL)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return Source(str(write_corpus(folder / "corpus")), str(write_glove(folder / "glove.txt")))


@pytest.fixture(scope="module")
def data(source):
    return read_data(source)


UNITS = st.builds(
    Unit,
    kind=st.sampled_from(["training", "round", "mask"]),
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
        head=st.sampled_from(["linear", "crf"]),
    ),
    previous=st.sampled_from(["", "x"]),
    device=st.sampled_from(["cpu", "cuda"]),
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

    @pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Training)])
    def test_every_setting_of_a_training_counts(self, field):
        value = getattr(HOW, field)
        other = {str: "other", float: 0.7, int: 7, bool: True, tuple: (("pos", 1),)}.get(
            type(value), replace(SMALL, hidden=8)
        )
        changed = replace(HOW, **{field: other})
        assert replace(UNIT, training=changed).name != UNIT.name

    def test_recorded_units_have_the_names_that_they_had(self):
        for folder in sorted((ROOT / "nbs" / "results").glob("*/units")):
            for path in sorted(folder.glob("*/result.json"))[:5]:
                unit = load_json(path)["unit"]
                assert as_unit(unit).name == path.parent.name

    def test_a_new_option_leaves_old_names_alone(self):
        @dataclass(frozen=True)
        class Later(Unit):
            option: str = "as before"

        values = {f.name: getattr(UNIT, f.name) for f in dataclasses.fields(Unit)}
        assert Later(**values).name == UNIT.name != Later(**values, option="new").name

    def test_another_meaning_has_another_name(self, monkeypatch):
        before = UNIT.name
        monkeypatch.setitem(units.VERSIONS, "training", units.VERSIONS["training"] + 1)
        assert replace(UNIT).name != before

    def test_labels_are_for_people(self):
        assert UNIT.label.split() == ["seed", "0", "hard", "pos+ner+chunk", "warmup"]
        subnet = Unit("training", "single", ("ner",), "a", 2, "main", 3, masks=("m",))
        assert subnet.label.split() == ["seed", "3", "subnet", "ner", "main"]
        step = Unit("round", "hard", ("ner",), "a", 2, "round", round=4)
        assert step.label.split()[-2:] == ["round", "4"]

    def test_inputs_are_the_files_that_it_reads(self):
        assert UNIT.inputs == {}
        step = Unit(
            "round", "hard", ("ner",), "a", 2, "round", start="w" * 16, previous="p" * 16, round=1
        )
        assert step.inputs == {
            f"{'w' * 16}/weights.safetensors": "w" * 16,
            f"{'p' * 16}/smaller.safetensors": "p" * 16,
        }
        sparse = replace(UNIT, system="sparse", start="w", masks=("m", "n", "m"))
        assert sparse.inputs == {
            "w/weights.safetensors": "w",
            "m/mask.safetensors": "m",
            "n/mask.safetensors": "n",
        }


def done(folder, unit, source):
    "Do a unit if it is not done, and read what it found."
    if load_result(folder, unit) is None:
        assert perform(unit, folder, source)
    return load_result(folder, unit)


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
        assert perform(unit, folder, source)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    "A copy of it, to be broken."
    return shutil.copytree(finished, tmp_path / "units")


def reseal(path, change):
    "Change a file of JSON, and its checksum with it."
    content = load_json(path)
    change(content)
    save_json(path, content)


class TestResults:
    def test_what_is_not_there_is_not_done(self, tmp_path, plan):
        assert load_result(tmp_path, plan["warmup"]) is None
        (tmp_path / plan["warmup"].name).mkdir()
        assert load_result(tmp_path, plan["warmup"]) is None

    def test_what_is_done_tells_its_settings(self, folder, plan):
        for unit in plan.values():
            result = load_result(folder, unit)
            assert result["unit"] == json.loads(json.dumps(dataclasses.asdict(unit)))
            assert result["label"] == unit.label and result["corpus"] == "conll2003"
            assert not list((folder / unit.name).glob("*checkpoint*"))
            log = lines_of(folder / unit.name)
            assert len(log) == unit.epochs and all(unit.label in line for line in log)

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"null", b"[]", b"3", b'"text"', b"\xff\xfe", b'{"unit": 3}', "half", "edited"],
        ids=str,
    )
    def test_a_damaged_result_is_named(self, folder, plan, content):
        path = folder / plan["main"].name / "result.json"
        text = path.read_bytes()
        broken = {
            "half": text[: len(text) // 2],
            "edited": text.replace(b'"epoch": 2', b'"epoch": 1'),
        }
        path.write_bytes(broken.get(content, content))
        assert path.read_bytes() != text
        with pytest.raises(Damaged, match="is damaged: .*; delete it") as error:
            load_result(folder, plan["main"])
        assert error.value.path == path and str(path) in str(error.value)

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
            pytest.param(lambda u: u["training"].update(head="crf"), id="another head"),
        ],
    )
    def test_a_result_of_other_settings_is_refused(self, folder, plan, change):
        "With a sound checksum: as after an upgrade that changed a default."
        path = folder / plan["main"].name / "result.json"
        reseal(path, lambda result: change(result["unit"]))
        with pytest.raises(ValueError, match="other settings .* delete its folder") as error:
            load_result(folder, plan["main"])
        assert str(path) in str(error.value) and not isinstance(error.value, Damaged)

    def test_a_result_without_settings_is_refused(self, folder, plan):
        path = folder / plan["main"].name / "result.json"
        reseal(path, lambda result: result.pop("unit"))
        with pytest.raises(ValueError, match="delete its folder"):
            load_result(folder, plan["main"])

    def test_a_result_from_before_an_option_was_there_counts(self, folder, plan):
        path, before = folder / plan["main"].name / "result.json", load_result(folder, plan["main"])

        def older(result):
            del result["unit"]["device"], result["unit"]["training"]["sizes"]["window"]

        reseal(path, older)
        assert load_result(folder, plan["main"])["dev"] == before["dev"]

    def test_candidates_of_a_chain(self, folder, plan):
        chain = [plan["first"], plan["second"]]
        both = candidates(chain, folder)
        assert [c.round for c in both] == [0, 1] and both[1].mask <= both[0].mask
        assert both[0].mask.density == 1
        assert both[1].mask.kept == target(both[1].mask.size, 0.3, 1)
        assert [c.dev for c in both] == [load_result(folder, u)["dev"]["chunk"] for u in chain]
        shutil.rmtree(folder / plan["first"].name)
        assert candidates(chain, folder) == []

    def test_candidates_name_a_mask_that_is_damaged_or_gone(self, folder, plan):
        chain = [plan["first"], plan["second"]]
        path = folder / plan["second"].name / MASK
        path.write_bytes(path.read_bytes()[:-1])
        for _ in range(2):
            with pytest.raises(Damaged) as error:
                candidates(chain, folder)
            assert error.value.path == path
            path.unlink(missing_ok=True)

    def test_where_it_came_from(self, finished, plan):
        "Checksums of all that went in and came out, and what did the work."
        warmup, main, first, second = (load_result(finished, u) for u in plan.values())
        assert main["inputs"] == {f"{plan['warmup'].name}/{WEIGHTS}": warmup["files"][WEIGHTS]}
        assert second["inputs"] == {
            f"{plan['warmup'].name}/{WEIGHTS}": warmup["files"][WEIGHTS],
            f"{plan['first'].name}/{SMALLER}": first["files"][SMALLER],
        }
        assert second["files"][MASK] == first["files"][SMALLER] != second["files"][SMALLER]
        assert warmup["inputs"] == {} and list(main["files"]) == [PREDICTIONS]
        for result in (warmup, main, first, second):
            assert result["made_with"] == made_with()
            for name, checksum in result["files"].items():
                unit = next(u for u in plan.values() if u.label == result["label"])
                assert digest(load_file(finished, f"{unit.name}/{name}")) == checksum

    def test_what_made_it(self):
        made = made_with()
        assert (
            made["torch"] == torch.__version__.split("+")[0] or made["torch"] in torch.__version__
        )
        assert made["threads"] == "1" and made["python"] == sys.version.split()[0]
        assert {"numpy", "seqeval", "safetensors", "sparse_sharing", "machine", "commit"} <= set(
            made
        )
        assert not [v for v in made.values() if os.sep in v], "it says what, not where"

    def test_the_commit_says_whether_the_code_was_changed(self, tmp_path, monkeypatch):
        def git(*words):
            options = ["-c", "user.name=a", "-c", "user.email=b", "-C", tmp_path]
            done = subprocess.run(["git", *options, *words], check=True, capture_output=True)
            return done.stdout.decode().strip()

        file = tmp_path / "pkg" / "__init__.py"
        file.parent.mkdir()
        file.write_text("")
        monkeypatch.setattr(machine.sparse_sharing, "__file__", str(file))
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        assert machine.commit_at_hand() == ""
        git("init")
        git("add", ".")
        git("commit", "-m", "first")
        assert machine.commit_at_hand() == git("rev-parse", "HEAD")
        (tmp_path / "notes.txt").write_text("not code")
        assert machine.commit_at_hand() == git("rev-parse", "HEAD")
        index = (tmp_path / ".git" / "index").read_bytes()
        os.utime(file, (1, 1))  # git would note this in its index, and lock it
        assert machine.commit_at_hand() == git("rev-parse", "HEAD")
        assert (tmp_path / ".git" / "index").read_bytes() == index, "a kill would leave a lock"
        file.write_text("changed = True")
        assert machine.commit_at_hand() == git("rev-parse", "HEAD") + " with changes"
        monkeypatch.setenv("PATH", "")
        assert machine.commit_at_hand() == ""


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
            mask, smaller = (Mask.load(home / n) for n in (MASK, SMALLER))
            assert mask.kept == target(mask.size, 0.3, z)
            assert smaller.kept == target(mask.size, 0.3, z + 1) and smaller <= mask
            result = load_result(finished, plan[key])
            assert result["density"] == mask.density and "scores" not in result

    def test_a_line_of_the_log_says_what_matters(self, finished, plan):
        "Who, which epoch, dev scores in the order of the tasks; as data, the density of a mask, too."
        for key, unit in plan.items():
            for i, line in enumerate(lines_of(finished / unit.name), 1):
                assert line.startswith(f"{unit.label}  epoch {i}/2  dev ")
                curve = load_result(finished, unit)["curve"]
                scores = [f"{row['dev']:.1f}" for row in curve if row["epoch"] == i]
                assert line.endswith("  dev " + " ".join(scores)) and len(scores) == len(unit.tasks)
            log = read_log((finished / unit.name / LOG).read_text())
            density = {"first": 1.0, "second": 0.7}.get(key)
            assert all(p.seconds > 0 for p in log)
            for said in log:
                assert said.density == pytest.approx([] if density is None else [density], abs=1e-3)

    @pytest.mark.parametrize("key", ["warmup", "main", "second"])
    def test_again_gives_the_same(self, folder, finished, plan, source, key):
        home = folder / plan[key].name
        shutil.rmtree(home)
        torch.manual_seed(random.randrange(1000))  # what went on before does not matter
        assert perform(plan[key], folder, source)
        check_same_unit(home, finished / plan[key].name)

    def test_what_is_done_is_not_done_again(self, folder, plan, source, monkeypatch):
        monkeypatch.setattr(runner, "read_data", lambda _: pytest.fail("it reads data"))
        before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.*")}
        for unit in plan.values():
            assert perform(unit, folder, source) is True
        assert perform(plan["warmup"], folder, source, [WEIGHTS]) is True
        assert perform(plan["first"], folder, source, [MASK, SMALLER]) is True
        assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.*")} == before

    @pytest.mark.parametrize(
        "key, file", [("warmup", WEIGHTS), ("first", SMALLER), ("second", MASK)]
    )
    def test_a_file_that_is_gone_is_made_again_if_it_is_wanted(
        self, folder, finished, plan, source, key, file
    ):
        unit = plan[key]
        (folder / unit.name / file).unlink()
        assert perform(unit, folder, source) and not (folder / unit.name / file).exists()
        assert perform(unit, folder, source, [file])
        check_same_unit(folder / unit.name, finished / unit.name)
        assert len(lines_of(folder / unit.name)) == 2 * unit.epochs
        assert "other numbers" not in "".join(lines_of(folder / unit.name))

    def test_a_file_that_comes_out_otherwise_is_noted(self, folder, plan, source):
        "As on another machine. What had been made from it still says what it was made from."
        home = folder / plan["warmup"].name
        reseal(home / "result.json", lambda r: r["files"].update({WEIGHTS: "0" * 64}))
        (home / WEIGHTS).unlink()
        perform(plan["warmup"], folder, source, [WEIGHTS])
        assert lines_of(home)[-1].endswith("gives other numbers here than where it was done before")
        assert digest(load_file(folder, f"{home.name}/{WEIGHTS}")) != "0" * 64

    def test_a_file_that_others_were_made_from_has_to_come_out_as_it_was(
        self, folder, plan, source
    ):
        "As on another machine: what hangs on two of them would be trained for nothing."
        home, above = (folder / plan[key].name for key in ("warmup", "main"))
        reseal(home / "result.json", lambda r: r["files"].update({WEIGHTS: "0" * 64}))
        reseal(
            above / "result.json",
            lambda r: r["inputs"].update({f"{home.name}/{WEIGHTS}": "0" * 64}),
        )
        (home / WEIGHTS).unlink()
        kept = (home / "result.json").read_bytes()
        with pytest.raises(ValueError, match="gives another weights.*1 finished units.*delete the"):
            perform(plan["warmup"], folder, source, [WEIGHTS])
        assert (home / "result.json").read_bytes() == kept
        assert not (home / WEIGHTS).exists() and not (home / "checkpoint.safetensors").exists()

    def test_drafts_of_a_killed_process_are_swept_away(self, folder, plan, source):
        home = folder / plan["main"].name
        (home / "result.json").unlink()
        for name in (".result.json.abc.draft", ".weights.safetensors.x.draft"):
            (home / name).write_bytes(b"half")
        perform(plan["main"], folder, source)
        assert sorted(p.name for p in home.iterdir()) == [
            "lock",
            "log.jsonl",
            PREDICTIONS,
            "result.json",
        ]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.parametrize("key", ["warmup", "main", "second"])
    def test_it_may_be_killed_at_any_file(self, finished, plan, source, tmp_path, key):
        "SIGKILL before and after each file that it puts in its place; then the rest of it is done."
        unit = plan[key]
        writes = {"warmup": 4, "main": 4, "second": 5}[key]
        for cut in range(2 * writes + 1):
            folder = tmp_path / str(cut)
            for other in plan.values():
                if other is not unit:
                    shutil.copytree(finished / other.name, folder / other.name)
            died = perform_killed(unit, folder, source, cut)
            assert died == (cut < 2 * writes), f"{writes} files are no longer what it writes"
            assert not is_running(folder, unit), "a lock never stays behind"
            left = check_sound(folder).get(unit.name)
            assert (left is None) == (cut >= 2 * writes - 1)
            rows = min((cut + 1) // 2, unit.epochs) * len(unit.tasks)
            assert left is None or len(left) == rows, "a whole epoch was lost"
            curve = done(folder, unit, source)["curve"]
            assert curve[: len(left or [])] == (left or []), "it repeated an epoch that was there"
            home = folder / unit.name
            (home / "checkpoint.safetensors").unlink(missing_ok=True)
            check_same_unit(home, finished / unit.name)
            assert len(lines_of(home)) <= unit.epochs
            if cut >= 2 * writes - 1:
                assert len(lines_of(home)) == unit.epochs

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_nothing_of_a_killed_process_stays(self, finished, plan, source, tmp_path):
        "A folder has the same files as if nobody had been killed, however often."
        for key, writes in (("warmup", 4), ("second", 5)):
            for cut in range(2 * writes - 1):
                folder = tmp_path / f"{key}{cut}"
                for other in plan.values():
                    if other is not plan[key]:
                        shutil.copytree(finished / other.name, folder / other.name)
                assert perform_killed(plan[key], folder, source, cut)
                perform(plan[key], folder, source)
                names = sorted(p.name for p in (folder / plan[key].name).iterdir())
                reference = sorted(p.name for p in (finished / plan[key].name).iterdir())
                assert names == reference, f"killed at move {cut}"

    def test_hard_sharing_is_sparse_sharing_with_all_ones(self, folder, plan, source):
        "Bit for bit, from the same warmup. The mask of round 0 is all ones."
        hard = replace(plan["main"], keep="last")
        sparse = replace(hard, system="sparse", masks=(plan["first"].name,) * 3)
        results = [without_time(done(folder, u, source)) for u in (hard, sparse)]
        assert results[0]["curve"] == results[1]["curve"]
        assert results[0]["parameters"] == results[1]["parameters"]
        assert results[1]["density"] == dict.fromkeys(TASKS, 1.0)
        ours, theirs = (load_safetensors(folder / u.name / WEIGHTS) for u in (hard, sparse))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(v, theirs[k]) for k, v in ours.items())
        assert any(
            not torch.equal(v, ours[k])
            for k, v in load_safetensors(folder / plan["warmup"].name / WEIGHTS).items()
        )
        best = replace(sparse, keep="best")
        reference = load_result(folder, plan["main"])
        assert done(folder, best, source)["scores"] == reference["scores"]

    def test_the_test_split_is_read_once_after_selection(
        self, plan, source, data, monkeypatch, tmp_path
    ):
        reads = []

        class Watched(Mapping):
            def __init__(self, splits):
                self.splits = splits

            def __getitem__(self, name):
                if name == "test":
                    reads.append(len(steps))
                return self.splits[name]

            def __iter__(self):
                return iter(self.splits)

            def __len__(self):
                return len(self.splits)

        steps, take_step = [], training.train_step
        watched = replace(data, splits={t: Watched(s) for t, s in data.splits.items()})
        monkeypatch.setattr(runner, "read_data", lambda *_: watched)
        monkeypatch.setattr(
            training, "train_step", lambda *a, **k: steps.append(1) or take_step(*a, **k)
        )
        for key, expected in [("warmup", []), ("first", []), ("main", [36] * 6)]:
            reads.clear()
            steps.clear()
            perform(plan[key], tmp_path, source)
            assert reads == expected, key

    def test_no_warmup_means_the_first_weights(self, plan, source, data, tmp_path):
        warmup = replace(plan["warmup"], epochs=0)
        result = done(tmp_path, warmup, source)
        assert result["curve"] == [] and result["epoch"] == 0
        weights = load_safetensors(tmp_path / warmup.name / WEIGHTS)
        first = build("hard", TASKS, data, SMALL, 0).state_dict()
        assert all(torch.equal(v, weights[k]) for k, v in first.items())
        again = done(tmp_path, replace(plan["first"], start=warmup.name), source)
        assert len(again["curve"]) == 2

    def test_a_unit_with_a_crf(self, plan, source, tmp_path):
        how = replace(HOW, head="crf")
        warmup = replace(plan["warmup"], training=how)
        main = replace(warmup, phase="main", start=warmup.name, keep="best")
        done(tmp_path, warmup, source)
        assert set(done(tmp_path, main, source)["scores"]) == set(TASKS)
        assert "heads.ner.transitions" in load_safetensors(tmp_path / warmup.name / WEIGHTS)

    @pytest.mark.parametrize("what", ["weights", "smaller"])
    @pytest.mark.parametrize("how", ["cut", "gone", "another's"])
    def test_a_file_of_another_unit_that_is_not_right_is_named(
        self, folder, plan, source, what, how
    ):
        owner, user = {"weights": ("warmup", "main"), "smaller": ("first", "second")}[what]
        (folder / plan[user].name / "result.json").unlink()
        path = folder / plan[owner].name / f"{what}.safetensors"
        if how == "cut":
            path.write_bytes(path.read_bytes()[:-9])
        elif how == "gone":
            path.unlink()
        elif what == "smaller":  # a sound file, but not the one
            shutil.copy(folder / plan["second"].name / SMALLER, path)
        else:
            weights, about = load_tensors(path)
            save_tensors(path, {k: v + 1 for k, v in weights.items()}, about)
        with pytest.raises(Damaged) as error:
            perform(plan[user], folder, source)
        assert error.value.path == path and load_result(folder, plan[user]) is None

    def test_a_damaged_checkpoint_is_told_and_the_unit_starts_over(
        self, finished, plan, source, tmp_path
    ):
        home = tmp_path / plan["warmup"].name
        home.mkdir()
        (home / "checkpoint.safetensors").write_bytes(b"not at all")
        perform(plan["warmup"], tmp_path, source)
        check_same_unit(home, finished / home.name)
        first, *others = lines_of(home)
        assert first.endswith("starts over: checkpoint.safetensors is damaged") and len(others) == 2

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_checkpoint_of_a_unit_that_started_elsewhere_is_not_trusted(
        self, folder, finished, plan, source
    ):
        "The same tasks, sizes and random streams, but other weights to start from."
        other = replace(plan["warmup"], seed=1)
        done(folder, other, source)
        far = replace(plan["main"], start=other.name)
        assert perform_killed(far, folder, source, 2), "after its first epoch"
        home = folder / plan["main"].name
        (home / "result.json").unlink()
        shutil.copy(folder / far.name / "checkpoint.safetensors", home)
        try:
            perform(plan["main"], folder, source)
        except ValueError as error:
            assert "checkpoint.safetensors" in str(error)
        else:
            check_same_unit(home, finished / home.name)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.parametrize(
        "change", [dict(lr=0.05), dict(momentum=0.5), dict(clip=0.1), dict(decay=1.0)], ids=str
    )
    def test_a_checkpoint_of_a_unit_with_other_steps_is_not_trusted(
        self, folder, finished, plan, source, change
    ):
        other = replace(plan["warmup"], training=replace(HOW, **change))
        assert perform_killed(other, folder, source, 4), "after its last epoch"
        home = folder / plan["warmup"].name
        shutil.rmtree(home)
        home.mkdir()
        shutil.copy(folder / other.name / "checkpoint.safetensors", home)
        try:
            perform(plan["warmup"], folder, source)
        except ValueError as error:
            assert "checkpoint.safetensors" in str(error)
        else:
            check_same_unit(home, finished / home.name)

    def test_data_that_changed_meanwhile_are_refused(self, plan, source, tmp_path):
        unit = replace(plan["warmup"], data="0" * 64)
        with pytest.raises(ValueError, match="are not those it was made for"):
            perform(unit, tmp_path, source)
        assert load_result(tmp_path, unit) is None and not is_running(tmp_path, unit)

    def test_a_training_that_diverges_is_not_done(self, plan, source, tmp_path):
        unit = replace(plan["warmup"], training=replace(HOW, lr=1e30, clip=1e30))
        with pytest.raises(FloatingPointError, match="lower the learning rate"):
            perform(unit, tmp_path, source)
        assert load_result(tmp_path, unit) is None and not is_running(tmp_path, unit)


HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


class TestControls:
    "Units of kind mask, of the second round."

    @pytest.fixture
    def unit(self, plan):
        like = plan["second"].name
        return Unit("mask", "random", ("chunk",), plan["second"].data, 0, "mask", masks=(like,))

    def mask(self, folder, unit):
        return Mask(load_file(folder, f"{unit.name}/{MASK}"))

    @pytest.mark.parametrize("control", ["random", "shuffled", "one_shot"])
    def test_it_leaves_a_mask_and_says_of_what(self, folder, plan, source, unit, control):
        start = plan["warmup"].name if control == "one_shot" else ""
        unit = replace(unit, system=control, start=start)
        result = done(folder, unit, source)
        mask, like = self.mask(folder, unit), self.mask(folder, plan["second"])
        assert mask.kept == like.kept and mask != like and result["density"] == like.density
        assert result["files"] == {MASK: digest(mask)} and result["curve"] == []
        expected = {f"{like_}/{MASK}": digest(like) for like_ in unit.masks}
        weights = f"{start}/{WEIGHTS}"
        assert {k: v for k, v in result["inputs"].items() if k != weights} == expected
        assert (weights in result["inputs"]) == bool(start)
        home = folder / unit.name
        assert sorted(p.suffix for p in home.iterdir() if p.name != "lock") == [
            ".json", ".safetensors",
        ]  # fmt: skip

    def test_random_draws_differ_by_task_and_shuffles_do_not(self, folder, source, unit):
        "Masks that are shuffled alike keep their overlap; random ones must not."
        masks = {}
        for control in ("random", "shuffled"):
            for task in ("chunk", "ner"):
                own = replace(unit, system=control, tasks=(task,))
                done(folder, own, source)
                masks[control, task] = self.mask(folder, own)
        assert masks["random", "chunk"] != masks["random", "ner"]
        assert masks["shuffled", "chunk"] == masks["shuffled", "ner"]

    def test_its_draw_follows_from_seed_phase_and_for_random_ones_task(
        self, folder, plan, source, unit
    ):
        like = self.mask(folder, plan["second"])
        expected = {
            "random": random_like(like, derive_seed(0, "mask", "chunk")),
            "shuffled": shuffled(like, derive_seed(0, "mask")),
        }
        for control, mask in expected.items():
            done(folder, replace(unit, system=control), source)
            assert self.mask(folder, replace(unit, system=control)) == mask

    @pytest.mark.parametrize("control", ["random", "shuffled"])
    def test_another_seed_is_another_mask(self, folder, source, unit, control):
        found = []
        for seed in (0, 1):
            own = replace(unit, system=control, seed=seed)
            done(folder, own, source)
            found.append(self.mask(folder, own))
        assert found[0] != found[1]

    def test_one_shot_keeps_the_largest_weights_of_its_start(self, folder, plan, source, unit):
        unit = replace(unit, system="one_shot", start=plan["warmup"].name)
        done(folder, unit, source)
        mask = self.mask(folder, unit)
        weights = load_safetensors(folder / plan["warmup"].name / WEIGHTS)
        sizes = {n: weights[f"encoder.{n}"].abs() for n in mask}
        kept = torch.cat([sizes[n][t] for n, t in mask.items()])
        gone = torch.cat([sizes[n][~t] for n, t in mask.items()])
        assert kept.min() >= gone.max() and len(kept) == mask.kept

    def test_it_is_done_again_if_its_file_is_gone(self, folder, source, unit):
        done(folder, unit, source)
        home = folder / unit.name
        before = (home / MASK).read_bytes(), (home / "result.json").read_bytes()
        (home / MASK).unlink()
        with pytest.raises(Damaged):
            self.mask(folder, unit)
        perform(unit, folder, source, [MASK])
        assert ((home / MASK).read_bytes(), (home / "result.json").read_bytes()) == before

    @pytest.mark.parametrize("how", ["cut", "gone", "another's"])
    def test_what_it_imitates_is_checked(self, folder, plan, source, unit, how):
        path = folder / plan["second"].name / MASK
        if how == "cut":
            path.write_bytes(path.read_bytes()[:-3])
        elif how == "gone":
            path.unlink()
        else:
            shutil.copy(folder / plan["first"].name / MASK, path)
        with pytest.raises(Damaged) as error:
            perform(unit, folder, source)
        assert error.value.path == path and load_result(folder, unit) is None

    def test_a_control_that_there_is_not_is_refused(self, folder, source, unit):
        with pytest.raises(
            ValueError, match="no control 'magic': take random, shuffled, one_shot or"
        ):
            perform(replace(unit, system="magic"), folder, source)
        assert load_result(folder, replace(unit, system="magic")) is None


class TestLocks:
    def test_a_unit_of_another_process_is_left_to_it(self, plan, source, tmp_path):
        home = tmp_path / plan["warmup"].name
        home.mkdir()
        command = [sys.executable, "-c", HOLD, str(home / "lock")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            assert other.stdout.readline() == b"held\n"
            assert is_running(tmp_path, plan["warmup"])
            assert perform(plan["warmup"], tmp_path, source) is False
            assert not lines_of(home) and load_result(tmp_path, plan["warmup"]) is None
            other.kill()
            other.wait()
        assert not is_running(tmp_path, plan["warmup"]), "the system took the lock away"
        assert perform(plan["warmup"], tmp_path, source) is True

    def test_it_is_running_while_it_runs_and_not_before_or_after(
        self, plan, source, tmp_path, monkeypatch
    ):
        unit, seen, read = plan["warmup"], [], runner.read_data
        monkeypatch.setattr(
            runner, "read_data", lambda *a: (seen.append(is_running(tmp_path, unit)), read(*a))[1]
        )
        assert not is_running(tmp_path, unit) and not list(tmp_path.iterdir())
        perform(unit, tmp_path, source)
        assert seen == [True] and not is_running(tmp_path, unit)

    def test_of_several_threads_one_does_it(self, plan, source, tmp_path):
        "As with two workers of one Dask process."
        unit = plan["warmup"]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: perform(unit, tmp_path, source), range(4)))
        assert True in found and len(lines_of(tmp_path / unit.name)) == unit.epochs

    def test_units_of_several_threads_take_turns(self, finished, plan, source, tmp_path):
        "Random streams belong to the process: at once, they would mix."
        others = [replace(plan["warmup"], seed=s) for s in (1, 2)]
        with ThreadPoolExecutor(3) as pool:
            work = [plan["warmup"], *others]
            assert all(pool.map(lambda u: perform(u, tmp_path, source), work))
        check_same_unit(tmp_path / plan["warmup"].name, finished / plan["warmup"].name)

    def test_a_broken_lock_file_is_a_lock_file(self, folder, plan, source):
        lock = folder / plan["main"].name / "lock"
        (folder / plan["main"].name / "result.json").unlink()
        lock.write_bytes(b"rubbish")
        assert not is_running(folder, plan["main"])
        with FileLock(lock):
            assert is_running(folder, plan["main"])
        assert perform(plan["main"], folder, source)


class TestTime:
    def test_seconds_are_those_of_the_epochs(self):
        "The tasks of an epoch have its time each, and it counts once."
        curve = [dict(epoch=e, task=t, seconds=10.0 * e) for e in (1, 2) for t in TASKS]
        assert seconds(dict(curve=curve)) == 30 and seconds(dict(curve=[])) == 0

    def test_processor_time_is_known_only_if_it_is_of_all_epochs(self):
        old = [dict(epoch=1, task=t, seconds=1.0) for t in TASKS]
        new = [dict(epoch=2, task=t, seconds=1.0, processor_seconds=0.5) for t in TASKS]
        assert processor_seconds(dict(curve=new)) == 0.5
        assert math.isnan(processor_seconds(dict(curve=[*old, *new])))
        assert processor_seconds(dict(curve=[])) == 0, "what trains nothing"

    @pytest.mark.parametrize(
        "time, text",
        [
            (0, "0 s"),
            (0.4, "0 s"),
            (119.4, "119 s"),
            (120, "2 min"),
            (3600, "60 min"),
            (7199, "120 min"),
            (7200, "2.0 h"),
            (100_000, "27.8 h"),
        ],
    )
    def test_durations_for_people(self, time, text):
        assert duration(time) == text


def test_the_generated_corpus_can_be_learnt(tmp_path):
    "One pass over it: chunks are found that a tagger without any training would miss."
    data = read_data(Source())
    how = Training(sizes=Sizes(word=20, hidden=20))
    unit = Unit("training", "single", ("chunk",), data.checksum, 1, "main", training=how)
    perform(unit, tmp_path, Source())
    scores = {r["metric"]: r for r in load_result(tmp_path, unit)["scores"]["chunk"]}
    assert 50 < scores["f1"]["test"] < 100 and 50 < scores["f1"]["dev"] < 100
