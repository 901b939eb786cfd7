"An experiment leaves its best system as a folder, with the scores that were recorded."

import warnings

import pytest
from test_own_data import write

from sparse_sharing.study.config import Experiment
from sparse_sharing.study.data import read_data
from sparse_sharing.study.keep import best_unit, keep_best
from sparse_sharing.study.main import run
from sparse_sharing.tagging.metrics import accuracy, span_f1
from sparse_sharing.tagging.tagger import Tagger


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* but not in training")
def test_the_best_system_is_left_as_it_was(here):
    experiment = Experiment(
        "exp1", data_dir=write(here / "d", n=40), columns="word kind who", schemes="who=bioes",
        comments="#", warmup=1, epochs=2, alpha=0.4, min_density=0.7, systems="hard sparse",
    )  # fmt: skip
    run(experiment, log=lambda line: None)
    data = experiment.read()
    unit, result = best_unit(experiment, data)
    assert set(unit.tasks) == {"kind", "who"} and unit.system in ("hard", "sparse")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*where it was recorded")
        keep_best(experiment, here / "tagger")
    tagger = Tagger.load(here / "tagger")
    assert tagger.about["dev"] == result["dev"] and tagger.about["unit"] == unit.name
    from sparse_sharing.tagging.declared import read_columns

    corpus = read_columns("d", "word kind who", "who=bioes", comments="#")
    tagged = tagger.tag(corpus.dev)
    gold = {t: [s.tags[t] for s in corpus.dev] for t in ("kind", "who")}
    said = {t: [s.tags[t] for s in tagged] for t in ("kind", "who")}
    assert accuracy(gold["kind"], said["kind"]) == pytest.approx(result["dev"]["kind"])
    assert span_f1(gold["who"], said["who"]) == pytest.approx(result["dev"]["who"])


def test_nothing_to_keep(here):
    experiment = Experiment("exp1", results_dir="nowhere")
    data = read_data(experiment.source)
    with pytest.raises(
        FileNotFoundError, match="no model of all tasks is done: run the experiment"
    ):
        best_unit(experiment, data)
