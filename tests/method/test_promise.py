"The promise in the surroundings that people use: a task's step changes nothing outside its subnet, or is refused."

import inspect
import pickle
import threading
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Head, bits, masks_of, mlp, same, seeded, sparse
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from wild import WIDTH, Wild, by_hand, encoder, kinds, model_of, rows

from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD, subnet_step
from sparse_sharing.sharing import HardSharing, SingleTask, SparseSharing
from sparse_sharing.views import plain
from sparse_sharing.weights import parametrised, prunable

properties = settings(deadline=None, max_examples=25)


def gradients(model):
    "What a backward pass has left."
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def compared(model, task, x):
    "Output and gradients of a task in the model, and in a network that was masked by hand."
    hand = by_hand(model, task)
    torch.manual_seed(1)
    model.zero_grad()
    output = model(x, task=task)
    output.square().sum().backward()
    torch.manual_seed(1)
    wanted = hand(x)
    wanted.square().sum().backward()
    return output, wanted, hand


class TestOneNetworkInManyShapes:
    @properties
    @given(kinds=kinds, density=st.floats(0, 1), seed=st.integers(0, 9), task=st.sampled_from("ab"))
    def test_it_is_a_network_masked_by_hand(self, kinds, density, seed, task):
        "Shared, tied, nested, frozen, normed, parametrised: outputs and gradients to the last bit."
        net = encoder(kinds, seed)
        model, x = model_of(net, density, seed), rows(seed)
        output, wanted, hand = compared(model, task, x)
        assert torch.equal(output, wanted)
        mask = model.masks[task]
        for (name, p), (_, other) in zip(
            net.named_parameters(), hand[0].named_parameters(), strict=True
        ):
            assert (p.grad is None) == (other.grad is None)
            if p.grad is not None:
                inside = mask[name] if name in mask else torch.ones_like(p, dtype=torch.bool)
                assert torch.allclose(p.grad[inside], other.grad[inside], atol=1e-6)
                assert not p.grad[~inside].any()

    def test_one_module_used_twice(self):
        layer = nn.Linear(4, 4)
        net = nn.Sequential(layer, nn.ReLU(), layer)
        mask = Mask.random(net, 0.5, torch.Generator().manual_seed(0))
        model = SparseSharing(net, {"a": nn.Identity()}, {"a": mask})
        x = torch.randn(3, 4)
        for _ in range(2):
            assert torch.equal(model(x, task="a"), by_hand(model, "a")(x))
        assert isinstance(layer.weight, nn.Parameter) and net[0] is net[2]

    def test_a_module_that_was_exchanged_is_masked(self):
        model, x = sparse(mlp)
        model.encoder[0] = nn.Linear(4, 7)
        assert torch.equal(model.eval()(x, task="a"), by_hand(model.eval(), "a")(x))

    def test_an_exchanged_module_leaves_each_task_its_statistics(self):
        "As SyncBatchNorm does, which the first line of a script for many processes puts in."
        model, x = model_of(encoder(["linear", "norm"])), rows().detach()
        for sign, task in ((1, "a"), (-1, "b")):
            model.train()(sign * x + 5, task=task)
        before = {t: model.eval()(x, task=t) for t in "ab"}
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        assert isinstance(model.encoder.layers[1], nn.SyncBatchNorm)
        assert all(torch.allclose(model(x, task=t), y, atol=1e-6) for t, y in before.items())
        assert not torch.allclose(*before.values(), atol=1e-3)

    def test_threads_do_not_see_each_other(self):
        model, x = model_of(encoder(["linear", "linear"])), rows()
        wanted = {t: model.eval()(x, task=t) for t in "ab"}
        wrong = []

        def work(task):
            for _ in range(200):
                if not torch.equal(model(x, task=task), wanted[task]):
                    wrong.append(task)

        threads = [threading.Thread(target=work, args=(t,)) for t in "ab"]
        [t.start() for t in threads], [t.join() for t in threads]
        assert not wrong

    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
    def test_threads_that_go_through_one_recurrent_layer(self, kind):
        "One thread goes all the way through while another one has begun."
        torch.manual_seed(0)
        net, x = kind(8, 8, bidirectional=True), torch.randn(3, 4, 8)
        model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, masks_of(net)).eval()
        wanted = {t: model(x, task=t)[0] for t in "ab"}
        other, update = [], net._update_flat_weights

        def slowly():
            update()
            if not other:
                other.append(threading.Thread(target=model, args=(x,), kwargs={"task": "b"}))
                other[0].start(), other[0].join()

        vars(net)["_update_flat_weights"] = slowly
        assert torch.equal(model(x, task="a")[0], wanted["a"]) and other
        assert torch.equal(model(x, task="b")[0], wanted["b"])
        assert all(
            w is getattr(net, n)
            for w, n in zip(net._flat_weights, net._flat_weights_names, strict=True)
        )

    def test_training_after_inference_mode(self):
        torch.manual_seed(0)
        net, x = nn.Sequential(nn.Linear(80, 80), nn.Tanh(), nn.Linear(80, 8)), torch.randn(4, 80)
        model = SparseSharing(net, {t: Head() for t in "ab"}, masks_of(net))
        with torch.inference_mode():
            wanted = model(x, task="a")
        for task in "ab":
            model(x, task=task).sum().backward()
        assert torch.equal(model(x, task="a"), wanted) and net[0].weight.grad.any()

    def test_copies_and_pickles(self):
        model, x = sparse(mlp)
        model.eval()
        wanted = model(x, task="a")
        for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copy(x, task="a"), wanted)
            with torch.no_grad():
                copy.encoder[0].weight.zero_()
            assert not torch.equal(copy(x, task="a"), wanted)
        assert type(plain(deepcopy(model.encoder))[0]) is nn.Linear

    def test_a_head_that_is_tied_to_a_masked_weight(self):
        net, head = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        head.weight = net.weight
        mask = Mask.random(net, 0.5, torch.Generator().manual_seed(0))
        model = SparseSharing(net, {"a": head}, {"a": mask})
        x = torch.randn(3, 4)
        kept = net.weight.detach() * mask["weight"]
        assert torch.equal(model(x, task="a"), x @ kept.t() @ kept.t())
        model(x, task="a").square().sum().backward()
        assert not net.weight.grad[~mask["weight"]].any()

    def test_what_another_task_has_diverged_to_does_not_count(self):
        net = nn.Linear(2, 1, bias=False)
        mask = Mask({"weight": torch.tensor([[True, False]])})
        model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, {"a": mask, "b": ~mask})
        net.weight.data = torch.tensor([[2.0, float("nan")]])
        model(torch.ones(1, 2), task="a").sum().backward()
        assert model(torch.ones(1, 2), task="a") == 2 and net.weight.grad.tolist() == [[1, 0]]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @properties
    @given(kinds=kinds, seed=st.integers(0, 9))
    def test_autocast(self, dtype, kinds, seed):
        model, x = model_of(encoder(kinds, seed), seed=seed).eval(), rows(seed)
        with torch.autocast("cpu", dtype):
            assert torch.equal(model(x, task="a"), by_hand(model, "a")(x))


class TestCheckpoints:
    @pytest.mark.parametrize("reentrant", [False, True])
    @properties
    @given(kinds=kinds, tasks=st.permutations("ab"), seed=st.integers(0, 9))
    def test_the_same_gradients_as_without(self, reentrant, kinds, tasks, seed):
        "Two tasks go through, one after the other, and then one backward pass through both."
        found = []
        for mode in (None, reentrant):
            model, x = model_of(encoder(kinds, seed, mode), seed=seed).eval(), rows(seed)
            sum(model(x, task=t).square().sum() for t in tasks).backward()
            found.append(gradients(model))
        assert found[0].keys() == found[1].keys()
        assert all(torch.allclose(found[0][n], g, atol=1e-6) for n, g in found[1].items())

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_around_the_whole_model(self, reentrant):
        model, x = model_of(encoder(["linear", "linear"])), rows()
        output = checkpoint(lambda x: model(x, task="b"), x, use_reentrant=reentrant)
        output.square().sum().backward()
        again = gradients(model)
        model.zero_grad()
        model(x, task="b").square().sum().backward()
        assert same(gradients(model), again)

    def test_past_the_model_it_is_refused(self):
        model, x = model_of(encoder(["linear"], reentrant=False)), rows()
        with pytest.raises(RuntimeError, match="not known for which task"):
            model.encoder(x).sum().backward()

    def test_outputs_in_a_dict(self):
        class Named(Wild):
            def forward(self, x):
                return {"hidden": super().forward(x)}

        torch.manual_seed(0)
        net, take = Named(["linear", "linear"], reentrant=False), nn.Identity()
        model = SparseSharing(net, dict.fromkeys("ab", take), masks_of(net))
        (model(rows(), task="a")["hidden"] + model(rows(), task="b")["hidden"]).sum().backward()
        either = model.masks["a"] | model.masks["b"]
        for name, kept in either.items():
            assert not net.get_parameter(name).grad[~kept].any()


class TestCompiled:
    @settings(deadline=None, max_examples=4)
    @given(kinds=kinds, seed=st.integers(0, 9))
    def test_outputs_gradients_and_steps(self, kinds, seed):
        torch.compiler.reset()
        kinds = [k for k in kinds if k != "attention"]
        ends = []
        for wrap in (lambda m: m, lambda m: torch.compile(m, backend="aot_eager")):
            model = model_of(encoder(kinds, seed), seed=seed)
            whole, x = wrap(model), rows(seed)
            optimizer = SubnetSGD(whole)
            for task in "abba":
                before = {n: p.detach().clone() for n, p in model.named_parameters()}
                optimizer.zero_grad()
                whole(x, task=task).square().sum().backward()
                subnet_step(optimizer, whole, task)
                for name, kept in model.subnet(task).items():
                    p = model.get_parameter(name)
                    assert torch.equal(bits(p)[~kept], bits(before[name])[~kept])
                    assert not torch.equal(p, before[name])
            ends.append({n: p.detach().clone() for n, p in model.named_parameters()})
        assert all(torch.allclose(ends[0][n], p, atol=1e-6) for n, p in ends[1].items())

    def test_a_copy_of_a_model_that_was_compiled_in_place_computes_with_its_own_weights(self):
        torch.compiler.reset()
        model, x = sparse(mlp)
        model.eval().compile(backend="eager")
        wanted = model(x, task="a")
        for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copy(x, task="a"), wanted)
            with torch.no_grad():
                for p in copy.parameters():
                    p.zero_()
            assert not copy(x, task="a").any()

    def test_an_optimiser_of_torch_over_the_compiled_model(self):
        torch.compiler.reset()
        model, x = sparse(mlp)
        whole = torch.compile(model.eval(), backend="aot_eager")
        adam, before = (
            torch.optim.Adam(whole.parameters()),
            model.encoder[0].weight.detach().clone(),
        )
        whole(x, task="a").sum().backward()
        subnet_step(adam, whole, "a")
        moved = model.encoder[0].weight != before
        assert moved.any() and not moved[~model.masks["a"]["0.weight"]].any()


class TestMasksStay:
    @pytest.mark.parametrize("kinds", [["linear"], ["tied", "norm"], ["same", "attention"]])
    def test_through_meta_and_to_empty(self, kinds):
        model, x = model_of(encoder(["linear", *kinds])).eval(), rows()
        wanted, state = model(x, task="a"), model.state_dict()
        model.to("meta").to_empty(device="cpu").load_state_dict(state)
        assert torch.equal(model(x, task="a"), wanted)

    def test_through_assign(self):
        model, x = sparse(mlp)
        other, _ = sparse(mlp, seed=3)
        optimizer = SubnetSGD(model)
        model.load_state_dict(other.state_dict(), assign=True)
        assert torch.equal(model.eval()(x, task="a"), other.eval()(x, task="a"))
        model(x, task="a").sum().backward()
        with pytest.raises(ValueError, match="after the optimiser was made"):
            optimizer.step("a")

    @properties
    @given(kinds=kinds, seed=st.integers(0, 9), assign=st.booleans())
    def test_a_state_brings_its_masks(self, kinds, seed, assign):
        one, other = (model_of(encoder(kinds, s), seed=s).eval() for s in (seed, seed + 1))
        other.load_state_dict(deepcopy(one.state_dict()), assign=assign)
        assert dict(other.masks) == dict(one.masks)
        assert all(torch.equal(one(rows(), task=t), other(rows(), task=t)) for t in "ab")

    def test_a_state_without_masks_leaves_them(self):
        model, x = sparse(mlp)
        dense = HardSharing(deepcopy(model.encoder), deepcopy(model.heads))
        masks = dict(model.masks)
        model.load_state_dict(dense.state_dict())
        assert dict(model.masks) == masks
        with pytest.raises(RuntimeError, match="masks.a"):
            dense.load_state_dict(model.state_dict())  # it would compute something else

    def test_a_state_that_lacks_a_mask_or_has_another_shape(self):
        model, _ = sparse(mlp)
        state = model.state_dict()
        for change in (
            lambda s: s.pop("masks.b.3.weight"),
            lambda s: s.update({"masks.b.3.weight": torch.ones(2) > 0}),
        ):
            damaged = dict(state)
            change(damaged)
            with pytest.raises(RuntimeError, match="'b'"):
                model.load_state_dict(damaged)

    def test_an_exchanged_mask_counts(self):
        model, x = sparse(mlp)
        model.eval()
        model.masks["a"] = model.masks["b"]
        assert torch.equal(model.encode(x, task="a"), model.encode(x, task="b"))
        with pytest.raises(ValueError, match="'a'.*'9.weight'"):
            model.masks["a"] = Mask({"9.weight": torch.ones(2, 2) > 0})
        with pytest.raises(KeyError, match="'c'"):
            model.masks["c"] = model.masks["b"]
        with pytest.raises(TypeError, match="Mask.ones"):
            del model.masks["a"]


class TestParametrised:
    def test_left_out_and_named(self):
        net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), nn.Linear(2, 2))
        names = {"0.parametrizations.weight.original0", "0.parametrizations.weight.original1"}
        assert parametrised(net) == names and prunable(net) == ["1.weight"]
        for name in names:
            with pytest.raises(ValueError, match=name):
                Mask.ones(net, [name])
            mask = Mask({name: torch.ones_like(net.get_parameter(name)) > 0})
            with pytest.raises(ValueError, match=f"'a'.*{name}"):
                SparseSharing(net, {"a": nn.Identity()}, {"a": mask})

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    @pytest.mark.parametrize(
        "wrap",
        [
            nn.utils.weight_norm,
            nn.utils.spectral_norm,
            lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        ],
    )
    def test_of_the_older_kind(self, wrap):
        assert prunable(nn.Sequential(wrap(nn.Linear(3, 2)), nn.Linear(2, 2))) == ["1.weight"]

    def test_a_tie_that_is_lost_is_not_passed_over(self):
        model = model_of(encoder(["linear", "tied"]))
        model.encoder.layers[1].weight = nn.Parameter(torch.ones(WIDTH, WIDTH))
        with pytest.raises(
            RuntimeError, match="encoder.layers.1.weight was tied to encoder.layers.0.weight"
        ):
            model(rows(), task="a")

    def test_frozen_weights(self):
        net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False))
        assert prunable(net) == ["0.weight"]


class Past(nn.Module):
    "Computes with a weight, or a private bias, that it does not read as an attribute."

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(4, 8) for _ in range(2)])
        self.how, self.kept = how, [self.layers[0].weight]

    def forward(self, x):
        if self.how == "list":
            return x @ self.kept[0].t() + self.layers[1](x)
        if self.how == "parameters":
            weight, *_ = self.layers[1].parameters()
            return self.layers[0](x) + x @ weight.t()
        if self.how == "bias":
            *_, bias = self.layers[1].parameters()
            return self.layers[0](x) + bias
        if self.how == "norms":
            return self.layers[0](x), sum(p.norm() for p in self.parameters())
        parameters, _ = torch.func.stack_module_state(list(self.layers))
        return torch.einsum("bi,eoi->bo", x, parameters["weight"])


class TestPastAMask:
    def masked(self, net, **options):
        return SparseSharing(net, {t: Head() for t in "ab"}, masks_of(net), **options)

    @pytest.mark.parametrize("how", ["list", "parameters", "bias", "norms"])
    def test_it_is_refused_with_gradients(self, how):
        model = self.masked(Past(how), private=True)
        for _ in range(2):
            with pytest.raises(
                RuntimeError, match=r"whole of 'layers\.\d\.(weight|bias)', of which 'a'"
            ):
                model(torch.randn(5, 4), task="a")

    @pytest.mark.parametrize("how", ["list", "parameters", "bias", "norms", "experts"])
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_it_is_refused_without(self, how, mode):
        model = self.masked(Past(how), private=True)
        if how == "experts":
            model(torch.randn(5, 4), task="b")  # that copy has no graph
        with mode(), pytest.raises(RuntimeError, match="whole of 'layers"):
            model(torch.randn(5, 4), task="b")

    def test_what_has_no_graph_is_seen_in_the_second_call(self):
        model = self.masked(Past("experts"))
        model(torch.randn(5, 4), task="a")
        with pytest.raises(RuntimeError, match="whole of 'layers"):
            model(torch.randn(5, 4), task="a")

    def test_what_goes_past_in_evaluation_alone(self):
        class Shortcut(Past):
            def forward(self, x):
                return (
                    sum(layer(x) for layer in self.layers) if self.training else super().forward(x)
                )

        model = self.masked(Shortcut("list"))
        model(torch.randn(5, 4), task="a")
        with torch.no_grad():
            model(torch.randn(5, 4), task="a")
            model.eval()
            with pytest.raises(RuntimeError, match=r"whole of 'layers\.0\.weight'"):
                model(torch.randn(5, 4), task="a")

    @pytest.mark.parametrize("gradients", [True, False])
    def test_a_compiled_encoder(self, gradients):
        torch.compiler.reset()
        model, x = sparse(mlp)
        wanted = model.eval()(x, task="a")
        model.forget()
        model.encoder.compile(backend="aot_eager")
        for _ in range(3):
            with torch.set_grad_enabled(gradients):
                assert torch.allclose(model(x, task="a"), wanted, atol=1e-6)

    def test_a_layer_that_is_skipped_is_no_sign(self):
        class Skips(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8), nn.LSTM(8, 8)])

            def forward(self, x, layers):
                like = torch.zeros_like(next(self.layers[1].parameters()))[0]
                for i in layers:
                    x = self.layers[i](x)
                return like + (x[0] if isinstance(x, tuple) else x)

        model, x = self.masked(Skips()), torch.randn(5, 4)
        for layers in ([0], [0, 1], [0, 2], [0, 1, 2]):
            for gradients in (True, False):
                with torch.set_grad_enabled(gradients):
                    model(x, layers, task="a"), model.encode(x, layers, task="b")
        model = self.masked(Skips())
        for layers in (
            [0],
            [0, 2],
            [0, 1],
            [0, 1, 2],
        ):  # the second call is watched, with gradients
            model.encode(x, layers, task="a").sum().backward()

    def test_nobody_looks_on_when_all_was_seen(self):
        model, x = sparse(mlp)
        assert model.view("a").watch is not None
        model(x, task="a")
        assert model.view("a").watch is None and model.view("b").watch is not None
        with torch.no_grad():
            assert model.view("a").watch is None
        model.masks["a"] = model.masks["b"]
        assert model.view("a").watch is not None

    def test_a_buffer_that_is_new(self):
        class Late(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.other = nn.Linear(4, 8), nn.Identity()

            def forward(self, x):
                if not hasattr(self.other, "mean"):
                    self.other.register_buffer("mean", x.mean(0))
                return self.linear(x - self.other.mean)

        x = torch.randn(5, 4)
        with pytest.raises(RuntimeError, match="buffer 'other.mean'.*in the constructor"):
            self.masked(Late())(x, task="a")
        self.masked(Late(), shared_buffers=True)(x, task="a")
        net = Late()
        net(x)
        self.masked(net)(x, task="a")

    @pytest.mark.filterwarnings("ignore")
    def test_a_program_of_jit(self):
        plain_net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        x = torch.randn(5, 4)
        for net in (
            torch.jit.script(plain_net),
            torch.jit.trace(plain_net, x),
            nn.Sequential(torch.jit.script(nn.Linear(4, 8)), nn.Linear(8, 8)),
            nn.Sequential(nn.Linear(4, 8), torch.jit.script(nn.BatchNorm1d(8))),
        ):
            with pytest.raises(
                TypeError, match=r"encoder\.[01]\..* is read by a program of torch.jit"
            ):
                self.masked(net)
            HardSharing(net, {t: Head() for t in "ab"})(x, task="a")

    def test_inside_a_transform(self):
        "A gradient for each example."
        model, x = sparse(mlp)
        weights = {n: p.detach() for n, p in model.eval().named_parameters()}

        def loss(weights, row):
            return torch.func.functional_call(model, weights, (row[None],), {"task": "a"}).sum()

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
        model(x, task="a").sum().backward()
        found = gradients(model)
        assert all(torch.allclose(each[n].sum(0), g, atol=1e-5) for n, g in found.items())

    def test_what_no_mask_can_be_laid_over(self):
        wide = nn.Linear(4, 8, dtype=torch.complex128)
        with pytest.raises(ValueError, match="'weight' is of torch.complex128.*complex64"):
            self.masked(wide)
        table = nn.Sequential(nn.Embedding(9, 4, sparse=True))
        mask = Mask.ones(table, ["0.weight"])
        model = SparseSharing(table, {"a": nn.Identity()}, {"a": mask})
        with pytest.raises(TypeError, match="sparse gradient.*sparse=False"):
            model(torch.tensor([1]), task="a").sum().backward()

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    @pytest.mark.parametrize(
        "change",
        [
            lambda m: nn.utils.parametrizations.weight_norm(m.encoder[0]),
            lambda m: nn.utils.parametrizations.spectral_norm(m.encoder[0]),
            lambda m: setattr(m, "encoder", torch.compile(m.encoder)),
            lambda m: m.encoder.__setitem__(0, nn.Sequential(m.encoder[0])),
        ],
    )
    def test_what_changes_a_network_afterwards(self, change):
        model, x = sparse(mlp)
        change(model)
        with pytest.raises(RuntimeError, match="'0.weight' is masked for 'a'.*has it no more"):
            model(x, task="a")


class Lambda(nn.Module):
    "A model in a function."

    def __init__(self, function, model):
        super().__init__()
        self.function, self.model = function, model

    def forward(self, x):
        return self.function(x)


class Grows(nn.Module):
    "Adds positions, from a table that is made anew when it is too short."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 8)
        self.grow(4)

    def grow(self, length):
        table = torch.arange(length * 4.0).view(length, 4)
        self.register_buffer("table", table, persistent=False)

    def forward(self, x):
        if len(x) > len(self.table):
            self.grow(len(x))
        return self.linear(x + self.table[: len(x)])


class First(nn.Module):
    "Takes away the mean of its first batch."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 8)
        self.register_buffer("mean", None)

    def forward(self, x):
        if self.mean is None:
            self.mean = x.mean(0)
        return self.linear(x - self.mean)


OPTIMIZERS = {
    "ASGD": dict(lr=0.5),
    "Adadelta": dict(lr=1.0),
    "Adagrad": dict(lr=0.5, initial_accumulator_value=0.1),
    "Adam": dict(eps=0.0),
    "AdamW": dict(amsgrad=True, weight_decay=0.1),
    "Adamax": dict(weight_decay=0.1),
    "Muon": {},
    "NAdam": dict(weight_decay=0.1),
    "RAdam": dict(lr=0.5),
    "RMSprop": dict(momentum=0.9, centered=True),
    "Rprop": {},
    "SGD": dict(lr=0.5, momentum=0.9, nesterov=True, weight_decay=0.1),
}
REFUSED = {"Adafactor": TypeError, "LBFGS": TypeError, "SparseAdam": RuntimeError}


def everything(model, optimizer):
    "Weights and states, copied."
    return {
        n: {"": p.detach().clone()}
        | {
            k: v.clone()
            for k, v in optimizer.state.get(p, {}).items()
            if isinstance(v, torch.Tensor)
        }
        for n, p in model.named_parameters()
    }


def assert_kept(model, task, before, after):
    "Nothing outside the subnet of a task has changed, and something inside has."
    inside, moved = model.subnet(task), 0
    for name, tensors in after.items():
        other_head = name.startswith("heads.") and not name.startswith(f"heads.{task}.")
        if name not in inside and not other_head:
            continue
        outside = (
            ~inside[name] if name in inside else torch.ones_like(tensors[""], dtype=torch.bool)
        )
        moved += int((tensors[""] != before[name][""]).sum())
        for key, value in tensors.items():
            if value.shape == outside.shape and key in before[name]:
                old = before[name][key]
                assert torch.equal(bits(value)[outside], bits(old)[outside]), (name, key)
    assert moved


class TestEveryOptimiserOfTorch:
    def test_the_list_is_complete(self):
        known = {
            n
            for n, c in vars(torch.optim).items()
            if inspect.isclass(c) and issubclass(c, torch.optim.Optimizer) and n != "Optimizer"
        }
        assert known <= set(OPTIMIZERS) | set(REFUSED)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("none", [True, False], ids=["None", "zeros"])
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_nothing_outside_moves(self, name, none, dtype):
        if not hasattr(torch.optim, name):
            pytest.skip(f"this PyTorch has no {name}")
        model, x = model_of(encoder(["linear", "linear"])), rows().detach()
        model.to(dtype).eval()
        chosen = [p for p in model.parameters() if p.dim() == 2 or name != "Muon"]
        optimizer = getattr(torch.optim, name)(chosen, **OPTIMIZERS[name])
        for task in "abbaab":
            before = everything(model, optimizer)
            optimizer.zero_grad(set_to_none=none)
            model(x.to(dtype), task=task).float().square().mean().backward()
            subnet_step(optimizer, model, task)
            assert_kept(model, task, before, everything(model, optimizer))
            assert all(
                p.isfinite().all() for n, p in model.named_parameters() if n in model.subnet(task)
            )

    @pytest.mark.parametrize("name", REFUSED)
    def test_what_cannot_be_kept_apart_is_refused_and_nothing_moves(self, name):
        model, x = sparse(mlp)
        optimizer = getattr(torch.optim, name)(model.parameters())
        before = everything(model, optimizer)
        model(x, task="a").sum().backward()
        with pytest.raises(REFUSED[name]):
            subnet_step(optimizer, model, "a")
        after = everything(model, optimizer)
        assert all(same(after[n][""], before[n][""]) for n in before)

    @pytest.mark.parametrize("name", ["Adam", "RMSprop", "Rprop", "Adagrad"])
    def test_inside_it_is_the_step_of_a_network_that_has_nothing_outside(self, name):
        model, x = sparse(mlp)
        alone = by_hand(model, "a")
        pairs = [(model, lambda m: m(x, task="a")), (alone, lambda m: m(x))]
        for net, call in pairs:
            net.eval()
            optimizer = getattr(torch.optim, name)(net.parameters(), lr=0.01)
            for _ in range(3):
                optimizer.zero_grad()
                call(net).square().mean().backward()
                if net is model:
                    subnet_step(optimizer, model, "a")
                else:
                    optimizer.step()
                    with torch.no_grad():
                        for key, kept in model.masks["a"].items():
                            net[0].get_parameter(key).mul_(kept)
        for key, kept in model.masks["a"].items():
            ours, theirs = model.encoder.get_parameter(key), alone[0].get_parameter(key)
            assert torch.allclose(ours[kept], theirs[kept], atol=1e-6)

    def test_a_velocity_that_is_not_a_number_stays_with_its_task(self):
        net = nn.Linear(2, 1, bias=False)
        mask = Mask({"weight": torch.tensor([[True, False]])})
        model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, {"a": mask, "b": ~mask})
        optimizer = SubnetSGD(model)
        for task in "ab":
            net.weight.grad = None
            model(torch.ones(1, 2), task=task).sum().backward()
            optimizer.step(task)
        optimizer.state[net.weight]["velocity"][0, 0] = float("nan")
        before = net.weight.detach().clone()
        net.weight.grad = None
        model(torch.ones(1, 2), task="b").sum().backward()
        optimizer.step("b")
        assert net.weight[0, 0] == before[0, 0] and net.weight[0, 1] < before[0, 1]

    @pytest.mark.parametrize(
        "make", [SubnetSGD, lambda m: torch.optim.SGD(m.parameters(), 0.1, 0.9)]
    )
    def test_gradients_that_are_zero_instead_of_none_move_no_other_head(self, make):
        for system in (
            sparse(mlp)[0],
            HardSharing(*seeded(mlp)[::2]),
            SingleTask(*seeded(mlp)[::2]),
        ):
            optimizer, x = make(system), seeded(mlp)[1]
            for task in "ab":
                optimizer.zero_grad(set_to_none=False)
                system(x, task=task).square().sum().backward()
                before = {n: p.detach().clone() for n, p in system.named_parameters()}
                subnet_step(optimizer, system, task)
                other = "ab".replace(task, "")
                for name, p in system.named_parameters():
                    if f"heads.{other}." in name or f"encoders.{other}." in name:
                        assert same(p, before[name])


class TestAfterConstruction:
    def test_a_parameter_group_is_stepped(self):
        model, x = sparse(mlp)
        optimizer = SubnetSGD(model, 0.1)
        model.add_task("c", Head(), model.masks["a"])
        before = model.heads["c"].linear.weight.detach().clone()
        model(x, task="c").sum().backward()
        with pytest.raises(ValueError, match="'heads.c.linear.weight'.*add_param_group"):
            optimizer.step("c")
        optimizer.add_param_group({"params": list(model.heads["c"].parameters()), "lr": 0.5})
        grad = model.heads["c"].linear.weight.grad.clone()
        optimizer.step("c")
        assert torch.equal(model.heads["c"].linear.weight, before - 0.5 * grad)

    def test_a_new_task_changes_no_other(self):
        model, x = sparse(mlp)
        model.eval()
        before = {t: model(x, task=t) for t in "ab"}
        model.add_task("c", Head())
        assert all(same(model(x, task=t), y) for t, y in before.items())
        assert torch.equal(model.encode(x, task="c"), model.encoder(x))
        with pytest.raises(ValueError, match="'c'"):
            model.add_task("c", Head())

    def test_a_head_cannot_be_put_in(self):
        model, _ = sparse(mlp)
        with pytest.raises(TypeError, match="add_task"):
            model.heads["new"] = Head()

    @pytest.mark.parametrize("name", ["type", "keys", "pos.en", "train", "a%b", "named_parameters"])
    def test_any_name_of_a_task(self, name):
        net, x, _ = seeded(mlp)
        model = SparseSharing(
            net,
            {name: Head(), "b": Head()},
            dict(zip([name, "b"], masks_of(net).values(), strict=True)),
        )
        optimizer = SubnetSGD(model)
        model(x, task=name).sum().backward()
        optimizer.step(name)
        other = SingleTask(net, {name: Head(), "b": Head()})
        assert other(x, task=name).shape == (6, 2) and model.tasks == other.tasks == (name, "b")
        again = deepcopy(model)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.eval()(x, task=name), model.eval()(x, task=name))

    def test_a_call_without_a_task(self):
        model, x = sparse(mlp)
        for call in (model, model.encode):
            with pytest.raises(TypeError, match="task='a'.*a, b"):
                call(x)


class TestBuffersAndBiases:
    @properties
    @given(kinds=kinds.map(lambda k: [*k, "norm"]), seed=st.integers(0, 9))
    def test_a_disjoint_task_keeps_its_outputs_to_the_last_bit(self, kinds, seed):
        net, x = encoder(kinds, seed), rows(seed)
        whole = Mask.ones(net)
        half = Mask.random(net, 0.5, torch.Generator().manual_seed(seed))
        frozen = [n for n, p in net.named_parameters() if n not in whole]
        model = SparseSharing(
            net, {t: Head() for t in "ab"}, {"a": half, "b": ~half}, private=frozen
        )
        before = model.eval()(x, task="b")
        optimizer = SubnetSGD(model.train())
        for _ in range(3):
            optimizer.zero_grad()
            model(x + 1, task="a").square().sum().backward()
            optimizer.step("a")
        assert torch.equal(model.eval()(x, task="b"), before)

    def test_shared_on_request(self):
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        ones = dict.fromkeys("ab", Mask.ones(net))
        apart = SparseSharing(deepcopy(net), {t: Head() for t in "ab"}, ones)
        together = SparseSharing(
            deepcopy(net), {t: Head() for t in "ab"}, ones, shared_buffers=True
        )
        for model in (apart, together):
            model(torch.randn(6, 4) + 5, task="a")
        assert not hasattr(together, "own") and together.encoder[1].num_batches_tracked == 1
        kept = {t: int(apart.own[t].get_buffer("1.num_batches_tracked")) for t in "ab"}
        assert kept == {"a": 1, "b": 0} and apart.encoder[1].num_batches_tracked == 0
        assert "own.a.1.running_mean" in apart.state_dict()

    @pytest.mark.parametrize("part", ["encoder", "encoder.1"])
    def test_what_is_loaded_into_the_encoder_counts_for_every_task(self, part):
        net, trained = (nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)) for _ in range(2))
        for _ in range(9):
            trained(3 * torch.randn(6, 4) + 5)
        ones = dict.fromkeys("abc", Mask.ones(net))
        model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, masks_of(net), private=True)
        model.add_task("c", nn.Identity(), ones["c"])
        copy = deepcopy(model)
        for loaded in (model, copy):
            source = trained if part == "encoder" else trained[1]
            loaded.get_submodule(part).load_state_dict(source.state_dict())
            for task in "abc":
                for name, tensor in trained.state_dict().items():
                    if name.startswith("1."):
                        assert torch.equal(loaded.own[task].state_dict()[name], tensor)
        model.encoder.load_state_dict(trained.state_dict())
        x = torch.randn(5, 4)
        assert torch.equal(model.eval()(x, task="c"), trained.eval()(x))
        other = deepcopy(model)
        with torch.no_grad():
            other.own["a"].get_buffer("1.running_mean").fill_(7)
        model.load_state_dict(other.state_dict())  # a state of the whole model has each task's
        assert same(model.state_dict(), other.state_dict())
        assert not any("_copies" in vars(m) for m in model.export("a").modules())

    def test_statistics_are_reset_task_by_task(self):
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        ones = dict.fromkeys("ab", Mask.ones(net))
        model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, ones, private=True)
        seen = [lambda t=t: int(model.own[t].get_buffer("1.num_batches_tracked")) for t in "ab"]
        x = torch.randn(6, 4)
        for task in "ab":
            model(x + 5, task=task)
        with pytest.raises(RuntimeError, match=r"BatchNorm1d for itself.*view\(task\)"):
            net[1].reset_running_stats()
        assert [count() for count in seen] == [1, 1]
        with model.view("a"):
            net[1].reset_running_stats()
        assert [count() for count in seen] == [0, 1]
        for task in "ab":  # one after the other, as torch.optim.swa_utils.update_bn is used
            whole = Lambda(lambda x, task=task: model(x, task=task), model)
            with model.view(task):
                torch.optim.swa_utils.update_bn([x, x + 2], whole)
        assert [count() for count in seen] == [2, 2] and net[1].momentum == 0.1
        means = [model.own[t].get_buffer("1.running_mean") for t in "ab"]
        with torch.no_grad():
            assert torch.allclose(means[0], (net[0](x) + net[0](x + 2)).mean(0) / 2, atol=1e-5)
        assert torch.equal(*means)

    def test_what_begins_anew_begins_anew_for_every_task(self):
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        ones = dict.fromkeys("ab", Mask.ones(net))
        model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, ones, private=True)
        model(torch.randn(6, 4) + 5, task="a")
        for layer in net:
            layer.reset_parameters()
        for task in "ab":
            for name, tensor in model.own[task].state_dict().items():
                assert torch.equal(tensor, net.state_dict()[name])

    def test_a_buffer_that_is_given_another_tensor(self):
        class Mean(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("mean", torch.zeros(4))
                self.linear = nn.Linear(4, 8)

            def forward(self, x):
                self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
                return self.linear(x - self.mean)

        net = Mean()
        model = SparseSharing(net, {t: Head() for t in "ab"}, dict.fromkeys("ab", Mask.ones(net)))
        x = torch.ones(2, 4)
        model(x, task="a"), model(x, task="a")
        assert model.own["a"].mean.tolist() == [0.75] * 4
        assert not model.own["b"].mean.any() and not net.mean.any()

    def test_a_buffer_that_is_made_anew(self):
        "Positions grow with the longest text of a task."
        net, x = Grows(), torch.randn(9, 4)
        model = SparseSharing(net, {t: Head() for t in "ab"}, dict.fromkeys("ab", Mask.ones(net)))
        assert torch.equal(
            model.encode(x, task="a"), Grows.forward(deepcopy(plain(deepcopy(net))), x)
        )
        sizes = [len(t.table) for t in (model.own["a"], model.own["b"], net)]
        assert sizes == [9, 4, 4] and "own.a.table" not in model.state_dict()
        assert model.encode(x, task="b").shape == (9, 8) and len(model.own["b"].table) == 9

    def test_a_buffer_that_is_empty_at_first(self):
        net, x = First(), torch.randn(5, 4)
        masks = dict.fromkeys("ab", Mask.ones(net))
        model = SparseSharing(net, {t: Head() for t in "ab"}, masks)
        model(x + 10, task="a"), model(x, task="b")
        assert net.mean is None and torch.equal(model.own["b"].mean, x.mean(0))
        copy = deepcopy(model)
        for task in "ab":
            wanted = model(x, task=task)
            assert torch.equal(model.export(task)(x), wanted)
            assert torch.equal(copy(x, task=task), wanted)
        assert "own.a.mean" in model.state_dict() and "encoder.mean" not in model.state_dict()

    def test_a_buffer_that_is_emptied(self):
        class Forgets(First):
            def forward(self, x):
                self.mean = None
                return super().forward(x)

        net, x = Forgets(), torch.randn(5, 4)
        net.mean = torch.full((4,), 7.0)
        model = SparseSharing(net, {"a": Head()}, {"a": Mask.ones(net)})
        assert torch.equal(model.encode(x, task="a"), net.linear(x - x.mean(0)))
        assert net.mean.tolist() == [7] * 4

    @pytest.mark.parametrize("buffer_first", [True, False])
    def test_a_number_that_goes_with_a_buffer(self, buffer_first):
        class Counts(Grows):
            length = 0

            def forward(self, x):
                if not buffer_first:
                    self.length = len(x)
                output = super().forward(x)
                self.length = len(x)
                return output

        net, heads = Counts(), {t: Head() for t in "ab"}
        net.length, masks = 0, dict.fromkeys("ab", Mask.ones(net))
        model = SparseSharing(net, heads, masks)
        assert model.encode(torch.randn(3, 4), task="a").shape == (3, 8)
        with pytest.raises(TypeError, match="'table' and its number 'length'.*shared_buffers"):
            model(torch.randn(6, 4), task="a")
        shared = SparseSharing(Counts(), heads, masks, shared_buffers=True)
        assert shared.encode(torch.randn(7, 4), task="a").shape == (7, 8)

    def test_what_cannot_be_private(self):
        net = mlp()[0]
        for names, reason in ((["0.weight"], "is masked"), ("9.bias", "no parameter")):
            with pytest.raises(ValueError, match=reason):
                SparseSharing(net, {t: Head() for t in "ab"}, masks_of(net), private=names)

    def test_private_vectors_are_counted(self):
        net = mlp()[0]
        heads = {t: Head() for t in "ab"}
        shared = SparseSharing(net, heads, masks_of(net)).count_parameters()
        assert (
            SparseSharing(net, heads, masks_of(net), private=True).count_parameters() == shared + 15
        )


def test_a_step_names_its_task():
    model, _ = sparse(mlp)
    for step in (SubnetSGD(model).step, lambda: subnet_step(SubnetSGD(model), model)):
        with pytest.raises(TypeError, match="name the task"):
            step()
    with pytest.raises(TypeError, match="holds 0 models"):
        SubnetSGD(nn.Linear(2, 2))


def test_the_numbers_are_those_of_a_product():
    "What was recorded was computed with weights times 0 or 1."
    model, x = sparse(mlp)
    model.eval()
    for task, mask in model.masks.items():
        weights = {n: model.encoder.get_parameter(n) * k for n, k in mask.items()}
        product = torch.func.functional_call(model.encoder, weights, (x,))
        assert torch.equal(model.encode(x, task=task), product)
    assert np.isfinite(x.numpy()).all() and WIDTH == 8
