"""Results folders that come from elsewhere: links that lead out, things that are no files, files that say odd things.

Nothing outside is touched, nothing hangs, what is wrong is named, and one bad file costs one row.
"""

import os
import random
import shutil
import signal
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from studies import check_same_study, epochs_in, in_threads
from tiny import write_corpus

from sparse_sharing.files import Damaged, digest, load_json, save_json, save_tensors
from sparse_sharing.study import rebuild, run, status
from sparse_sharing.study.config import Experiment
from sparse_sharing.study.data import Source, read_data
from sparse_sharing.study.plan import plan, units_of
from sparse_sharing.study.rerun import rerun
from sparse_sharing.study.runner import perform
from sparse_sharing.study.units import MASK, WEIGHTS, load_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*not in training"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here"),
]

TINY = dict(preset="quick", alpha=0.3, min_density=0.9, warmup=1, epochs=1, workers=1)
NOBODY = 65534
RESULT, CHECKPOINT, LOG = "result.json", "checkpoint.safetensors", "log.jsonl"


@pytest.fixture(autouse=True)
def in_process():
    "A test that waits for a pipe is stopped."
    signal.alarm(240)
    with in_threads():
        yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    corpus = write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", n_train=20)
    home = tmp_path_factory.mktemp("finished")
    return Experiment(
        "exp1", data_dir=str(corpus), systems="hard sparse", **TINY, results_dir=str(home)
    )


@pytest.fixture(scope="module")
def finished(experiment):
    with in_threads():
        return run(experiment, lambda line: None)


@pytest.fixture(scope="module")
def units(experiment, finished):
    "The units of the study by what they are: warmup, main, and two rounds."
    data = read_data(experiment.source).checksum
    found = units_of(plan(experiment, data, finished / "units")).values()
    named = {u.phase: u for u in found if u.system == "hard" and u.kind == "training"}
    rounds = [u for u in found if u.kind == "round" and u.tasks == ("pos",)]
    return dict(warmup=named["warmup"], main=named["main"], first=rounds[0], last=rounds[-1])


@pytest.fixture
def home(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "results")


@pytest.fixture
def victim(tmp_path):
    "A folder that has nothing to do with it."
    folder = tmp_path / "victim"
    folder.mkdir()
    for name in ("precious.safetensors", RESULT, "lock", LOG, CHECKPOINT, ".x.draft", MASK):
        (folder / name).write_text("precious")
    return folder


def untouched(victim):
    names = ("precious.safetensors", RESULT, "lock", LOG, CHECKPOINT, ".x.draft", MASK)
    assert sorted(p.name for p in victim.iterdir()) == sorted(names)
    assert {p.read_text() for p in victim.iterdir()} == {"precious"}


def again(experiment, home):
    "Run the study in another folder, and give what it said."
    lines = []
    run(replace(experiment, results_dir=str(home)), lines.append)
    return lines


class TestLinks:
    def test_units_elsewhere(self, experiment, home, victim):
        shutil.rmtree(home / "units")
        (home / "units").symlink_to(victim)
        with pytest.raises(ValueError, match="units is a link, .* nothing is written there"):
            again(experiment, home)
        untouched(victim)

    def test_a_unit_elsewhere(self, experiment, home, victim, units):
        place = home / "units" / units["main"].name
        shutil.rmtree(place)
        place.symlink_to(victim)
        (victim / RESULT).unlink()
        with pytest.raises(ValueError, match="leads elsewhere, and nothing is written there"):
            again(experiment, home)
        (victim / RESULT).write_text("precious")
        untouched(victim)

    def test_a_damaged_unit_elsewhere_is_not_mended(self, experiment, home, victim, units):
        place = home / "units" / units["main"].name
        shutil.rmtree(place)
        place.symlink_to(victim)
        with pytest.raises(ValueError, match=f"{RESULT} is damaged"):
            again(experiment, home)
        untouched(victim)

    @pytest.mark.parametrize("name", ["lock", LOG, CHECKPOINT, RESULT, ".x.draft"])
    def test_a_file_of_a_unit_elsewhere(self, experiment, finished, home, victim, units, name):
        "The link goes, and what it led to stays."
        place = home / "units" / units["main"].name
        (place / RESULT).unlink()
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(victim / name)
        again(experiment, home)
        untouched(victim)
        assert not (place / name).is_symlink()
        check_same_study(home, finished)

    def test_a_table_elsewhere(self, experiment, finished, home, victim):
        (home / "results.csv").unlink()
        (home / "results.csv").symlink_to(victim / "precious.safetensors")
        again(experiment, home)
        untouched(victim)
        check_same_study(home, finished)

    def test_the_way_to_a_folder_is_followed_once(self, experiment, finished, tmp_path):
        "`link/../x` is beside what the link leads to, for every file alike."
        (tmp_path / "far" / "away").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
        place = f"{tmp_path}/link/../x"
        shutil.copytree(finished, tmp_path / "far" / "x")
        (tmp_path / "far" / "x" / "results.csv").unlink()
        again(experiment, place)
        assert not (tmp_path / "x").exists()
        check_same_study(tmp_path / "far" / "x", finished)
        assert rebuild(place) == tmp_path / "far" / "x"
        assert set(status(place).state) == {"done"}

    def test_data_behind_such_a_way(self, experiment, tmp_path, monkeypatch):
        (tmp_path / "far" / "away").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
        shutil.copytree(experiment.data_dir, tmp_path / "far" / "corpus")
        monkeypatch.chdir(tmp_path)
        source = Source("link/../corpus")
        assert Path(source.absolute.data_dir).is_dir()
        assert read_data(source.absolute).checksum == read_data(experiment.source).checksum


def put(path, what):
    "Something in the place of a file."
    path.unlink(missing_ok=True)
    if what == "folder":
        path.mkdir()
        (path / "precious").write_text("precious")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "nested":
        path.write_text("[" * 200_000)
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(2**33)
    else:
        path.symlink_to(path.parent / "nowhere")


class TestNoFiles:
    @pytest.mark.parametrize("what", ["folder", "pipe", "nested", "huge", "link"])
    @pytest.mark.parametrize("name", [RESULT, MASK, WEIGHTS, LOG, "lock"])
    def test_in_the_place_of_a_unit(self, experiment, finished, home, units, name, what):
        "It goes on with the same numbers, or it stops and names the place. `status` has a row for it."
        unit = units["last" if name == MASK else "warmup" if name == WEIGHTS else "main"]
        place = home / "units" / unit.name / name
        if name in (LOG, "lock"):
            (place.parent / RESULT).unlink()
        if name == WEIGHTS:
            (home / "units" / units["main"].name / RESULT).unlink()
        put(place, what)
        table = status(home, names=True)
        assert len(table) == len(status(finished))
        others = set(table[~table.name.isin([unit.name, units["main"].name])].state)
        waits = {"other"} if name == MASK else set()  # what hangs on the choice of masks
        assert others == {"done"} | waits
        try:
            again(experiment, home)
        except (ValueError, OSError) as error:
            assert str(place) in str(error)
            if what == "folder":
                assert (place / "precious").read_text() == "precious"
            return
        check_same_study(home, finished)

    @pytest.mark.parametrize("what", ["folder", "pipe", "nested", "huge"])
    def test_in_the_place_of_run_json(self, home, what):
        put(home / "run.json", what)
        for ask in (status, rebuild):
            with pytest.raises(ValueError, match="run.json is damaged"):
                ask(home)


class TestSealed:
    "Files with a checksum that fits, written by somebody else."

    @pytest.mark.parametrize(
        "change, said",
        [
            (dict(n_seeds=10**7), "n_seeds is 10000000: give"),
            (dict(name="exp9"), "take one of .* upgrade"),
            (dict(colour="blue"), "speaks of colour, .* a newer version wrote it, so upgrade"),
            (dict(alpha="much"), "alpha is 'much'"),
            (dict(results_dir=["x"], device=None), "device is None"),
            (dict(tasks="../../x y"), "cannot be what|has no|is damaged"),
        ],
    )
    def test_run_json_that_asks_for_what_cannot_be(self, home, change, said):
        about = load_json(home / "run.json")
        about["experiment"] |= change
        save_json(home / "run.json", about)
        before = {p: p.read_bytes() for p in home.glob("*.csv")}
        if "tasks" in change:  # units that are not there: nothing is found, and nothing is lost
            assert set(status(home).state) <= {"missing", "other"}
            with pytest.raises(FileNotFoundError, match="left as they are"):
                rebuild(home)
        else:
            for ask in (status, rebuild):
                with pytest.raises(ValueError, match=said):
                    ask(home)
        assert {p: p.read_bytes() for p in home.glob("*.csv")} == before

    @pytest.mark.parametrize("lacks", ["experiment", "data", "identity", "name of the experiment"])
    def test_run_json_that_lacks_something(self, home, lacks):
        about = load_json(home / "run.json")
        where = {"identity": about["data"], "name of the experiment": about["experiment"]}
        where.get(lacks, about).pop("name" if " " in lacks else lacks)
        save_json(home / "run.json", about)
        for ask in (status, rebuild):
            with pytest.raises(ValueError, match="run.json"):
                ask(home)

    @pytest.mark.parametrize(
        "key", ["unit", "label", "curve", "dev", "mean", "density", "files", "inputs", "made_with"]
    )
    @pytest.mark.parametrize("how", ["gone", "another kind"])
    def test_a_result_that_lacks_something_costs_a_row(
        self, experiment, finished, home, units, key, how
    ):
        path = home / "units" / units["main"].name / RESULT
        result = load_json(path)
        if how == "gone":
            result.pop(key)
        else:
            result[key] = "text" if key != "label" else 5
        save_json(path, result)
        table = status(home, names=True)
        assert table[table.state != "done"].name.tolist() == [units["main"].name]
        with pytest.raises(ValueError, match=str(path)):
            rebuild(home)
        if key != "unit":  # which says that a default has changed
            again(experiment, home)
            check_same_study(home, finished)

    def test_a_checkpoint_that_lacks_something(self, experiment, finished, home, units):
        place = home / "units" / units["main"].name
        (place / RESULT).unlink()
        save_tensors(place / CHECKPOINT, {}, {"fit": {"curve": 3}})
        table = status(home, names=True).set_index("name")
        assert table.state[units["main"].name] == "damaged"
        again(experiment, home)
        check_same_study(home, finished)

    @pytest.mark.parametrize("name", ["../x", "/etc", "../../victim", "x" * 16])
    def test_a_unit_that_names_files_elsewhere(self, home, units, victim, experiment, name):
        path = home / "units" / units["main"].name / RESULT
        result = load_json(path)
        result["unit"]["start"] = name
        save_json(path, result)
        with pytest.raises(ValueError, match="is not the name of a unit"):
            rerun(home, units["main"].name, experiment.source, lambda line: None)
        untouched(victim)


class TestUsers:
    def as_nobody(self, act):
        "What comes of it for an ordinary user, in a process of its own."
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                said = act()
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(write, str(said).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return said

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
    def test_a_folder_that_may_only_be_read(self, experiment, finished, units):
        "It can be looked at, and a run says that it cannot be written to."
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            home = shutil.copytree(finished, Path(place) / "results")
            corpus = shutil.copytree(experiment.data_dir, Path(place) / "corpus")
            for path in (home, *home.rglob("*"), corpus, *corpus.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            here = replace(experiment, results_dir=str(home), data_dir=str(corpus))
            before = {p: p.stat().st_mtime_ns for p in home.rglob("*")}
            assert self.as_nobody(lambda: set(status(home).state)) == "{'done'}"
            given = {k: v for k, v in asdict(here).items() if k != "name"}
            for act in (lambda: run(here, print), lambda: Experiment.from_notebook("exp1", given)):
                said = self.as_nobody(act)
                assert said.startswith("ValueError: results_dir is"), said
                assert "this user may not write to" in said
            (home / "units" / units["main"].name / RESULT).unlink()
            said = self.as_nobody(lambda: status(home).state.value_counts().to_dict())
            assert "missing" in said and "Error" not in said
            before.pop(home / "units" / units["main"].name / RESULT)
            folder = home / "units" / units["main"].name
            left = {p: p.stat().st_mtime_ns for p in home.rglob("*") if p != folder}
            before.pop(folder)
            assert left == before


def test_a_folder_that_came_without_weights(experiment, finished, home):
    "As from a repository that keeps no large files: what is done stays, and a longer study makes them again."
    for name in (WEIGHTS, CHECKPOINT, "lock", LOG):
        for path in home.glob(f"units/*/{name}"):
            path.unlink()
    assert not again(experiment, home)
    check_same_study(home, finished)
    longer = replace(experiment, epochs=2, systems="hard", results_dir=str(home))
    lines = []
    run(longer, lines.append)
    assert epochs_in(home) == 3, "the warmup again, and two epochs"
    assert not [line for line in lines if "other numbers" in line]


def test_two_hundred_flips_are_found(home, units, record_property):
    "In weights and masks: a flip is refused by name, or changes nothing that is read."
    rng, found = random.Random(1), 0
    for path in (
        home / "units" / units["warmup"].name / WEIGHTS,
        home / "units" / units["last"].name / MASK,
    ):
        whole, name = path.read_bytes(), f"{path.parent.name}/{path.name}"
        sound = digest(load_file(home / "units", name))
        for _ in range(100):
            flipped = bytearray(whole)
            flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            path.write_bytes(flipped)
            try:
                assert digest(load_file(home / "units", name)) == sound
            except Damaged as error:
                assert error.path == path
                found += 1
        path.write_bytes(whole)
    assert found > 150
    record_property("tries", 200)


def test_a_unit_of_other_data_is_refused_before_it_trains(experiment, units, tmp_path):
    unit = replace(units["warmup"], data="0" * 64)
    (tmp_path / "units").mkdir()
    with pytest.raises(ValueError, match="are not those it was made for; give it the same files"):
        perform(unit, tmp_path / "units", experiment.source)
    files = {p.name for p in (tmp_path / "units" / unit.name).iterdir()}
    assert files <= {"lock"}, "nothing was trained"
