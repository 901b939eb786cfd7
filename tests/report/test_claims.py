"Claims: differences paired by seed, tables with verdicts, and messages."

from dataclasses import fields, replace

import pandas as pd
import pytest

from sparse_sharing.report.claims import PRIMARY, Claim, decide, differences, verdict_table
from sparse_sharing.report.results import Results
from sparse_sharing.report.verdicts import holm, interval
from sparse_sharing.study.schema import Key

EIGHT = [0.2, 0.5, 0.3, 0.7, 0.4, 0.6, 0.1, 0.8]


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
            ("single", "pos"): dict.fromkeys(range(8), 95.0),
            ("single", "ner"): dict.fromkeys(range(8), 89.0),
            ("sparse", "pos"): {s: 95 + d for s, d in enumerate(EIGHT)},
            ("sparse", "ner"): {s: 89 - 2 * d for s, d in enumerate(EIGHT)},
            ("hard", "pos"): {2: 96.0, 0: 95.5},
            ("hard", "ner"): {2: 88.0, 9: 89.5},
        }
    )


def test_differences_are_paired_by_seed(r):
    assert differences(r, "sparse", "single", "pos").tolist() == pytest.approx(EIGHT)
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
    only = differences(r, "hard", "single")  # seed 0 lacks ner, seed 9 lacks pos
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
    Claim("POS gains", "sparse", "single", "pos", primary=True),
    Claim("NER gains", "sparse", "single", "ner", primary=True),
    Claim("hard gains", "hard", "single", "pos", primary=True),
    Claim("soft gains", "soft", "single", "pos", primary=True),
    Claim("all gain", "sparse", "single"),
]


def test_a_table_of_claims(r):
    table = verdict_table(r, CLAIMS)
    data = table.data
    assert data["verdict"].tolist() == [
        "supported",
        "contradicted",
        "not decided, 2 seeds",
        "not decided, 0 seeds",
        "exploratory",
    ]
    assert data["Δ paper"].tolist()[:4] == pytest.approx([0.47, 0.99, 0.25, 0.07])
    assert data["seeds"].tolist() == [8, 8, 2, 0, 8] and "margin" not in data
    assert data.loc["POS gains", ["low", "high"]].tolist() == pytest.approx(interval(EIGHT))
    assert "as in the paper" in table.caption and "takes 8 seeds" in table.caption
    assert ">+0.47<" in table.to_html() and ">supported<" in table.to_html()


def test_primary_claims_are_corrected_together(r):
    "What is not decided yet counts among them: seeds that come later do not make a p value larger."
    data = verdict_table(r, CLAIMS).data
    assert data["p"].iloc[0] == 2 / 256
    assert data["p (Holm)"].tolist()[:2] == holm([2 / 256, 2 / 256, 1, 1])[:2] == [8 / 256, 8 / 256]
    assert data["p (Holm)"].isna().tolist() == [False, False, True, True, True]
    alone = verdict_table(r, CLAIMS[:1]).data
    assert alone["p (Holm)"].iloc[0] == 2 / 256


def equal_results(pos, ner, seeds=range(8)):
    "Two systems that differ by these points in each seed, one of them more and one less by 0.01."
    luck = [0.01 * (-1) ** s for s in seeds]
    one = {("single", task): dict.fromkeys(seeds, 90.0) for task in ("pos", "ner")}
    gaps = {"pos": pos, "ner": ner}
    other = {
        ("subnet", task): {s: 90 + gaps[task] + x for s, x in zip(seeds, luck, strict=True)}
        for task in gaps
    }
    return results(one | other)


def test_one_seed_has_no_p_value():
    "It would be 1, however large the difference is."
    gap = Claim("A subnet is better", "subnet", "single", primary=True)
    data = verdict_table(equal_results(20, 20, seeds=[0]), [gap]).data
    assert data["Δ"].iloc[0] > 19 and data["seeds"].iloc[0] == 1
    assert data[["low", "high", "p"]].isna().all(axis=None)
    assert verdict_table(equal_results(20, 20, seeds=[0, 1]), [gap]).data["p"].iloc[0] == 0.5


EQUAL = Claim("A subnet is as good", "subnet", "single", equal=True, primary=True)


@pytest.mark.parametrize(
    "pos, ner, word, hardest, margin",
    [
        (0.0, 0.2, "supported", "NER", 0.3),
        (0.08, 0.0, "supported", "POS", 0.1),
        (-0.25, 0.15, "not shown", "POS", 0.1),
        (0.9, -0.9, "not shown", "POS", 0.1),  # their mean is 0
        (0.0, -0.9, "not shown", "NER", 0.3),
    ],
)
def test_as_good_as_is_said_of_each_task(pos, ner, word, hardest, margin):
    data = verdict_table(equal_results(pos, ner), [EQUAL]).data
    assert data.index.tolist() == [f"A subnet is as good (hardest: {hardest})"]
    (row,) = data.to_dict("records")
    assert row["verdict"] == word and row["margin"] == margin
    gap = pos if hardest == "POS" else ner
    assert row["Δ"] == pytest.approx(gap) and row["low"] < gap < row["high"]
    assert row["Δ paper"] == pytest.approx(0.02 if hardest == "POS" else 0.03)


def test_equality_of_one_task_and_of_none(r):
    pos = replace(EQUAL, task="pos", better="sparse")
    table = verdict_table(r, [pos, CLAIMS[0]])
    assert table.data.index.tolist() == [EQUAL.text, "POS gains"]
    assert table.data["verdict"].tolist() == ["not shown", "supported"]
    assert table.data["margin"].isna().tolist() == [False, True]
    assert "the interval of 90 %" in table.caption
    (never,) = decide(r, [EQUAL])
    assert never.word == "not decided, 0 seeds" and never.verdict is None
    with pytest.raises(ValueError, match="equal overlaps have no margin"):
        decide(r, [EQUAL], column="overlap")


def test_a_system_that_was_not_asked_for_is_not_planned(r):
    asked = replace(r, run={**r.run, "experiment": {"systems": "single sparse"}})
    words = verdict_table(asked, CLAIMS).data["verdict"].tolist()
    assert words[3] == "not planned in this run" and words[0] == "supported"


def test_a_task_that_lacks_seeds_leaves_equality_undecided():
    both = equal_results(0.0, 0.0)
    late = replace(both, results=both.results.query("task != 'ner' or seed < 5"))
    (row,) = decide(late, [EQUAL])
    assert row.task == "ner" and row.word == "not decided, 5 seeds" and row.adjusted is None


def test_a_seed_that_was_planned_and_is_not_there_stops_the_verdict(r):
    planned = replace(r, run={"experiment": {"n_seeds": 9}})
    data = verdict_table(planned, CLAIMS[:2]).data
    assert set(data["verdict"]) == {"not decided, 8 of 9 seeds"}
    assert data["p (Holm)"].isna().all()


def test_the_papers_difference_may_be_given(r):
    given = replace(CLAIMS[0], printed=0.125)
    assert verdict_table(r, [given]).data["Δ paper"].tolist() == [0.125]


def test_a_table_of_one_seed(r):
    one = replace(r, results=r.results.query("seed == 0"))
    data = verdict_table(one, CLAIMS[:3]).data
    assert set(data["verdict"]) == {"not decided, 1 seed"}
    assert data[["low", "high"]].isna().all(axis=None)
    assert data["Δ"].tolist() == pytest.approx([0.2, -0.4, 0.5])


def test_a_table_where_the_paper_has_no_numbers(r):
    other = replace(r, results=r.results.assign(experiment="sparsity"))
    assert "Δ paper" not in verdict_table(other, CLAIMS).data


@pytest.mark.parametrize(
    "again",
    [
        Claim("the same", "sparse", "single", "pos"),
        Claim("turned around", "single", "sparse", "pos", primary=True),
        Claim("by key", Key("single"), Key("sparse", seed=3), "pos"),
    ],
)
def test_a_claim_stands_once(r, again):
    with pytest.raises(ValueError, match=f"{again.text!r} and 'POS gains' are one claim"):
        verdict_table(r, [CLAIMS[0], again])


def test_five_claims_of_a_table_may_get_a_verdict(r):
    many = [
        Claim(f"claim {z}", "sparse", Key("single", level=z), primary=True)
        for z in range(PRIMARY + 1)
    ]
    with pytest.raises(ValueError, match="6 primary claims: name 5 at most"):
        verdict_table(r, many)


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
    assert gap.tolist() == [pytest.approx(1)] * 8
    assert differences(more, Key("hard", ("pos",)), "hard", "pos").tolist() == [0, 0]
    with pytest.raises(ValueError, match="no system 'Sparse sharing, 9': there are .*sharing, 5"):
        differences(more, Key("sparse", level=9), "sparse")


def test_a_table_with_a_slip_stops(r):
    with pytest.raises(ValueError, match="no system 'spares'"):
        verdict_table(r, [Claim("a slip", "spares", "single")])


def test_a_table_of_no_claims(r):
    assert verdict_table(r, []).data.empty
