"Sharing: one call for five systems, the mask in the forward pass, parameters as the paper counts."

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import ENCODERS, Head, bits, copied, hard, heads, masks_of, mlp, same, seeded, sparse
from torch import nn

from sparse_sharing.masks import Mask
from sparse_sharing.sharing import (
    HardSharing,
    HierarchicalSharing,
    SingleTask,
    SoftSharing,
    SparseSharing,
)
from sparse_sharing.weights import prunable

each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
properties = settings(deadline=None, max_examples=40)


def zeroed(encoder, mask):
    "A copy of an encoder in which the weights outside a mask are 0."
    copy = deepcopy(encoder)
    with torch.no_grad():
        for name, kept in mask.items():
            copy.get_parameter(name)[~kept] = 0
    return copy


class Step(nn.Module):
    "A layer: one linear map, which also adds what the first input was."

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x, inputs):
        return self.linear(x).tanh() + inputs


class Tower(nn.Module):
    "An encoder that shows its layers."

    def __init__(self, depth=2, width=8):
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.layers = nn.ModuleList(Step(width) for _ in range(depth))

    def forward(self, inputs):
        x = self.stem(inputs)
        for layer in self.layers:
            x = layer(x, inputs)
        return x


class TestOneCall:
    def test_by_hand(self):
        net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        heads = {t: nn.Linear(2, 1) for t in "ab"}
        with torch.no_grad():
            for linear, weight, bias in [
                (net[0], [[1, 2], [3, 4]], [5, -6]),
                (heads["a"], [[1, 10]], [100]),
                (heads["b"], [[2, 20]], [200]),
            ]:
                linear.weight.copy_(torch.tensor(weight))
                linear.bias.copy_(torch.tensor(bias))
        a = Mask({"0.weight": torch.tensor([[True, False], [True, True]])})
        b = Mask({"0.weight": torch.tensor([[False, False], [False, True]])})
        model = SparseSharing(net, heads, {"a": a, "b": b})
        x = torch.tensor([[1.0, 1.0]])
        assert model(x, task="a") == 6 + 10 * (3 + 4 - 6) + 100  # units: 1 + 5 and 3 + 4 - 6
        assert model(x, task="b") == 2 * 5 + 200  # units: 5 and, through the ReLU, 4 - 6
        assert HardSharing(net, heads)(x, task="a") == 8 + 10 * 1 + 100
        assert model.count_parameters() == 3 + 2  # the union of the masks, and the biases

    @each_encoder
    def test_state_dict_has_the_keys_of_the_encoder_and_the_heads(self, make):
        encoder, _, tops = seeded(make)
        wanted = {f"encoder.{k}" for k in encoder.state_dict()}
        wanted |= {f"heads.{t}.{k}" for t, h in tops.items() for k in h.state_dict()}
        masks = masks_of(encoder)
        for model in (HardSharing(encoder, tops), SparseSharing(encoder, tops, masks)):
            kept = {f"masks.{t}.{n}" for t, mask in model.masks.items() for n in mask}
            assert set(model.state_dict()) == wanted | kept and set(model.weights()) == wanted
            assert model.encoder is encoder and model.tasks == ("a", "b")

    def test_a_head_of_another_task_is_not_used(self):
        encoder, inputs, tops = seeded(mlp)
        model = HardSharing(encoder, tops).eval()
        before = model(inputs, task="a")
        nn.init.zeros_(tops["b"].linear.weight)
        assert same(model(inputs, task="a"), before) and not same(model(inputs, task="b"), before)

    def test_unknown_task(self):
        model, inputs = sparse(mlp)
        for call in (model, model.encode):
            with pytest.raises(KeyError, match="'c'.*a, b"):
                call(inputs, task="c")
        # the whole network would be a wrong answer, and a step would leave the subnet
        with pytest.raises(KeyError, match="'c'.*a, b"):
            model.subnet("c")

    def test_no_heads(self):
        with pytest.raises(ValueError, match="at least one task"):
            HardSharing(nn.Identity(), {})


class TestMaskInTheForwardPass:
    @each_encoder
    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    def test_it_is_as_if_the_weights_were_zero(self, make, training):
        model, inputs = sparse(make)
        model.train(training)
        outputs = {}
        for task, mask in model.masks.items():
            alone = HardSharing(zeroed(model.encoder, mask), model.heads).train(training)
            for grad in (True, False):
                with torch.set_grad_enabled(grad):
                    torch.manual_seed(1)
                    outputs[task] = model(inputs, task=task)
                    torch.manual_seed(1)
                    assert torch.equal(outputs[task], alone(inputs, task=task))
        assert not torch.equal(*outputs.values())
        whole = HardSharing(model.encoder, model.heads).train(training)
        torch.manual_seed(1)
        assert not torch.equal(outputs["b"], whole(inputs, task="b"))

    def test_a_tied_weight_is_masked_wherever_it_is_used(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.up, self.middle, self.down = (nn.Linear(8, 8) for _ in range(3))
                self.down.weight = self.up.weight

            def forward(self, x):
                return self.down(self.middle(self.up(x)).relu())

        torch.manual_seed(0)
        encoder, x = Tied(), torch.randn(6, 8)
        model = SparseSharing(encoder, heads(), masks_of(encoder))
        for task, mask in model.masks.items():
            alone = zeroed(encoder, mask)
            assert alone.down.weight is alone.up.weight
            assert torch.equal(model.encode(x, task=task), alone(x))
            model.zero_grad()
            model.encode(x, task=task).sum().backward()
            alone(x).sum().backward()
            inside = mask["up.weight"]
            assert torch.allclose(encoder.up.weight.grad, alone.up.weight.grad * inside, atol=1e-6)
            assert encoder.down.weight is encoder.up.weight

    @each_encoder
    def test_it_leaves_the_weights_alone(self, make):
        model, inputs = sparse(make)
        before = copied(model)
        model(inputs, task="a").sum().backward()
        assert same(copied(model), before)
        assert all(p.is_leaf and isinstance(p, nn.Parameter) for p in model.parameters())

    @each_encoder
    def test_gradients_are_those_of_the_zeroed_network_and_stay_inside(self, make):
        model, inputs = sparse(make)
        model.eval()
        alone = HardSharing(zeroed(model.encoder, model.masks["a"]), heads()).eval()
        alone.heads.load_state_dict(model.heads.state_dict())
        for m in (model, alone):
            m(inputs, task="a").square().sum().backward()
        inside = model.subnet("a")
        assert set(inside) == {f"encoder.{n}" for n in prunable(model.encoder)}
        for name, p in model.named_parameters():
            other = alone.get_parameter(name)
            if name.startswith("heads.b."):
                assert p.grad is None
                continue
            grad, wanted = (q.grad.to_dense() for q in (p, other))
            factor = inside.get(name, torch.ones_like(p))
            assert torch.allclose(grad, wanted * factor, atol=1e-6)
            assert grad[factor == 0].eq(0).all() and (grad.any() or not wanted.any())
            assert set(factor.unique().tolist()) <= {0, 1}

    @each_encoder
    def test_all_ones_are_hard_sharing(self, make):
        encoder, inputs, tops = seeded(make)
        models = (
            HardSharing(encoder, tops),
            SparseSharing(encoder, tops, {t: Mask.ones(encoder) for t in tops}),
        )
        grads = []
        for model in models:
            torch.manual_seed(1)
            model.zero_grad()
            model(inputs, task="a").square().sum().backward()
            grads.append(
                {n: p.grad.to_dense() for n, p in model.named_parameters() if "b" not in n}
            )
        assert same(*grads)

    def test_a_mask_may_name_a_single_parameter(self):
        encoder, inputs, tops = seeded(mlp)
        mask = Mask.random(encoder, 0.5, torch.Generator().manual_seed(0), ["3.weight"])
        model = SparseSharing(encoder, tops, dict.fromkeys("ab", mask)).eval()
        assert set(model.subnet("a")) == {"encoder.3.weight"}
        assert torch.equal(model(inputs, task="a"), tops["a"](zeroed(encoder, mask)(inputs)))

    def test_masks_are_copied(self):
        encoder, inputs, tops = seeded(mlp)
        masks = masks_of(encoder)
        model = SparseSharing(encoder, tops, masks).eval()
        before = model(inputs, task="a")
        masks["a"] = masks["b"]
        assert same(model(inputs, task="a"), before)


class TestFollowingTheWeights:
    @each_encoder
    def test_another_number_type(self, make):
        model, inputs = sparse(make)
        model.eval()
        single = model(inputs, task="a")
        double = model.to(torch.float64)(
            inputs.double() if inputs.is_floating_point() else inputs, task="a"
        )
        assert {f.dtype for f in model.subnet("a").values()} == {torch.bool}
        assert double.dtype == torch.float64 and torch.allclose(double.float(), single, atol=1e-5)
        back = model.float()(inputs, task="a")
        assert back.dtype == torch.float32 and torch.allclose(back, single, atol=1e-6)

    def test_single_task_factors_follow_too(self):
        encoder, inputs, tops = seeded(mlp)
        model = SingleTask(encoder, tops, masks_of(encoder)).double()
        assert model(inputs.double(), task="b").dtype == torch.float64

    @each_encoder
    def test_a_copy_is_another_model_that_says_the_same(self, make):
        model, inputs = sparse(make)
        model.eval()
        before = model(inputs, task="a")
        copy = deepcopy(model)
        assert same(copy(inputs, task="a"), before)
        with torch.no_grad():
            for p in copy.parameters():
                p.add_(1)
        for factor in copy.subnet("a").values():
            factor.zero_()
        assert same(model(inputs, task="a"), before) and not same(copy(inputs, task="a"), before)

    def test_state_can_be_moved_between_systems_of_one_encoder(self):
        dense, inputs = hard(mlp, seed=1)
        masked, _ = sparse(mlp, seed=2)
        masked.load_state_dict(dense.state_dict())
        alone = HardSharing(zeroed(dense.encoder, masked.masks["a"]), dense.heads)
        assert torch.equal(masked.eval()(inputs, task="a"), alone.eval()(inputs, task="a"))


class TestErrors:
    def test_masks_for_other_tasks(self):
        encoder, _, tops = seeded(mlp)
        masks = masks_of(encoder)
        for wrong in ({"a": masks["a"]}, {**masks, "c": masks["a"]}, {}):
            for system in (SparseSharing, SingleTask):
                with pytest.raises(ValueError, match=r"heads for \['a', 'b'\]"):
                    system(encoder, tops, wrong)

    def test_a_mask_of_the_model_instead_of_the_encoder(self):
        model, _ = hard(mlp)
        with pytest.raises(ValueError, match="'encoder.0.weight'.*over the encoder alone"):
            SparseSharing(model.encoder, model.heads, dict.fromkeys("ab", Mask.ones(model)))

    def test_a_mask_of_another_shape(self):
        encoder, _, tops = seeded(mlp)
        wrong = Mask({"0.weight": torch.ones(7, 1, dtype=torch.bool)})  # would broadcast
        with pytest.raises(ValueError, match=r"'b'.*\(7, 1\).*'0.weight'.*\(7, 4\)"):
            SparseSharing(encoder, tops, {"a": Mask.ones(encoder), "b": wrong})

    def test_masks_over_different_parameters(self):
        encoder, _, tops = seeded(mlp)
        masks = {"a": Mask.ones(encoder), "b": Mask.ones(encoder, ["0.weight"])}
        with pytest.raises(ValueError, match="different networks: '3.weight'"):
            SparseSharing(encoder, tops, masks)

    @pytest.mark.parametrize("level", [{"a": 1}, {"a": 0, "b": 1}, {"a": 1, "b": 3}])
    def test_level(self, level):
        with pytest.raises(ValueError, match="layer from 1 to 2"):
            HierarchicalSharing(Tower(2), heads(), level)

    @pytest.mark.parametrize("encoder", [nn.Linear(2, 2), nn.LSTM(2, 2), nn.Sequential()])
    def test_an_encoder_without_layers(self, encoder):
        with pytest.raises(TypeError, match=f"{type(encoder).__name__} shows no layers"):
            SoftSharing(encoder, heads())
        with pytest.raises(TypeError, match="ModuleList `layers`"):
            HierarchicalSharing(encoder, heads(), {"a": 1, "b": 1})


class TestSingleTask:
    @each_encoder
    def test_each_task_has_a_copy_of_the_same_encoder(self, make):
        encoder, inputs, tops = seeded(make)
        model, dense = SingleTask(encoder, tops).eval(), HardSharing(encoder, tops).eval()
        assert all(same(model(inputs, task=t), dense(inputs, task=t)) for t in "ab")
        model(inputs, task="a").sum().backward()
        used = {n for n, p in model.named_parameters() if p.grad is not None}
        assert used and all(n.startswith(("encoders.a.", "heads.a.")) for n in used)
        assert all(p.grad is None for p in encoder.parameters())
        with torch.no_grad():
            next(model.encoders["a"].parameters()).add_(1)
        assert same(model(inputs, task="b"), dense(inputs, task="b"))
        assert not same(model(inputs, task="a"), dense(inputs, task="a"))

    @each_encoder
    def test_subnets(self, make):
        encoder, inputs, tops = seeded(make)
        masks = masks_of(encoder)
        model, shared = SingleTask(encoder, tops, masks), SparseSharing(encoder, tops, masks)
        for task in "ab":
            torch.manual_seed(1)
            alone = model(inputs, task=task)
            torch.manual_seed(1)
            assert torch.equal(alone, shared(inputs, task=task))
            assert set(model.subnet(task)) == {f"encoders.{task}.{n}" for n in masks[task]}
            assert set(model.subnet(task)) <= dict(model.named_parameters()).keys()

    @pytest.mark.parametrize("make", [SingleTask, SoftSharing])
    def test_a_head_that_is_tied_to_what_is_copied(self, make):
        encoder, tops = Tower(2), {t: nn.Linear(8, 8) for t in "ab"}
        tops["b"].weight = encoder.layers[1].linear.weight
        with pytest.raises(ValueError, match="'weight' of the head of 'b' is tied"):
            make(encoder, tops)
        HardSharing(encoder, tops)


class TestLayers:
    def test_a_level_is_the_tower_cut_off_there(self):
        tower, tops, x = Tower(3), {t: nn.Identity() for t in "abc"}, torch.randn(4, 8)
        model = HierarchicalSharing(tower, tops, {"a": 1, "b": 3, "c": 2})
        by_hand = [tower.stem(x)]
        for layer in tower.layers:
            by_hand.append(layer(by_hand[-1], x))
        assert all(same(model(x, task=t), by_hand[z]) for t, z in {"a": 1, "b": 3, "c": 2}.items())
        model(x, task="a").sum().backward()
        assert all(p.grad is None for p in tower.layers[1:].parameters())

    def test_soft_sharing_by_its_formula(self):
        torch.manual_seed(0)
        model = SoftSharing(Tower(2), {t: nn.Identity() for t in "abc"}, own=0.7)
        with torch.no_grad():
            for p in model.parameters():  # also the scalars: rows that sum to 1 would hide mistakes
                p.add_(torch.randn_like(p))
        x = torch.randn(4, 8)
        xs = dict.fromkeys("abc", model.stem(x))
        for i in (0, 1):
            found = {t: model.stacks[t][i](xs[t], x) for t in "abc"}
            alpha = model.mixing[i]
            xs = {
                t: sum(alpha[k, j] * found[s] for j, s in enumerate("abc"))
                for k, t in enumerate("abc")
            }
        for t in "abc":
            assert torch.allclose(model(x, task=t), xs[t], atol=1e-5)

    def test_soft_sharing_starts_as_the_encoder(self):
        tower, x = Tower(2), torch.randn(4, 8)
        model = SoftSharing(tower, heads(), own=0.8)
        for t in "ab":  # equal copies: any mixture of them is the same
            assert torch.allclose(model(x, task=t), model.heads[t](tower(x)), atol=1e-5)
        assert torch.allclose(model.mixing[0], torch.tensor([[0.8, 0.2], [0.2, 0.8]]))
        assert SoftSharing(tower, {"a": Head()}).mixing[0].tolist() == [[1]]

    def test_what_soft_sharing_shares(self):
        tower = Tower(2)
        model = SoftSharing(tower, heads())
        assert model.stem is tower.stem
        stacks = [{id(p) for p in s.parameters()} for s in model.stacks.values()]
        assert not stacks[0] & stacks[1] and not stacks[0] & {id(p) for p in tower.parameters()}
        assert all(same(s.state_dict(), tower.layers.state_dict()) for s in model.stacks.values())


class Stem(nn.Module):
    "The paper's embedding layer: words of 100 numbers, characters through 30 filters of width 3."

    def __init__(self):
        super().__init__()
        self.words, self.chars = nn.Embedding(9, 100), nn.Embedding(9, 30)
        self.conv = nn.Conv1d(30, 30, 3)


class Paper(nn.Module):
    "The paper's encoder, as far as it is counted."

    def __init__(self, layers):
        super().__init__()
        self.stem = Stem()
        self.layers = nn.ModuleList(
            nn.LSTM(400 if i else 130, 200, bidirectional=True) for i in range(layers)
        )


TABLE4 = {1: dict(pos=6, ner=5, chunk=7), 2: dict(pos=10, ner=12, chunk=8)}


@pytest.fixture(scope="module", params=[1, 2], ids=["Exp1", "Exp2"])
def layers(request):
    return request.param


@pytest.fixture(scope="module")
def paper(layers):
    return Paper(layers)


@pytest.fixture(scope="module")
def table4(paper, layers):
    "Masks of the densities of Table 4, which are all 0.1 ** (n / 20)."
    draw = torch.Generator().manual_seed(0)
    return {t: Mask.random(paper, 0.1 ** (n / 20), draw) for t, n in TABLE4[layers].items()}


class TestThePapersCounts:
    tops = {t: nn.Linear(400, 9) for t in TABLE4[1]}

    def test_dense(self, paper, layers):
        one = {1: 533_930, 2: 1_497_130}[layers]
        assert HardSharing(paper, self.tops).count_parameters() == one
        assert SingleTask(paper, self.tops).count_parameters() == 3 * one
        assert 3 * one == {1: 1_601_790, 2: 4_491_390}[layers]
        soft = {1: 1_596_330, 2: 4_485_930}[layers]
        assert SoftSharing(paper, self.tops).count_parameters() == soft

    def test_hierarchical(self, paper, layers):
        levels = dict(pos=1, ner=layers, chunk=layers)
        model = HierarchicalSharing(paper, self.tops, levels)
        assert model.count_parameters() == {1: 533_930, 2: 1_497_130}[layers]

    def test_subnets(self, paper, table4, layers):
        exact = {1: 811_160, 2: 1_458_596}[layers]
        assert SingleTask(paper, self.tops, table4).count_parameters() == exact

    def test_sparse_sharing_counts_the_union_and_what_is_never_pruned(self, paper, table4):
        model = SparseSharing(paper, self.tops, table4)
        whole = HardSharing(paper, self.tops).count_parameters()
        dropped = sum(
            int((~torch.stack([m[n] for m in table4.values()]).any(0)).sum())
            for n in prunable(paper)
        )
        assert dropped > 0 and model.count_parameters() == whole - dropped


@properties
@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.integers(0, 99))
def test_counts_lie_between_the_largest_subnet_and_all_of_them(densities, seed):
    encoder, _, tops = seeded(mlp)
    draw = torch.Generator().manual_seed(seed)
    masks = {t: Mask.random(encoder, d, draw) for t, d in zip("ab", densities, strict=True)}
    shared = SparseSharing(encoder, tops, masks).count_parameters()
    alone = SingleTask(encoder, tops, masks).count_parameters()
    biases = 7 + 8
    kept = [m.kept for m in masks.values()]
    assert alone == sum(kept) + 2 * biases
    assert max(kept) + biases <= shared <= min(sum(kept), 7 * 4 + 8 * 7) + biases


def test_a_shared_weight_counts_once_and_embeddings_do_not():
    linear = nn.Linear(3, 3)
    net = nn.Sequential(nn.Embedding(5, 3), linear, linear, nn.EmbeddingBag(5, 3))
    assert HardSharing(net, {"a": nn.Linear(3, 99)}).count_parameters() == 12


def test_bits_tell_the_two_zeros_apart():
    "The yardstick of these tests."
    zeros = torch.tensor([0.0, -0.0])
    assert torch.equal(zeros, -zeros) and not same(zeros, -zeros)
    assert bits(zeros).shape == (2, 4) and same(zeros, zeros.clone())


def test_a_head_that_is_tied_to_the_encoder_is_the_encoders():
    net = nn.Linear(4, 4)
    masks = {t: Mask.random(net, 0.5, torch.Generator().manual_seed(0)) for t in "ab"}
    tied = {"a": nn.Linear(4, 4), "b": nn.Linear(4, 2)}
    tied["a"].weight = net.weight
    assert masks["a"].kept == 8
    assert SparseSharing(net, tied, masks).count_parameters() == 8 + 4
    assert HardSharing(net, tied).count_parameters() == 16 + 4
