"What people put into `fit`: loaders, schedulers, frozen norms, errors as scores, bars, other number types."

import math
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nets import LABELS, ROWS, Head, copied, heads, masks_of, mlp, same, sparse, toy_task
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from sparse_sharing.files import load_tensors, save_tensors
from sparse_sharing.optim import SubnetSGD
from sparse_sharing.sharing import HardSharing, SparseSharing
from sparse_sharing.tasks import Task, evaluate, one_pass
from sparse_sharing.training import fit, train_step, training_mode


def loaded(name, n_rows=48):
    "A task whose mini-batches come from a DataLoader that shuffles."
    data = TensorDataset(ROWS[:n_rows], LABELS[name][:n_rows])

    def loss(model, batch):
        return F.cross_entropy(model(batch[0], task=name), batch[1])

    loader = DataLoader(data, batch_size=8, shuffle=True)
    return replace(toy_task(name), batches=loader, loss=loss, size=n_rows)


def quiet(model, tasks, epochs=3, **options):
    return fit(model, tasks, epochs, **{"log": None} | options)


class Varied(Dataset):
    "Rows with some noise, from one source of random numbers or another."

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return 48

    def __getitem__(self, i):
        noise = {
            "torch": lambda: torch.rand(()).item(),
            "numpy": np.random.random,
            "python": random.random,
            "none": lambda: 0.0,
        }[self.source]()
        return ROWS[i] + noise, LABELS["a"][i]


def own(**options):
    "A loader of rows without noise, with a generator of its own."
    made = torch.Generator().manual_seed(0)
    if "sampler" in options:
        sampler = RandomSampler(Varied("none"), replacement=True, generator=made)
        return DataLoader(Varied("none"), batch_size=8, sampler=sampler)
    return DataLoader(Varied("none"), batch_size=8, shuffle=True, generator=made)


LOADERS = {
    **{
        source: partial(DataLoader, Varied(source), batch_size=8, shuffle=True)
        for source in ("torch", "numpy", "python")
    },
    "generator": own,
    "sampler": partial(own, sampler=True),
}


class TestLoaders:
    @pytest.mark.parametrize("name", LOADERS)
    def test_random_examples_are_the_same_after_a_stop(self, name, tmp_path):
        "Whatever random numbers a batch takes, and whatever dropout draws in between."
        ends = []
        for stops in ((3,), (1, 2, 3), (3,)):
            for epochs in stops:
                torch.manual_seed(len(ends)), np.random.seed(len(ends)), random.seed(len(ends))
                model, _ = sparse(mlp)
                tasks = [replace(loaded(t), batches=LOADERS[name]()) for t in "ab"]
                tasks[1] = replace(tasks[1], size=7)
                quiet(model, tasks, epochs, checkpoint=tmp_path / str(len(ends)), keep="last")
            ends.append(copied(model))
        assert same(ends[0], ends[1]) and same(ends[0], ends[2])

    def test_a_generator_of_two_loaders_is_lent_and_given_back(self):
        made = torch.Generator().manual_seed(0)
        before = made.get_state()
        loaders = [DataLoader(range(9), shuffle=True, generator=made) for _ in range(2)]
        one, other = (one_pass(replace(toy_task("a"), batches=d), 5) for d in loaders)
        assert [int(x) for x in one] == [int(x) for x in other] != list(range(9))
        assert torch.equal(made.get_state(), before)

    def test_the_order_of_a_shuffling_loader_is_that_of_older_versions(self):
        loader = DataLoader(range(20), batch_size=4, shuffle=True)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            wanted = torch.cat(list(loader))
        assert torch.equal(
            torch.cat(list(one_pass(replace(toy_task("a"), batches=loader), 7))), wanted
        )

    @pytest.mark.parametrize("draws", ["proportional", "in_turn"])
    def test_a_data_set_without_a_length(self, draws):
        class Rows(IterableDataset):
            def __iter__(self):
                return zip(ROWS, LABELS["a"], strict=True)

        task = replace(loaded("a"), batches=DataLoader(Rows(), batch_size=8))
        model, _ = sparse(mlp)
        with pytest.raises(
            ValueError, match="how many mini-batches 'a' has .*: give `fit` the `steps`"
        ):
            quiet(model, [task], draws=draws)
        assert quiet(model, [task], 1, steps=3).curve

    def test_a_data_loader_trains_the_same_run_again(self, tmp_path):
        ends = []
        for stops in ((4,), (2, 4), (4,)):
            for epochs in stops:
                model, _ = sparse(mlp)
                torch.manual_seed(len(ends))  # the world's random numbers do not matter
                tasks = [loaded("a"), loaded("b", 16)]
                quiet(model, tasks, epochs, checkpoint=tmp_path / str(len(ends)), keep="last")
            ends.append(copied(model))
        assert same(ends[0], ends[1]) and same(ends[0], ends[2])

    def test_it_sees_every_row_of_a_pass(self):
        seen = []
        task = loaded("a")
        spied = replace(task, loss=lambda m, batch: seen.append(batch[0]) or task.loss(m, batch))
        quiet(sparse(mlp)[0], [spied], 2)
        for part in (seen[:6], seen[6:]):
            assert torch.equal(torch.cat(part).sort(0).values, ROWS[:48].sort(0).values)
        assert not torch.equal(seen[0], seen[6])

    def test_a_list_and_what_can_be_gone_through_once(self):
        model, _ = sparse(mlp)
        batches = [np.arange(8), np.arange(8, 16)]
        assert quiet(model, [replace(toy_task("a"), batches=batches)], 1).curve
        with pytest.raises(TypeError, match="'a' can be gone through only once"):
            quiet(model, [replace(toy_task("a"), batches=iter(batches))], 1, steps=3)


class Warming:
    "A rate that remembers how often it was asked."

    def __init__(self):
        self.asked = 0

    def __call__(self, step):
        self.asked += 1
        return min(1.0, self.asked / 10)


S = torch.optim.lr_scheduler
SCHEDULERS = {
    "LambdaLR": lambda o: S.LambdaLR(o, lambda step: min(1.0, (step + 1) / 10)),
    "stateful": lambda o: S.LambdaLR(o, Warming()),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda step: 0.95),
    "SequentialLR": lambda o: S.SequentialLR(
        o, [S.LinearLR(o, 0.1, 1.0, 5), S.MultiStepLR(o, [2, 4, 9])], [5]
    ),
    "ChainedScheduler": lambda o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.95)]
    ),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [5, 12]),
    "CyclicLR": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=5),
    "tensor": lambda o: S.CosineAnnealingLR(o, 30),
}


def nested(value):
    "Whether older checkpoints left out a part of a scheduler's state."
    return isinstance(value, dict) or (
        isinstance(value, list) and not all(isinstance(v, (int, float)) for v in value)
    )


class TestRates:
    def test_a_scheduler_moves_after_each_step_and_goes_on_after_a_stop(self, tmp_path):
        ends, rates = [], []
        for stops in ((3,), (1, 3)):
            for epochs in stops:
                model, _ = sparse(mlp)
                optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
                scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=18)
                quiet(
                    model,
                    [toy_task("a")],
                    epochs,
                    optimizer=optimizer,
                    scheduler=scheduler,
                    checkpoint=tmp_path / str(len(ends)),
                    on_step=lambda step, o=optimizer: rates.append(o.param_groups[0]["lr"]),
                    keep="last",
                )
            ends.append(copied(model))
        assert same(*ends) and len(set(rates[:18])) == 18 and rates[:18] == rates[18:]

    @pytest.mark.parametrize("name", SCHEDULERS)
    def test_every_scheduler_goes_on_after_a_stop(self, name, tmp_path):
        ends = []
        for stops in ((3,), (1, 3)):
            for epochs in stops:
                model, _ = sparse(mlp)
                optimizer = SubnetSGD(model, torch.tensor(0.1) if name == "tensor" else 0.1)
                scheduler = SCHEDULERS[name](optimizer)
                options = dict(optimizer=optimizer, scheduler=scheduler, keep="last")
                file = tmp_path / str(len(ends))
                quiet(model, [toy_task("a")], epochs, checkpoint=file, **options)
            ends.append((copied(model), scheduler.get_last_lr()))
        assert same(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]

    @pytest.mark.parametrize("name", ["LambdaLR", "MultiStepLR", "SequentialLR", "stateful"])
    def test_a_checkpoint_of_an_older_version(self, name, tmp_path):
        "It left out what is nested: no loss where that never changes, and refused where it does."
        for epochs in (1, 2):
            model, _ = sparse(mlp)
            optimizer = SubnetSGD(model, 0.1)
            run = dict(optimizer=optimizer, scheduler=SCHEDULERS[name](optimizer))
            run["checkpoint"] = tmp_path / "c"
            if epochs == 2 and name in ("SequentialLR", "stateful"):
                with pytest.raises(ValueError, match="c was written by an older.*: delete it"):
                    quiet(model, [toy_task("a")], epochs, **run)
            else:
                quiet(model, [toy_task("a")], epochs, **run)
            if epochs == 1:
                tensors, about = load_tensors(tmp_path / "c")
                flat = {k: v for k, v in about["scheduler"].items() if not nested(v)}
                del about["run"]["options"], about["run"]["scheduler"]
                save_tensors(tmp_path / "c", tensors, about | {"scheduler": flat})

    def test_a_state_that_json_cannot_hold_is_refused_at_the_start(self, tmp_path):
        for part in ({"seen": torch.zeros(2)}, {"inner": {"of": [object()]}}):
            model, _ = sparse(mlp)
            before, optimizer = copied(model), SubnetSGD(model)
            scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
            vars(scheduler).update(part)
            run = dict(optimizer=optimizer, scheduler=scheduler)
            with pytest.raises(
                ValueError, match="cannot hold ExponentialLR.(seen|inner.of), which"
            ):
                quiet(model, [toy_task("a")], checkpoint=tmp_path / "c", **run)
            assert same(copied(model), before)
            quiet(model, [toy_task("a")], 1, **run)  # without a checkpoint, nothing is to be held

    @pytest.mark.parametrize("key, value", [("weight_decay", 0.1), ("momentum", 0.5)])
    def test_going_on_with_another_option_is_refused(self, key, value, tmp_path):
        for options in ({}, {key: value}):
            model, _ = sparse(mlp)
            run = dict(optimizer=SubnetSGD(model, 0.1, **options), checkpoint=tmp_path / "c")
            if options:
                with pytest.raises(ValueError, match=f"another run, with other {key}: delete it"):
                    quiet(model, [toy_task("a")], 2, **run)
            else:
                quiet(model, [toy_task("a")], 1, **run)

    def test_going_on_without_the_scheduler_is_refused(self, tmp_path):
        model, _ = sparse(mlp)
        optimizer = SubnetSGD(model, 0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 100)
        run = dict(optimizer=optimizer, checkpoint=tmp_path / "c")
        quiet(model, [toy_task("a")], 1, scheduler=scheduler, **run)
        with pytest.raises(ValueError, match="another run, with other scheduler: delete it"):
            quiet(model, [toy_task("a")], 2, **run)

    def test_a_rate_that_others_set_is_left_alone(self):
        model, _ = sparse(mlp)
        optimizer, rates = SubnetSGD(model, 1.0), []

        def halve(step):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.param_groups[0]["lr"] /= 2

        quiet(model, [toy_task("a")], 2, steps=3, optimizer=optimizer, on_step=halve)
        assert rates == [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]

    def test_two_masters_are_refused(self):
        model, _ = sparse(mlp)
        optimizer = SubnetSGD(model)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        with pytest.raises(ValueError, match="one of them"):
            quiet(model, [toy_task("a")], optimizer=optimizer, scheduler=scheduler, schedule=abs)

    @pytest.mark.parametrize("options", [dict(lr=0.2), dict(accumulate=2)])
    def test_going_on_in_another_way_is_refused(self, options, tmp_path):
        for first in (True, False):
            model, _ = sparse(mlp)
            rate = 0.1 if first else options.get("lr", 0.1)
            more = {} if first else {k: v for k, v in options.items() if k != "lr"}
            run = dict(optimizer=SubnetSGD(model, rate), checkpoint=tmp_path / "c", steps=4, **more)
            if first:
                quiet(model, [toy_task("a")], 1, **run)
            else:
                with pytest.raises(ValueError, match="belongs to another run, with other"):
                    quiet(model, [toy_task("a")], 2, **run)


class TestScores:
    @pytest.mark.parametrize("epoch", [0, 1])
    def test_not_a_number(self, epoch):
        scores = iter([1.0] * epoch + [math.nan])
        model, _ = sparse(mlp)
        with pytest.raises(FloatingPointError, match="score of 'a'"):
            quiet(model, [replace(toy_task("a"), score=lambda m: next(scores))])

    def test_errors_are_better_when_lower(self):
        scores = iter([5.0, 2.0, 3.0])
        model, _ = sparse(mlp)
        task = replace(toy_task("a"), score=lambda m: next(scores), higher_is_better=False)
        result = quiet(model, [task])
        assert (result.epoch, result.dev, result.mean) == (2, {"a": 2.0}, -2.0)

    def test_patience(self, tmp_path):
        for stops in ((9,), (2, 3, 9)):
            scores = [1, 3, 2, 3, 1, 9, 9, 9, 9]
            for epochs in stops:
                model, _ = sparse(mlp)
                task = replace(toy_task("a"), score=lambda m, left=scores: float(left.pop(0)))
                result = quiet(
                    model, [task], epochs, patience=3, checkpoint=tmp_path / str(len(stops))
                )
            assert len(result.curve) == 5 and result.epoch == 2

    def test_a_task_that_was_not_drawn(self, capsys):
        model, _ = sparse(mlp)
        tasks = [toy_task("a", size=48), replace(toy_task("b"), size=1)]
        result = fit(model, tasks, 1, steps=2)
        assert [row["loss"] for row in result.curve][1] is None
        assert "b not drawn" in capsys.readouterr().out

    def test_modes_are_restored(self):
        model, _ = sparse(mlp)
        model.encoder[2].eval()
        before = [m.training for m in model.modules()]
        evaluate(model, [toy_task("a")])
        assert [m.training for m in model.modules()] == before


class TestFrozenNorms:
    @pytest.mark.parametrize("whole_block", [False, True])
    def test_they_stay_as_they_are(self, whole_block):
        net = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), nn.Dropout(0.2))
        norm = net[0][1]
        if whole_block:
            net[0].eval().requires_grad_(False)
        else:
            norm.eval()
        model = SparseSharing(
            net,
            heads(),
            masks_of(net, tasks="ab")
            if not whole_block
            else {t: masks_of(nn.Sequential(nn.Sequential(nn.Linear(4, 8))))["a"] for t in "ab"},
        )
        before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
        quiet(model, [toy_task("a"), toy_task("b")], 2)
        state = model.state_dict()
        assert before and all(torch.equal(state[k], v) for k, v in before.items())
        assert not norm.training and net[1].training

    def test_a_network_that_comes_in_evaluation_mode_is_trained(self):
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)).eval()
        model = HardSharing(net, heads())
        training_mode(model)
        assert all(m.training for m in model.modules())


class TestSteps:
    def test_accumulated_batches_are_one_large_batch(self):
        ends = []
        for parts in ([np.arange(16)], [np.arange(8), np.arange(8, 16)]):
            model, _ = sparse(mlp)
            model.eval()
            value = train_step(model, toy_task("a"), parts[0], SubnetSGD(model), 5.0, *parts[1:])
            ends.append((value, {n: p.detach().clone() for n, p in model.named_parameters()}))
        assert ends[0][0] == pytest.approx(ends[1][0])
        assert all(torch.allclose(ends[0][1][n], p, atol=1e-6) for n, p in ends[1][1].items())

    def test_through_fit_an_epoch_has_fewer_steps(self):
        model, _ = sparse(mlp)
        seen, steps = [], []
        task = toy_task("a")
        spied = replace(task, loss=lambda m, rows: seen.append(len(rows)) or task.loss(m, rows))
        quiet(model, [spied], 1, accumulate=3, on_step=steps.append)
        assert len(seen) == 6 and [(s.step, s.steps, s.task) for s in steps] == [
            (1, 2, "a"),
            (2, 2, "a"),
        ]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_number_types_of_16_bits(self, dtype, tmp_path):
        ends = []
        for stops in ((4,), (2, 4)):
            for epochs in stops:
                model, _ = sparse(mlp)
                kinds = set()
                task = toy_task("a")
                model.heads["a"].register_forward_hook(
                    lambda m, i, output, k=kinds: k.add(output.dtype)
                )
                result = quiet(
                    model, [task], epochs, autocast=dtype, checkpoint=tmp_path / str(len(ends))
                )
            ends.append(copied(model))
        assert same(*ends) and dtype in kinds and result.dev["a"] > 0.6

    def test_a_gradient_too_large_for_half_precision_only_lowers_the_scale(self):
        model, _ = sparse(mlp)
        before, task, seen = copied(model), toy_task("a"), []

        def loss(m, rows):
            return task.loss(m, rows) * (1e30 if not seen else 1.0)

        quiet(
            model,
            [replace(task, loss=loss)],
            1,
            steps=1,
            autocast=torch.float16,
            on_step=seen.append,
        )
        assert same(copied(model), before)


def test_a_compiled_model_is_trained_as_it_is():
    torch.compiler.reset()
    ends = []
    for wrap in (lambda m: m, lambda m: torch.compile(m, backend="aot_eager")):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        model = SparseSharing(net, {t: Head() for t in "ab"}, masks_of(net))
        result = quiet(wrap(model), [toy_task("a"), toy_task("b", 16)], 2)
        ends.append((copied(model), result.dev))
    assert ends[0][1].keys() == ends[1][1].keys()
    assert all(torch.allclose(ends[0][0][k], v, atol=1e-5) for k, v in ends[1][0].items())


def test_a_task_needs_no_more_than_it_says():
    "Whatever the encoder is called with, the loss calls it so."

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 8)

        def forward(self, x, *, scale):
            return self.linear(x) * scale

    net = Two()
    model = SparseSharing(net, heads(), masks_of(net))
    task = Task(
        "a",
        [ROWS[:8]],
        lambda m, rows: m(rows, task="a", scale=2.0).square().mean(),
        lambda m: 1.0,
        8,
    )
    assert quiet(model, [task], 1).curve[0]["loss"] > 0
