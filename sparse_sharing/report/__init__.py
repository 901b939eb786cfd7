"Reports: the results of an experiment, as tables and figures beside the paper's."

from ..extras import require

require("study", "pandas", "jinja2", "matplotlib", "seaborn", "scipy")

from .reading import reading  # noqa: E402
from .results import Results, describe, load, recorded  # noqa: E402
from .tables import (  # noqa: E402
    cost_table,
    density_table,
    f1_gains,
    f1_table,
    genre_table,
    mean_scores,
    overlap_table,
    score_table,
)

__all__ = [
    *("Results", "load", "recorded", "describe"),
    *("reading", "score_table", "f1_table", "f1_gains", "mean_scores", "density_table"),
    *("genre_table", "overlap_table", "cost_table"),
]
