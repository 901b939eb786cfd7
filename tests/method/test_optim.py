"Steps: nothing outside a subnet moves, lazy tables are plain momentum, clipping counts what is there."

import gc
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import (
    ENCODERS,
    any_way,
    bits,
    copied,
    hard,
    heads,
    masks_of,
    mlp,
    same,
    seeded,
    sparse,
)
from torch import nn

from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD, clip_gradients, clip_values, subnet_step
from sparse_sharing.sharing import HardSharing, SoftSharing, SparseSharing

each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
properties = settings(deadline=None, max_examples=25)


def has_table(model):
    return any(isinstance(m, nn.Embedding) and m.sparse for m in model.modules())


def groups(model, decay):
    "Parameter groups in which tables with sparse gradients do not decay: torch knows no such thing."
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    rest = [p for p in model.parameters() if not any(p is t for t in tables)]
    return [dict(params=rest, weight_decay=decay), dict(params=tables, weight_decay=0)]


OPTIMIZERS = {
    "SubnetSGD": lambda m: SubnetSGD(m, 0.1, 0.9, weight_decay=0 if has_table(m) else 0.1),
    "SGD": lambda m: torch.optim.SGD(groups(m, 0.1), 0.1, momentum=0.9),
    "Adam": lambda m: torch.optim.Adam(m.parameters(), 0.01, weight_decay=0.1, amsgrad=True),
    "AdamW": lambda m: torch.optim.AdamW(m.parameters(), 0.01, weight_decay=0.1),
    "RMSprop": lambda m: torch.optim.RMSprop(
        m.parameters(), 0.01, momentum=0.9, centered=True, weight_decay=0.1
    ),
}
KNOW_TABLES = ("SubnetSGD", "SGD")  # the others refuse sparse gradients
CASES = [
    pytest.param(make, optimizer, id=f"{net}-{name}")
    for net, make in ENCODERS.items()
    for name, optimizer in OPTIMIZERS.items()
    if net != "table" or name in KNOW_TABLES
]


def backward(model, inputs, task, clip=None):
    "The gradients of a task, and of no other."
    model.zero_grad()
    (model(inputs, task=task) - 1).square().mean().backward()
    return clip_gradients(model, clip) if clip else None


def everything(model, optimizer):
    "Each parameter with the optimiser's state of it, copied."
    return {
        name: {"weight": p.detach().clone()}
        | {k: v.clone() for k, v in optimizer.state[p].items() if isinstance(v, torch.Tensor)}
        for name, p in model.named_parameters()
    }


def leaks(model, task, before, after):
    "Names of what a step of `task` changed outside its subnet; and how many of its weights moved."
    inside, found, moved = model.subnet(task), [], 0
    for name, now in after.items():
        if name.startswith("heads.") and not name.startswith(f"heads.{task}."):
            outside = torch.ones_like(now["weight"], dtype=torch.bool)
            if now.keys() != before[name].keys():
                found.append(f"{name}: state")
        elif name in inside:
            outside = inside[name] == 0
            moved += int((now["weight"] != before[name]["weight"]).sum())
        else:
            continue
        for key, value in now.items():
            if value.is_sparse or value.shape != outside.shape:
                continue
            old = before[name].get(key, torch.zeros_like(value))  # no state yet: it begins at 0
            if not torch.equal(bits(value)[outside], bits(old)[outside]):
                found.append(f"{name}: {key}")
    return found, moved


class TestNothingOutsideTheSubnetMoves:
    @pytest.mark.parametrize("make, build", CASES)
    def test_weights_heads_and_states(self, make, build):
        model, inputs = sparse(make)
        optimizer = build(model)
        for task in "abbabaaab":
            before = everything(model, optimizer)
            backward(model, inputs, task, clip=0.5)
            subnet_step(optimizer, model, task)
            found, moved = leaks(model, task, before, everything(model, optimizer))
            assert not found
            assert moved > sum(m.kept for m in model.masks.values()) / 4  # half of one task's

    @pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
    def test_layers_above_a_head(self, build):
        "Also if gradients are zero instead of none."
        model, inputs = any_way("hierarchical")
        optimizer, above = build(model), model.encoder.layers[1]
        for task in "ba":
            before = copied(above)
            optimizer.zero_grad(set_to_none=False)
            model(inputs, task=task).square().sum().backward()
            subnet_step(optimizer, model, task)
            assert same(copied(above), before) == (task == "a")

    @pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
    def test_a_plain_step_leaks(self, build):
        "What the test above would find."
        model, inputs = sparse(mlp)
        optimizer = build(model)
        found = []
        for task in "ab":
            before = everything(model, optimizer)
            backward(model, inputs, task)
            if isinstance(optimizer, SubnetSGD):
                optimizer.model = HardSharing(model.encoder, model.heads)  # knows of no subnet
            optimizer.step(*[task] * isinstance(optimizer, SubnetSGD))
            found += leaks(model, task, before, everything(model, optimizer))[0]
        assert "encoder.0.weight: weight" in found and len(found) > 2

    @properties
    @given(
        tasks=st.lists(st.sampled_from("ab"), min_size=1, max_size=8),
        density=st.floats(0, 1),
        seed=st.integers(0, 99),
        clip=st.sampled_from([None, 0.01, 1.0]),
        momentum=st.sampled_from([0, 0.9]),
        decay=st.sampled_from([0, 0.1]),
    )
    def test_whatever_the_subnets(self, tasks, density, seed, clip, momentum, decay):
        model, inputs = sparse(mlp, density, seed)
        optimizer = SubnetSGD(model, 0.1, momentum, decay)
        for task in tasks:
            before = everything(model, optimizer)
            backward(model, inputs, task, clip)
            optimizer.step(task)
            assert not leaks(model, task, before, everything(model, optimizer))[0]

    @pytest.mark.parametrize("tasks", ["a", "ab"], ids=["alone", "shared"])
    def test_a_gradient_outside_does_not_count(self, tasks):
        "As of a penalty on all weights, which the mask in the forward pass does not see."
        encoder = seeded(mlp)[0]
        model = SparseSharing(encoder, heads(tasks), masks_of(encoder, tasks=tasks))
        optimizer = SubnetSGD(model)
        for task in 2 * tasks:
            before = everything(model, optimizer)
            for p in model.parameters():
                p.grad = torch.randn_like(p)
            optimizer.step(task)
            after = everything(model, optimizer)
            for name, factor in model.subnet(task).items():
                old, new = before[name], after[name]
                same_weight = new["weight"] == old["weight"]
                assert torch.equal(same_weight, factor == 0)
                unchanged = new["velocity"] == old.get("velocity", torch.zeros_like(factor))
                assert torch.equal(unchanged, factor == 0)

    def test_by_hand(self):
        net = nn.Linear(2, 1, bias=False)
        nn.init.ones_(net.weight)
        masks = {"a": Mask.ones(net), "b": Mask({"weight": torch.tensor([[True, False]])})}
        model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, masks)
        optimizer = SubnetSGD(model, lr=0.5, momentum=0.5, weight_decay=1)
        for task, weight, velocity in [
            ("a", [0, 0], [2, 2]),  # v = gradient 1 + decay 1
            ("b", [-1, 0], [2, 2]),  # v = 2 / 2 + 1 + 0
            ("a", [-1.5, -1], [1, 2]),  # v = 2 / 2 + 1 - 1 and 2 / 2 + 1 + 0
        ]:
            optimizer.zero_grad()
            model(torch.ones(1, 2), task=task).sum().backward()
            optimizer.step(task)
            assert net.weight.tolist() == [weight]
            assert optimizer.state[net.weight]["velocity"].tolist() == [velocity]

    def test_an_unknown_task(self):
        model, inputs = sparse(mlp)
        optimizer, before = SubnetSGD(model), copied(model)
        backward(model, inputs, "a")
        with pytest.raises(KeyError, match="'c'"):
            optimizer.step("c")
        assert same(copied(model), before)

    def test_other_optimisers_step_inside_as_they_would_alone(self):
        dense, inputs = hard(mlp)
        model, _ = sparse(mlp)
        optimizers = [torch.optim.AdamW(m.parameters(), 0.01) for m in (dense, model)]
        grads = [torch.randn_like(p) for p in model.parameters()]
        for optimizer in optimizers:
            for p, g in zip(optimizer.param_groups[0]["params"], grads, strict=True):
                p.grad = g.clone()
        optimizers[0].step()
        subnet_step(optimizers[1], model, "a")
        for name, factor in model.subnet("a").items():
            p, other = model.get_parameter(name), dense.get_parameter(name)
            assert torch.equal(p[factor == 1], other[factor == 1])
            assert not torch.equal(p, other)


class TestPlainMomentum:
    @each_encoder
    @pytest.mark.parametrize("system", ["hard", "all ones"])
    def test_it_is_what_torch_does(self, make, system):
        model, inputs = hard(make)
        other = deepcopy(model)
        if system == "all ones":
            ones = dict.fromkeys("ab", Mask.ones(model.encoder))
            model = SparseSharing(model.encoder, model.heads, ones)
        decay = 0 if has_table(model) else 0.01
        ours = SubnetSGD(model, 0.1, 0.9, decay)
        theirs = torch.optim.SGD(other.parameters(), 0.1, 0.9, weight_decay=decay)
        model.eval(), other.eval()  # dropout draws differ
        start = copied(model)
        for i in range(40):
            for group in ours.param_groups + theirs.param_groups:
                group["lr"] = 0.1 / (1 + i)
            for m in (model, other):
                backward(m, inputs, "ab"[i % 3 % 2], clip=0.5)
            ours.step("ab"[i % 3 % 2])
            theirs.step()
        ours.flush()
        for name, p in other.named_parameters():
            assert torch.allclose(model.get_parameter(name), p, rtol=1e-4, atol=1e-5), name
            assert not torch.allclose(p, start[name], rtol=1e-3)

    def test_soft_sharing_moves_all_copies(self):
        class Layer(nn.Linear):
            def forward(self, x, inputs):
                return super().forward(x)

        class Tower(nn.Module):
            def __init__(self):
                super().__init__()
                self.stem, self.layers = nn.Linear(4, 8), nn.ModuleList([Layer(8, 8), Layer(8, 8)])

        torch.manual_seed(0)
        model = SoftSharing(Tower(), seeded(mlp)[2])
        other = deepcopy(model)
        ours, theirs = SubnetSGD(model), torch.optim.SGD(other.parameters(), 0.1, 0.9)
        for task in "abba":
            for m in (model, other):
                backward(m, torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), task)
            ours.step(task)
            theirs.step()
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)

    def test_learning_rate_schedulers_of_torch_work(self):
        model, inputs = hard(mlp)
        optimizer = SubnetSGD(model, 0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        backward(model, inputs, "a")
        optimizer.step("a")
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == 0.05


class Words(nn.Module):
    "Two tables, one with a padding row, and a linear map of what is found in both."

    def __init__(self, lazy):
        super().__init__()
        self.words = nn.Embedding(30, 4, padding_idx=0, sparse=lazy)
        self.shapes = nn.Embedding(6, 3, sparse=lazy)
        self.linear = nn.Linear(7, 2)

    def forward(self, ids):
        return self.linear(torch.cat([self.words(ids), self.shapes(ids % 6)], -1))


def twins(lr=0.05, momentum=0.9):
    "The same model with lazy and with dense tables, and how each is trained."
    torch.manual_seed(0)
    lazy, dense = (HardSharing(Words(k), {"a": nn.Identity()}) for k in (True, False))
    dense.load_state_dict(lazy.state_dict())
    return (
        lazy,
        SubnetSGD(lazy, lr, momentum),
        dense,
        torch.optim.SGD(dense.parameters(), lr, momentum),
    )


IDS = torch.randint(30, (2000, 5), generator=torch.Generator().manual_seed(0))
IDS[IDS == 1] = 0  # row 1, the unknown word, is read for the first time after these steps
GOALS = torch.randn(30, 2, generator=torch.Generator().manual_seed(1))


def step_on(model, optimizer, ids, clip=5.0):
    model.zero_grad()
    (model(ids, task="a") - GOALS[ids]).square().sum().backward()
    clip_gradients(model, clip)
    subnet_step(optimizer, model, "a")


def close(a, b, largest=1e-5):
    return all((a.get_parameter(n) - p).abs().max() < largest for n, p in b.named_parameters())


class TestLazyTables:
    @pytest.mark.parametrize("steps, momentum", [(300, 0), (300, 0.5), (1000, 0.9)])
    def test_a_thousand_steps_are_those_of_dense_tables(self, steps, momentum):
        lazy, ours, dense, theirs = twins(0.05 * (1 - momentum), momentum)
        first, stale, rates = copied(lazy), 0, {100: 0.3, 101: 2, 250: 0.5}
        for i, ids in enumerate(IDS[:steps]):
            for group in ours.param_groups + theirs.param_groups:
                group["lr"] *= rates.get(i, 1)
            step_on(lazy, ours, ids)
            step_on(dense, theirs, ids)
            if i % 40 == 0:  # read a few rows between steps, as scoring on dev does
                read = IDS[1000 + i]
                stale += not close(lazy, dense)
                lazy.eval(), dense.eval()
                with torch.no_grad():
                    assert torch.allclose(lazy(read, task="a"), dense(read, task="a"), atol=1e-5)
                    rows = lazy.encoder.words.weight[read] - dense.encoder.words.weight[read]
                    assert rows.abs().max() < 1e-5
                lazy.train(), dense.train()
        assert stale > steps // 60 or not momentum  # some rows do wait, or this would show nothing
        ours.flush()
        assert close(lazy, dense)
        words = lazy.encoder.words.weight
        assert same(words[:2], first["encoder.words.weight"][:2])  # padding, and a row never read
        assert not torch.isclose(words[2:], first["encoder.words.weight"][2:]).all(1).any()
        before = copied(lazy)
        ours.flush()
        assert same(copied(lazy), before)  # once is enough

    def test_two_embeddings_with_one_weight(self):
        "A row is brought up to date whichever of them looks it up, in a copy, too."

        class Two(nn.Module):
            def __init__(self, sparse):
                super().__init__()
                torch.manual_seed(0)
                self.one, self.two = (nn.Embedding(6, 2, sparse=sparse) for _ in range(2))
                self.two.weight = self.one.weight

            def forward(self, ids, name):
                return getattr(self, name)(ids)

        ends = []
        for sparse_table in (True, False):
            model = HardSharing(Two(sparse_table), {"a": nn.Identity()})
            optimizer = SubnetSGD(model, lr=0.1, momentum=0.9)
            for row in (0, 1, 2, 3):
                optimizer.zero_grad()
                model(torch.tensor([row]), "one" if row < 3 else "two", task="a").sum().backward()
                optimizer.step("a")
                model, optimizer = deepcopy((model, optimizer))
            ends.append(model(torch.tensor([0]), "two", task="a"))
        assert torch.allclose(*ends, atol=1e-6)

    def test_a_row_by_hand(self):
        table = nn.Embedding(2, 1, sparse=True)
        nn.init.ones_(table.weight)
        model = HardSharing(table, {"a": nn.Identity()})
        optimizer = SubnetSGD(model, lr=1, momentum=0.5)
        for row in (0, 1, 1):
            optimizer.zero_grad()
            model(torch.tensor([row]), task="a").sum().backward()
            optimizer.step("a")
        assert table.weight[0] == 0  # 1 - 1, and two updates wait
        with torch.no_grad():
            model(torch.tensor([0]), task="a")
        assert table.weight[0] == -0.75  # - 1 / 2 - 1 / 4
        assert optimizer.state[table.weight]["velocity"].tolist() == [[0.25], [1.5]]

    def test_updates_wait_also_when_the_loop_has_let_go_of_the_optimiser(self):
        "As after a function that made one, trained and returned the model."
        lazy, ours, dense, theirs = twins()
        for ids in IDS[:20]:
            step_on(lazy, ours, ids)
            step_on(dense, theirs, ids)
        assert not close(lazy, dense)
        del ours
        gc.collect()
        with torch.no_grad():
            lazy(torch.arange(30), task="a")
        assert close(lazy, dense)

    def test_a_word_twice_in_a_batch(self):
        lazy, ours, dense, theirs = twins()
        for ids in ([3, 3, 3], [4, 3, 4], [5, 5, 6], [3, 0, 0]):
            for model, optimizer in ((lazy, ours), (dense, theirs)):
                step_on(model, optimizer, torch.tensor(ids), clip=1.0)
        ours.flush()
        assert close(lazy, dense, 1e-6)

    def test_two_losses_looked_up_before_their_two_steps(self):
        "The rows of the second loss have missed the first step when their own comes."
        lazy, ours, dense, theirs = twins(0.01)
        for model, optimizer in ((lazy, ours), (dense, theirs)):
            for i in range(0, 60, 2):
                losses = [(model(x, task="a") - GOALS[x]).square().sum() for x in IDS[i : i + 2]]
                grads = [torch.autograd.grad(x, list(model.parameters())) for x in losses]
                for found in grads:
                    for p, g in zip(model.parameters(), found, strict=True):
                        p.grad = g
                    subnet_step(optimizer, model, "a")
        ours.flush()
        assert close(lazy, dense)

    def test_tables_in_a_sparse_model_belong_to_every_subnet(self):
        model, inputs = sparse(ENCODERS["table"])
        optimizer, table = SubnetSGD(model), model.encoder[0].weight
        for task in "ab":
            before = table.detach().clone()
            backward(model, inputs, task)
            optimizer.step(task)
            moved = (table != before).any(1)
            assert moved[inputs.unique()][inputs.unique() > 0].all()
            assert moved.sum() == (inputs.unique() > 0).sum()

    def test_release_lets_go_of_the_model(self):
        lazy, ours, dense, theirs = twins()
        for ids in IDS[:20]:
            step_on(lazy, ours, ids)
            step_on(dense, theirs, ids)
        assert not close(lazy, dense)
        ours.release()
        assert close(lazy, dense)
        assert not any(m._forward_pre_hooks for m in lazy.modules())

    @pytest.mark.parametrize("flushed", [True, False])
    def test_state_that_was_saved_and_restored(self, flushed):
        lazy, ours, dense, theirs = twins()
        for ids in IDS[:30]:
            step_on(lazy, ours, ids)
            step_on(dense, theirs, ids)
        if flushed:
            ours.flush()
        saved = deepcopy((lazy.state_dict(), ours.state_dict()))
        other, again, *_ = twins()
        other.load_state_dict(saved[0])
        again.load_state_dict(saved[1])
        for ids in IDS[30:60]:
            for model, optimizer in ((lazy, ours), (other, again), (dense, theirs)):
                step_on(model, optimizer, ids)
        ours.flush(), again.flush()
        assert same(copied(other), copied(lazy)) and close(other, dense)

    def test_a_copy_of_the_model_goes_its_own_way(self):
        lazy, ours, *_ = twins()
        for ids in IDS[:10]:
            step_on(lazy, ours, ids)
        copy = deepcopy(lazy)
        before = copied(copy)
        with torch.no_grad():
            copy(torch.arange(30), task="a")
            assert same(copied(copy), before)
            lazy(torch.arange(30), task="a")  # and the model still catches up
        assert not same(copied(lazy), before) and same(copied(copy), before)
        assert set(ours.state) <= set(lazy.parameters())
        second = SubnetSGD(copy)
        step_on(copy, second, IDS[10])
        assert not same(copied(copy), before)

    def test_a_look_up_by_keyword(self):
        class Keyword(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = nn.Embedding(3, 8, sparse=True)

            def forward(self, ids):
                return self.table(input=ids)

        model = HardSharing(Keyword(), seeded(mlp)[2])
        optimizer = SubnetSGD(model)
        backward(model, torch.tensor([1, 2]), "a")
        optimizer.step("a")
        assert model.encoder.table.weight.grad.is_sparse

    def test_what_it_cannot_do_is_said_at_once(self):
        table = nn.Embedding(4, 8, sparse=True)
        tops = seeded(mlp)[2]
        with pytest.raises(ValueError, match="weight decay"):
            SubnetSGD(HardSharing(table, tops), weight_decay=0.1)
        with pytest.raises(ValueError, match="EmbeddingBag"):
            SubnetSGD(HardSharing(nn.EmbeddingBag(4, 8, sparse=True), tops))
        masks = dict.fromkeys("ab", Mask.ones(table, ["weight"]))
        with pytest.raises(ValueError, match="'encoder.weight'"):
            SubnetSGD(SparseSharing(table, tops, masks))

    @pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay"])
    def test_numbers_that_would_go_uphill(self, name):
        encoder, _, tops = seeded(mlp)
        for wrong in (-0.1, float("nan")):
            with pytest.raises(ValueError, match=f"{name} is {wrong}"):
                SubnetSGD(HardSharing(encoder, tops), **{name: wrong})
        optimizer = SubnetSGD(HardSharing(encoder, tops))
        with pytest.raises(ValueError, match=f"{name} is -1"):
            optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], name: -1})
        assert len(optimizer.param_groups) == 1


def in_half_precision(steps):
    "A model with a table of bfloat16, and its optimiser, after some steps."
    lazy, ours, *_ = twins()
    lazy.to(torch.bfloat16)
    for ids in IDS[:steps]:
        lazy.zero_grad()
        lazy(ids, task="a").sum().backward()
        ours.step("a")
    return lazy, ours


class TestStateThatComesFromElsewhere:
    @pytest.mark.parametrize("through", ["load_state_dict", "state"])
    def test_velocities_of_other_tasks_survive_after_steps_of_its_own(self, through):
        "An optimiser that has stepped for one task alone takes over what two tasks have left."
        model, inputs = sparse(mlp)
        optimizer = SubnetSGD(model)
        for task in "abab":
            backward(model, inputs, task)
            optimizer.step(task)
        saved = deepcopy(optimizer.state_dict())
        again = SubnetSGD(model)
        backward(model, inputs, "a")
        again.step("a")
        if through == "state":  # as a checkpoint of `fit` does
            for i, p in enumerate(model.parameters()):
                again.state[p]["velocity"] = saved["state"][i]["velocity"]
        else:
            again.load_state_dict(saved)
        before = everything(model, again)
        backward(model, inputs, "a")
        again.step("a")
        assert not leaks(model, "a", before, everything(model, again))[0]

    def test_a_new_rate_reaches_a_table(self):
        lazy, ours, *_ = twins(momentum=0)
        step_on(lazy, ours, IDS[0])
        ours.load_state_dict(ours.state_dict())
        ours.param_groups[0]["lr"] = 0.0
        before = copied(lazy)
        step_on(lazy, ours, IDS[1])
        assert same(copied(lazy), before)

    def test_counters_stay_whole_numbers(self):
        lazy, ours = in_half_precision(steps=3)
        saved = deepcopy(ours.state_dict())
        for _ in range(2):  # what is given is not changed, so that it may be given again
            ours.load_state_dict(saved)
            state = ours.state[lazy.encoder.words.weight]
            assert state["touched"].dtype == state["steps"].dtype == torch.long
            assert state["steps"] == 3
            lazy.zero_grad()
            lazy(IDS[0], task="a").sum().backward()
            ours.step("a")

    @pytest.mark.parametrize("order", ["weights", "weights state", "state weights"])
    def test_weights_that_are_loaded_do_not_move(self, order):
        "Updates that wait are of the weights before, whichever state is saved and loaded first."
        lazy, ours, *_ = twins()
        for ids in IDS[:20]:
            step_on(lazy, ours, ids)
        parts = [{"weights": lazy, "state": ours}[word] for word in order.split()]
        saved = [deepcopy(part.state_dict()) for part in parts]
        before = lazy(torch.arange(30), task="a")
        for ids in IDS[20:30]:
            step_on(lazy, ours, ids)
        for part, state in zip(parts, saved, strict=True):
            part.load_state_dict(state)
        assert torch.equal(lazy(torch.arange(30), task="a"), before)

    def test_a_momentum_that_changes(self):
        "Without momentum a step keeps its gradient as velocity (`torch.optim.SGD` keeps an older one)."
        lazy, ours, dense, _ = twins(0.005)
        theirs = SubnetSGD(dense, 0.005)
        lazy.double(), dense.double()
        for i, ids in enumerate(IDS[:60]):
            for group in ours.param_groups + theirs.param_groups:
                group["momentum"] = (0.9, 0.5, 0.0, 0.7)[i // 5 % 4]
            for model, optimizer in ((lazy, ours), (dense, theirs)):
                model.zero_grad()
                (model(ids, task="a") - GOALS[ids]).square().sum().backward()
                subnet_step(optimizer, model, "a")
        assert not close(lazy, dense)
        ours.flush()
        assert close(lazy, dense, 1e-12)

    def test_a_copy_of_model_and_optimiser_goes_on_as_they_do(self):
        lazy, ours, dense, theirs = twins()
        for ids in IDS[:10]:
            step_on(lazy, ours, ids)
        pair, alone = deepcopy((lazy, ours)), deepcopy(ours)
        others = [pair, (alone.model, alone)]
        for ids in IDS[10:20]:
            for model, optimizer in [(lazy, ours), *others]:
                step_on(model, optimizer, ids)
        assert all(same(copied(model), copied(lazy)) for model, _ in others)

    def test_rows_of_half_precision_wait_too(self):
        lazy, ours = in_half_precision(steps=10)
        before = lazy.encoder.words.weight.detach().clone()
        ours.flush()
        assert not same(lazy.encoder.words.weight, before)


class TestOtherOptimisers:
    def test_groups_without_the_copies_of_a_task(self):
        "Rates by the part of a model: biases of a task's own are no part of its encoder."
        net, inputs = mlp()
        model = SparseSharing(net, heads(), masks_of(net), private=True)
        parts = [model.encoder, model.heads, model.own]
        for known in (parts[:2], parts):
            groups = [{"params": part.parameters()} for part in known]
            optimizer, before = torch.optim.SGD(groups, 0.1), copied(model)
            backward(model, inputs, "a")
            if known is not parts:
                with pytest.raises(ValueError, match="'0.bias'.*'a' trains.*model.own"):
                    subnet_step(optimizer, model, "a")
                assert same(copied(model), before)
        subnet_step(optimizer, model, "a")
        assert not same(copied(model.own["a"]), copied(model.own["b"]))
        subnet_step(torch.optim.SGD(model.heads.parameters(), 0.1), model, "a")

    @pytest.mark.parametrize("moment", ["pre", "post"])
    def test_hooks_see_the_whole_model(self, moment):
        model, inputs = sparse(mlp)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
        seen, before = [], copied(model)
        register = getattr(optimizer, f"register_step_{moment}_hook")
        register(lambda *about: seen.append(copied(model)))
        for task in "aba":
            backward(model, inputs, task)
            subnet_step(optimizer, model, task)
        assert len(seen) == 3 and all(same(found, before) for found in seen)

    def test_what_a_hook_makes_of_a_gradient_counts_in_the_subnet(self):
        model, inputs = sparse(mlp)
        optimizer = torch.optim.SGD(model.parameters(), 1.0)

        def ones(*about):
            for p in model.parameters():
                p.grad = None if p.grad is None else torch.ones_like(p)

        optimizer.register_step_pre_hook(ones)
        before = copied(model)
        backward(model, inputs, "a")
        subnet_step(optimizer, model, "a")
        for name, kept in model.subnet("a").items():
            assert torch.equal(before[name] - 1 * kept, model.get_parameter(name))

    def test_an_optimiser_inside_another_one_is_refused(self, tmp_path):
        optim = pytest.importorskip("torch.distributed.optim")
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            model, inputs = sparse(mlp)
            optimizer = optim.ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.1)
            before = copied(model)
            backward(model, inputs, "a")
            with pytest.raises(TypeError, match="optimiser inside it, AdamW"):
                subnet_step(optimizer, model, "a")
            assert same(copied(model), before)
        finally:
            torch.distributed.destroy_process_group()

    def test_a_wrapper_that_passes_the_state_on_is_taken(self):
        class Wrapper(torch.optim.Optimizer):
            "As of accelerate: it has nothing of its own."

            def __init__(self, inner):
                self.inner = inner

            state = property(lambda self: self.inner.state)
            defaults = property(lambda self: self.inner.defaults)
            param_groups = property(lambda self: self.inner.param_groups)

            def step(self, closure=None):
                self.inner.step(closure)

        model, inputs = sparse(mlp)
        inner, seen = torch.optim.AdamW(model.parameters(), weight_decay=0.1), []
        inner.register_step_post_hook(lambda *about: seen.append(copied(model)))
        optimizer = Wrapper(inner)
        for task in "abab":
            before = everything(model, optimizer)
            backward(model, inputs, task)
            subnet_step(optimizer, model, task)
            assert not leaks(model, task, before, everything(model, optimizer))[0]
            assert same(seen[-1], copied(model))

    @pytest.mark.parametrize("shape", [(3, 1), (1, 3), (3, 4)])
    def test_factors_are_refused_whatever_the_shape(self, shape):
        net = nn.Linear(*shape, bias=False)
        mask = Mask.random(net, 0.5, torch.Generator().manual_seed(0))
        model = SparseSharing(net, {"a": nn.Identity()}, {"a": mask})
        optimizer, before = torch.optim.Adafactor(net.parameters()), copied(model)
        model(torch.ones(1, shape[0]), task="a").sum().backward()
        with pytest.raises(TypeError, match="Adafactor keeps"):
            subnet_step(optimizer, model, "a")
        assert same(copied(model), before)

    @pytest.mark.parametrize(
        "name", "Adadelta Adagrad Adam Adamax ASGD NAdam RAdam RMSprop Rprop SGD".split()
    )
    def test_counters_are_no_factors(self, name):
        for shape in ((3, 1), (1, 1)):
            net = nn.Linear(*shape, bias=False)
            mask = Mask.random(net, 0.5, torch.Generator().manual_seed(0))
            model = SparseSharing(net, {"a": nn.Identity()}, {"a": mask})
            optimizer = getattr(torch.optim, name)(net.parameters(), lr=0.01)
            for _ in range(2):
                backward(model, torch.ones(1, shape[0]), "a")
                subnet_step(optimizer, model, "a")

    def test_states_that_begin_as_the_weight_do_so_outside_of_the_first_subnet(self):
        class Pulled(torch.optim.Optimizer):
            "Pulls weights half the way to those that plain steps would have given, as schedule-free ones do."

            def __init__(self, params):
                super().__init__(params, {"lr": 0.1, "weight_decay": 0.5})

            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for p in (p for p in group["params"] if p.grad is not None):
                        plain = self.state[p].setdefault("plain", p.clone())
                        plain.mul_(1 - group["lr"] * group["weight_decay"])
                        plain.sub_(p.grad, alpha=group["lr"])
                        p.lerp_(plain, 0.5)

        net = nn.Linear(4, 3, bias=False)
        draw = torch.Generator().manual_seed(0)
        masks = {task: Mask.random(net, 0.5, draw) for task in "ab"}
        model = SparseSharing(net, {task: nn.Identity() for task in "ab"}, masks)
        optimizer, begun = Pulled(net.parameters()), net.weight.detach().clone()
        one, other = (masks[task]["weight"] for task in "ab")
        backward(model, torch.randn(2, 4, generator=draw), "a")
        subnet_step(optimizer, model, "a")
        plain = optimizer.state[net.weight]["plain"]
        assert torch.equal(plain[~one], begun[~one]) and not torch.equal(plain[one], begun[one])
        optimizer.zero_grad()
        backward(model, torch.randn(2, 4, generator=draw), "b")
        grad = net.weight.grad.clone()
        subnet_step(optimizer, model, "b")
        new = other & ~one
        assert new.any()
        expected = begun.lerp(begun * 0.95 - 0.1 * grad, 0.5)
        assert torch.allclose(net.weight[new], expected[new])

    def test_a_head_that_came_later_is_refused(self):
        model, inputs = sparse(mlp)
        optimizer = torch.optim.AdamW(model.parameters())
        model.add_task("c", heads("c")["c"])
        before = copied(model)
        backward(model, inputs, "c")
        with pytest.raises(ValueError, match="'heads.c.linear.weight'.*add_param_group"):
            subnet_step(optimizer, model, "c")
        assert same(copied(model), before)
        optimizer.add_param_group({"params": list(model.heads["c"].parameters())})
        subnet_step(optimizer, model, "c")

    def test_an_encoder_of_its_own_optimiser_is_not(self):
        model, inputs = sparse(mlp)
        for part in (model.encoder, model.heads):
            backward(model, inputs, "a")
            subnet_step(torch.optim.AdamW(part.parameters()), model, "a")


class TestClipping:
    @properties
    @given(
        largest=st.floats(1e-3, 50),
        ids=st.lists(st.integers(0, 29), min_size=1, max_size=8),
        task=st.sampled_from("ab"),
    )
    def test_norm_over_what_is_there(self, largest, ids, task):
        torch.manual_seed(0)
        tops = {t: nn.Linear(2, 2) for t in "ab"}
        model = HardSharing(Words(lazy=True), tops)
        other = HardSharing(Words(lazy=False), deepcopy(tops))
        other.load_state_dict(model.state_dict())
        for m in (model, other):
            m(torch.tensor(ids), task=task).square().sum().backward()
        found = [p.grad for p in other.parameters() if p.grad is not None]
        assert 0 < len(found) < len(list(model.parameters()))
        norm = torch.cat([g.flatten() for g in found]).norm().item()
        assert clip_gradients(model, largest) == pytest.approx(norm, rel=1e-5)
        clipped = min(1, largest / norm)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                assert torch.allclose(p.grad.to_dense(), q.grad * clipped, rtol=1e-4, atol=1e-7)
        assert model.encoder.words.weight.grad.is_sparse
        assert clip_gradients(model, 1e9) == pytest.approx(norm * clipped, rel=1e-4)

    def test_a_gradient_below_the_limit_is_left_alone(self):
        model, inputs = sparse(mlp)
        norm = backward(model, inputs, "a", clip=1e9)
        before = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        assert clip_gradients(model, norm * 1.01) == norm
        assert all(same(model.get_parameter(n).grad, g) for n, g in before.items())

    def test_only_the_subnet_counts(self):
        net = nn.Linear(2, 1, bias=False)
        masks = {
            t: Mask({"weight": torch.tensor([row])})
            for t, row in {"a": [True, False], "b": [True, True]}.items()
        }
        model = SparseSharing(net, {t: nn.Identity() for t in "ab"}, masks)
        for task, norm in {"a": 3, "b": 5}.items():
            model.zero_grad()
            model(torch.tensor([[3.0, 4.0]]), task=task).sum().backward()
            assert clip_gradients(model, 1) == norm
        assert torch.allclose(net.weight.grad, torch.tensor([[0.6, 0.8]]))

    def test_no_gradients(self):
        assert clip_gradients(sparse(mlp)[0], 1) == 0
        clip_values(sparse(mlp)[0], 1)

    def test_values_are_cut_one_by_one(self):
        "A row of a table that is looked up twice has one gradient."
        table = nn.Embedding(3, 2, sparse=True)
        weight = nn.Parameter(torch.zeros(3))
        (table(torch.tensor([1, 1])) * torch.tensor([0.7, 0.2])).sum().backward()
        weight.grad = torch.tensor([5.0, -5.0, 0.5])
        clip_values([weight, table.weight, nn.Parameter(torch.zeros(1))], 1.0)
        assert weight.grad.tolist() == [1, -1, 0.5]
        assert torch.allclose(
            table.weight.grad.to_dense(), torch.tensor([[0, 0], [1, 0.4], [0, 0]])
        )
