"Joint steps: each task's gradient stays in its subnet, and a combiner sees only what tasks share."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import ENCODERS, TASKS, any_way, bits, copied, same, sparse
from torch import nn
from wild import encoder, kinds, model_of, rows

from sparse_sharing.joint import joint_step, pcgrad, task_gradients
from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD, subnet_step
from sparse_sharing.sharing import HardSharing, SparseSharing

properties = settings(deadline=None, max_examples=10)
each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
OPTIMIZERS = {
    "SubnetSGD": SubnetSGD,
    "Adam": lambda model: torch.optim.Adam(model.parameters(), 0.1),
}


def losses_of(model, inputs, tasks=TASKS):
    "One loss per task, all from one call."
    return {t: y.square().mean() for t, y in model(inputs, tasks=list(tasks)).items()}


def by_hand(*gradients):
    "A model of two weights whose tasks have these gradients: each keeps what it has one for."
    net = nn.Linear(2, 1, bias=False)
    nn.init.ones_(net.weight)
    masks = {
        t: Mask({"weight": torch.tensor([g]) != 0}) for t, g in zip("ab", gradients, strict=True)
    }
    model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, masks)
    pull = {t: model(torch.tensor([g]), task=t).sum() for t, g in zip("ab", gradients, strict=True)}
    return model, pull


class TestEachGradientStaysInItsSubnet:
    @properties
    @given(kinds=kinds, density=st.floats(0, 1), seed=st.integers(0, 9))
    def test_gradients_are_those_of_each_task_by_itself(self, kinds, density, seed):
        model, x = model_of(encoder(kinds, seed), density, seed).eval(), rows(seed)
        names = {p: name for name, p in model.named_parameters()}
        found = task_gradients(model, losses_of(model, x))
        for task in TASKS:
            model.zero_grad()
            model(x, task=task).square().mean().backward()
            wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            mine = {names[p]: g for p, g in found[task].items()}
            assert mine.keys() == wanted.keys()
            assert all(torch.allclose(mine[n], g, atol=1e-6) for n, g in wanted.items())
            for name, kept in model.subnet(task).items():
                assert name not in mine or not bits(mine[name])[~kept].any()

    def test_nothing_is_left_in_the_parameters(self):
        model, x = sparse(ENCODERS["mlp"])
        task_gradients(model, losses_of(model, x))
        assert all(p.grad is None for p in model.parameters())

    @pytest.mark.parametrize("combine", [None, pcgrad], ids=["sum", "pcgrad"])
    @pytest.mark.parametrize("name", OPTIMIZERS)
    @properties
    @given(density=st.floats(0, 0.7), seed=st.integers(0, 9))
    def test_what_no_task_of_the_step_keeps_stays(self, name, combine, density, seed):
        model, x = model_of(encoder(["linear", "tied", "norm"], seed), density, seed), rows(seed)
        optimizer = OPTIMIZERS[name](model)
        for tasks in ("b", "ab", "a", "ab"):
            either = dict(model.masks[tasks[0]])
            for task in tasks:
                either = {n: kept | model.masks[task][n] for n, kept in either.items()}
            before = copied(model)
            joint_step(optimizer, model, losses_of(model, x, tasks), combine)
            for n, kept in either.items():
                now, then = model.encoder.get_parameter(n), before[f"encoder.{n}"]
                assert same(now[~kept], then[~kept])
            for task in set(TASKS) - set(tasks):
                heads = [n for n in before if n.startswith(f"heads.{task}.")]
                assert all(same(model.state_dict()[n], before[n]) for n in heads)

    @each_encoder
    def test_of_one_task_it_is_a_step_of_that_task(self, make):
        ends = []
        for joint in (True, False):
            model, x = sparse(make)
            model.eval()
            optimizer = SubnetSGD(model, momentum=0.9)
            for task in "aab":
                if joint:
                    joint_step(optimizer, model, losses_of(model, x, task))
                else:
                    optimizer.zero_grad()
                    model(x, task=task).square().mean().backward()
                    subnet_step(optimizer, model, task)
            ends.append(copied(model))
        assert all(torch.allclose(ends[0][n], v, atol=1e-6) for n, v in ends[1].items())

    @pytest.mark.parametrize("way", ["hard", "soft", "hierarchical", "single"])
    def test_without_masks_it_is_a_step_of_the_sum(self, way):
        ends = []
        for joint in (True, False):
            model, x = any_way(way)
            model.eval()
            optimizer = SubnetSGD(model, momentum=0)
            if joint:
                joint_step(optimizer, model, losses_of(model, x))
            else:
                sum(losses_of(model, x).values()).backward()
                subnet_step(optimizer, model, *TASKS)
            ends.append(copied(model))
        assert all(torch.allclose(ends[0][n], v, atol=1e-6) for n, v in ends[1].items())


class TestTheCombiner:
    def test_two_conflicting_gradients_by_hand(self):
        "(2, 1) and (-1, 1): each loses its part along the other, and they add up to (0.9, 2.7)."
        model, pull = by_hand([2.0, 1.0], [-1.0, 1.0])
        joint_step(SubnetSGD(model, lr=1, momentum=0), model, pull, pcgrad)
        moved = 1 - model.encoder.weight.detach()[0]
        a, b = torch.tensor([2.0, 1.0]), torch.tensor([-1.0, 1.0])
        wanted = (a - (a @ b) / (b @ b) * b) + (b - (a @ b) / (a @ a) * a)
        assert torch.allclose(moved, wanted) and torch.allclose(moved, torch.tensor([0.9, 2.7]))

    def test_gradients_that_agree_are_added(self):
        model, pull = by_hand([2.0, 1.0], [1.0, 1.0])
        joint_step(SubnetSGD(model, lr=1, momentum=0), model, pull, pcgrad)
        assert (1 - model.encoder.weight).tolist() == [[3.0, 2.0]]

    def test_it_sees_what_tasks_share_and_nothing_else(self):
        model, pull = by_hand([2.0, 0.0], [-4.0, 3.0])
        seen = []

        def combine(gradients):
            seen.append(gradients.tolist())
            return torch.full((gradients.shape[1],), 7.0)

        joint_step(SubnetSGD(model, lr=1, momentum=0), model, pull, combine)
        assert seen == [[[2.0], [-4.0]]]  # the second weight is b's alone
        assert (1 - model.encoder.weight).tolist() == [[7.0, 3.0]]

    def test_its_rows_are_the_tasks_and_its_columns_the_overlap_with_what_all_hold(self):
        model, x = sparse(ENCODERS["mlp"])
        overlap = (model.masks["a"] & model.masks["b"]).kept
        biases = sum(p.numel() for n, p in model.encoder.named_parameters() if "bias" in n)
        shapes = []
        joint_step(
            SubnetSGD(model),
            model,
            losses_of(model, x),
            lambda gradients: shapes.append(gradients.shape) or gradients.sum(0),
        )
        assert shapes == [(2, overlap + biases)]
        assert overlap < min(mask.kept for mask in model.masks.values())

    def test_disjoint_subnets_need_none(self):
        model, pull = by_hand([2.0, 0.0], [0.0, 3.0])
        joint_step(SubnetSGD(model, lr=1, momentum=0), model, pull, lambda gradients: 1 / 0)
        assert (1 - model.encoder.weight).tolist() == [[2.0, 3.0]]

    def test_sparse_gradients_are_refused(self):
        net = nn.Embedding(5, 8, sparse=True)
        model = HardSharing(net, {t: nn.Linear(8, 1) for t in TASKS})
        losses = losses_of(model, torch.arange(5))
        with pytest.raises(ValueError, match="sparse"):
            joint_step(SubnetSGD(model), model, losses, pcgrad)

    def test_an_aggregator_of_torchjd(self):
        "UPGrad conflicts with no task: the step goes down for both."
        aggregation = pytest.importorskip("torchjd.aggregation", reason="no torchjd: an extra")
        model, pull = by_hand([2.0, 1.0], [-1.0, 1.0])
        joint_step(SubnetSGD(model, lr=1, momentum=0), model, pull, aggregation.UPGrad())
        moved = (1 - model.encoder.weight.detach())[0]
        assert moved @ torch.tensor([2.0, 1.0]) > 0 and moved @ torch.tensor([-1.0, 1.0]) > 0


class TestPCGrad:
    @properties
    @given(seed=st.integers(0, 99))
    def test_of_two_gradients_each_ends_without_conflict(self, seed):
        draw = torch.Generator().manual_seed(seed)
        a, b = torch.randn(2, 5, generator=draw)
        found = pcgrad(torch.stack([a, b]))
        assert found @ a > -1e-5 and found @ b > -1e-5
        if a @ b >= 0:
            assert torch.allclose(found, a + b)

    def test_the_order_is_the_generators(self):
        gradients = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
        one, other = (pcgrad(gradients, torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(one, other)

    def test_a_task_without_a_gradient_changes_nothing(self):
        gradients = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
        assert pcgrad(gradients).tolist() == [1.0, 2.0]


def data_of(rank, make):
    "What one of two processes has."
    draw = torch.Generator().manual_seed(0)
    rows = (
        torch.randn(16, 4, generator=draw)
        if make == "mlp"
        else torch.randint(12, (3, 16), generator=draw)
    )
    return rows.tensor_split(2, dim=rows.shape.index(16))[rank]


def in_a_process(rank, folder, make, combine):
    "Three joint steps; what the parameters are then goes into a file."
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        model, _ = sparse(ENCODERS[make])
        whole = nn.parallel.DistributedDataParallel(model.eval(), find_unused_parameters=True)
        optimizer = SubnetSGD(whole, 0.1)
        for _ in range(3):
            torch.manual_seed(rank)  # a combiner may draw at random
            found = whole(data_of(rank, make), tasks=list(TASKS))
            losses = {t: y.square().mean() for t, y in found.items()}
            joint_step(optimizer, whole, losses, pcgrad if combine else None)
        optimizer.flush()
        torch.save(copied(model), f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.e2e
@pytest.mark.parametrize("make, combine", [("mlp", False), ("mlp", True), ("table", False)])
def test_two_processes_are_one_with_both_halves(make, combine, tmp_path):
    torch.multiprocessing.spawn(in_a_process, (str(tmp_path), make, combine), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert same(one, other)
    model, _ = sparse(ENCODERS[make])
    halves = [data_of(rank, make) for rank in range(2)]
    rows, optimizer = torch.cat(halves, dim=halves[0].shape.index(8)), SubnetSGD(model.eval(), 0.1)
    for _ in range(3):
        torch.manual_seed(0)
        joint_step(optimizer, model, losses_of(model, rows), pcgrad if combine else None)
    optimizer.flush()
    assert all(torch.allclose(one[n], p, atol=1e-5) for n, p in copied(model).items())


def test_no_loss_and_an_unknown_task_are_refused():
    model, x = sparse(ENCODERS["mlp"])
    with pytest.raises(ValueError, match="no losses"):
        joint_step(SubnetSGD(model), model, {})
    with pytest.raises(KeyError, match="no task 'c'"):
        joint_step(SubnetSGD(model), model, {"c": losses_of(model, x)["a"]})
