"What belongs to something else, or goes past a mask, is said before it does harm."

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from nets import Head, heads, masks_of, same, toy_task
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, DistributedSampler

from sparse_sharing import (
    HardSharing,
    Mask,
    SoftSharing,
    SparseSharing,
    SubnetSGD,
    evaluate,
    find_masks,
    fit,
    joint_step,
    prunable,
    prune,
    subnet_step,
)
from sparse_sharing.finders import sensitivity
from sparse_sharing.tasks import stream

BOTH = ("a", "b")
INPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def model_of(net, density=0.5, **options):
    masks = masks_of(net, density, BOTH)
    return SparseSharing(net, {t: Head() for t in BOTH}, masks, **options)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8))


def task(name, **changes):
    "A task whose loss calls the model by the name of the task."

    def loss(model, x):
        return model(x, task=name).square().mean()

    return toy_task(name, **(dict(batches=[INPUTS], loss=loss, score=lambda m: 0.0) | changes))


class TestPastTheMask:
    def test_a_loss_that_calls_the_encoder_is_refused(self):
        wrong = task("a", loss=lambda m, x: m.heads["a"](m.encoder(x)).square().mean())
        with pytest.raises(ValueError, match="past the mask of 'a': call `model"):
            fit(model_of(net()), [wrong], 1, log=None)
        hard = HardSharing(net(), {t: Head() for t in BOTH})
        fit(hard, [wrong], 1, log=None)  # there is no mask to go past

    def test_a_penalty_on_whole_weights_is_not(self):
        def loss(model, x):
            whole = sum(p.square().sum() for p in model.parameters())
            return model(x, task="a").square().mean() + 0.1 * whole

        model = model_of(net())
        first, bits = deepcopy(model.encoder[0].weight), model.masks["a"]["0.weight"]
        fit(model, [task("a", loss=loss)], 1, optimizer=SubnetSGD(model), log=None)
        moved = first != model.encoder[0].weight
        assert moved[bits].all() and not moved[~bits].any()

    def test_nor_are_compiled_and_transformed_calls(self):
        def loss(model, x):
            return torch.func.vmap(lambda row: model(row[None], task="a"))(x).square().mean()

        fit(model_of(net()), [task("a", loss=loss)], 1, log=None)
        model = model_of(net())
        whole = torch.compile(model, backend="aot_eager")
        fit(whole, [task("a")], 1, log=None)

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_nor_are_checkpoints_beside_a_penalty(self, reentrant):
        class Saving(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = net()

            def forward(self, x):
                return checkpoint(self.inner, x, use_reentrant=reentrant)

        def loss(model, x):
            penalty = sum(p.square().sum() for p in model.parameters())
            return model(x.requires_grad_(), task="a").square().mean() + penalty

        fit(model_of(Saving()), [task("a", loss=loss)], 1, log=None)


class TestAnotherTask:
    def test_a_loss_that_calls_another_task(self):
        late = [task(t, loss=lambda m, x: m(x, task="b").square().mean()) for t in BOTH]
        with pytest.raises(ValueError, match="head of 'b' has gradients and that of 'a' has none"):
            fit(model_of(net()), late, 2, log=None)

    @pytest.mark.parametrize("make", [SubnetSGD, lambda m: torch.optim.SGD(m.parameters(), 0.1)])
    def test_a_step_for_another_task(self, make):
        model = model_of(net())
        optimizer, before = make(model), deepcopy(model.state_dict())
        model(INPUTS, task="b").sum().backward()
        with pytest.raises(ValueError, match="whose step it is"):
            subnet_step(optimizer, model, "a")
        assert same(model.state_dict(), before)
        subnet_step(optimizer, model, "b")
        assert not same(model.state_dict(), before)

    def test_a_joint_step_replaces_gradients_of_other_tasks(self):
        model = model_of(net())
        optimizer = SubnetSGD(model)
        for name in BOTH:
            joint_step(optimizer, model, {name: model(INPUTS, task=name).sum()})

    def test_a_loss_on_encodings_alone_is_a_tasks_own(self):
        model = model_of(net())
        model.encode(INPUTS, task="a").sum().backward()
        subnet_step(SubnetSGD(model), model, "a")


class TestOfSomethingElse:
    def test_an_optimiser_of_another_model(self):
        model = model_of(net())
        other = deepcopy(model)
        for optimizer in (SubnetSGD(other), torch.optim.Adam(other.parameters())):
            with pytest.raises(ValueError, match="no parameter of the model"):
                fit(model, [task("a")], 1, optimizer=optimizer, log=None)
        model(INPUTS, task="a").sum().backward()
        with pytest.raises(ValueError, match="no parameter of the model"):
            subnet_step(torch.optim.Adam(other.parameters()), model, "a")
        hard = HardSharing(net(), {t: Head() for t in BOTH})
        with pytest.raises(ValueError, match="no parameter of the model"):
            find_masks(
                hard,
                [task("a")],
                density=0.5,
                epochs=1,
                log=None,
                make_optimizer=lambda copy: torch.optim.Adam(hard.parameters()),
            )

    def test_a_scheduler_of_another_optimiser(self):
        model = model_of(net())
        sgd, other = SubnetSGD(model), SubnetSGD(model)
        for optimizer in (None, sgd):
            with pytest.raises(ValueError, match="of another optimiser"):
                fit(
                    model,
                    [task("a")],
                    1,
                    optimizer=optimizer,
                    scheduler=StepLR(other, 1),
                    log=None,
                )
        with pytest.raises(ValueError, match="ReduceLROnPlateau looks at a score"):
            fit(model, [task("a")], 1, optimizer=sgd, scheduler=ReduceLROnPlateau(sgd), log=None)
        fit(model, [task("a")], 1, optimizer=sgd, scheduler=StepLR(sgd, 1), log=None)

    def test_two_tasks_with_one_loader_that_keeps_its_workers(self):
        def shared(**options):
            loader = DataLoader(INPUTS, batch_size=2, **options)
            return [task(t, batches=loader) for t in BOTH]

        with pytest.raises(ValueError, match="'a' and 'b' have one loader"):
            fit(model_of(net()), shared(num_workers=1, persistent_workers=True), 1, log=None)
        fit(model_of(net()), shared(), 1, log=None)

    def test_a_lazy_module_without_weights(self):
        lazy = {t: nn.LazyLinear(2) for t in BOTH}
        model = SparseSharing(net(), lazy, masks_of(net(), tasks=BOTH))
        with pytest.raises(ValueError, match="call the model once for each task"):
            fit(model, [task("a")], 1, log=None)


class TestAfterTheModelWasMade:
    def test_weights_that_are_tied_then_are_noticed_by_a_step(self):
        both_masked, head = model_of(square := nn.Sequential(*map(layer, range(2)))), Head()
        both_masked(torch.ones(1, 8), task="a").sum().backward()
        square[1].weight = square[0].weight
        with pytest.raises(RuntimeError, match="was tied to the masked '1.weight'"):
            subnet_step(SubnetSGD(both_masked), both_masked, "a")
        head.linear = nn.Linear(8, 8)
        model = SparseSharing(layer(0), {"a": head}, {"a": Mask.ones(layer(0))})
        model.heads["a"].linear.weight = model.encoder.weight
        with pytest.raises(RuntimeError, match="a Linear was tied to the masked 'weight'"):
            SubnetSGD(model).step("a")

    def test_a_layer_of_another_shape(self):
        narrow = nn.Sequential(nn.Linear(4, 1))
        model = SparseSharing(narrow, {"a": nn.Identity()}, {"a": Mask.ones(narrow)})
        narrow[0] = nn.Linear(4, 5)
        with pytest.raises(
            RuntimeError, match=r"shape \(5, 4\) by now, and the mask of 'a' \(1, 4\)"
        ):
            model(INPUTS, task="a")
        model.masks["a"] = Mask.ones(narrow)
        assert model(INPUTS, task="a").shape == (6, 5)

    def test_a_later_task_can_begin_with_the_copies_of_another(self):
        model = model_of(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), private=True)
        fit(model, [task("a")], 3, log=None)
        model.add_task("c", deepcopy(model.heads["a"]), model.masks["a"])
        model.own["c"].load_state_dict(model.own["a"].state_dict())
        model.eval()
        assert torch.equal(model(INPUTS, task="c"), model(INPUTS, task="a"))


def layer(seed):
    torch.manual_seed(seed)
    return nn.Linear(8, 8)


class TestMasksThatAreExchanged:
    "As gradual pruning does, in a training."

    def tasks(self, model, at):
        "A task whose mask is pruned in one epoch, and whose score falls from then on."

        def log(rows):
            if rows[0]["epoch"] == at:
                weights = dict(model.encoder.named_parameters())
                model.masks["a"] = prune(weights, model.masks["a"], 4)

        return log, [task("a", score=lambda m: float(m.masks["a"].kept))]

    def test_the_best_epoch_comes_back_with_its_masks(self):
        model = model_of(net())
        before = model.masks["a"]
        log, tasks = self.tasks(model, at=2)
        found = fit(model, tasks, 4, log=log)
        assert found.epoch == 1 and model.masks["a"] == before
        assert evaluate(model, tasks) == found.dev

    def test_a_checkpoint_is_refused(self, tmp_path):
        model = model_of(net())
        log, tasks = self.tasks(model, at=2)
        with pytest.raises(ValueError, match="masks were exchanged in this training"):
            fit(model, tasks, 4, log=log, checkpoint=tmp_path / "run.safetensors")


class TestWhatIsNoWeight:
    def test_positions_tokens_and_scales(self):
        class Vision(nn.Module):
            def __init__(self):
                super().__init__()
                self.position_embeddings = nn.Parameter(torch.zeros(1, 5, 4))
                self.positional_encoding = nn.Parameter(torch.zeros(1, 5, 4))
                self.query_tokens = nn.Parameter(torch.zeros(1, 3, 4))
                self.gamma = nn.Parameter(torch.ones(4, 1, 1))
                self.embed = nn.Linear(4, 4)
                self.one = nn.Linear(4, 1)
                self.prototypes = nn.Parameter(torch.zeros(3, 4))

        assert prunable(Vision()) == ["prototypes", "embed.weight", "one.weight"]

    def test_layers_that_are_derived_from_those_of_pytorch(self):
        class Mine(nn.Linear):
            pass

        assert prunable(nn.Sequential(Mine(4, 1), nn.LSTM(1, 3))) == [
            "0.weight",
            "1.weight_ih_l0",
            "1.weight_hh_l0",
        ]


class TestSmall:
    def test_a_sampler_is_told_which_pass_it_is(self):
        sampler = DistributedSampler(range(6), 2, 0)
        loader = DataLoader(range(6), batch_size=3, sampler=sampler)
        batches = stream(replace(task("a"), batches=loader), 0, [0, 0])
        passes = [next(batches).tolist() for _ in range(3)]
        assert len(set(map(tuple, passes))) > 1, "each pass has another order"
        for number in range(3):
            sampler.set_epoch(number)
            assert passes[number] == list(sampler)

    def test_steps_may_be_of_numpy(self, tmp_path):
        twice = dict(steps=np.int64(2), accumulate=np.int64(2), log=None)
        file = tmp_path / "run.safetensors"
        assert fit(model_of(net()), [task("a")], 1, checkpoint=file, **twice).epoch == 1

    def test_a_dataclass_with_slots_is_looked_into(self):
        @dataclass(slots=True)
        class Encoding:
            states: torch.Tensor

        class Slotted(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 8)

            def forward(self, x):
                return Encoding(self.layer(x))

        encoder = Slotted()
        model = SparseSharing(encoder, {"a": nn.Identity()}, {"a": Mask.ones(encoder)})
        assert model(INPUTS, task="a").states.shape == (6, 8)

    def test_soft_sharing_mixes_in_the_number_type_of_its_layers(self):
        from nets import any_way

        model, inputs = any_way("soft")
        encoder = nn.Module()
        encoder.stem, encoder.layers = model.stem, model.stacks["a"]
        tops = {t: deepcopy(model.heads[t]) for t in model.tasks}
        double = SoftSharing(encoder.double(), {t: h.double() for t, h in tops.items()})
        assert double(inputs.double(), task="a").dtype == torch.float64

    def test_no_batch_to_score_weights_by(self):
        hard = HardSharing(net(), {"a": Head()})
        with pytest.raises(ValueError, match="'a' gave no mini-batch .n_batches is 0"):
            sensitivity(hard, task("a"), Mask.ones(hard.encoder), n_batches=0)

    def test_notes_that_json_cannot_say_leave_no_file(self, tmp_path):
        model = model_of(net())
        with pytest.raises(TypeError, match="float32"):
            model.save(tmp_path / "model", notes={"score": np.float32(1)})
        assert not (tmp_path / "model").exists()

    def test_a_sparse_buffer_is_named(self, tmp_path):
        encoder = net()
        encoder.register_buffer("graph", torch.eye(3).to_sparse())
        model = SparseSharing(
            encoder, heads(BOTH), masks_of(encoder, tasks=BOTH), shared_buffers=True
        )
        with pytest.raises(TypeError, match="'encoder.graph', which is torch.sparse_coo"):
            model.save(tmp_path)
        assert not any(tmp_path.iterdir())
