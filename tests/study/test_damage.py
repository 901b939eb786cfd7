"""Every kind of file of a results folder, damaged in every way.

The study is one that was broken off: a unit with a checkpoint, a round that is still to come, and weights that both
need. It either ends with the tables of an unbroken one, having named the file, or refuses and names it.
"""

import os
import random
import shutil
from dataclasses import replace

import pytest
from studies import SMALL, check_same_study, epochs_in, in_threads, perform_killed
from tiny import write_corpus

from sparse_sharing.files import digest, load_about, load_json, load_tensors, save_tensors
from sparse_sharing.masks import Mask
from sparse_sharing.study import run
from sparse_sharing.study.config import Experiment
from sparse_sharing.study.data import TASKS, read_data
from sparse_sharing.study.plan import plan
from sparse_sharing.study.schema import Key
from sparse_sharing.study.units import MASK, SMALLER, WEIGHTS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:.*not in training"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

CHECKPOINT, RESULT = "checkpoint.safetensors", "result.json"
KINDS = (RESULT, MASK, SMALLER, WEIGHTS, CHECKPOINT, "run.json", "log.jsonl", "lock")
HARMLESS = ("run.json", "log.jsonl", "lock")  # nothing is read from them to go on


@pytest.fixture(scope="module", autouse=True)
def in_process():
    with in_threads():
        yield


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    corpus = write_corpus(tmp_path_factory.mktemp("tiny") / "corpus")
    results = tmp_path_factory.mktemp("unbroken")
    return Experiment("exp1", data_dir=str(corpus), **SMALL, results_dir=str(results))


@pytest.fixture(scope="module")
def unbroken(experiment):
    return run(experiment, lambda line: None)


@pytest.fixture(scope="module")
def planned(experiment, unbroken):
    return plan(experiment, read_data(experiment.source).checksum, unbroken / "units")


@pytest.fixture(scope="module")
def broken_off(experiment, unbroken, planned, tmp_path_factory):
    "Hard sharing after the first of two epochs, and the last round of chunking still to come."
    home = shutil.copytree(unbroken, tmp_path_factory.mktemp("broken") / "results")
    main, last = planned[Key("hard", TASKS, seed=3)][1], planned[Key("imp", ("chunk",), seed=3)][-1]
    for unit in (main, last):
        shutil.rmtree(home / "units" / unit.name)
    assert perform_killed(main, home / "units", experiment.source, 2)
    assert len(load_about(home / "units" / main.name / CHECKPOINT)["fit"]["curve"]) == len(TASKS)
    for table in home.glob("*.csv"):
        table.unlink()
    return home


@pytest.fixture
def home(broken_off, tmp_path):
    return shutil.copytree(broken_off, tmp_path / "results")


def place(kind, home, planned):
    "A file of this kind that going on depends on, and one of the same kind that is not the same."
    units = home / "units"
    rounds = {t: [u.name for u in planned[Key("imp", (t,), seed=3)]] for t in TASKS}
    hard = [u.name for u in planned[Key("hard", TASKS, seed=3)]]
    soft = [u.name for u in planned[Key("soft", TASKS, seed=3)]]
    names = {
        RESULT: (rounds["pos"][1], rounds["ner"][1]),
        MASK: (rounds["pos"][1], rounds["ner"][1]),
        SMALLER: (rounds["chunk"][1], rounds["pos"][1]),
        "log.jsonl": (hard[1], soft[1]),
        "lock": (hard[1], soft[1]),
    }
    if kind in names:
        mine, other = names[kind]
        return units / mine / kind, units / other / kind
    return {
        WEIGHTS: (units / hard[0] / WEIGHTS, None),
        CHECKPOINT: (units / hard[1] / CHECKPOINT, None),
        "run.json": (home / "run.json", None),
    }[kind]


def content(path):
    "What a file says; None if it cannot be read."
    try:
        if path.name in (MASK, SMALLER):
            return digest(Mask.load(path))
        if path.suffix == ".safetensors":
            tensors, about = load_tensors(path)
            return digest(tensors), about
        if path.suffix == ".json":
            return load_json(path)
        return path.read_bytes()
    except (ValueError, FileNotFoundError):
        return None


def check(experiment, home, unbroken, path, before):
    "Go on, and see what comes of it."
    lines = []
    changed = content(path) != before
    named = not changed or not path.exists() or path.name in HARMLESS
    try:
        run(replace(experiment, results_dir=str(home)), lines.append)
    except ValueError as error:
        assert changed and str(path) in str(error), "it refuses, and does not say what"
        return
    place = path.relative_to(home / "units") if path.is_relative_to(home / "units") else path
    told = [
        ln for ln in lines if "damaged" in ln and (str(place) in ln or f" {path.name} is" in ln)
    ]
    assert named or told, "another file was there, and nobody was told"
    check_same_study(home, unbroken)


def test_broken_off_and_not_damaged(experiment, home, unbroken, planned):
    "What the damage is compared with: it goes on, and nothing but the rest is done."
    lines, before = [], epochs_in(home)
    run(replace(experiment, results_dir=str(home)), lines.append)
    check_same_study(home, unbroken)
    assert epochs_in(home) - before == 2
    assert not [line for line in lines if "damaged" in line]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", ["to nothing", "to half", "by one"])
def test_a_file_that_is_cut(experiment, home, unbroken, planned, kind, cut):
    path, _ = place(kind, home, planned)
    whole, before = path.read_bytes(), content(path)
    path.write_bytes({"to nothing": b"", "to half": whole[: len(whole) // 2]}.get(cut, whole[:-1]))
    check(experiment, home, unbroken, path, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", [0.0, 0.02, 0.3, 0.9])
def test_a_file_with_a_flipped_bit(experiment, home, unbroken, planned, kind, where):
    path, _ = place(kind, home, planned)
    whole, before = bytearray(path.read_bytes() or b"lock"), content(path)
    rng = random.Random(f"{kind} {where}")
    at = min(int(where * len(whole)) + rng.randrange(9), len(whole) - 1)
    whole[at] ^= 1 << rng.randrange(8)
    path.write_bytes(whole)
    check(experiment, home, unbroken, path, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_gone(experiment, home, unbroken, planned, kind):
    path, _ = place(kind, home, planned)
    before = content(path)
    path.unlink()
    check(experiment, home, unbroken, path, before)


@pytest.mark.parametrize("kind", (RESULT, MASK, SMALLER, "log.jsonl", "lock"))
def test_a_file_of_another_unit(experiment, home, unbroken, planned, kind):
    path, other = place(kind, home, planned)
    before = content(path)
    shutil.copy(other, path)
    assert kind == "lock" or content(path) not in (None, before), "it is sound, and not the one"
    check(experiment, home, unbroken, path, before)


@pytest.mark.parametrize("kind", (WEIGHTS, CHECKPOINT, "run.json"))
def test_a_file_of_another_study(experiment, home, unbroken, planned, tmp_path, kind):
    "With another seed: the same names within, and the same sizes."
    path, _ = place(kind, home, planned)
    before = content(path)
    other = replace(experiment, seed=4, results_dir=str(tmp_path / "other"))
    folder = tmp_path / "other" / "units"
    warmup, main = plan(other, read_data(other.source).checksum, folder)[Key("hard", TASKS, seed=4)]
    assert perform_killed(warmup, folder, other.source, 99) is False
    assert perform_killed(main, folder, other.source, 2)
    if kind == "run.json":
        run(replace(other, warmup=0, epochs=1, min_density=0.9), lambda line: None)
    found = {
        WEIGHTS: folder / warmup.name / WEIGHTS,
        CHECKPOINT: folder / main.name / CHECKPOINT,
        "run.json": folder.parent / "run.json",
    }[kind]
    shutil.copy(found, path)
    assert content(path) not in (None, before)
    check(experiment, home, unbroken, path, before)


@pytest.mark.parametrize(
    "edit", [('"dev": ', '"dev": 9'), ('"mean": ', '"mean": 9'), ('"density": ', '"density": 0.')]
)
def test_an_edited_result(experiment, home, unbroken, planned, edit):
    path, _ = place(RESULT, home, planned)
    before = content(path)
    text = path.read_text()
    assert edit[0] in text
    path.write_text(text.replace(*edit, 1))
    check(experiment, home, unbroken, path, before)


def test_an_edited_setting_of_run_json(experiment, home, unbroken, planned):
    path, _ = place("run.json", home, planned)
    before = content(path)
    path.write_text(path.read_text().replace('"alpha": 0.35', '"alpha": 0.1'))
    check(experiment, home, unbroken, path, before)


@pytest.mark.parametrize("kind", (MASK, SMALLER, WEIGHTS))
def test_an_edited_file_with_a_checksum_of_its_own(experiment, home, unbroken, planned, kind):
    "The result beside it knows better."
    path, _ = place(kind, home, planned)
    before = content(path)
    if kind == WEIGHTS:
        tensors, about = load_tensors(path)
        name = next(iter(tensors))
        save_tensors(path, tensors | {name: tensors[name] * 1.01}, about)
    else:
        tensors = dict(Mask.load(path))
        name = next(iter(tensors))
        flat = tensors[name].flatten()
        flat[0] = ~flat[0]
        Mask(tensors | {name: flat.reshape(tensors[name].shape)}).save(path)
    assert content(path) not in (None, before)
    check(experiment, home, unbroken, path, before)
