"Reports: the results of an experiment, as tables and figures beside the paper's."

from .tables import (
    Results,
    cost_table,
    density_table,
    describe,
    genre_table,
    load,
    mean_scores,
    overlap_table,
    recorded,
    score_table,
    f1_table,
)

__all__ = [
    "Results",
    "cost_table",
    "density_table",
    "describe",
    "genre_table",
    "load",
    "mean_scores",
    "overlap_table",
    "recorded",
    "score_table",
    "f1_table",
]
