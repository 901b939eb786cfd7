"Pruning: exact counts, masks that only shrink, rewinding to the last bit, and the rule of choice."

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import ENCODERS, any_task, copied, hard, heads, mlp, same, toy_task
from torch import nn

from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD
from sparse_sharing.pruning import (
    Candidate,
    imp,
    imp_round,
    nearest,
    prune,
    select,
    target,
    warmup,
)
from sparse_sharing.sharing import HardSharing, SingleTask, SparseSharing
from sparse_sharing.training import fit
from sparse_sharing.weights import prunable

each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
properties = settings(deadline=None, max_examples=60)
SHAPES = {"a": (2, 3), "b": (4,), "c": (1, 2, 2)}  # 14 weights
SIZE = 7 * 4 + 8 * 7  # prunable weights of the multi-layer perceptron


def tensors(numbers, dtype=torch.float32):
    parts = torch.tensor(numbers, dtype=dtype).split([math.prod(s) for s in SHAPES.values()])
    return {n: p.view(s) for (n, s), p in zip(SHAPES.items(), parts, strict=True)}


ties = st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -3.0]), min_size=14, max_size=14)
kept = st.lists(st.booleans(), min_size=14, max_size=14)


class TestTarget:
    def test_table_4(self):
        alpha = 1 - 0.1 ** (1 / 20)
        exact = {6: 50.12, 5: 56.23, 7: 44.67, 10: 31.62, 12: 25.12, 8: 39.81}
        assert {z: round(100 * target(530_700, alpha, z) / 530_700, 2) for z in exact} == exact
        assert target(530_700, alpha, 20) == 53_070

    @properties
    @given(st.integers(1, 10**7), st.floats(0.001, 0.999), st.integers(0, 60))
    def test_it_does_not_drift(self, size, alpha, z):
        now = target(size, alpha, z)
        assert abs(now - size * (1 - alpha) ** z) <= 0.5
        assert target(size, alpha, z + 1) <= now <= target(size, alpha, 0) == size


class TestPrune:
    @properties
    @given(ties, kept, st.data())
    def test_exact_under_ties(self, numbers, bits, data):
        weights, mask = tensors(numbers), Mask(tensors(bits, torch.bool))
        keep = data.draw(st.integers(0, mask.kept))
        smaller = prune(weights, mask, keep)
        assert smaller.kept == keep and smaller <= mask
        order = sorted((abs(x), i) for i, x in enumerate(numbers) if bits[i])  # names are in order
        gone = {i for _, i in order[: mask.kept - keep]}
        by_hand = [b and i not in gone for i, b in enumerate(bits)]
        assert smaller == Mask(tensors(by_hand, torch.bool))

    @properties
    @given(
        st.lists(st.floats(-9, 9, width=32), min_size=14, max_size=14),
        st.integers(0, 14),
        st.integers(0, 14),
    )
    def test_in_steps_or_at_once(self, numbers, keep, more):
        weights, everything = tensors(numbers), Mask(tensors([True] * 14, torch.bool))
        few, many = sorted((keep, more))
        assert prune(weights, prune(weights, everything, many), few) == prune(
            weights, everything, few
        )

    def test_by_name_whatever_the_order_of_the_dicts(self):
        weights = {"b": torch.ones(2), "a": torch.ones(2)}
        mask = Mask({n: torch.ones(2, dtype=torch.bool) for n in "ba"})
        smaller = prune(weights, mask, 1)
        assert smaller["a"].tolist() == [False, False] and smaller["b"].tolist() == [False, True]

    def test_what_the_mask_left_out_does_not_matter(self):
        mask = Mask({"a": torch.tensor([True, False, True])})
        weights = {"a": torch.tensor([2.0, math.nan, -1.0]), "bias": torch.tensor([math.nan])}
        assert prune(weights, mask, 1)["a"].tolist() == [True, False, False]

    def test_a_weight_that_is_not_a_number(self):
        mask = Mask({"a": torch.tensor([True, True])})
        with pytest.raises(ValueError, match="not a number.*learning rate"):
            prune({"a": torch.tensor([1.0, math.nan])}, mask, 1)
        infinite = {"a": torch.tensor([1.0, -math.inf])}  # large is large
        assert prune(infinite, mask, 1)["a"].tolist() == [False, True]

    @pytest.mark.parametrize("keep", [-1, 3])
    def test_more_than_there_are(self, keep):
        mask = Mask({"a": torch.tensor([True, True, False])})
        with pytest.raises(ValueError, match=f"cannot keep {keep} weights of a mask that has 2"):
            prune({"a": torch.ones(3)}, mask, keep)

    def test_nothing_is_changed_in_place(self):
        weights, mask = {"a": torch.randn(5)}, Mask({"a": torch.ones(5, dtype=torch.bool)})
        before = weights["a"].clone()
        prune(weights, mask, 2)
        assert same(weights["a"], before) and mask.kept == 5


class TestWarmup:
    def test_none_leaves_the_model_as_it_is(self):
        model, _ = hard(mlp)
        before = copied(model)
        result = warmup(model, [toy_task("a"), toy_task("b")], 0, log=None)
        assert same(copied(model), before) and result.curve == []

    def test_it_ends_with_its_last_weights(self):
        (model, _), (other, _) = hard(mlp), hard(mlp)
        scores = iter([9, 1, 2])
        tasks = [toy_task("a", score=lambda m: next(scores))]
        result = warmup(model, tasks, 3, log=None, seed="w")
        assert result.epoch == 1
        fit(other, [toy_task("a")], 3, log=None, seed="w", keep="last")
        assert same(copied(model), copied(other))


def spying(starts, lr=0.1):
    "A factory of optimisers that keeps the weights with which each round starts."

    def make(model):
        starts.append((copied(model), {n: f.clone() for n, f in model.subnet("a").items()}))
        return SubnetSGD(model, lr)

    return make


def chain(model, task, **options):
    return imp(model, task, **dict(alpha=0.3, min_density=0.3, epochs=1, log=None) | options)


class TestChain:
    @each_encoder
    def test_rewinding_restores_every_tensor(self, make):
        model, inputs = hard(make)
        tasks = [any_task(t, inputs) for t in "ab"]
        warmup(model, tasks, 2, log=None)
        before, starts, ends = copied(model), [], []
        score = tasks[0].score
        task = replace(tasks[0], score=lambda m: ends.append(copied(m)) or score(m))
        found = chain(model, task, make_optimizer=spying(starts))
        assert same(copied(model), before)
        mine = {k: v for k, v in before.items() if not k.startswith("heads.b")}
        assert len(starts) == len(found) == 5
        assert all(same(weights, mine) for weights, _ in starts)
        assert not any(same(weights, mine) for weights in ends)  # but each round did train
        for (_, factors), candidate in zip(starts, found, strict=True):
            wanted = {f"encoder.{n}": m for n, m in candidate.mask.items()}
            assert same(factors, wanted)

    @each_encoder
    def test_counts_and_masks_that_only_shrink(self, make):
        model, inputs = hard(make)
        found = chain(model, any_task("a", inputs))
        size = sum(model.encoder.get_parameter(n).numel() for n in prunable(model.encoder))
        assert [c.round for c in found] == list(range(len(found)))
        assert [c.mask.kept for c in found] == [target(size, 0.3, z) for z in range(len(found))]
        assert all(b.mask <= a.mask for a, b in zip(found, found[1:], strict=False))
        assert found[0].mask == Mask.ones(model.encoder)
        assert found[-1].mask.density <= 0.3 < found[-2].mask.density

    def test_counts_by_hand(self):
        found = chain(hard(mlp)[0], toy_task("a"), alpha=0.15, epochs=0)
        # 84 * 0.85 ** 2 = 60.7, where 85 % of the 71 of the round before would be 60
        assert [c.mask.kept for c in found] == [84, 71, 61, 52, 44, 37, 32, 27, 23]

    @settings(deadline=None, max_examples=25)
    @given(st.floats(0.05, 0.95), st.floats(0.02, 1))
    def test_whatever_the_pace(self, alpha, least):
        model, _ = hard(mlp)
        found = imp(model, toy_task("a"), alpha=alpha, min_density=least, epochs=0, log=None)
        kept = [c.mask.kept for c in found]
        assert kept == [target(SIZE, alpha, z) for z in range(len(kept))] and kept[-1] > 0
        assert all(k > least * SIZE for k in kept[:-1])
        ended = kept[-1] <= least * SIZE + 0.5  # a count is whole: to the nearest weight
        assert ended or target(SIZE, alpha, len(kept)) == 0

    def test_it_stops_at_the_density(self):
        model, _ = hard(mlp)
        for least, rounds in ((1, 1), (0.71, 2), (0.5, 3), (0.3, 5)):
            assert len(chain(model, toy_task("a"), min_density=least, epochs=0)) == rounds

    def test_a_score_belongs_to_the_mask_that_was_trained(self):
        model, _ = hard(mlp)
        inside = toy_task("a", score=lambda m: sum(f.sum().item() for f in m.subnet("a").values()))
        found = chain(model, inside)
        assert [c.dev for c in found] == [c.mask.kept for c in found]

    def test_a_round_trains_what_it_scores(self):
        model, _ = hard(mlp)
        mask = Mask.random(model.encoder, 0.5, torch.Generator().manual_seed(0))
        ends = []
        score = toy_task("a").score
        task = toy_task("a", score=lambda m: ends.append(copied(m)) or score(m))
        result, smaller = imp_round(model, task, mask, 20, 3, "last", log=None)
        alone = SparseSharing(model.encoder, {"a": model.heads["a"]}, {"a": mask})
        wanted = fit(alone, [toy_task("a")], 3, log=None, keep="last")
        assert same(copied(alone), ends[-1]) and result.dev == wanted.dev
        assert smaller == prune(dict(model.encoder.named_parameters()), mask, 20)

    @pytest.mark.parametrize("magnitudes, chosen", [("best", 1), ("last", 2)])
    def test_which_magnitudes(self, magnitudes, chosen):
        model, _ = hard(mlp)
        ends, scores = [], iter([1, 3, 2])
        task = toy_task("a", score=lambda m: ends.append(copied(m)) or next(scores))
        ones = Mask.ones(model.encoder)
        result, smaller = imp_round(model, task, ones, SIZE // 2, 3, magnitudes, log=None)
        pruned = [
            prune({k.removeprefix("encoder."): v for k, v in end.items()}, ones, SIZE // 2)
            for end in ends
        ]
        assert smaller == pruned[chosen] and pruned[1] != pruned[2] and result.mean == 3

    def test_without_warmup_it_rewinds_to_the_initialisation(self):
        model, _ = hard(mlp)
        first, starts = copied(model), []
        warmup(model, [toy_task("a"), toy_task("b")], 0, log=None)
        chain(model, toy_task("a"), make_optimizer=spying(starts))
        assert all(same(w[k], first[k]) for w, _ in starts for k in w) and len(starts) == 5

    def test_buffers_are_rewound_too(self):
        torch.manual_seed(0)
        model = HardSharing(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), heads())
        warmup(model, [toy_task("a")], 1, log=None)
        before, starts = copied(model), []
        chain(model, toy_task("a"), make_optimizer=spying(starts))
        assert same(copied(model), before) and before["encoder.1.num_batches_tracked"] == 6
        assert all(w["encoder.1.num_batches_tracked"] == 6 for w, _ in starts)

    def test_chosen_parameters(self):
        model, _ = hard(mlp)
        found = chain(model, toy_task("a"), names=["3.weight"])
        assert all(list(c.mask) == ["3.weight"] for c in found)
        assert [c.mask.kept for c in found] == [56, 39, 27, 19, 13]

    def test_same_seed_same_chain(self):
        chains = []
        for noise in (1, 2):
            model, _ = hard(mlp)
            torch.manual_seed(noise)
            chains.append(chain(model, toy_task("a"), seed=3))
            assert torch.initial_seed() == noise
        assert chains[0] == chains[1] != chain(hard(mlp)[0], toy_task("a"), seed=4)

    def test_the_chain_of_a_task_does_not_depend_on_the_other_head(self):
        (one, _), (two, _) = hard(mlp), hard(mlp)
        nn.init.ones_(two.heads["b"].linear.weight)
        assert chain(one, toy_task("a")) == chain(two, toy_task("a"))

    def test_a_model_whose_tables_wait_for_updates(self):
        "Whoever trained it may still hold its optimiser."
        model, inputs = hard(ENCODERS["table"])
        tasks = [any_task(t, inputs) for t in "ab"]
        optimizer = SubnetSGD(model)
        fit(model, tasks, 2, optimizer=optimizer, keep="last", log=None)
        model(torch.tensor([[1, 2]]), task="a").sum().backward()
        optimizer.step("a")
        starts = []
        chain(model, tasks[0], make_optimizer=spying(starts))
        assert all(same(w[k], copied(model)[k]) for w, _ in starts for k in w)

    @pytest.mark.parametrize("wrong", [dict(alpha=0), dict(alpha=1), dict(alpha=-0.1)])
    def test_alpha(self, wrong):
        with pytest.raises(ValueError, match="alpha is"):
            chain(hard(mlp)[0], toy_task("a"), **wrong)

    @pytest.mark.parametrize(
        "alpha, message",
        [
            (0.999, "remove all of 84 weights: give a smaller one"),
            (1e-17, "remove none of 84 weights: give a larger one"),
            (0.005, "remove none of 84 weights: give a larger one"),
        ],
    )
    def test_a_pace_that_is_none(self, alpha, message):
        "Nothing is trained before it is said."
        task = toy_task("a", loss=None)
        with pytest.raises(
            ValueError, match=f"alpha is {alpha}, and the first round would {message}"
        ):
            chain(hard(mlp)[0], task, alpha=alpha)

    def test_a_model_without_an_encoder_for_all(self):
        model = SingleTask(hard(mlp)[0].encoder, heads())
        with pytest.raises(ValueError, match="SingleTask has no encoder for all tasks"):
            chain(model, toy_task("a"))

    @pytest.mark.parametrize("least", [0, -0.1, 1.1])
    def test_min_density(self, least):
        with pytest.raises(ValueError, match=f"min_density {least}"):
            chain(hard(mlp)[0], toy_task("a"), min_density=least)

    def test_a_task_that_the_model_does_not_have(self):
        with pytest.raises(ValueError, match="'c'"):
            chain(hard(mlp)[0], replace(toy_task("a"), name="c"))

    def test_rounds_cannot_share_a_checkpoint(self, tmp_path):
        "Each would find the one before finished, and take its score for its own."
        with pytest.raises(ValueError, match="checkpoint"):
            chain(hard(mlp)[0], toy_task("a"), checkpoint=tmp_path / "c")
        model, _ = hard(mlp)
        mask = Mask.ones(model.encoder)
        options = dict(epochs=1, log=None, checkpoint=tmp_path / "c")
        _, smaller = imp_round(model, toy_task("a"), mask, 40, **options)
        with pytest.raises(ValueError, match="belongs to another run"):
            imp_round(model, toy_task("a"), smaller, 20, **options)

    def test_a_round_goes_on_where_it_stopped(self, tmp_path):
        results = []
        for stops in ([6], [1, 6]):
            for epochs in stops:
                model, _ = hard(mlp)
                results.append(
                    imp_round(
                        model,
                        toy_task("a"),
                        Mask.ones(model.encoder),
                        40,
                        epochs,
                        checkpoint=tmp_path / str(len(stops)),
                        log=None,
                    )
                )
        assert results[0][1] == results[2][1] != results[1][1]
        assert results[0][0].dev == results[2][0].dev


def candidates(pairs):
    "Candidates with these dev scores and numbers of kept weights out of 9."
    return [
        Candidate(z, Mask({"w": torch.arange(9) < kept}), dev)
        for z, (dev, kept) in enumerate(pairs)
    ]


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=7)


class TestChoice:
    @properties
    @given(pairs)
    def test_best_on_dev_then_sparsest_never_the_whole(self, pairs):
        found = candidates(pairs)
        best = select(found)
        assert best in found[1:]
        assert (best.dev, -best.mask.kept) == max((d, -k) for d, k in pairs[1:])
        first = next(c for c in found[1:] if (c.dev, c.mask) == (best.dev, best.mask))
        assert best is first

    @properties
    @given(pairs, st.floats(0, 1))
    def test_nearest(self, pairs, density):
        found = candidates(pairs)
        chosen = nearest(found, density)
        assert chosen in found[1:]
        assert abs(chosen.mask.density - density) == min(abs(k / 9 - density) for _, k in pairs[1:])

    def test_by_hand(self):
        found = candidates([(99, 9), (90, 7), (91, 5), (91, 4), (89, 3)])
        assert select(found).round == 3
        assert nearest(found, 0.8).round == 1 and nearest(found, 0.0).round == 4

    @pytest.mark.parametrize("found", [[], candidates([(99, 9)])])
    def test_nothing_to_choose_from(self, found):
        for choose in (select, lambda f: nearest(f, 0.5)):
            with pytest.raises(ValueError, match="only the whole network.*min_density"):
                choose(found)
