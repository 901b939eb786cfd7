"Many small networks at once: what each may change, and what is refused."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_sharing.regimes import (
    INPUTS,
    Budget,
    Networks,
    Pair,
    compare,
    draw,
    gradients,
    largest,
    pruned,
    splits,
    start,
    step,
    subnet,
    turns,
)

SHORT = Budget(epochs=20, batch=16, rate=0.2)


@given(st.integers(0, 2), st.booleans(), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_gives_the_same_examples(shared, rotated, seed):
    inputs, answers = draw(Pair(shared, rotated), 50, seed)
    assert inputs.shape == (2, 50, INPUTS) and set(answers.unique().tolist()) <= {0.0, 1.0}
    again = draw(Pair(shared, rotated), 50, seed)
    assert torch.equal(inputs, again[0]) and torch.equal(answers, again[1])


def test_the_rotation_turns_the_tasks_and_leaves_the_inputs_alone():
    plain, turned = draw(Pair(), 400, 3), draw(Pair(rotated=True), 400, 3)
    assert torch.equal(plain[0], turned[0]) and not torch.equal(plain[1], turned[1])


def test_wrong_labels_are_in_train_and_dev_and_never_in_test():
    clean, noisy = (splits([Pair(noise=n)], [5], 300) for n in ((0.0, 0.0), (0.0, 0.3)))
    wrong = [(a.answers != b.answers).float().mean(2)[0] for a, b in zip(clean, noisy, strict=True)]
    for part in wrong[:2]:
        assert part[0] == 0 and 0.15 < part[1] < 0.45
    assert wrong[2].tolist() == [0, 0]


@given(st.integers(0, 24), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_exactly_so_many_are_kept_and_none_that_is_smaller(keep, seed):
    scores = torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    masks = largest(scores, torch.full((3,), keep))
    assert masks.sum((1, 2)).tolist() == [keep] * 3
    if 0 < keep < 24:
        for kept, score in zip(masks.bool(), scores, strict=True):
            assert score[kept].min() >= score[~kept].max()


@pytest.mark.parametrize("task", [0, 1])
def test_a_step_leaves_what_is_not_its_own(task):
    networks, (learn, *_) = start(8, [1, 2]), splits([Pair(), Pair(2)], [1, 2], 32)
    before = Networks(*(tensor.clone() for tensor in networks))
    velocity = Networks(*(torch.ones_like(tensor) for tensor in networks))
    masks = (torch.rand(2, 2, 8, INPUTS, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    batch = learn.inputs[:, task], learn.answers[:, task]
    slopes = gradients(subnet(networks, masks, task), *batch)
    step(networks, velocity, slopes, masks[:, task], task, rate=0.1)
    outside = masks[:, task] == 0
    assert torch.equal(networks.weights[outside], before.weights[outside])
    assert (velocity.weights[outside] == 1).all()
    assert torch.equal(networks.heads[:, 1 - task], before.heads[:, 1 - task])
    assert not torch.equal(networks.heads[:, task], before.heads[:, task])
    assert not torch.equal(networks.weights[~outside], before.weights[~outside])


def test_a_chosen_subnet_was_pruned():
    examples = splits([Pair(), Pair(1, True)], [1, 2], 32)
    masks, networks, dev = pruned(start(8, [1, 2]), *examples[:2], (32, 32), SHORT)
    assert masks.shape == (2, 2, 8, INPUTS) and dev.shape == (2, 2)
    kept = masks.sum((2, 3)).flatten().tolist()
    assert set(kept) <= {48, 24, 12, 6}
    assert len(networks.weights) == 4


def test_every_mini_batch_comes_once():
    rows = list(turns((5, 9), 4, torch.Generator().manual_seed(0)))
    for task, size in enumerate((5, 9)):
        seen = torch.cat([r for t, r in rows if t == task])
        assert sorted(seen.tolist()) == list(range(size))


@pytest.mark.parametrize("sizes", [(32, 32), (16, 32)])
def test_all_systems_of_all_runs_are_compared(sizes):
    rows = compare([Pair(), Pair(2, True)], [0, 1, 2], 8, sizes, SHORT)
    assert len(rows) == 2 * 3 * 5 * 2
    assert {r["system"] for r in rows} == {"single", "hard", "sparse", "random", "subnet"}
    for r in rows:
        assert 0 <= r["test"] <= 100 and r["size"] == sizes[r["task"]]
        assert (r["density"] == 1) == (r["system"] in ("single", "hard"))
    same = [r["density"] for r in rows if r["system"] == "random"]
    assert same == [r["density"] for r in rows if r["system"] == "sparse"]
    assert rows == compare([Pair(), Pair(2, True)], [0, 1, 2], 8, sizes, SHORT)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Pair(shared=3), "0, 1 or 2"),
        (lambda: Pair(noise=(0.0, 0.5)), "less than one half"),
        (lambda: Budget(epochs=30), "multiple of 20"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
