"The published tables as data: their shape, and the arithmetic that ties them together."

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparse_sharing.study import paper

TABLES = [
    paper.table1,
    paper.table2,
    paper.table3,
    paper.table4,
    paper.table5,
    paper.table6,
    paper.table7,
    paper.table8,
]


@pytest.fixture(scope="module")
def printed() -> pd.Series:
    "Parameter counts of Table 3."
    return paper.table3().groupby(["experiment", "system"])["parameters"].first()


def encoder(layers: int) -> tuple[int, int, int, int]:
    "Weights and biases of the LSTM stack, then of the character convolution, as PyTorch counts."
    lstm = nn.LSTM(130, 200, num_layers=layers, bidirectional=True)
    cnn = nn.Conv1d(30, 30, 3)
    counts = [
        sum(p.numel() for p in m.parameters() if (p.ndim > 1) == weights)
        for m in (lstm, cnn)
        for weights in (True, False)
    ]
    return counts[0], counts[1], counts[2], counts[3]


@pytest.mark.parametrize(
    "table,rows",
    list(zip(TABLES, [12, 7, 36, 9, 18, 6, 3, 12], strict=True)),
    ids=lambda x: getattr(x, "__name__", None),
)
def test_rows(table, rows):
    assert len(table()) == rows


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.__name__)
def test_a_fresh_frame_each_time(table):
    first = table()
    first["extra"] = 0
    first.loc[0, "extra"] = 1
    assert "extra" not in table()


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.__name__)
def test_names_and_units(table):
    t = table()
    if "task" in t:
        assert set(t.task) <= set(paper.TASKS)
    if "metric" in t:
        assert (t.metric == t.task.map(paper.METRICS)).all()
    if "score" in t:
        assert t.score.between(50, 100).all()
    for share in {"density", "overlap"} & set(t):
        assert t[share].between(0, 1).all()


def test_systems_are_those_of_table_3_in_order_and_one_of_table_5():
    assert [*paper.table3().system.unique(), "meta"] == list(paper.SYSTEMS)
    assert "meta" in set(paper.table5().system)


def test_some_cells_against_the_page():
    t3 = paper.table3().set_index(["experiment", "system", "task"])
    assert tuple(t3.loc[("exp1", "hard", "ner"), ["score", "delta"]]) == (88.68, -0.68)
    assert tuple(t3.loc[("exp2", "soft", "chunk"), ["score", "parameters"]]) == (95.29, 4_485_000)
    t1 = paper.table1().set_index(["data", "split"])["tokens"]
    assert t1["ontonotes", "train"] == 1_903_815
    assert t1.isna().sum() == 1 and pd.isna(t1["conll2000", "dev"])
    t8 = paper.table8().set_index(["experiment", "warmup", "task"])["score"]
    assert t8["exp2", False, "ner"] == 81.15
    assert paper.table5().set_index(["system", "task"])["score"]["sparse", "chunk"] == 95.26


@pytest.mark.parametrize("table", [paper.table3, paper.table6], ids=lambda t: t.__name__)
def test_deltas_are_differences(table):
    t = table()
    base = t[t.system == "single"].set_index(["experiment", "task"])["score"].rename("base")
    t = t.join(base, on=["experiment", "task"])
    assert t.delta.isna().equals(t.system == "single")
    other = t[t.system != "single"]
    assert ((other.score - other.base).round(2) == other.delta).all()


def test_densities_are_twentieths_of_a_decade():
    densities = paper.table4().density
    n = (20 * np.log10(1 / densities)).round()
    assert list(n) == [6, 5, 7, 10, 12, 8, 5, 5, 5]
    assert ((0.1 ** (n / 20)).round(4) == densities).all()
    assert not set(densities) & {round(0.9**z, 4) for z in range(100)}


def test_dense_counts(printed):
    (lw, lb, cw, cb), (lw2, lb2, *_) = encoder(1), encoder(2)
    one, two, conv = lw + lb, lw2 + lb2, cw + cb
    exact = {
        ("exp1", "single"): 3 * (one + conv),
        ("exp1", "hard"): one + conv,
        ("exp1", "soft"): 3 * one + conv,
        ("exp1", "hierarchical"): two + conv,
        ("exp2", "single"): 3 * (two + conv),
        ("exp2", "hard"): two + conv,
        ("exp2", "hierarchical"): two + conv,
    }
    assert [exact["exp1", s] for s in ["hard", "hierarchical", "single", "soft"]] == [
        533_930,
        1_497_130,
        1_601_790,
        1_596_330,
    ]
    for key, count in exact.items():
        assert round(count, -3) == printed[key], key
    assert 3 * two + conv == 4_485_930  # printed as 4485k: the one count that is not rounded
    assert printed["exp2", "soft"] == 4_485_000


@pytest.mark.parametrize("experiment,layers,exact", [("exp1", 1, 811_160), ("exp2", 2, 1_458_596)])
def test_subnet_counts(printed, experiment, layers, exact):
    lw, lb, cw, cb = encoder(layers)
    densities = paper.table4().query("experiment == @experiment").density
    powers = 0.1 ** ((20 * np.log10(1 / densities)).round() / 20)
    assert int((powers * (lw + cw)).round().sum()) + 3 * (lb + cb) == exact
    assert round(exact, -3) == printed[experiment, "subnet"]


@pytest.mark.parametrize("experiment,layers,union", [("exp1", 1, 0.740), ("exp2", 2, 0.440)])
def test_union_of_the_masks(printed, experiment, layers, union):
    lw, lb, cw, cb = encoder(layers)
    assert round((printed[experiment, "sparse"] - lb - cb) / (lw + cw), 3) == union


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.floats(0.05, 1)] * 3))
def test_lower_bound_of_the_overlap_holds_for_any_masks(seed, densities):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.random(400) < d for d in densities)
    union = (a | b | c).mean()
    if (a | b).any():
        ratio = (a & b).sum() / (a | b).sum()
        assert ratio >= (a.mean() + b.mean() - union) / union - 1e-12


def test_table_7_contradicts_tables_3_and_4(printed):
    lw, lb, cw, cb = encoder(1)
    density = paper.table4().query("experiment == 'exp1'").set_index("task").density
    got = {}
    for tasks, overlap in paper.table7().set_index("tasks").overlap.items():
        a, b = (density[t] for t in tasks.split("+"))
        low, high = ((printed["exp1", "sparse"] + e - lb - cb) / (lw + cw) for e in (0, 500))
        got[tasks] = (round((a + b - low) / low, 3), overlap < (a + b - high) / high)
    assert got == {
        "pos+ner": (0.437, True),
        "ner+chunk": (0.363, True),
        "pos+chunk": (0.281, False),
    }


def test_table_8_repeats_table_3():
    keys = ["experiment", "system", "task"]
    both = paper.table8().query("warmup").merge(paper.table3(), on=keys)
    assert len(both) == 6 and (both.score_x == both.score_y).all()


@pytest.mark.parametrize("split,file", [("train", "train"), ("dev", "testa"), ("test", "testb")])
def test_table_1_counts_the_document_marks(data_dir, split, file):
    path = data_dir / "conll2003" / f"eng.{file}"
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [x for x in lines if x.strip()]
    marks = [x for x in rows if re.match("-DOCSTART-", x)]
    tokens = paper.table1().set_index(["data", "split"])["tokens"]["conll2003", split]
    assert marks
    assert len(rows) == tokens
