"The benchmark: its command, its figures, and the parts of a step."

import json
import subprocess
import sys

import pytest
from tiny import WIDTH, write_corpus

from sparse_sharing.masks import Mask
from sparse_sharing.study import bench
from sparse_sharing.study.data import Source, read_data
from sparse_sharing.study.models import build
from sparse_sharing.tagging.encoder import Sizes

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

SIZES = Sizes(word=WIDTH, char=4, filters=5, hidden=6)


FIGURES = [
    "floor_ms",
    "lstm_ms",
    "dense_ms",
    "masked_ms",
    "masked_to_dense",
    "crf_ms",
    "eval_tokens_per_s",
    "crf_eval_tokens_per_s",
]


def test_the_floor_counts_two_directions_forward_and_backward():
    assert bench.operations(Sizes()) == 12 * 4 * 200 * 330


@pytest.mark.e2e
def test_the_command(tmp_path):
    folder = write_corpus(tmp_path, n_train=150)
    done = subprocess.run(
        [sys.executable, "-m", "sparse_sharing.bench", "--json", "--profile", "--data", folder],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert list(figures) == FIGURES and all(v > 0 for v in figures.values())
    assert figures["lstm_ms"] < figures["dense_ms"]
    assert all(f"({name})" in done.stdout for name in FIGURES if name != "masked_to_dense")
    assert "one_by_one_ms" in done.stdout
    assert "LSTM, backward" in done.stdout


def test_the_parts_of_a_step_add_up(tmp_path):
    data = read_data(Source(str(write_corpus(tmp_path, n_train=150))))
    parts = bench.profile(data, batches=4, sizes=SIZES).set_index("part")
    assert (parts >= 0).all(axis=None) and parts.index.is_unique
    *some, together = parts.index
    assert {"batch", "LSTM, forward", "LSTM, backward", "update"} < set(some)
    assert together == "together"
    assert (parts.loc[some].sum() - parts.loc[together]).abs().max() < 0.02  # rounded


def test_too_few_sentences_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batches"):
        bench.measure(read_data(Source(str(write_corpus(tmp_path)))), sizes=SIZES)


def test_the_table_has_the_ratios():
    values = (1.0, 2.0, 3.0, 3.3, 1.09, 4.5, 9.0, 8.0)
    table = bench.table(dict(zip(FIGURES, values, strict=True)))
    assert table.ratio.tolist()[:5] == [
        "",
        "2.00 x floor",
        "1.50 x bare LSTM",
        "1.090 x dense",
        "1.50 x dense",
    ]
    assert table.value.tolist() == [v for v in values if v != 1.09]


def test_the_memory_of_all_tasks_is_that_of_weights_and_masks(tmp_path):
    "A byte for a weight and task; one masked network to answer; four bytes for a weight and task, and a second, to train."
    data = read_data(Source(str(write_corpus(tmp_path, n_train=150))))
    cost = bench.inference(data, batches=2, sizes=Sizes(word=WIDTH, char=4, filters=5, hidden=200))
    cost = cost.set_index("system")
    network = build("hard", ["ner"], data, Sizes(word=WIDTH, char=4, filters=5, hidden=200), seed=0)
    masked = Mask.ones(network.get_submodule("encoder")).size / 1e6
    tasks, hard, sparse = len(data.splits), cost.loc["hard"], cost.loc["sparse"]
    assert sparse.built_mb - hard.built_mb == pytest.approx(tasks * masked, abs=0.02)
    answering = (sparse.answering_mb - sparse.built_mb) / (4 * masked)
    assert answering == pytest.approx(1, abs=0.1), "one network of four-byte weights"
    training = (sparse.training_mb - sparse.answering_mb) / (4 * masked)
    assert training == pytest.approx(tasks + 1, abs=0.1), "bits of each task, and a second network"
    assert hard.built_mb == hard.answering_mb == hard.training_mb
    assert hard.to_hard == 1 and (cost.call_ms > 0).all()
