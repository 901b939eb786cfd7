"Checkpoints of Transformers, the compiler with its real backend, sharded weights, other devices, and other releases of PyTorch."

import importlib.util
import os
import shutil

import pytest
import torch
from nets import ENCODERS, Head, masks_of, mlp, same, sparse
from test_promise import gradients
from torch import nn

from sparse_sharing import views
from sparse_sharing.optim import SubnetSGD, subnet_step
from sparse_sharing.sharing import SparseSharing

BOTH = ("a", "b")


class Last(nn.Module):
    "Two numbers for each text, from what a Transformer gives."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 2)

    def forward(self, outputs):
        return self.linear(outputs.last_hidden_state[:, 0])


def bert(reentrant=None):
    "A sparse model on a small network of Hugging Face, with or without their gradient checkpointing."
    transformers = pytest.importorskip("transformers", reason="no transformers: an extra")
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24)
    quiet = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    net = transformers.BertModel(transformers.BertConfig(vocab_size=30, **sizes, **quiet))
    if reentrant is not None:
        net.gradient_checkpointing_enable({"use_reentrant": reentrant})
        assert net.is_gradient_checkpointing
    if reentrant:
        net.enable_input_require_grads()
    return SparseSharing(net, {t: Last() for t in BOTH}, masks_of(net)).train()


@pytest.mark.filterwarnings("ignore::FutureWarning")
class TestTransformers:
    @pytest.mark.parametrize("reentrant", [False, True])
    def test_gradient_checkpointing_changes_no_gradient(self, reentrant):
        "Both tasks go through, and then one backward pass through both."
        words, found, calls = torch.arange(24).view(4, 6), [], []
        for mode in (None, reentrant):
            model, count = bert(mode), []
            layer = model.encoder.encoder.layer[0]
            layer.attention.register_forward_hook(lambda *_, c=count: c.append(1))
            outputs = [model(input_ids=words, task=t) for t in BOTH]
            sum(y.square().sum() for y in outputs).backward()
            found.append(gradients(model))
            calls.append(len(count))
        assert calls == [2, 4]  # a checkpointed layer is called again
        assert found[0].keys() == found[1].keys()
        assert all(torch.allclose(found[0][n], g, atol=1e-5) for n, g in found[1].items())
        either = model.masks["a"] | model.masks["b"]
        for name, kept in either.items():
            grad = model.encoder.get_parameter(name).grad
            assert grad is None or not grad[~kept].any()

    def test_a_step_of_a_checkpointed_network_stays_in_its_subnet(self):
        model = bert(reentrant=False)
        before = {n: p.detach().clone() for n, p in model.encoder.named_parameters()}
        model(input_ids=torch.arange(24).view(4, 6), task="a").square().sum().backward()
        subnet_step(SubnetSGD(model), model, "a")
        for name, kept in model.masks["a"].items():
            assert same(model.encoder.get_parameter(name)[~kept], before[name][~kept])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler for inductor")
class TestInductor:
    def test_outputs_and_steps_are_those_of_the_model(self):
        torch.compiler.reset()
        ends = []
        for wrap in (lambda m: m, torch.compile):
            model, x = sparse(mlp)
            whole = wrap(model.eval())
            optimizer = SubnetSGD(whole)
            for task in "abba":
                before = {n: p.detach().clone() for n, p in model.named_parameters()}
                optimizer.zero_grad()
                whole(x, task=task).square().sum().backward()
                subnet_step(optimizer, whole, task)
                for name, kept in model.subnet(task).items():
                    assert same(model.get_parameter(name)[~kept], before[name][~kept])
                    assert not same(model.get_parameter(name), before[name])
            ends.append({n: p.detach().clone() for n, p in model.named_parameters()})
        assert all(torch.allclose(ends[0][n], p, atol=1e-5) for n, p in ends[1].items())

    def test_several_tasks_in_one_call(self):
        torch.compiler.reset()
        model, x = sparse(mlp)
        whole = torch.compile(model.eval())
        with torch.no_grad():
            found, wanted = whole(x, tasks=BOTH), model(x, tasks=BOTH)
        assert all(torch.allclose(found[t], y, atol=1e-5) for t, y in wanted.items())


@pytest.fixture
def group(tmp_path):
    "A group of one process."
    store = torch.distributed.FileStore(os.fspath(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
class TestShardedWeightsAreRefused:
    def test_fully_shard(self, group):
        fsdp = pytest.importorskip("torch.distributed.fsdp")
        if not hasattr(fsdp, "fully_shard"):
            pytest.skip("this PyTorch has no fully_shard")
        model, x = sparse(mlp)
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        whole = fsdp.fully_shard(model, mesh=mesh)
        optimizer = SubnetSGD(whole)
        with pytest.raises(TypeError, match="spread over devices.*DistributedDataParallel"):
            optimizer.step("a")
        adam = torch.optim.Adam(whole.parameters())
        with pytest.raises(TypeError, match="spread over devices"):
            subnet_step(adam, whole, "a")

    @pytest.mark.parametrize("names_stay", [False, True])
    def test_fully_sharded_data_parallel(self, group, names_stay):
        from torch.distributed.fsdp import FullyShardedDataParallel

        model, _ = sparse(mlp)
        with pytest.raises(TypeError, match="FullyShardedDataParallel.*DistributedDataParallel"):
            FullyShardedDataParallel(
                model, device_id=torch.device("cpu"), use_orig_params=names_stay
            )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
class TestOnAGPU:
    @pytest.mark.parametrize("name", ["conv", "transformer", "mlp", "lstm"])
    def test_steps_stay_in_their_subnets(self, name):
        model, x = sparse(ENCODERS[name])
        model, x = model.to("cuda"), x.to("cuda")
        optimizer = SubnetSGD(model)
        for task in "abba":
            before = {n: p.detach().clone() for n, p in model.named_parameters()}
            optimizer.zero_grad()
            model(x, task=task).square().sum().backward()
            optimizer.step(task)
            for n, kept in model.subnet(task).items():
                assert kept.is_cuda
                assert same(model.get_parameter(n)[~kept], before[n][~kept])
                assert not same(model.get_parameter(n), before[n])

    def test_outputs_are_near_those_of_the_processor(self):
        model, x = sparse(mlp)
        with torch.no_grad():
            wanted = model.eval()(x, tasks=BOTH)
            found = model.to("cuda")(x.to("cuda"), tasks=BOTH)
        assert all(torch.allclose(found[t].cpu(), y, atol=1e-4) for t, y in wanted.items())


def read_anew():
    "The module of views, read once more."
    spec = importlib.util.spec_from_file_location("sparse_sharing.views_anew", views.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestOtherReleases:
    "Names of PyTorch that are not public may go."

    def test_without_the_number_of_a_backward_pass_it_is_refused(self, monkeypatch):
        monkeypatch.delattr(torch._C, "_current_graph_task_id")
        with pytest.raises(ImportError, match=f"PyTorch {torch.__version__.split('+')[0]}"):
            read_anew()

    def test_without_counts_memory_is_fresh_and_numbers_are_the_same(self, monkeypatch):
        ends = []
        for gone in (False, True):
            if gone:
                monkeypatch.delattr(torch._C, "_storage_Use_Count", raising=False)
                assert views.holders(torch.ones(2)) == (0, 0, 0)
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(70, 70), nn.Tanh(), nn.Linear(70, 8))
            model = SparseSharing(net, {t: Head() for t in BOTH}, masks_of(net))
            optimizer, x = SubnetSGD(model), torch.randn(5, 70)
            for task in "abab":
                optimizer.zero_grad()
                model(x, task=task).square().sum().backward()
                optimizer.step(task)
            ends.append({n: p.detach().clone() for n, p in model.named_parameters()})
        assert same(*ends)
