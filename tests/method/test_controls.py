"Control masks as properties: what they keep of the mask that they imitate, and what they lose."

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_masks import SHAPES, mask_of, masks

from sparse_sharing.controls import random_like, shuffled
from sparse_sharing.masks import Mask, chance_overlap, intersection, overlap_ratio, union

properties = settings(deadline=None, max_examples=60)
each_control = pytest.mark.parametrize("control", [random_like, shuffled])
seeds = st.integers(0, 2**63 - 1)  # as `derive_seed` gives them


def counts(mask):
    return {name: int(tensor.sum()) for name, tensor in mask.items()}


def drawn(density, seed, size=3000):
    "A mask of two tensors, one of them half as dense as the other."
    generator = torch.Generator().manual_seed(seed)
    return Mask(
        {
            "a": torch.rand(size // 10, 10, generator=generator) < density,
            "b": torch.rand(size // 10, 10, generator=generator) < density / 2,
        }
    )


class TestBoth:
    @each_control
    @properties
    @given(mask=masks, seed=seeds)
    def test_every_tensor_keeps_as_many_weights(self, control, mask, seed):
        found = control(mask, seed)
        assert counts(found) == counts(mask)
        assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in mask.items()}

    @each_control
    @properties
    @given(mask=masks, seed=seeds)
    def test_one_seed_is_one_mask(self, control, mask, seed):
        before = mask_of(torch.cat([mask[n].flatten() for n in SHAPES]).tolist())
        assert control(mask, seed) == control(mask, seed)
        assert mask == before, "what is imitated stays as it was"

    @each_control
    def test_another_seed_is_another_mask(self, control):
        mask = drawn(0.5, 0)
        found = [mask, *(control(mask, seed) for seed in range(5))]
        assert all(a != b for i, a in enumerate(found) for b in found[:i])

    @each_control
    @properties
    @given(mask=masks, seed=seeds)
    def test_no_random_stream_is_disturbed(self, control, mask, seed):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        control(mask, seed)
        assert torch.equal(before, torch.get_rng_state())

    @each_control
    def test_the_order_of_the_tensors_does_not_count(self, control):
        mask = drawn(0.5, 0)
        turned = Mask(dict(reversed(list(mask.items()))))
        assert control(mask, 3) == control(turned, 3)

    @each_control
    @pytest.mark.parametrize("all_", [True, False])
    def test_all_or_nothing_stays_all_or_nothing(self, control, all_):
        mask = mask_of([all_] * sum(t.numel() for t in mask_of([1] * 36).values()))
        assert control(mask, 5) == mask

    @each_control
    def test_every_place_is_as_likely(self, control):
        "Over 400 seeds, a place of a tensor that keeps a quarter is kept about 100 times."
        kept = torch.zeros(40, dtype=torch.bool)
        kept[:10] = True
        times = sum(control(Mask({"w": kept}), seed)["w"].int() for seed in range(400))
        assert times.sum() == 4000 and 60 < times.min() < 100 < times.max() < 140


class TestRandom:
    @settings(deadline=None, max_examples=20)
    @given(
        st.lists(st.sampled_from([0.3, 0.5, 0.8]), min_size=2, max_size=3),
        st.integers(0, 10**6),
    )
    def test_masks_meet_by_chance(self, densities, seed):
        "Even if the imitated ones are parts of one another, as far as thousands of weights allow."
        like = [drawn(d, 0) for d in sorted(densities)]
        assert all(a <= b for a, b in zip(like, like[1:], strict=False))
        found = [random_like(m, seed + i) for i, m in enumerate(like)]
        expected = chance_overlap(like, per_tensor=True)
        assert overlap_ratio(found) == pytest.approx(expected, abs=0.05)
        assert overlap_ratio(like) > expected + 0.05

    def test_tensors_of_one_shape_get_draws_of_their_own(self):
        kept = torch.arange(200) < 100
        found = random_like(Mask({"a": kept, "b": kept}), 0)
        assert 30 < int((found["a"] & found["b"]).sum()) < 70

    def test_only_the_density_counts(self):
        "Two masks with the same counts and one seed have the same imitation."
        one, other = torch.arange(90) < 30, torch.arange(90) >= 60
        assert random_like(Mask({"w": one}), 4) == random_like(Mask({"w": other}), 4)


class TestShuffled:
    @properties
    @given(st.lists(masks, min_size=2, max_size=4), seeds)
    def test_one_seed_keeps_the_overlap_of_any_group(self, some, seed):
        assume(any(m.kept for m in some))
        moved = [shuffled(m, seed) for m in some]
        assert overlap_ratio(moved) == overlap_ratio(some)
        assert counts(intersection(moved)) == counts(intersection(some))
        assert counts(union(moved)) == counts(union(some))
        assert [counts(m) for m in moved] == [counts(m) for m in some]

    @properties
    @given(masks, masks, seeds)
    def test_one_seed_is_one_permutation(self, a, b, seed):
        "It goes through all that can be said of masks."
        assert shuffled(a & b, seed) == shuffled(a, seed) & shuffled(b, seed)
        assert shuffled(~a, seed) == ~shuffled(a, seed)
        assert (a <= b) == (shuffled(a, seed) <= shuffled(b, seed))

    def test_other_seeds_lose_the_overlap(self):
        mask = drawn(0.5, 0)
        apart = [shuffled(mask, 0), shuffled(mask, 1)]
        expected = chance_overlap([mask, mask], per_tensor=True)
        assert overlap_ratio(apart) == pytest.approx(expected, abs=0.05) != 1

    def test_a_shuffled_mask_meets_its_model_by_chance(self):
        mask = drawn(0.5, 0)
        expected = chance_overlap([mask, mask], per_tensor=True)
        assert overlap_ratio([mask, shuffled(mask, 7)]) == pytest.approx(expected, abs=0.05)

    def test_a_tensors_place_depends_on_its_name_and_not_on_its_company(self):
        kept = torch.arange(300) < 150
        alone, both = shuffled(Mask({"b": kept}), 0), shuffled(Mask({"a": kept, "b": kept}), 0)
        assert torch.equal(alone["b"], both["b"]) and not torch.equal(both["a"], both["b"])
