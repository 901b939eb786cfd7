"Several tasks of one input in one call: the same outputs and gradients as one by one, and no more work than needed."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import ENCODERS, WAYS, Tower, any_way, heads, masks_of, mlp, same, seeded, sparse
from torch import nn
from wild import encoder, kinds, model_of, rows

from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD, subnet_step
from sparse_sharing.sharing import HardSharing, HierarchicalSharing, SoftSharing, SparseSharing
from sparse_sharing.views import as_bits, keep_bits, lay

BOTH = ("a", "b")
each_way = pytest.mark.parametrize("way", WAYS)
each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
properties = settings(deadline=None, max_examples=10)


def one_by_one(model, inputs, tasks=BOTH):
    "What each task answers when it is asked by itself."
    return {task: model(inputs, task=task) for task in tasks}


def gradients(model, outputs):
    "Of the sum of all outputs' squares."
    model.zero_grad()
    sum(y.square().sum() for y in outputs.values()).backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {n: g.to_dense() if g.is_sparse else g.clone() for n, g in found.items()}


def close(found, wanted):
    "Whether gradients are the same, added in whatever order."
    assert found.keys() == wanted.keys()
    return all(torch.allclose(found[name], g, atol=1e-5) for name, g in wanted.items())


def counting(module):
    "A list that grows with each call of a module."
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


class TestTheSameAsOneByOne:
    @each_way
    def test_each_way_of_sharing(self, way):
        model, x = any_way(way)
        model.eval()
        together = model(x, tasks=["b", "a"])
        assert list(together) == ["b", "a"]
        assert same(together, one_by_one(model, x, "ba"))
        assert close(gradients(model, together), gradients(model, one_by_one(model, x)))

    @each_encoder
    def test_each_encoder(self, make):
        model, x = sparse(make)
        model.eval()
        together = model(x, tasks=BOTH)
        assert same(together, one_by_one(model, x))
        assert close(gradients(model, together), gradients(model, one_by_one(model, x)))

    @pytest.mark.parametrize("reentrant", [None, False, True])
    @properties
    @given(kinds=kinds, density=st.floats(0, 1), equal=st.booleans(), seed=st.integers(0, 9))
    def test_wild_encoders_and_checkpoints(self, reentrant, kinds, density, equal, seed):
        "Tasks with equal masks take one encoding, also where the backward pass computes it again."
        model, x = model_of(encoder(kinds, seed, reentrant), density, seed).eval(), rows(seed)
        if equal:
            model.masks["b"] = model.masks["a"]
        together = model(x, tasks=BOTH)
        assert same(together, one_by_one(model, x))
        assert close(gradients(model, together), gradients(model, one_by_one(model, x)))

    def test_a_head_that_is_tied_to_a_masked_weight(self):
        net = nn.Linear(4, 4, bias=False)
        tops = {task: nn.Linear(4, 4, bias=False) for task in BOTH}
        for head in tops.values():
            head.weight = net.weight
        model, x = SparseSharing(net, tops, masks_of(net)), torch.randn(3, 4)
        assert same(model(x, tasks=BOTH), one_by_one(model, x))

    def test_through_the_compiler(self):
        torch.compiler.reset()
        model, x = sparse(mlp)
        whole = torch.compile(model.eval(), backend="aot_eager")
        wanted = one_by_one(model, x)
        assert all(torch.allclose(y, wanted[t], atol=1e-6) for t, y in whole(x, tasks=BOTH).items())

    def test_after_a_mask_was_exchanged(self):
        model, x = sparse(mlp)
        model.eval()(x, tasks=BOTH)
        model.masks["b"] = model.masks["a"]
        assert same(model(x, tasks=BOTH), one_by_one(model, x))
        model.masks["b"] = ~model.masks["a"]
        assert same(model(x, tasks=BOTH), one_by_one(model, x))


class TestHeadsThatWorkInPlace:
    "A head that writes into an encoding changes no other task's answer, whatever the order."

    ORDERS = ("acbi", "icab", "aicb", "iabc")

    def model(self, way, pick=lambda x: x):
        class Rough(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(8, 2)

            def forward(self, x):
                return self.linear(pick(x).relu_())

        class Smooth(Rough):
            def forward(self, x):
                return self.linear(pick(x))

        torch.manual_seed(0)
        net = nn.Linear(4, 8)
        tops = {"a": Rough(), "b": Smooth(), "c": Rough(), "i": nn.Identity()}
        masks = dict.fromkeys(tops, masks_of(net)["a"])
        model = HardSharing(net, tops) if way == "hard" else SparseSharing(net, tops, masks)
        return model.eval(), torch.randn(5, 4)

    @pytest.mark.parametrize("way", ["hard", "sparse"])
    @pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
    def test_outputs(self, way, mode):
        model, x = self.model(way)
        with mode():
            for order in self.ORDERS:
                assert same(model(x, tasks=tuple(order)), one_by_one(model, x, order))

    def test_gradients(self):
        model, x = self.model("hard")
        for order in self.ORDERS:
            found = gradients(model, model(x, tasks=tuple(order)))
            assert close(found, gradients(model, one_by_one(model, x, order)))

    @pytest.mark.parametrize("fullgraph", [True, False])
    def test_in_a_compiled_model(self, fullgraph):
        torch.compiler.reset()
        model, x = self.model("hard")
        whole = torch.compile(model, backend="aot_eager", fullgraph=fullgraph)
        for order in self.ORDERS[:2]:
            wanted = one_by_one(model, x, order)
            found = whole(x, tasks=tuple(order))
            assert all(torch.allclose(y, wanted[t], atol=1e-6) for t, y in found.items())

    def test_what_holds_tensors(self):
        "A dict whose tensor is written into, and one whose tensor is exchanged."

        class Dict(nn.Linear):
            def forward(self, x):
                return {"states": super().forward(x)}

        class Exchanging(nn.Linear):
            def forward(self, x):
                x["states"] = x["states"].relu()
                return super().forward(x["states"])

        model, x = self.model("hard", lambda x: x["states"])
        net, tops = Dict(4, 8), dict(model.heads.items()) | {"i": Exchanging(8, 2)}
        model = HardSharing(net, tops)
        for order in self.ORDERS:
            assert same(model(x, tasks=tuple(order)), one_by_one(model, x, order))


class TestNoMoreWorkThanNeeded:
    def test_hard_sharing_encodes_once(self):
        net, x, tops = seeded(mlp)
        model, calls = HardSharing(net, tops), counting(net)
        model(x, tasks=BOTH)
        assert len(calls) == 1

    @pytest.mark.parametrize("level, times", [({"a": 1, "b": 2}, 2), ({"a": 2, "b": 2}, 1)])
    def test_hierarchical_sharing_encodes_once_for_a_level(self, level, times):
        model = HierarchicalSharing(Tower(), heads(), level)
        calls = counting(model.encoder.stem)
        model.eval()(torch.randn(6, 4), tasks=BOTH)
        assert len(calls) == times

    def test_soft_sharing_runs_each_stack_once(self):
        model = SoftSharing(Tower(), heads("abc")).eval()
        calls = [counting(layer) for stack in model.stacks.values() for layer in stack]
        model(torch.randn(6, 4), tasks=model.tasks)
        assert [len(found) for found in calls] == [1] * 6

    @pytest.mark.parametrize("options, times", [({}, 2), ({"shared_buffers": True}, 1)])
    def test_equal_masks_share_an_encoding_unless_a_task_has_tensors_of_its_own(
        self, options, times
    ):
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        model = SparseSharing(net, heads(), dict.fromkeys(BOTH, Mask.ones(net)), **options)
        calls = counting(net)
        model(torch.randn(6, 4), tasks=BOTH)
        assert len(calls) == times

    def test_each_task_has_the_statistics_of_its_own_pass(self):
        found = []
        for ask in (one_by_one, lambda model, x: model(x, tasks=BOTH)):
            torch.manual_seed(0)
            net, x = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), torch.ones(6, 4).cumsum(0)
            nn.init.ones_(net[0].weight)
            model = SparseSharing(net, heads(), masks_of(net)).train()
            ask(model, x)
            found.append({n: b for n, b in model.named_buffers() if "mean" in n})
        assert close(*found) and len(found[0]) == 3


class TestWhatMasksTake:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_a_mask_is_laid_as_bits_are(self, dtype):
        torch.manual_seed(0)
        weight, mask = torch.randn(30, 7).to(dtype), torch.rand(30, 7) < 0.5
        weight[0], weight[1], weight[2] = float("nan"), float("inf"), -0.0
        assert same(lay(mask, weight), keep_bits(weight, as_bits(mask, weight)))
        room = torch.full_like(weight, float("nan"))
        assert lay(mask, weight, room) is room
        assert same(room, keep_bits(weight, as_bits(mask, weight)))
        turned = weight.t()
        assert same(lay(mask.t(), turned), keep_bits(turned, as_bits(mask.t(), turned)))

    def test_without_gradients_a_model_holds_no_more_than_its_masks(self):
        model, x = sparse(mlp)
        model.eval()
        with torch.no_grad():
            plain = model(x, tasks=BOTH)
        assert model._bits == {}
        graded = model(x, tasks=BOTH)
        assert {bits.dtype for bits in model._bits.values()} == {torch.int32}
        with torch.no_grad():
            assert same(plain, {t: y.detach() for t, y in graded.items()})
            assert same(plain, model(x, tasks=BOTH))

    def test_a_step_after_an_evaluation_stays_in_its_subnet(self):
        model, x = sparse(mlp)
        with torch.no_grad():
            model(x, tasks=BOTH)
        model(x, task="a").sum().backward()
        before = model.encoder[0].weight.detach().clone()
        subnet_step(SubnetSGD(model), model, "a")
        moved = model.encoder[0].weight != before
        assert moved.any() and not moved[~model.masks["a"]["0.weight"]].any()

    def test_other_number_types(self):
        model, x = sparse(mlp)
        model.eval()
        for dtype in (torch.float64, torch.bfloat16):
            model.to(dtype)
            with torch.no_grad():
                plain = model(x.to(dtype), tasks=BOTH)
            assert same(plain, {t: model(x.to(dtype), task=t).detach() for t in BOTH})


@pytest.mark.parametrize(
    "options, error, says",
    [
        (dict(tasks="ab"), TypeError, "the text 'ab'"),
        (dict(tasks=()), ValueError, "at least one"),
        (dict(tasks=("a", "a")), ValueError, "each once"),
        (dict(tasks=("a", "c")), KeyError, "no task 'c'"),
        (dict(task="a", tasks=("b",)), TypeError, "both task='a' and tasks"),
    ],
)
def test_what_is_refused(options, error, says):
    model, x = sparse(mlp)
    with pytest.raises(error, match=says):
        model(x, **options)
