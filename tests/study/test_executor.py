"What is done first, what is missing, who does it, what is tidied away, and what stops a run."

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import check_same_unit, in_threads, lines_of
from tiny import WIDTH, write_corpus

from sparse_sharing.files import Damaged, load_json, load_tensors, save_json, save_tensors
from sparse_sharing.study import data as data_module
from sparse_sharing.study import executor, progress
from sparse_sharing.study.data import TASKS, Source, read_data
from sparse_sharing.study.executor import Agenda, Workers, to_do, work, work_behind
from sparse_sharing.study.units import MASK, SMALLER, WEIGHTS, Training, Unit, called, load_result
from sparse_sharing.tagging.encoder import Sizes

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

WIDEST = 100  # columns
HOW = Training(sizes=Sizes(word=WIDTH, char=4, filters=5, hidden=6))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return Source(str(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus")))


@pytest.fixture(scope="module")
def plan(source):
    "What two kinds of chains look like: warmups and what follows, rounds and what takes their mask."
    data = read_data(source).checksum
    hard = Unit("training", "hard", TASKS, data, 2, "warmup", keep="last", training=HOW)
    first = Unit(
        "round", "hard", ("chunk",), data, 1, "round", start=hard.name, alpha=0.3, training=HOW
    )
    second = replace(first, previous=first.name, round=1)
    single = replace(hard, system="single", tasks=("chunk",))
    return dict(
        hard=hard,
        main=replace(hard, phase="main", start=hard.name, keep="best"),
        first=first,
        second=second,
        single=single,
        single_main=replace(single, phase="main", start=single.name, keep="best", epochs=1),
        subnet=replace(single, masks=(second.name,), keep="best", epochs=1),
    )


def agenda_of(*units, later=()):
    return Agenda(list(units), {u.name: float(u.epochs) for u in units}, dict(later))


@pytest.fixture
def in_process():
    with in_threads():
        yield


@pytest.fixture(scope="module")
def finished(plan, source, tmp_path_factory):
    "A folder in which all of them are done, and what was said meanwhile."
    folder, lines = tmp_path_factory.mktemp("units"), []
    with in_threads():
        work(lambda: agenda_of(*plan.values()), folder, source, log=lines.append)
    return folder, lines


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "units")


def results_of(plan, folder):
    return {u.name: r for u in plan.values() if (r := load_result(folder, u))}


class TestOrder:
    def test_a_chain_counts_from_its_end(self, plan):
        behind = work_behind(agenda_of(*plan.values()))
        by_key = {k: behind[u.name] for k, u in plan.items()}
        assert by_key == {
            "main": 2,
            "subnet": 1,
            "second": 1 + 1,
            "first": 1 + 1 + 1,
            "hard": 2 + 3,  # the rounds are longer than `main`
            "single_main": 1,
            "single": 2 + 1,
        }

    def test_what_has_no_name_yet_counts_where_it_is_longer(self, plan):
        units = [plan[k] for k in ("hard", "main", "first", "second")]
        behind = work_behind(agenda_of(*units, later={plan["second"].name: 8.0}))
        assert behind[plan["second"].name] == 9 and behind[plan["first"].name] == 10
        assert behind[plan["hard"].name] == 12
        behind = work_behind(agenda_of(*plan.values(), later={plan["second"].name: 0.5}))
        assert behind[plan["second"].name] == 2, "the subnet takes longer, and they go side by side"

    def test_a_unit_that_takes_two_files_of_another_counts_once(self, plan):
        twice = replace(plan["subnet"], tasks=("pos", "chunk"), masks=(plan["second"].name,) * 2)
        behind = work_behind(agenda_of(plan["hard"], plan["first"], plan["second"], twice))
        assert behind[plan["second"].name] == 2

    def test_the_order_of_the_agenda_does_not_count(self, plan):
        units = list(plan.values())
        assert work_behind(agenda_of(*units)) == work_behind(agenda_of(*reversed(units)))

    def test_the_longest_chain_is_done_first(self, plan, finished):
        assert len(finished[1]) == len(plan)
        order = [next(k for k, u in plan.items() if ln.startswith(u.label)) for ln in finished[1]]
        assert order[:3] == ["single", "single_main", "hard"], (
            "what all is compared with, before that"
        )
        assert order.index("first") < order.index("main")

    def test_whole_networks_for_one_task_come_first(self, plan, source, tmp_path):
        "Of each seed, and a seed before the next."
        units = [plan[k] for k in ("hard", "first", "second", "single", "subnet")]
        later = [replace(plan["single"], seed=1), replace(plan["hard"], seed=1)]
        state = executor._State(lambda: agenda_of(*later, *units), tmp_path, lambda line: None)
        assert state.ready() == [plan["single"], plan["hard"], *later]

    def test_while_all_workers_are_busy_nothing_is_put_in_order(self, plan, tmp_path, monkeypatch):
        "Twice a second, for hundreds of units: that took a tenth of a small machine."
        state = executor._State(lambda: agenda_of(*plan.values()), tmp_path, lambda line: None)
        state.running = {Future(): plan["single"]}
        asked = []
        monkeypatch.setattr(state, "ready", lambda: asked.append("order") or [])
        source, logs = Source("corpus"), progress.Logs(tmp_path)
        executor._start(state, SimpleNamespace(count=1), logs, source)
        assert asked == []
        executor._start(state, SimpleNamespace(count=2), logs, source)
        assert asked == ["order"]


class TestToDo:
    def test_at_first_everything(self, plan, tmp_path):
        assert to_do(list(plan.values()), {}, tmp_path) == {u.name: [] for u in plan.values()}

    def test_at_the_end_nothing(self, plan, folder):
        "Although weights that nobody needs any more are gone."
        assert not (folder / plan["single"].name / WEIGHTS).exists()
        assert to_do(list(plan.values()), results_of(plan, folder), folder) == {}

    def test_a_mask_that_is_gone_is_missing(self, plan, folder):
        "Even if no unit needs it: tables and choices do."
        for key in ("first", "second"):
            (folder / plan[key].name / MASK).unlink()
        found = to_do(list(plan.values()), results_of(plan, folder), folder)
        assert found == {plan[k].name: [MASK] for k in ("first", "second")}

    def test_a_smaller_mask_is_missing_if_a_round_needs_it(self, plan, folder):
        (folder / plan["first"].name / SMALLER).unlink()
        assert to_do(list(plan.values()), results_of(plan, folder), folder) == {}
        (folder / plan["second"].name / "result.json").unlink()
        found = to_do(list(plan.values()), results_of(plan, folder), folder)
        assert found == {plan["second"].name: [], plan["first"].name: [SMALLER]}

    def test_what_a_missing_file_needs_is_missing_too(self, plan, folder):
        "All the way down: the mask, the round before, the warmup."
        (folder / plan["first"].name / SMALLER).unlink()
        (folder / plan["second"].name / MASK).unlink()
        (folder / plan["hard"].name / WEIGHTS).unlink()
        found = to_do(list(plan.values()), results_of(plan, folder), folder)
        assert {name: set(files) for name, files in found.items()} == {
            plan["second"].name: {MASK},
            plan["first"].name: {SMALLER},
            plan["hard"].name: {WEIGHTS},
        }

    def test_weights_that_were_tidied_away_are_missing_if_they_are_needed_again(self, plan, folder):
        (folder / plan["single_main"].name / "result.json").unlink()
        found = to_do(list(plan.values()), results_of(plan, folder), folder)
        assert found == {plan["single_main"].name: [], plan["single"].name: [WEIGHTS]}

    def test_what_another_process_has_done_meanwhile_needs_nothing(self, plan, folder):
        "It had its weights tidied away before they were looked for, and after results were read."
        results = results_of(plan, folder)
        del results[plan["single_main"].name]  # as if it had come just now
        assert not (folder / plan["single"].name / WEIGHTS).exists()
        found = to_do(list(plan.values()), results, folder)
        assert plan["single"].name not in found


@pytest.mark.usefixtures("in_process")
class TestWork:
    def test_all_is_done_and_nothing_twice(self, plan, finished, source):
        for unit in plan.values():
            assert load_result(finished[0], unit)
            assert len(lines_of(finished[0] / unit.name)) == unit.epochs
        lines = []
        work(lambda: agenda_of(*plan.values()), finished[0], source, log=lines.append)
        assert lines == []

    def test_an_empty_agenda_is_done(self, tmp_path, source):
        work(lambda: agenda_of(), tmp_path, source, log=pytest.fail)

    def test_weights_stay_while_they_are_needed_and_those_of_hard_sharing_for_ever(
        self, plan, finished
    ):
        left = {p.parent.name for p in finished[0].glob(f"*/{WEIGHTS}")}
        assert left == {plan["hard"].name}
        assert not list(finished[0].glob("*/checkpoint.safetensors"))
        assert {p.parent.name for p in finished[0].glob(f"*/{MASK}")} == {
            plan[k].name for k in ("first", "second")
        }

    def test_weights_stay_until_the_last_who_needs_them(self, plan, source, tmp_path):
        single, main = plan["single"], plan["single_main"]
        other, kept = replace(main, epochs=2), []

        def agenda():
            now = agenda_of(single, main, other)
            kept.append((tmp_path / single.name / WEIGHTS).exists())
            return now

        work(agenda, tmp_path, source, log=lambda _: None)
        assert kept == [False, True, True, True]
        assert not (tmp_path / single.name / WEIGHTS).exists()

    def test_a_checkpoint_of_a_finished_unit_is_tidied_away(self, plan, folder, source):
        "Its process was killed between the result and this."
        path = folder / plan["main"].name / "checkpoint.safetensors"
        path.write_bytes(b"of no use any more")
        (folder / plan["subnet"].name / "result.json").unlink()
        work(lambda: agenda_of(*plan.values()), folder, source, log=lambda _: None)
        assert not path.exists()

    def test_the_agenda_may_grow(self, plan, source, tmp_path):
        "A subnet is named when its chain is done."

        def agenda():
            units = [plan[k] for k in ("hard", "first", "second")]
            last = load_result(tmp_path, plan["second"])
            later = {} if last else {plan["second"].name: 1.0}
            return agenda_of(*units, *([plan["subnet"]] if last else []), later=later)

        lines = []
        work(agenda, tmp_path, source, log=lines.append)
        assert load_result(tmp_path, plan["subnet"])
        counts = [re.search(r"\d+/\d+\+?", line)[0] for line in lines]
        assert counts == ["1/3+", "2/3+", "3/4", "4/4"]

    def test_a_line_for_each_finished_unit_says_how_far_all_is(self, finished, plan):
        lines = finished[1]
        by_label = {u.label: u for u in plan.values()}
        for i, line in enumerate(lines, 1):
            label = line[: len(plan["hard"].label)]
            dev = load_result(finished[0], by_label.pop(label))["dev"]
            said = " ".join(f"{score:.1f}" for score in dev.values())
            assert re.fullmatch(rf"  dev {said} +\[{i}/7, \d+ (s|min) left\]", line[len(label) :])
        assert not by_label and max(map(len, lines)) <= WIDEST

    def test_a_unit_that_takes_long_shows_its_epochs(self, plan, source, tmp_path, monkeypatch):
        "All but the last, for which there is the line of the whole."
        monkeypatch.setattr(progress, "OFTEN", 1e-9)
        lines = []
        units = [plan["hard"], replace(plan["main"], epochs=3)]
        work(lambda: agenda_of(*units), tmp_path, source, log=lines.append)
        shown = [re.search(r"epoch \d/\d(?=  dev)", line) for line in lines]
        assert [m and m[0] for m in shown] == ["epoch 1/2", None, "epoch 1/3", "epoch 2/3", None]
        assert lines[0].endswith("[0/2]") and "[1/2, " in lines[3]
        assert max(map(len, lines)) <= WIDEST

    def test_every_line_calls_a_unit_as_the_plan_does(self, plan, source, tmp_path, monkeypatch):
        monkeypatch.setattr(progress, "OFTEN", 1e-9)
        found, lines = agenda_of(plan["hard"]), []
        own = replace(called(vars(plan["hard"])), system="of the plan")
        found = replace(found, called={plan["hard"].name: own})
        work(lambda: found, tmp_path, source, log=lines.append)
        assert len(lines) == 2 and "epoch 1/2" in lines[0]
        assert all(line.startswith(f"{found.label(plan['hard'])}  ") for line in lines)
        assert "of the plan" in found.label(plan["hard"])

    def test_lines_of_an_earlier_attempt_are_not_told_again(self, plan, folder, source):
        home = folder / plan["main"].name
        (home / "result.json").unlink()
        lines = []
        work(lambda: agenda_of(*plan.values()), folder, source, log=lines.append)
        assert len(lines) == 1 and lines[0].startswith(f"{plan['main'].label}  dev ")
        assert len(lines_of(home)) == 2 * plan["main"].epochs

    @pytest.mark.parametrize("what", ["mask", "weights", "smaller", "result"])
    @pytest.mark.parametrize("how", ["cut", "gone", "empty"])
    def test_what_is_damaged_is_named_and_made_again(
        self, plan, folder, finished, source, what, how
    ):
        owner, file, user = {
            "mask": ("second", MASK, "subnet"),
            "weights": ("hard", WEIGHTS, "main"),
            "smaller": ("first", SMALLER, "second"),
            "result": ("hard", "result.json", "main"),
        }[what]
        path = folder / plan[owner].name / file
        (folder / plan[user].name / "result.json").unlink()
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: 0 if how == "empty" else -3])
        lines = []
        work(lambda: agenda_of(*plan.values()), folder, source, log=lines.append)
        for unit in plan.values():
            check_same_unit(folder / unit.name, finished[0] / unit.name)
        named = [line for line in lines if line.startswith(f"{plan[owner].name}/{file} ")]
        if how == "gone":
            assert not named
        else:
            assert len(named) == 1 and "is damaged" in named[0] and "made again" in named[0]
        again = {
            p.name
            for p in (folder).iterdir()
            if len(lines_of(p)) > len(lines_of(finished[0] / p.name))
        }
        assert again == {plan[owner].name, plan[user].name}

    def test_a_file_that_is_damaged_again_and_again_ends_it(
        self, plan, folder, source, monkeypatch
    ):
        "Three times is the disk's fault."
        path = folder / plan["second"].name / MASK
        tries = []

        def perform(*_):
            tries.append(1)
            raise Damaged(path, "cut off")

        monkeypatch.setattr(executor, "perform", perform)
        (folder / plan["subnet"].name / "result.json").unlink()
        with pytest.raises(Damaged, match=re.escape(str(path))):
            work(lambda: agenda_of(*plan.values()), folder, source, log=lambda _: None)
        assert len(tries) == 4

    def test_a_result_of_other_settings_ends_it(self, plan, folder, source):
        path = folder / plan["main"].name / "result.json"
        content = load_json(path)
        content["unit"]["training"]["lr"] = 0.2
        save_json(path, content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            work(lambda: agenda_of(*plan.values()), folder, source, log=lambda _: None)

    def test_a_unit_that_fails_is_named_and_stops_the_run(
        self, plan, source, tmp_path, monkeypatch
    ):
        def perform(unit, *_):
            raise FloatingPointError(f"the loss of {unit.tasks[0]!r} is nan")

        monkeypatch.setattr(executor, "perform", perform)
        lines = []
        with pytest.raises(FloatingPointError, match="is nan"):
            work(lambda: agenda_of(*plan.values()), tmp_path, source, log=lines.append)
        assert lines == [f"{plan['single'].label}  failed"]

    def test_a_unit_of_another_process_is_waited_for(self, plan, source, tmp_path, monkeypatch):
        "It is told once, asked for again, and found done."
        calls, train = [], executor.perform

        def perform(unit, *rest):
            if unit == plan["hard"]:
                calls.append(time.monotonic())
                if len(calls) < 3:
                    return False
            return train(unit, *rest)

        monkeypatch.setattr(executor, "perform", perform)
        lines = []
        work(lambda: agenda_of(plan["hard"], plan["main"]), tmp_path, source, log=lines.append)
        assert load_result(tmp_path, plan["main"]) and len(calls) == 3
        assert lines.count(f"{plan['hard'].label}  is being done by another process") == 1
        assert sum(line.startswith(f"{plan['hard'].label}  dev ") for line in lines) == 1
        assert min(b - a for a, b in zip(calls, calls[1:], strict=False)) >= 1

    def test_others_go_on_while_one_is_waited_for(self, plan, source, tmp_path, monkeypatch):
        train, order, other = executor.perform, [], replace(plan["hard"], seed=1)

        def perform(unit, *rest):
            order.append(unit)
            if unit == plan["hard"] and other not in order:
                return False
            return train(unit, *rest)

        monkeypatch.setattr(executor, "perform", perform)
        work(lambda: agenda_of(plan["hard"], other), tmp_path, source, log=lambda _: None)
        assert order[:2] == [plan["hard"], other]

    def test_no_more_are_at_work_than_were_asked_for(self, plan, source, tmp_path, monkeypatch):
        seen, at_work, guard, train = [], [], threading.Lock(), executor.perform

        def perform(unit, *rest):
            with guard:
                at_work.append(unit)
                seen.append(len(at_work))
            try:
                time.sleep(0.05)
                return train(unit, *rest)
            finally:
                with guard:
                    at_work.remove(unit)

        monkeypatch.setattr(executor, "perform", perform)
        work(lambda: agenda_of(*plan.values()), tmp_path, source, workers=2, log=lambda _: None)
        assert max(seen) == 2 and len(seen) == len(plan)

    def test_a_folder_may_be_named_from_where_one_stands(
        self, plan, source, finished, tmp_path, monkeypatch
    ):
        "Workers may stand elsewhere."
        monkeypatch.chdir(Path(source.data_dir).parent)
        asked, train = [], executor.perform
        monkeypatch.setattr(
            executor, "perform", lambda *job: (asked.append(job[1:3]), train(*job))[1]
        )
        here = replace(source, data_dir=Path(source.data_dir).name)
        data_module._read_once.cache_clear()
        work(lambda: agenda_of(plan["single"]), Path("results"), here, log=lambda _: None)
        [(folder, its)] = asked
        assert folder.is_absolute() and its == source
        shutil.rmtree(folder)


@pytest.mark.e2e
def test_processes_do_the_same_as_threads(plan, finished, source, tmp_path):
    work(lambda: agenda_of(*plan.values()), tmp_path, source, workers=2, log=lambda _: None)
    for unit in plan.values():
        check_same_unit(tmp_path / unit.name, finished[0] / unit.name)
        assert len(lines_of(tmp_path / unit.name)) == unit.epochs


@pytest.mark.e2e
def test_damage_that_a_process_finds_is_mended(plan, finished, source, tmp_path):
    "A sound file that is not the one: only who reads it can tell."
    folder = shutil.copytree(finished[0], tmp_path / "units")
    path = folder / plan["hard"].name / WEIGHTS
    tensors, about = load_tensors(path)
    save_tensors(path, {k: v + 1 for k, v in tensors.items()}, about)
    (folder / plan["main"].name / "result.json").unlink()
    lines = []
    work(lambda: agenda_of(*plan.values()), folder, source, log=lines.append)
    said = f"{plan['hard'].name}/{WEIGHTS} is damaged: it is not the one"
    assert [line for line in lines if line.startswith(said)]
    for unit in plan.values():
        check_same_unit(folder / unit.name, finished[0] / unit.name)


class TestWorkers:
    def test_processes_have_one_thread(self, monkeypatch):
        names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
        for name in names:
            monkeypatch.setenv(name, "7")
        crew = Workers(1)
        try:
            assert crew.count == 1
            assert [crew._pool.submit(os.getenv, n).result() for n in names] == ["1"] * 3
        finally:
            crew.close()

    @pytest.mark.e2e
    def test_closing_stops_them_in_the_middle(self):
        crew = Workers(2)
        pids = {crew._pool.submit(os.getpid).result()}
        crew._pool.submit(time.sleep, 600)
        pids |= {crew._pool.submit(os.getpid).result()}
        start = time.monotonic()
        crew.close()
        assert time.monotonic() - start < 60
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    @pytest.mark.e2e
    def test_workers_end_with_the_process_that_started_them(self):
        "Also if it alone is killed, as a notebook's kernel is."
        worker = (
            "import os, time; from sparse_sharing.study.executor import end_with_parent as end;"
            "end(os.getppid()); print('at work', flush=True); time.sleep(90)"
        )
        starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
        with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"at work\n"
            process.kill()
            process.communicate(timeout=60)  # until nobody is left who could write

    @pytest.mark.e2e
    def test_a_worker_whose_parent_was_gone_before_it_began_ends_too(self):
        code = (
            "import sys, time; from sparse_sharing.study.executor import end_with_parent as end;"
            "end(int(sys.argv[1])); time.sleep(90)"
        )
        done = subprocess.run([sys.executable, "-c", code, "1234567"], timeout=60)
        assert done.returncode == 1

    @pytest.mark.parametrize("when", ["at work", "between two units"])
    def test_a_worker_that_is_killed_ends_the_run_with_a_cure(
        self, plan, source, tmp_path, monkeypatch, when
    ):
        monkeypatch.setattr(progress, "OFTEN", 1e-9)  # each epoch is told
        victims = []

        def log(line):
            if not victims and (" epoch " in line) == (when == "at work"):
                victims.extend(children())
                for victim in victims:
                    victim.kill()
                    victim.wait(60)
                if when != "at work":
                    time.sleep(2)  # so that the pool knows

        with pytest.raises(RuntimeError) as error:
            work(lambda: agenda_of(*plan.values()), tmp_path, source, workers=1, log=log)
        assert victims and "Start again" in str(error.value)
        work(lambda: agenda_of(*plan.values()), tmp_path, source, workers=1, log=lambda _: None)
        assert all(load_result(tmp_path, u) for u in plan.values())


def children():
    "Workers of this process that are alive."
    psutil = pytest.importorskip("psutil")
    found = psutil.Process().children()
    return [c for c in found if any("popen_loky" in part for part in c.cmdline())]
