"A task's subnet as a module of its own: bit-equal, without the library, and what it weighs."

import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from nets import ENCODERS, WAYS, any_way, copied, heads, mlp, same, sparse
from torch import nn

from sparse_sharing.export import Size, headed, size, write_zeros
from sparse_sharing.masks import Mask
from sparse_sharing.sharing import HardSharing, SparseSharing

each_way = pytest.mark.parametrize("way", WAYS)
each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)


def used(model, inputs):
    "The model in evaluation, after both tasks have gone through it in training."
    for task in model.tasks:
        model.train()(inputs, task=task)
    return model.eval()


def linear_net():
    "A network of PyTorch's classes alone, with a batch norm, and inputs for it."
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    masks = {t: Mask.random(net, 0.4, torch.Generator().manual_seed(i)) for i, t in enumerate("ab")}
    tops = {t: nn.Linear(3, 2) for t in "ab"}
    inputs = torch.randn(9, 4)
    return used(SparseSharing(net, tops, masks), inputs), inputs


class TestExport:
    @each_way
    def test_every_way_to_the_last_bit(self, way):
        model, inputs = any_way(way)
        used(model, inputs)
        before = copied(model)
        for task in model.tasks:
            module = model.export(task)
            assert same(module(inputs), model(inputs, task=task)), task
            assert not module.training
        assert same(copied(model), before)

    @each_encoder
    def test_every_encoder(self, make):
        model, inputs = sparse(make)
        used(model, inputs)
        for task in model.tasks:
            assert same(model.export(task)(inputs), model(inputs, task=task))

    def test_a_keyword_that_has_to_be_given_after_one_that_need_not(self):
        class Scales(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(4, 8)

            def forward(self, x, mask=None, *, scale, shift=0.0):
                y = self.linear(x) * scale + shift
                return y if mask is None else y * mask

        net, x = Scales(), torch.randn(3, 4)
        model = SparseSharing(net, {"a": nn.Linear(8, 2)}, {"a": Mask.ones(net)})
        module, mask = model.export("a"), torch.tensor([[1.0], [0], [1]])
        options = dict(scale=2.0, shift=1.0)
        assert same(module(x, scale=2.0), model(x, scale=2.0, task="a"))
        assert same(module(x, mask, **options), model(x, mask, **options, task="a"))
        with pytest.raises(TypeError):
            module(x)

    def test_it_is_a_copy(self):
        model, inputs = linear_net()
        module, wanted = model.export("a"), model(inputs, task="a")
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        assert same(module(inputs), wanted)

    def test_it_can_be_trained_on(self):
        model, inputs = linear_net()
        module = model.export("a").train()
        module(inputs).sum().backward()
        assert all(p.grad is not None for p in module.parameters())

    def test_no_class_of_this_library_is_in_it(self):
        model, _ = linear_net()
        for module in model.export("a").modules():
            for kind in type(module).__mro__:
                assert not kind.__module__.startswith("sparse_sharing"), kind

    @pytest.mark.e2e
    def test_a_process_without_the_library_runs_it(self, tmp_path):
        model, inputs = linear_net()
        module = model.export("b")
        torch.save([module, inputs, model(inputs, task="b").detach()], tmp_path / "b.pt")
        program = """
            import sys, torch
            sys.modules["sparse_sharing"] = None  # an import of it fails
            module, inputs, wanted = torch.load(sys.argv[1], weights_only=False)
            assert torch.equal(module(inputs), wanted)
            print("the same")
        """
        command = [sys.executable, "-c", textwrap.dedent(program), tmp_path / "b.pt"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stdout == "the same\n", done.stderr

    def test_it_is_pickled_and_copied_like_any_module(self):
        model, inputs = linear_net()
        module = model.export("a")
        assert same(pickle.loads(pickle.dumps(module))(inputs), module(inputs))

    def test_a_torch_program(self):
        model, inputs = linear_net()
        module = model.export("a")
        program = torch.export.export(module, (inputs,), strict=False)  # torch 2.6 has to be told
        assert same(program.module()(inputs), model(inputs, task="a"))

    def test_an_onnx_program(self, tmp_path):
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        model, inputs = linear_net()
        torch.onnx.export(model.export("a"), (inputs,), tmp_path / "a.onnx", dynamo=True)
        session = runtime.InferenceSession(tmp_path / "a.onnx")
        found = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
        assert torch.allclose(torch.from_numpy(found), model(inputs, task="a"), atol=1e-6)

    def test_an_unknown_task(self):
        with pytest.raises(KeyError, match="no task 'c'"):
            linear_net()[0].export("c")

    def test_weights_that_are_not_numbers_stay_out(self):
        "A zero is written, whatever the weight of the other task has become."
        model, inputs = linear_net()
        outside = ~model.masks["a"]["0.weight"]
        with torch.no_grad():
            model.encoder[0].weight[outside] = torch.inf
        module = model.export("a")
        assert module(inputs).isfinite().all()

    def test_a_tied_head(self):
        "It is tied in the copy, too."
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh())
        top = nn.Linear(4, 4, bias=False)
        top.weight = net[0].weight
        model = HardSharing(net, {"a": top})
        module = model.export("a")
        assert module.head.weight is module.encoder.get_parameter("0.weight")


class Options(nn.Module):
    "Arguments of all kinds."

    def forward(self, x, /, factor=2.0, *, shift=None, kind=torch.float32, **rest):
        assert not rest and kind is torch.float32
        y = x * factor
        return y if shift is None else y + shift


class TestArguments:
    def test_they_keep_their_names_and_defaults(self):
        module = headed(Options(), nn.Identity())
        x = torch.ones(3)
        assert module(x).tolist() == [2, 2, 2]
        assert module(x, 3.0).tolist() == [3, 3, 3]
        assert module(x, shift=x).tolist() == [3, 3, 3]
        with pytest.raises(TypeError, match="kind"):
            module(x, kind=torch.float64)

    def test_several_inputs(self):
        model = HardSharing(nn.Bilinear(3, 4, 8), heads())
        one, two = torch.randn(5, 3), torch.randn(5, 4)
        assert same(model.export("a")(one, two), model(one, two, task="a"))

    def test_arguments_without_names(self):
        class Anything(nn.Module):
            def forward(self, *numbers):
                return sum(numbers)

        with pytest.raises(TypeError, match=r"Anything.forward takes \*numbers"):
            HardSharing(Anything(), heads()).export("a")


class TestSize:
    def test_by_hand(self):
        net = nn.Linear(10, 3)
        nn.init.ones_(net.weight)
        nn.init.ones_(net.bias)
        assert size(net) == Size(33, 33, 132, 137)
        kept = torch.zeros(3, 10, dtype=torch.bool)
        kept[0, :5] = True
        write_zeros(net, {"weight": kept})
        assert size(net) == Size(33, 8, 132, 32 + 5)

    def test_a_shared_weight_counts_once(self):
        one = nn.Linear(4, 4)
        assert size(nn.Sequential(one, nn.ReLU(), one)).parameters == 20

    def test_half_precision(self):
        assert size(nn.Linear(10, 3).to(torch.bfloat16)).bytes == 66

    def test_of_an_exported_task(self):
        model, _ = sparse(mlp, density=0.25)
        found = size(model.export("a").encoder)
        assert found.nonzero == model.masks["a"].kept + 7 + 8
        assert found.parameters == 84 + 7 + 8
