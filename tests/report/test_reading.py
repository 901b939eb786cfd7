"How to read a table: sentences that its numbers make."

import pandas as pd
import pytest

from sparse_sharing.report.reading import in_points, reading, side
from sparse_sharing.report.results import load, recorded


def test_a_side_takes_six_seeds():
    gaps = pd.Series([1.0, 2.0, 1.5, 1.2, 1.8, 1.4])
    assert [side(gaps), side(-gaps), side(gaps[:5])] == [1, -1, 0]
    assert "[" in in_points(gaps) and "[" not in in_points(gaps[:5])


@pytest.mark.parametrize(
    "run, said", [("exp1-conll2003", "set `n_seeds`"), ("negative_transfer-conll2003", "harms NER")]
)
def test_recorded_runs_are_read(run, said):
    text = reading(load(recorded(run)))
    assert said in text and "sharing adds" in text and "inf" not in text
