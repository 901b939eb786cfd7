"A task that joins later: what is kept stays to the last bit, whatever the network, the masks and the optimiser."

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st
from nets import ENCODERS, Head, any_task, any_way, built, copied, hard, masks_of, mlp, same, sparse
from torch import nn

from sparse_sharing.masks import Mask, union
from sparse_sharing.optim import SubnetSGD, subnet_step
from sparse_sharing.sharing import HardSharing, SparseSharing
from sparse_sharing.tasks import Task
from sparse_sharing.training import fit

OPTIMISERS = {
    "subnet": lambda model: SubnetSGD(model, weight_decay=0.01),
    "sgd": lambda model: torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=0.01),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), 0.01),
    "rprop": lambda model: torch.optim.Rprop(model.parameters(), 0.01),
}
each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
densities = st.sampled_from([0.0, 0.3, 0.7, 1.0])


def outputs(model, inputs, tasks="ab"):
    "What tasks give in evaluation. The mode is restored."
    was = model.training
    with torch.no_grad():
        given = {task: model.eval()(inputs, task=task).clone() for task in tasks}
    model.train(was)
    return given


def steps(model, inputs, optimizer, task="c", n=3):
    "Steps of a task, in training mode."
    model.train()
    for _ in range(n):
        optimizer.zero_grad()
        model(inputs, task=task).square().mean().backward()
        subnet_step(optimizer, model, task)
    if isinstance(optimizer, SubnetSGD):
        optimizer.flush()


class TestKeep:
    @each_encoder
    def test_every_encoder(self, make):
        model, inputs = sparse(make)
        steps(model, inputs, SubnetSGD(model), "a")
        mask = Mask.random(model.encoder, 0.8, torch.Generator().manual_seed(5))
        model.add_task("c", Head(), mask, keep=("a", "b"))
        before, weights = outputs(model, inputs), copied(model)
        steps(model, inputs, SubnetSGD(model))
        assert same(outputs(model, inputs), before)
        moved = {n for n, value in copied(model).items() if not same(value, weights[n])}
        assert any(n.startswith("encoder.") for n in moved) and "heads.c.linear.bias" in moved

    @settings(deadline=None, max_examples=40)
    @examples(
        st.sampled_from(sorted(OPTIMISERS)),
        st.tuples(densities, densities, densities),
        st.booleans(),
        st.booleans(),
        st.integers(0, 99),
    )
    def test_whatever_the_masks_and_the_optimiser(self, name, shares, private, both, seed):
        "A network with a batch norm; `a` is kept, or `a` and `b` are."
        encoder, tops = built("sparse", seed)
        draw = torch.Generator().manual_seed(seed)
        masks = {t: Mask.random(encoder, d, draw) for t, d in zip("ab", shares, strict=False)}
        model = SparseSharing(encoder, tops, masks, private=private)
        inputs = torch.randn(6, 4, generator=draw)
        optimizer = OPTIMISERS[name](model)
        for task in "ab":
            steps(model, inputs, optimizer, task, 1)
        kept = ("a", "b") if both else "a"
        model.add_task("c", Head(), Mask.random(encoder, shares[2], draw), keep=kept)
        optimizer.add_param_group({"params": [p for p in model.parameters() if new(p, optimizer)]})
        before = outputs(model, inputs, kept)
        steps(model, inputs, optimizer)
        assert same(outputs(model, inputs, kept), before)

    def test_what_is_free_moves(self):
        model, inputs = sparse(mlp, density=0.5)
        free = ~union(model.masks.values())
        model.add_task("c", Head(), keep=("a", "b"))
        before = {n: model.encoder.get_parameter(n).clone() for n in free}
        steps(model, inputs, SubnetSGD(model), n=1)
        grads = {n: model.encoder.get_parameter(n).grad for n in free}
        for name, may in free.items():
            moved = model.encoder.get_parameter(name) != before[name]
            assert torch.equal(moved, may & (grads[name] != 0))
            assert moved.any()

    def test_fit_of_the_new_task_alone(self):
        model, inputs = sparse(mlp)
        model.add_task("c", Head(), keep=("a", "b"))
        plain = any_task("a", inputs)

        def loss(model, rows):
            return model(inputs[np.asarray(rows)], task="c").square().mean()

        task = Task("c", plain.batches, loss, lambda m: -loss(m, range(6)).item(), 6)
        before = outputs(model, inputs)
        first = loss(model.eval(), range(6)).item()
        result = fit(model, [task], 5, log=None)
        assert same(outputs(model, inputs), before) and -result.mean < first

    def test_without_keep_the_others_move(self):
        model, inputs = sparse(mlp)
        model.add_task("c", Head())
        before = outputs(model, inputs)
        steps(model, inputs, SubnetSGD(model))
        assert not same(outputs(model, inputs), before)

    def test_a_joint_step_moves_what_either_may(self):
        model, _ = sparse(mlp)
        model.add_task("c", Head(), keep=("a", "b"))
        reach = {id(p): bits for p, bits in model.trainable("a", "c").items()}
        weight, bias = (model.encoder.get_parameter(n) for n in ("0.weight", "0.bias"))
        may = (model.masks["a"] | ~model.masks["b"])["0.weight"]
        assert torch.equal(reach[id(weight)] != 0, may) and reach[id(bias)] is None
        assert id(bias) not in {id(p) for p in model.trainable("c")}

    def test_hard_sharing_trains_the_head(self):
        model, inputs = hard(mlp)
        model.add_task("c", Head(), keep=("a", "b"))
        before = copied(model)
        steps(model, inputs, SubnetSGD(model))
        moved = {n for n, value in copied(model).items() if not same(value, before[n])}
        assert moved == {"heads.c.linear.weight", "heads.c.linear.bias"}

    def test_a_head_that_is_tied_to_what_others_use_stays(self):
        encoder = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 8))
        model = SparseSharing(encoder, {"a": nn.Identity()}, masks_of(encoder, tasks="a"))
        top = nn.Linear(8, 9, bias=False)
        top.weight = encoder[0].weight
        model.add_task("c", top, keep="a")
        inputs = torch.randint(9, (4, 3))
        before = outputs(model, inputs, "a")
        steps(model, inputs, SubnetSGD(model))
        assert same(outputs(model, inputs, "a"), before)


def new(parameter, optimizer):
    "Whether the optimiser does not have a parameter yet."
    return all(parameter is not p for group in optimizer.param_groups for p in group["params"])


class TestProtect:
    def test_among_tasks_that_are_there(self):
        model, inputs = sparse(mlp)
        model.protect("a", against="b")
        before = outputs(model, inputs, "a")
        steps(model, inputs, SubnetSGD(model), "b")
        assert same(outputs(model, inputs, "a"), before)
        steps(model, inputs, SubnetSGD(model), "a")
        assert not same(outputs(model, inputs, "a"), before)

    def test_it_travels_with_copies_and_folders(self, tmp_path):
        model, inputs = any_way("sparse")
        model.protect("a", against="b")
        model.save(tmp_path)
        encoder, tops = built("sparse", seed=3)
        for again in (SparseSharing.load(tmp_path, encoder, tops), deepcopy(model)):
            assert again.protected == {"b": ("a",)}
            before = outputs(again, inputs, "a")
            steps(again, inputs, SubnetSGD(again), "b")
            assert same(outputs(again, inputs, "a"), before)

    def test_what_a_forward_pass_changes_is_not_shared(self):
        "Running statistics of soft sharing and of heads, also beside private parameters, and tables with a largest norm."
        soft, inputs = any_way("soft")
        with pytest.raises(ValueError, match="share 'stem.1.running_mean'"):
            soft.protect("a", against="b")
        trunk = nn.BatchNorm1d(8)
        tops = {t: nn.Sequential(trunk, nn.Linear(8, 2)) for t in "ab"}
        net = nn.Linear(4, 8)
        heads = SparseSharing(net, tops, masks_of(net))
        with pytest.raises(ValueError, match="share 'heads.a.0.running_mean'"):
            heads.protect("a", against="b")
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        options = dict(private=True, shared_buffers=True)
        shared = SparseSharing(net, built("mlp")[1], masks_of(net), **options)
        with pytest.raises(ValueError, match="share '1.running_mean'"):
            shared.protect("a", against="b")
        net = nn.Sequential(nn.Embedding(6, 4, max_norm=1.0), nn.Linear(4, 8))
        table = SparseSharing(net, built("mlp")[1], masks_of(net))
        with pytest.raises(ValueError, match="share '0.weight'"):
            table.add_task("c", Head(), keep="a")
        with pytest.raises(ValueError, match="share '0.weight'"):
            table.protect("a", against="b")
        assert not any(m.protected for m in (soft, heads, shared, table))

    def test_statistics_of_a_head_of_its_own_are_no_hindrance(self):
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        tops = {t: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2)) for t in "ab"}
        model, inputs = SparseSharing(net, tops, masks_of(net)), torch.randn(6, 4)
        model.protect("a", against="b")
        before = outputs(model, inputs, "a")
        steps(model, inputs, SubnetSGD(model), "b")
        assert same(outputs(model, inputs, "a"), before)

    def test_a_new_head_that_shares_statistics(self):
        net, trunk = nn.Linear(4, 8), nn.BatchNorm1d(8)
        tops = {"a": nn.Sequential(trunk, nn.Linear(8, 2))}
        model = SparseSharing(net, tops, masks_of(net, tasks="a"))
        with pytest.raises(ValueError, match="share 'heads.a.0.running_mean'"):
            model.check_kept(["a"], "encoder", nn.Sequential(trunk, nn.Linear(8, 2)))

    def test_what_cannot_be(self):
        model, _ = sparse(mlp)
        with pytest.raises(KeyError, match="no task 'z'"):
            model.protect("z", against="a")
        with pytest.raises(ValueError, match="'a' cannot be protected against itself"):
            model.protect("a", "b", against="a")
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        shared = SparseSharing(net, built("mlp")[1], masks_of(net), shared_buffers=True)
        for other in (HardSharing(net, built("mlp")[1]), shared):
            with pytest.raises(ValueError, match="share '1.running_mean'"):
                other.protect("a", against="b")
            with pytest.raises(ValueError, match="share '1.running_mean'"):
                other.add_task("c", Head(), keep="a")
            assert other.tasks == ("a", "b"), "it was not added"
        with pytest.raises(KeyError, match="no task 'z'"):
            model.add_task("c", Head(), keep="z")
        assert model.tasks == ("a", "b")
