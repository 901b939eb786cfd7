"Finders of masks: exact counts, a model left alone, each score by hand; and control masks as properties."

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets import ENCODERS, any_task, any_way, copied, hard, heads, mlp, same, toy_task
from test_masks import SHAPES, mask_of, masks
from torch import nn

from sparse_sharing.finders import (
    METHODS,
    agreed,
    draw_gates,
    find_masks,
    gates,
    magnitude,
    open_probability,
    random_like,
    sensitivity,
    shuffled,
)
from sparse_sharing.masks import Mask, chance_overlap, intersection, overlap_ratio, union
from sparse_sharing.pruning import alone, imp, prune
from sparse_sharing.sharing import HardSharing, SingleTask, SparseSharing
from sparse_sharing.training import Task

each_method = pytest.mark.parametrize("method", [*METHODS, "unanimous"])
each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
QUICK = {name: dict(epochs=1) for name in ("imp", "one_round", "l0")}
QUICK["imp"] |= dict(alpha=0.4)
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


def found(make, method, density=0.3, **options):
    "The model, and what a quick search finds for both of its tasks."
    model, inputs = hard(make)
    tasks = [any_task(t, inputs) for t in "ab"]
    masks = find_masks(model, tasks, method, density=density, **QUICK.get(method, {}), **options)
    return model, masks


class TestFindMasks:
    @each_encoder
    @each_method
    def test_exact_counts_and_a_model_left_alone(self, make, method):
        before = copied(hard(make)[0])
        model, masks = found(make, method)
        assert same(copied(model), before)
        assert all(p.grad is None for p in model.parameters()) and model.training
        whole = Mask.ones(model.encoder)
        assert list(masks) == ["a", "b"]
        assert [m.kept for m in masks.values()] == [round(0.3 * whole.size)] * 2
        assert all(m <= whole for m in masks.values())

    @each_method
    def test_same_seed_same_masks_whatever_torch_draws(self, method):
        results = []
        for noise in (1, 2):
            torch.manual_seed(noise)
            results.append(found(mlp, method, seed=4)[1])
        assert results[0] == results[1]

    @pytest.mark.parametrize("method", ["one_round", "snip", "l0", "random"])
    def test_another_seed_is_another_search(self, method):
        "Two may end alike, where rounding goes another way; four do not."
        first, *others = (found(mlp, method, seed=seed)[1] for seed in range(4, 8))
        assert any(other != first for other in others)

    @each_method
    def test_within(self, method):
        model, inputs = hard(mlp)
        tasks = [any_task(t, inputs) for t in "ab"]
        taken = Mask.random(model.encoder, 0.6, torch.Generator().manual_seed(0))
        options = dict(density=0.25, within=~taken) | QUICK.get(method, {})
        masks = find_masks(model, tasks, method, **options)
        assert all(m <= ~taken and m.kept == 21 for m in masks.values())

    def test_within_names_what_is_searched(self):
        model, inputs = hard(mlp)
        one = Mask.ones(model.encoder, ["3.weight"])
        mask = find_masks(model, [any_task("a", inputs)], "snip", density=0.5, within=one)["a"]
        assert list(mask) == ["3.weight"] and mask.kept == 28

    @pytest.mark.parametrize("rounds", [1, 3])
    def test_imp_is_algorithm_1(self, rounds):
        model, _ = hard(mlp)
        options = dict(alpha=0.3, epochs=2, seed=1)
        candidate = imp(model, toy_task("a"), min_density=0.2, log=None, **options)[rounds].mask
        masks = find_masks(model, [toy_task("a")], density=candidate.density, **options)
        assert masks == {"a": candidate}

    def test_imp_ends_between_two_rounds_at_the_exact_number(self):
        model, _ = hard(mlp)
        options = dict(alpha=0.3, epochs=1, seed=1)
        chain = imp(model, toy_task("a"), min_density=0.2, log=None, **options)
        mask = find_masks(model, [toy_task("a")], density=0.4, **options)["a"]
        assert mask.kept == round(0.4 * 84) and mask <= chain[2].mask
        assert chain[3].mask <= mask, "the same scores prune further"

    def test_a_density_for_each_task(self):
        model, inputs = hard(mlp)
        tasks = [any_task(t, inputs) for t in "ab"]
        masks = find_masks(model, tasks, "snip", density={"b": 0.5, "a": 1})
        assert {t: m.kept for t, m in masks.items()} == {"a": 84, "b": 42}

    def test_scores_of_the_users_own_in_rounds(self):
        seen = []

        def by_index(model, task, mask, least):
            seen.append(mask.kept)
            return {n: torch.arange(m.numel()).view(m.shape) + least for n, m in mask.items()}

        model, _ = hard(mlp)
        mask = find_masks(model, [toy_task("a")], by_index, density=0.5, alpha=0.25, least=1)["a"]
        assert seen == [84, 63, 47] and mask.kept == 42

    def test_a_sparse_model_is_searched_for_a_task_of_its_own(self):
        "The masks that it has do not limit the search."
        model, inputs = hard(mlp)
        masks = {t: Mask.random(model.encoder, 0.3, torch.Generator().manual_seed(0)) for t in "ab"}
        sparse = SparseSharing(model.encoder, model.heads, masks)
        options = dict(density=0.4, epochs=1)
        tasks = [any_task("a", inputs)]
        assert find_masks(sparse, tasks, "one_round", **options) == find_masks(
            model, tasks, "one_round", **options
        )

    def test_buffers_of_the_model_stay(self):
        torch.manual_seed(0)
        model = HardSharing(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), heads())
        before = copied(model)
        for method in [*METHODS, "unanimous"]:
            options = QUICK.get(method, {})
            find_masks(model, [toy_task(t) for t in "ab"], method, density=0.5, **options)
            assert same(copied(model), before), method

    @pytest.mark.parametrize("density", [0, -0.1, 1.1, float("nan")])
    def test_a_share_that_is_none(self, density):
        with pytest.raises(ValueError, match=f"density of 'a' is {density}"):
            found(mlp, "snip", density=density)

    def test_what_does_not_fit_is_named(self):
        model, inputs = hard(mlp)
        tasks = [any_task(t, inputs) for t in "ab"]
        with pytest.raises(ValueError, match="no method 'magic': take imp, one_round"):
            find_masks(model, tasks, "magic", density=0.5)
        with pytest.raises(ValueError, match=r"\['a', 'c'\], heads \['a', 'b'\]"):
            find_masks(model, [tasks[0], replace(tasks[1], name="c")], "snip", density=0.5)
        with pytest.raises(ValueError, match="give each task once"):
            find_masks(model, [tasks[0], tasks[0]], "snip", density=0.5)
        with pytest.raises(ValueError, match=r"densities are for \['a'\], tasks are \['a', 'b'\]"):
            find_masks(model, tasks, "snip", density={"a": 0.5})
        with pytest.raises(ValueError, match="alpha is 1.5"):
            find_masks(model, tasks, density=0.5, alpha=1.5)
        with pytest.raises(
            ValueError, match="alpha is 1e-17.* none of 84 weights: give a larger one"
        ):
            find_masks(model, tasks, "random", density=0.5, alpha=1e-17)
        separate = SingleTask(model.encoder, heads())
        with pytest.raises(ValueError, match="SingleTask has no encoder for all tasks"):
            find_masks(separate, tasks, "random", density=0.5)
        with pytest.raises(ValueError, match="one mask for all tasks: give one density"):
            find_masks(model, tasks, "unanimous", density={"a": 0.5, "b": 0.4})
        with pytest.raises(TypeError, match="epochz"):
            find_masks(model, tasks, "one_round", density=0.5, epochz=3)
        few = Mask.random(model.encoder, 0.25, torch.Generator())
        with pytest.raises(ValueError, match="only 0.2500 of the weights"):
            find_masks(model, tasks, "snip", density=0.3, within=few)
        with pytest.raises(ValueError, match="no parameter is called 'w'"):
            find_masks(model, tasks, "snip", density=0.3, within=mask_of_one())


def mask_of_one():
    return Mask({"w": torch.ones(2, dtype=torch.bool)})


class TestScores:
    def test_magnitude_is_of_the_trained_weights(self):
        model, _ = hard(mlp)
        whole = Mask.ones(model.encoder)
        ends = []
        score = toy_task("a").score
        task = toy_task("a", score=lambda m: ends.append(copied(m)) or score(m))
        sizes = magnitude(model, task, whole, epochs=2, magnitudes="last")
        assert len(ends) == 2
        assert same(sizes, {n: ends[-1][f"encoder.{n}"].abs() for n in whole})

    def test_sensitivity_leaves_frozen_norms_as_they_are(self):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1))
        model, modes, task = HardSharing(net, heads()), [], toy_task("a")
        net[1].eval().requires_grad_(False)

        def loss(m, rows):
            modes.append((m.encoder[1].training, m.encoder[2].training))
            return task.loss(m, rows)

        sensitivity(model, replace(task, loss=loss), Mask.ones(net))
        assert set(modes) == {(False, True)}

    def test_a_search_begins_with_what_is_the_tasks_own(self):
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        ones = dict.fromkeys("ab", Mask.ones(net))
        model, x = SparseSharing(net, heads(), ones, private=True), torch.randn(6, 4)
        for p in model.own["a"].parameters():
            nn.init.normal_(p)
        model(x + 3, task="a")
        before = copied(model)
        start = alone(model, toy_task("a"), ones["a"])
        assert torch.equal(start.eval()(x, task="a"), model.eval()(x, task="a"))
        assert same(copied(model), before)

    def test_heads_at_layers_of_their_own(self):
        model, _ = any_way("hierarchical")
        for search in (
            lambda: imp(model, toy_task("a")),
            lambda: sensitivity(model, toy_task("a"), Mask.ones(model.encoder)),
        ):
            with pytest.raises(ValueError, match="layers of their own"):
                search()

    def test_sensitivity_is_the_derivative_of_the_loss_by_a_factor(self):
        "As differences tell it, in double precision."
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 8)).double()
        model = HardSharing(net, {"a": heads()["a"].double()})
        rows = torch.randn(6, 4).double()
        task = Task("a", lambda rng: [rows], lambda m, x: m(x, task="a").square().sum(), min, 6)
        felt = sensitivity(model, task, Mask.ones(net))

        def loss(c):
            with torch.no_grad():
                net[0].weight[1, 2] *= c
                value = task.loss(model, rows).item()
                net[0].weight[1, 2] /= c
            return value

        slope = (loss(1 + 1e-6) - loss(1 - 1e-6)) / 2e-6
        assert felt["0.weight"][1, 2].item() == pytest.approx(abs(slope), rel=1e-5)

    def test_sensitivity_sees_as_many_mini_batches_as_it_is_told(self):
        seen = []
        plain = toy_task("a")
        task = replace(plain, loss=lambda m, rows: seen.append(len(rows)) or plain.loss(m, rows))
        model, _ = hard(mlp)
        for n, expected in ((2, 2), (None, 6)):
            seen.clear()
            sensitivity(model, task, Mask.ones(model.encoder), n_batches=n)
            assert len(seen) == expected

    def test_a_weight_that_the_loss_does_not_reach_is_not_felt(self):
        class Half(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.unused = nn.Linear(4, 8), nn.Linear(4, 8)

            def forward(self, x):
                return self.used(x)

        model = HardSharing(Half(), heads())
        felt = sensitivity(model, toy_task("a"), Mask.ones(model.encoder))
        assert not felt["unused.weight"].any() and felt["used.weight"].all()

    def test_gates_close_where_nothing_is_needed(self):
        "Inputs 0 and 1 decide; 2 and 3 are noise."
        rows = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
        y = (rows[:, 0] + rows[:, 1] > 0).long()
        task = Task(
            "a",
            lambda rng: np.array_split(rng.permutation(400), 20),
            lambda m, i: nn.functional.cross_entropy(m(rows[i], task="a"), y[i]),
            lambda m: 0.0,
            400,
        )
        torch.manual_seed(0)
        model = HardSharing(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), {"a": nn.Linear(8, 2)})
        opened = gates(model, task, Mask.ones(model.encoder), epochs=15)["0.weight"]
        assert opened.min() >= 0 and opened.max() <= 1
        assert opened[:, :2].mean() > 3 * opened[:, 2:].mean()

    def test_a_higher_price_closes_more_gates(self):
        model, _ = hard(mlp)
        whole = Mask.ones(model.encoder)
        means = [
            torch.cat([g.flatten() for g in gates(model, toy_task("a"), whole, 3, p).values()])
            for p in (0.0, 1.0, 30.0)
        ]
        assert means[0].mean() > means[1].mean() > means[2].mean()

    @pytest.mark.parametrize("location", [-2.0, 0.0, 1.5])
    def test_the_formula_of_open_gates(self, location):
        torch.manual_seed(0)
        a = torch.full((40_000,), location)
        drawn = draw_gates(a)
        assert 0 <= drawn.min() and drawn.max() <= 1
        share = (drawn > 0).double().mean().item()
        assert share == pytest.approx(open_probability(a[0]).item(), abs=0.01)

    @properties
    @given(st.lists(st.integers(0, 5), min_size=6, max_size=6), st.integers(1, 6))
    def test_what_all_can_spare_goes_first(self, numbers, keep):
        "The kept ones are those that some task has among its first k, for one k."
        mask = Mask({"w": torch.ones(6, dtype=torch.bool)})
        scores = [{"w": torch.tensor(numbers)}, {"w": torch.tensor(numbers[::-1])}]
        kept = prune(agreed(scores, mask), mask, keep)
        tops = [
            union([prune(s, mask, k) for s in scores])
            for k in range(7)  # of each task, its k best
        ]
        assert any(below <= kept <= above for below, above in zip(tops, tops[1:], strict=False))

    def test_one_task_agrees_with_itself(self):
        model, inputs = hard(mlp)
        task = any_task("a", inputs)
        alone = find_masks(model, [task], "snip", density=0.4)
        assert find_masks(model, [task], "unanimous", density=0.4) == alone


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
