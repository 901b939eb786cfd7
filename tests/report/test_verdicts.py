"What paired differences decide: the test, the interval that belongs to it, several claims, equality."

import dataclasses
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparse_sharing.report.verdicts import (
    SEEDS,
    equivalence,
    fewest_seeds,
    holm,
    interval,
    sign_flip,
    verdict,
)

points = st.integers(-300, 300).map(lambda n: n / 100)
samples = st.lists(points, min_size=1, max_size=9)


def by_definition(x, above=False):
    "Every way of flipping signs, in whole hundredths."
    values = [round(100 * v) for v in x]
    total = sum(values)
    sums = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in product([1, -1], repeat=len(values))
    ]
    if above:
        return sum(s >= total for s in sums) / len(sums)
    return sum(abs(s) >= abs(total) for s in sums) / len(sums)


@settings(deadline=None)
@given(samples, st.booleans())
def test_sign_flip_is_its_definition(x, above):
    assert sign_flip(x, above) == by_definition(x, above)


@given(
    st.lists(points, min_size=6, max_size=9), st.integers(-400, 400), st.sampled_from([0.9, 0.95])
)
def test_the_interval_holds_the_means_that_are_not_rejected(x, hundredths, level):
    low, high = interval(x, level)
    mean = hundredths / 100 + 0.00371  # no subset of hundredths has this mean
    assume(min(abs(mean - low), abs(mean - high)) > 1e-6)
    kept = sign_flip(np.array(x) - mean) > 1 - level + 1e-12
    assert kept == (low < mean < high)


@given(samples)
def test_the_interval_never_speaks_against_the_test(x):
    low, high = interval(x)
    if sign_flip(x) <= 0.05:
        assert low > 0 or high < 0
    else:
        assert low <= 1e-9 and high >= -1e-9


def test_the_ends_are_means_of_subsets():
    x = [0.2, 0.5, 0.3, 0.7, 0.4, 0.6, 0.1, 0.8]
    means = sorted(float(np.mean(some)) for n in range(1, 9) for some in combinations(x, n))
    assert interval(x) == pytest.approx((means[5], means[-6]))  # 0.05 * 2 ** 7 is 6.4


@given(samples)
def test_turned_around_everything_is_mirrored(x):
    low, high = interval(x)
    assert interval([-v for v in x]) == pytest.approx((-high, -low))
    assert sign_flip([-v for v in x]) == sign_flip(x)


@pytest.mark.parametrize("n, ends", [(1, None), (5, None), (6, 0.4)])
def test_five_seeds_have_no_interval(n, ends):
    low, high = interval([0.4] * n)
    assert (low, high) == ((-np.inf, np.inf) if ends is None else (ends, ends))


@pytest.mark.parametrize("level, seeds", [(0.5, 2), (0.75, 3), (0.95, 6), (0.99, 8)])
def test_fewest_seeds(level, seeds):
    assert fewest_seeds(level) == seeds
    assert sign_flip([1.0] * seeds) <= 1 - level + 1e-12 < sign_flip([1.0] * (seeds - 1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_step_by_step(p_values):
    "The definition: go through the p values in order, and stop at the first that is too large."
    rejected = set()
    for rank, p in enumerate(sorted(p_values)):
        if p > 0.05 / (len(p_values) - rank):
            break
        rejected.add(p)
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert corrected >= p
        if abs(corrected - 0.05) > 1e-9:
            assert (corrected < 0.05) == (p in rejected)


@given(st.lists(points, min_size=5, max_size=9), st.sampled_from([0.1, 0.3, 1.0]))
def test_equality_is_an_interval_within_the_margins(x, margin):
    low, high = interval(x, level=0.9)
    assume(min(abs(low + margin), abs(high - margin)) > 1e-6)
    assert (equivalence(x, margin) <= 0.05) == (-margin < low and high < margin)


def test_words():
    eight = [0.2, 0.5, 0.3, 0.7, 0.4, 0.6, 0.1, 0.8]
    assert verdict(eight).word() == "supported"
    assert verdict(eight).word(p=0.06) == "not distinguishable", "an adjusted p value decides"
    assert verdict([-d for d in eight]).word() == "contradicted"
    assert verdict(eight, margin=1).word() == "supported"
    assert verdict(eight, margin=0.5).word() == "not shown"
    assert verdict(eight, margin=0.1).word() == "not shown", "a test of equality refutes nothing"
    assert verdict(eight[:1]).word() == "not decided, 1 seed"
    assert verdict(eight[: SEEDS - 1]).word() == "not decided, 7 seeds"
    assert verdict(eight, planned=9).word() == "not decided, 8 of 9 seeds"
    assert verdict(eight[:1], planned=9).word() == "not decided, 1 of 9 seeds"
    assert verdict(eight, planned=6).word() == "supported"
    assert str(verdict(eight)) == "supported: +0.45 points [+0.23, +0.67], p = 0.008"
    assert str(verdict(eight[:2])) == "not decided, 2 seeds: +0.35 points"


def test_a_verdict_cannot_be_edited():
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict([0.1]).p = 0.001


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sign_flip([]), "one number per seed"),
        (lambda: sign_flip([[0.1]]), "one number per seed"),
        (lambda: sign_flip([0.1] * 21), "20 at most"),
        (lambda: sign_flip([0.1, np.inf]), "a difference is inf"),
        (lambda: interval([0.1], 1.0), "level is 1.0"),
        (lambda: equivalence([0.1], 0), "margin is 0"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
