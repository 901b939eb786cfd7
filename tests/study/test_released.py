"What the released code does otherwise: momentum that leaks, and trainings that go on after a stop with each setting."

import os
from dataclasses import replace

import pytest
import torch
from nets import copied, heads, masks_of, mlp, same, sparse, toy_task
from studies import check_same_unit, perform_killed
from tiny import WIDTH, write_corpus
from torch import nn

from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD, subnet_step
from sparse_sharing.sharing import HardSharing, SparseSharing
from sparse_sharing.study.data import TASKS, Source, read_data
from sparse_sharing.study.keep import trained_again
from sparse_sharing.study.presets import HIDDEN
from sparse_sharing.study.released import LeakySGD, clip_of, optimizer_of, options_of
from sparse_sharing.study.runner import perform
from sparse_sharing.study.units import MASK, Training, Unit, load_result
from sparse_sharing.tagging.encoder import Sizes
from sparse_sharing.training import fit

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

SMALL = Sizes(word=WIDTH, char=4, filters=5, hidden=6)
EVERY = {name: value for new in HIDDEN.values() for name, value in new.items()}


def two_weights():
    "A layer of two weights, one for each task; the gradient of each is 1."
    layer = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(layer.weight)
    keep = {"a": [[True, False]], "b": [[False, True]]}
    masks = {task: Mask({"weight": torch.tensor(bits)}) for task, bits in keep.items()}
    return layer, SparseSharing(layer, {task: nn.Identity() for task in keep}, masks)


def steps(model, optimizer, order):
    for task in order:
        optimizer.zero_grad()
        model(torch.ones(1, 2), task=task).sum().backward()
        subnet_step(optimizer, model, task)


class TestLeak:
    @pytest.mark.parametrize(
        "order, by_hand",
        [
            ("a", [-1, 0]),
            ("ab", [-1.5, -1]),  # a goes on by 0.5
            ("abb", [-1.75, -2.5]),  # and by 0.25; b moves by 1, and by 1 + 0.5
            ("aba", [-2.75, -1.5]),  # its velocity had faded to 0.5: 1 + 0.25
        ],
    )
    def test_by_hand(self, order, by_hand):
        layer, model = two_weights()
        steps(model, LeakySGD(model, lr=1.0, momentum=0.5), order)
        assert layer.weight[0].tolist() == by_hand

    def test_without_momentum_nothing_leaks(self):
        layer, model = two_weights()
        steps(model, LeakySGD(model, lr=1.0, momentum=0.0), "abb")
        assert layer.weight[0].tolist() == [-1, -2]

    def test_it_is_an_ordinary_optimiser_with_masked_gradients(self):
        "PyTorch's SGD moves the same weights to the same places, while heads of others stand still."
        model, inputs = sparse(mlp)
        other, _ = sparse(mlp)
        other.load_state_dict(model.state_dict())
        ours = LeakySGD(model, lr=0.1, momentum=0.9)
        theirs = torch.optim.SGD(other.parameters(), 0.1, 0.9)
        for task in "abbaab":
            for m, optimizer in ((model, ours), (other, theirs)):
                optimizer.zero_grad()
                m.eval()(inputs, task=task).square().sum().backward()
            ours.step(task)
            theirs.step()
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-6)
        strict, _ = sparse(mlp)
        assert not same(copied(model), copied(strict))

    def test_hard_sharing_is_the_same_with_it_or_without(self):
        ends = []
        for kind in (SubnetSGD, LeakySGD):
            torch.manual_seed(0)
            model = HardSharing(mlp()[0], heads())
            tasks = [toy_task("a", 48), toy_task("b", 16)]
            fit(model, tasks, 2, optimizer=kind(model, 0.1), log=None)
            ends.append(copied(model))
        assert same(*ends)

    def test_subnets_are_not_kept_apart(self):
        "What the library promises, and this optimiser does not."
        moved = {}
        for kind in (SubnetSGD, LeakySGD):
            model, _ = sparse(mlp)
            masks = masks_of(model.encoder)
            assert masks["a"] != masks["b"]
            optimizer = kind(model, 0.1)
            fit(model, [toy_task("a", 48)], 1, optimizer=optimizer, keep="last", log=None)
            before = copied(model)
            fit(model, [toy_task("b", 16)], 1, optimizer=optimizer, keep="last", log=None)
            after = copied(model)
            outside = {n: ~keep for n, keep in model.subnet("b").items()}
            moved[kind] = any((after[n] != before[n])[o].any() for n, o in outside.items())
        assert moved == {SubnetSGD: False, LeakySGD: True}


class TestOptions:
    def test_defaults_are_what_they_were(self):
        unit = Unit("training", "hard", TASKS, "", 4, "main", seed=3)
        told = options_of(unit, [toy_task("a", 48), toy_task("b", 16)])
        assert (told["clip"], told["draws"], told["steps"], told["seed"]) == (
            5.0, "proportional", 7, "3/main",
        )  # fmt: skip
        assert told["schedule"](20) == 0.5

    def test_a_leak_is_an_optimiser(self):
        _, model = two_weights()
        assert type(optimizer_of(Training(leak=True), model)) is LeakySGD
        assert type(optimizer_of(Training(), model)) is SubnetSGD

    @pytest.mark.parametrize(
        "how, message",
        [
            (dict(clipped="values"), "clipped is 'values': take norm or value"),
            (dict(schedule="none"), "schedule is 'none': take decay, linear or fixed"),
        ],
    )
    def test_what_is_not_known_is_refused(self, how, message):
        with pytest.raises(ValueError, match=message):
            clip_of(Training(**how))
            Training(**how).factor(0, 1)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return Source(str(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus")))


@pytest.fixture(scope="module")
def sparse_unit(source, tmp_path_factory):
    "Sparse sharing without a warmup, and the folder with its masks."
    folder, data = tmp_path_factory.mktemp("units"), read_data(source)
    how = Training(sizes=SMALL, lr=0.2, clip=0.05)
    first = Unit("round", "hard", ("pos",), data.checksum, 1, "round", alpha=0.5, training=how)
    perform(first, folder, source)
    second = replace(first, previous=first.name, round=1)
    masks = [replace(second, tasks=(task,)) for task in TASKS]
    for task, mask in zip(TASKS, masks, strict=True):
        if task != "pos":
            before = replace(first, tasks=(task,))
            perform(before, folder, source)
            mask = masks[TASKS.index(task)] = replace(mask, previous=before.name)
        perform(mask, folder, source)
    names = tuple(mask.name for mask in masks)
    unit = Unit("training", "sparse", TASKS, data.checksum, 2, "main", masks=names, training=how)
    return unit, folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
class TestUnits:
    @pytest.mark.parametrize("new", [*HIDDEN.values(), EVERY], ids=[*HIDDEN, "all"])
    def test_stopped_after_an_epoch_it_ends_where_it_would_have_ended(
        self, sparse_unit, source, tmp_path, new
    ):
        base, folder = sparse_unit
        unit = replace(base, training=replace(base.training, **new))
        for name in base.masks:
            for place in ("whole", "broken"):
                (tmp_path / place / name).mkdir(parents=True)
                for file in ("result.json", MASK):
                    content = (folder / name / file).read_bytes()
                    (tmp_path / place / name / file).write_bytes(content)
        perform(unit, tmp_path / "whole", source)
        assert perform_killed(unit, tmp_path / "broken", source, 2), "after the first epoch"
        assert (tmp_path / "broken" / unit.name / "checkpoint.safetensors").exists()
        perform(unit, tmp_path / "broken", source)
        check_same_unit(tmp_path / "broken" / unit.name, tmp_path / "whole" / unit.name)

    def test_each_setting_gives_another_network(self, sparse_unit, source):
        base, folder = sparse_unit
        losses = set()
        for new in ({}, *HIDDEN.values(), EVERY):
            unit = replace(base, training=replace(base.training, **new))
            perform(unit, folder, source)
            losses.add(load_result(folder, unit)["curve"][-1]["loss"])
        assert len(losses) == 2 + len(HIDDEN)

    def test_a_model_is_trained_again_as_it_was(self, sparse_unit, source):
        base, folder = sparse_unit
        unit = replace(base, training=replace(base.training, **EVERY))
        perform(unit, folder, source)
        _, done = trained_again(unit, folder, read_data(source))
        assert done.dev == load_result(folder, unit)["dev"]
