"Verdicts: cases done by hand, properties that hold for all differences, and messages."

from dataclasses import FrozenInstanceError, fields, replace
from itertools import product
from math import isnan, nan, sqrt

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparse_sharing.report.claims import (
    Claim,
    Verdict,
    differences,
    fewest_seeds,
    interval,
    sign_flip,
    verdict,
    verdict_table,
)
from sparse_sharing.report.results import Results
from sparse_sharing.study.schema import Key

hundredths = st.integers(-500, 500).map(lambda n: n / 100)
some = st.lists(hundredths, min_size=2, max_size=9)
few = settings(max_examples=40, deadline=None)
SIX = [0.2, 0.5, 0.3, 0.7, 0.4, 0.6]
OPPOSITE = {"supported": "contradicted", "contradicted": "supported"}


def results(scores, experiment="exp1"):
    "Results from {(system, task): {seed: score}}; strict F1 is there as well, and absurd."
    what = dict(variant="", level=None, tasks="pos+ner")
    rows = [
        dict(what, system=system, task=task, seed=seed, metric=metric, test=test, dev=test + seed)
        for (system, task), by_seed in scores.items()
        for seed, score in by_seed.items()
        for metric, test in [("accuracy" if task == "pos" else "f1", score), ("f1_strict", 1.0)]
        if task != "pos" or metric != "f1_strict"
    ]
    table = pd.DataFrame(rows).assign(experiment=experiment, data="conll2003", preset="study")
    return Results(**{f.name: pd.DataFrame() for f in fields(Results)} | dict(results=table))


@pytest.fixture
def r():
    return results(
        {
            ("single", "pos"): dict.fromkeys(range(6), 95.0),
            ("single", "ner"): dict.fromkeys(range(6), 89.0),
            ("sparse", "pos"): {s: 95 + d for s, d in enumerate(SIX)},
            ("sparse", "ner"): {s: 89 - 2 * d for s, d in enumerate(SIX)},
            ("hard", "pos"): {2: 96.0, 0: 95.5},
            ("hard", "ner"): {2: 88.0, 7: 89.5},
        }
    )


def by_definition(x):
    "The sign-flip p value in whole hundredths."
    ticks = [round(100 * d) for d in x]
    sums = [
        sum(a * b for a, b in zip(ticks, s, strict=True)) for s in product([1, -1], repeat=len(x))
    ]
    return sum(abs(s) >= abs(sum(ticks)) for s in sums) / len(sums)


@pytest.mark.parametrize(
    ("x", "p"),
    [
        ([1, 2, 3], 2 / 8),
        ([3, 1, -2], 6 / 8),
        ([0.1, 0.2, -0.3], 1),
        (
            [95.56 - 95.09, 0.47, -0.47, 0.94],
            8 / 16,
        ),  # ties are equal but for rounding
        ([0.36, -0.36, 0.87, 0.24, -1.11], 1),  # the sum is 0 but for rounding
        ([0.0, 0.0], 1),
        ([1] * 6, 2 / 64),
        ([5], 1),
    ],
)
def test_sign_flip_by_hand(x, p):
    assert sign_flip(x) == p


@few
@given(some)
def test_sign_flip_is_its_definition(x):
    assert sign_flip(x) == by_definition(x)


def test_sign_flip_of_many_differences_is_drawn_and_repeatable():
    x = np.linspace(-0.5, 1, 30)
    assert 0 < sign_flip(x) < 0.01 and sign_flip(x) == sign_flip(x[::-1])


def test_interval_of_three_is_that_of_t():
    half = 4.302653 / sqrt(3)
    assert interval([1, 2, 3]) == pytest.approx((2 - half, 2 + half), abs=1e-5)


def test_interval_of_two_is_honest():
    low, high = interval([0.4, 0.5])
    assert low == pytest.approx(0.45 - 12.7062 * 0.05, abs=1e-4) and high > 1


def test_interval_of_lopsided_differences_is_lopsided():
    x = [0.0] * 7 + [10.0]
    low, high = interval(x)
    half = 2.364624 * np.std(x, ddof=1) / sqrt(8)
    assert low == pytest.approx(1.25 - half, abs=1e-4)
    assert high == pytest.approx(5.0)  # the ten was drawn four times out of eight


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", range(2, 8))
def test_equal_differences_have_no_width_and_no_warning(n):
    assert interval([0.47] * n) == (0.47, 0.47)
    assert verdict([0.0] * n).word == "not distinguishable" and verdict([0.0] * n).p == 1
    assert verdict([0.47] * n).word == ("supported" if n >= 6 else "not distinguishable")


@few
@given(some, st.randoms())
def test_order_does_not_matter_and_each_call_gives_the_same(x, random):
    found, mixed = verdict(x), random.sample(x, len(x))
    assert verdict(mixed) == found == verdict(pd.Series(mixed, index=range(len(x), 0, -1)))


@few
@given(some)
def test_the_interval_holds_the_mean_and_is_no_narrower_than_t(x):
    low, high = interval(x)
    factor = [12.706, 4.302, 3.182, 2.776, 2.570, 2.446, 2.364, 2.306][len(x) - 2]
    assert low - 1e-9 <= np.mean(x) <= high + 1e-9
    assert high - low >= 2 * factor * np.std(x, ddof=1) / sqrt(len(x)) - 1e-9


@few
@given(some)
def test_a_higher_level_is_wider(x):
    narrow, wide = interval(x, 0.8), interval(x, 0.99)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


@few
@given(some)
def test_swapping_the_systems_turns_the_verdict(x):
    assume(sum(round(100 * d) for d in x))
    one, other = verdict(x), verdict([-d for d in x])
    assert other.word == OPPOSITE.get(one.word, one.word)
    turned = replace(one, word=other.word)
    assert verdict(x, claimed=-1) == turned
    back = replace(other, mean=-other.mean, low=-other.high, high=-other.low)
    assert back == turned


@few
@given(some, hundredths)
def test_a_margin_shifts_the_scale(x, margin):
    shifted, plain = verdict([d + margin for d in x], margin=margin), verdict(x)
    assert (shifted.word, shifted.p) == (plain.word, plain.p)
    ends = plain.mean + margin, plain.low + margin, plain.high + margin
    assert (shifted.mean, shifted.low, shifted.high) == pytest.approx(ends)


@few
@given(st.lists(hundredths, min_size=6, max_size=9), st.sampled_from([0.8, 0.95]))
def test_the_word_follows_from_the_numbers(x, level):
    v = verdict(x, level=level)
    sure = v.p <= 1 - level and not v.low <= 0 <= v.high
    word = ("supported" if v.mean > 0 else "contradicted") if sure else "not distinguishable"
    assert v.word == word and v.seeds == len(x)


@few
@given(st.lists(hundredths, min_size=2, max_size=5))
def test_fewer_than_six_seeds_never_have_a_verdict(x):
    v = verdict(x)
    assert v.word == "not distinguishable" and "at least 6 seeds" in str(v)


def test_each_half_of_the_rule_can_stop_a_verdict():
    outlier, five = verdict([0.1] * 5 + [5.0]), verdict(SIX[:5])
    assert outlier.p <= 0.05 and outlier.low < 0 and outlier.word == "not distinguishable"
    assert five.p > 0.05 and five.low > 0 and five.word == "not distinguishable"
    assert verdict(SIX[:5], level=0.9).word == "supported"
    assert verdict([1, 1, 1], level=0.75).word == "supported"  # p is just 1 - level


@pytest.mark.parametrize(("level", "seeds"), [(0.5, 2), (0.75, 3), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_fewest_seeds(level, seeds):
    assert fewest_seeds(level) == seeds
    assert sign_flip([1] * seeds) <= 1 - level < sign_flip([1] * (seeds - 1))


def test_false_alarms_are_as_rare_as_promised():
    rng = np.random.default_rng(3)
    words = [verdict(rng.normal(size=6)).word for _ in range(400)]
    assert 0 < sum(w != "not distinguishable" for w in words) <= 0.05 * 400


def test_lines():
    assert str(verdict(SIX)) == "supported: +0.45 points [+0.25, +0.65], 6 seeds, p = 0.031"
    assert str(verdict([-d for d in SIX])).startswith("contradicted: -0.45 points [-0.65, -0.25]")
    assert str(verdict(SIX, margin=0.1, unit="%")).endswith("6 seeds, p = 0.031, margin +0.10")
    assert str(verdict(SIX[:1])) == "one run, no verdict"
    assert str(verdict(SIX[:1], claimed=-1, margin=9)) == "one run, no verdict"
    assert "[-0.00" not in str(verdict([0.0] * 6)) and "p = 1.000" in str(verdict([0.0] * 6))
    assert str(verdict(np.linspace(1, 2, 14))).endswith("14 seeds, p < 0.001")


def test_one_run_has_a_mean_and_nothing_else():
    v = verdict([0.3])
    assert (v.word, v.mean, v.seeds) == ("one run, no verdict", 0.3, 1)
    assert isnan(v.low) and isnan(v.high) and isnan(v.p)


def test_a_verdict_cannot_be_edited():
    with pytest.raises(FrozenInstanceError):
        verdict(SIX).word = "supported"
    assert isinstance(verdict(SIX), Verdict)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verdict([]), r"shape \(0,\): give a list, one number per seed"),
        (lambda: verdict([SIX, SIX]), r"shape \(2, 6\)"),
        (lambda: verdict([0.1, nan]), "a difference is nan: a run that failed is a result too"),
        (lambda: verdict([0.1, None]), "a difference is nan"),
        (lambda: sign_flip([float("inf"), 1]), "a difference is inf"),
        (lambda: interval([0.1]), "one difference has no interval"),
        (lambda: verdict(SIX, level=95), "level is 95, it must be between 0 and 1"),
        (lambda: verdict(SIX, claimed=0), r"claimed is 0, it must be 1 \(above"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_differences_are_paired_by_seed(r):
    assert differences(r, "sparse", "single", "pos").tolist() == pytest.approx(SIX)
    both = differences(r, "hard", "single", "pos")
    assert both.index.tolist() == [0, 2] and both.tolist() == pytest.approx([0.5, 1.0])
    assert both.name == "points" and both.index.name == "seed"


def test_rows_may_stand_in_any_order(r):
    mixed = replace(r, results=r.results.sample(frac=1, random_state=1))
    pd.testing.assert_series_equal(
        differences(mixed, "hard", "single", "pos"), differences(r, "hard", "single", "pos")
    )


def test_the_mean_over_tasks_needs_every_task(r):
    assert differences(r, "sparse", "single")[1] == pytest.approx((0.5 - 1.0) / 2)
    only = differences(r, "hard", "single")  # seed 0 lacks ner, seed 7 lacks pos
    assert only.to_dict() == pytest.approx({2: (1.0 - 1.0) / 2})


def test_dev_scores_can_be_compared(r):
    late = replace(r, results=r.results.assign(dev=r.results["test"] * 2))
    assert differences(late, "hard", "single", "pos", "dev").tolist() == pytest.approx([1, 2])


def test_a_score_that_is_missing_makes_no_pair(r):
    gone = (r.results["system"] == "hard") & (r.results["seed"] == 0)
    late = replace(r, results=r.results.assign(test=r.results["test"].mask(gone)))
    assert differences(late, "hard", "single", "pos").index.tolist() == [2]


def test_differences_name_what_is_missing(r):
    with pytest.raises(
        ValueError, match="Soft sharing and Single task have no seed in common in pos"
    ):
        differences(r, "soft", "single", "pos")
    late = replace(r, results=r.results.query("system != 'hard' or seed != 2"))
    with pytest.raises(
        ValueError, match="Hard sharing and Sparse sharing have no seed in common with all"
    ):
        differences(late, "hard", "sparse")
    with pytest.raises(ValueError, match="no system 'spares': there are .*sparse"):
        differences(r, "spares", "single")
    with pytest.raises(ValueError, match="no task 'NER': there are .*ner"):
        differences(r, "sparse", "single", "NER")


CLAIMS = [
    Claim("POS gains", "sparse", "single", "pos"),
    Claim("NER gains", "sparse", "single", "ner"),
    Claim("hard gains", "hard", "single", "pos"),
    Claim("soft gains", "soft", "single", "pos"),
]


def test_a_table_of_claims(r):
    table = verdict_table(r, CLAIMS)
    data = table.data
    words = data["verdict"].tolist()
    assert words[:3] == ["supported", "contradicted", "not distinguishable"] and pd.isna(words[3])
    assert data["Δ paper"].tolist() == pytest.approx([0.47, 0.99, 0.25, 0.07])
    assert data["seeds"].tolist()[:3] == [6, 6, 2] and "margin" not in data
    assert data.loc["POS gains", ["low", "high"]].tolist() == pytest.approx(interval(SIX))
    assert "as in the paper" in table.caption and "6 or more seeds" in table.caption
    assert ">+0.47<" in table.to_html() and ">supported<" in table.to_html()


def test_a_table_with_margin_and_level(r):
    claims = [Claim("a lot", "sparse", "single", "pos", 0.4), CLAIMS[0]]
    table = verdict_table(r, claims, level=0.99)
    assert table.data["margin"].tolist() == [0.4, 0]
    assert table.data["verdict"].tolist() == ["not distinguishable"] * 2
    assert "99 % interval" in table.caption and "8 or more seeds" in table.caption


def test_a_table_of_one_seed(r):
    one = replace(r, results=r.results.query("seed == 0"))
    data = verdict_table(one, CLAIMS[:3]).data
    assert set(data["verdict"]) == {"one run, no verdict"}
    assert data[["low", "high", "p"]].isna().all(axis=None)
    assert data["Δ"].tolist() == pytest.approx([0.2, -0.4, 0.5])


def test_a_table_where_the_paper_has_no_numbers(r):
    other = replace(r, results=r.results.assign(experiment="sparsity"))
    data = verdict_table(other, [*CLAIMS, CLAIMS[0]]).data  # the same claim twice does no harm
    assert "Δ paper" not in data and data["verdict"].iloc[4] == "supported"


def overlaps(groups):
    "A table of overlap ratios from {masks: {seed: ratio}}."
    rows = [
        ("+".join(key.tasks), key.variant, key.level, seed, ratio)
        for key, by_seed in groups.items()
        for seed, ratio in by_seed.items()
    ]
    return pd.DataFrame(rows, columns=["tasks", "variant", "level", "seed", "overlap"])


POS_CHUNK, NER_CHUNK = Key(tasks=("pos", "chunk")), Key(tasks=("ner", "chunk"))


def test_claims_about_masks(r):
    both = {POS_CHUNK: {0: 0.5, 1: 0.75, 3: 0.5}, NER_CHUNK: {1: 0.5, 0: 0.5, 2: 0.25}}
    with_masks = replace(r, overlap=overlaps(both))
    points = differences(with_masks, POS_CHUNK, NER_CHUNK, column="overlap")
    assert points.to_dict() == {0: 0, 1: 25}
    claim = Claim("closer", POS_CHUNK, NER_CHUNK)
    data = verdict_table(with_masks, [claim], column="overlap").data
    assert data["Δ"].iloc[0] == 12.5 and data["seeds"].iloc[0] == 2
    assert data["Δ paper"].iloc[0] == pytest.approx(30)  # Table 7: 0.50 and 0.20
    with pytest.raises(
        ValueError, match="no group of masks 'POS & NER': there are NER & Chunking, POS & Chu"
    ):
        differences(with_masks, POS_CHUNK, Key(tasks=("pos", "ner")), column="overlap")
    with pytest.raises(ValueError, match="not of 'pos'"):
        differences(with_masks, POS_CHUNK, NER_CHUNK, "pos", column="overlap")


def test_masks_of_one_task_and_of_other_rounds_are_others(r):
    again = Key(tasks=("pos",), variant="same warmup")
    late = replace(POS_CHUNK, level=5)
    with_masks = replace(
        r, overlap=overlaps({again: {0: 0.9}, POS_CHUNK: {0: 0.5}, late: {0: 0.4}})
    )
    for other, gap in ((POS_CHUNK, 40), (late, 50)):
        assert differences(with_masks, again, other, column="overlap").tolist() == [
            pytest.approx(gap)
        ]


def test_levels_and_pairs_are_systems_of_their_own(r):
    at_five = r.results.query("system == 'sparse'").assign(level=5.0, test=lambda t: t["test"] + 1)
    pair = r.results.query("system == 'hard' and task == 'pos'").assign(tasks="pos")
    more = replace(r, results=pd.concat([r.results, at_five, pair]))
    gap = differences(more, Key("sparse", level=5), "sparse", "pos")
    assert gap.tolist() == [pytest.approx(1)] * 6
    assert differences(more, Key("hard", ("pos",)), "hard", "pos").tolist() == [0, 0]
    with pytest.raises(ValueError, match="no system 'Sparse sharing, 9': there are .*sharing, 5"):
        differences(more, Key("sparse", level=9), "sparse")


def test_a_table_with_a_slip_stops(r):
    with pytest.raises(ValueError, match="no system 'spares'"):
        verdict_table(r, [Claim("a slip", "spares", "single")])


def test_a_table_of_no_claims(r):
    assert verdict_table(r, []).data.empty
