"How to read a table: sentences that its numbers make."

from dataclasses import replace

import pandas as pd
import pytest

from sparse_sharing.report.reading import in_points, reading, rise
from sparse_sharing.report.results import load, recorded


def test_an_interval_takes_six_seeds():
    gaps = pd.Series([1.0, 2.0, 1.5, 1.2, 1.8, 1.4])
    assert "[" in in_points(gaps) and "[" not in in_points(gaps[:5])


@pytest.mark.parametrize(
    "run, said",
    [("exp1-conll2003", "(1 seed)"), ("negative_transfer-conll2003", "(6 seeds)")],
)
def test_recorded_runs_are_read(run, said):
    text = reading(load(recorded(run)))
    assert text.startswith("**How to read this.** ")
    assert (
        said in text
        and "with the warmup of all tasks (sparse minus subnet)" in text
        and "inf" not in text
    )


def test_eight_seeds_are_no_verdict():
    six = load(recorded("negative_transfer-conll2003"))
    more = six.results.query("seed < 2").assign(seed=lambda t: t["seed"] + 6)
    text = reading(replace(six, results=pd.concat([six.results, more], ignore_index=True)))
    assert "in points: NER -4." in text and "(8 seeds)" in text and "n_seeds" not in text
    assert not {"harms", "helps"} & set(text.split())


def test_systems_without_a_common_seed():
    six = load(recorded("negative_transfer-conll2003"))
    rows = six.results
    rows = rows[(rows["system"] != "sparse") | (rows["seed"] > 2)]
    rows = rows[(rows["system"] != "single") | (rows["seed"] <= 2)]
    text = reading(replace(six, results=rows))
    assert "Sparse sharing minus single-task training: no seed in common yet." in text
    assert "(3 seeds)" in text


@pytest.mark.parametrize(
    "systems, said, unsaid",
    [
        ("hard sparse", ["there is none here"], ["points"]),
        ("single", ["Single-task training"], ["Hard sharing", "Sparse sharing"]),
        ("single hard", ["Hard sharing minus"], ["Sparse sharing"]),
        ("single sparse", ["Sparse sharing minus single-task"], ["hard sharing", "Hard", "subnet"]),
        ("single sparse subnet", ["Pruning alone (subnet minus single)"], ["ard sharing"]),
        ("soft meta", ["there is none here"], ["points"]),
    ],
)
def test_systems_that_are_not_there_are_not_spoken_of(systems, said, unsaid):
    "As where `systems` names some of them."
    whole = load(recorded("exp1-conll2003"))
    some = {
        name: table[table["system"].isin(systems.split())]
        for name in ("results", "curves")
        if "system" in (table := getattr(whole, name))
    }
    text = reading(replace(whole, **some))
    assert all(words in text for words in said)
    assert not [words for words in unsaid if words in text]


@pytest.mark.parametrize("last, said", [(0.3, "rises by +0.3"), (2.0, "still learns")])
def test_whether_it_still_learns(last, said):
    whole = load(recorded("exp1-conll2003"))
    dev = [50.0] * 3 + [60.0] * 3 + [60.0 + last] * 3
    rows = [dict(system="single", task="pos", epoch=i, dev=d) for i, d in enumerate(dev, 1)]
    short = replace(whole, curves=pd.DataFrame(rows))
    assert rise(short) == pytest.approx(last) and said in reading(short)
    assert "still learns" in reading(replace(whole, curves=pd.DataFrame(rows[:3])))


def test_a_rate_that_goes_to_zero_ends_flat_in_any_case():
    annealed = load(recorded("exp1-annealed-conll2003"))
    assert rise(annealed) < 0.5 and "flat at their end in any budget" in reading(annealed)
