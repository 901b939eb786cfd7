"What code around a model does to it: replaced weights, wrappers, hooks, classes and losses of one's own."

from dataclasses import replace

import pytest
import torch
from nets import masks_of
from torch import nn

from sparse_sharing import (
    HardSharing,
    Mask,
    SparseSharing,
    SubnetSGD,
    Task,
    evaluate,
    find_masks,
    fit,
    joint_step,
    subnet_step,
)
from sparse_sharing.files import load_tensors, save_tensors
from sparse_sharing.pruning import warmup

BOTH = ("a", "b")


def identities():
    return {task: nn.Identity() for task in "ab"}


class Noisy(nn.Module):
    "Replaces a weight by twice that weight when it is called."

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 4)

    def forward(self, x):
        return torch.func.functional_call(self.inner, {"weight": 2 * self.inner.weight}, (x,))


def test_a_weight_that_the_network_replaces_for_a_call_is_used_under_the_mask():
    encoder, x = Noisy(), torch.randn(3, 8)
    model = SparseSharing(encoder, {"a": nn.Identity()}, {"a": Mask.ones(encoder)})
    whole = 2 * x @ encoder.inner.weight.T + encoder.inner.bias
    torch.testing.assert_close(model(x, task="a"), whole)
    half = SparseSharing(Noisy(), identities(), masks_of(Noisy(), tasks=BOTH))
    mask = half.masks["a"]["inner.weight"]
    weight, bias = half.encoder.inner.weight, half.encoder.inner.bias
    torch.testing.assert_close(half(x, task="a"), x @ (2 * weight * mask).T + bias)


@pytest.mark.parametrize("transform", ["grad", "vmap", "jacrev", "jvp"])
def test_transforms_of_the_input_see_the_masked_network(transform):
    "Saliency, derivatives by the input, and batches that are made by `vmap`."
    encoder = nn.Linear(8, 4)
    model, x = (
        SparseSharing(encoder, identities(), masks_of(encoder, tasks=BOTH)),
        torch.randn(5, 8),
    )
    weight = encoder.weight * model.masks["a"]["weight"]

    def ours(row):
        return model(row, task="a").square().sum()

    def plain(row):
        return (weight @ row + encoder.bias).square().sum()

    func = torch.func
    ways = {
        "grad": lambda f: func.grad(f)(x[0]),
        "vmap": lambda f: func.vmap(f)(x),
        "jacrev": lambda f: func.jacrev(f)(x[0]),
        "jvp": lambda f: func.jvp(f, (x[0],), (x[1],))[1],
    }
    torch.testing.assert_close(ways[transform](ours), ways[transform](plain))


class Wrapper(nn.Module):
    "A layer and running statistics outside of the model, and a weight of the loss."

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        encoder = nn.Linear(8, 4)
        self.before, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.model = SparseSharing(
            encoder, {task: nn.Linear(4, 1) for task in "ab"}, masks_of(encoder, tasks=BOTH)
        )
        self.variance = nn.Parameter(torch.zeros(()))

    def forward(self, x, task):
        return self.model(self.norm(self.before(x)), task=task)


def beside_tasks():
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(2))

    def loss(wrapper, batch, task):
        gap = (wrapper(batch, task) - batch[:, :1]).square().mean()
        return gap * torch.exp(-wrapper.variance) + wrapper.variance

    def score(wrapper, task):
        return -(wrapper(x, task) - x[:, :1]).square().mean().item()

    return [
        Task(t, list(x.split(16)), lambda w, b, t=t: loss(w, b, t), lambda w, t=t: score(w, t), 64)
        for t in "ab"
    ]


def test_a_checkpoint_keeps_what_is_trained_beside_the_model(tmp_path):
    tasks, file = beside_tasks(), tmp_path / "run.safetensors"
    whole, stopped, again = Wrapper(), Wrapper(), Wrapper()
    unbroken = fit(whole, tasks, 5, log=None)
    fit(stopped, tasks, 3, log=None, checkpoint=file)
    resumed = fit(again, tasks, 5, log=None, checkpoint=file)
    seen = [
        [(row["task"], row["loss"], row["dev"]) for row in f.curve] for f in (unbroken, resumed)
    ]
    assert seen[0] == seen[1]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert whole.variance.item() != 0


def test_the_best_epoch_is_kept_with_what_stands_beside_the_model():
    tasks, wrapper = beside_tasks(), Wrapper()
    result = fit(wrapper, tasks, 6, log=None, schedule=lambda epoch: 1.0 if epoch < 2 else 5.0)
    assert result.epoch < 6  # later epochs spoil it
    assert evaluate(wrapper, tasks) == result.dev


def test_an_older_checkpoint_without_it_is_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    fit(Wrapper(), beside_tasks(), 1, log=None, checkpoint=file)
    tensors, about = load_tensors(file, ())
    kept = {name: t for name, t in tensors.items() if not name.startswith("beside/")}
    save_tensors(file, kept, about)
    with pytest.raises(ValueError, match="what is trained outside of the model would be lost"):
        fit(Wrapper(), beside_tasks(), 2, log=None, checkpoint=file)


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_a_joint_step_moves_what_stands_beside_the_model(make):
    "As a backward pass of the sum and one step do."
    x, found = torch.randn(9, 8), []
    for joint in (True, False):
        wrapper = Wrapper()
        optimizer = make(wrapper.parameters(), lr=0.1)
        losses = {
            t: wrapper(x, t).square().mean() * torch.exp(-wrapper.variance) + wrapper.variance
            for t in "ab"
        }
        if joint:
            joint_step(optimizer, wrapper, losses)
        else:
            sum(losses.values()).backward()
            subnet_step(optimizer, wrapper, "a", "b")
        found.append(wrapper.state_dict())
    assert found[0]["variance"].item() != 0
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name])


class Scaled(SparseSharing):
    "Takes an argument that no folder knows of."

    def __init__(self, encoder, heads, masks, scale=1.0, **options):
        super().__init__(encoder, heads, masks, **options)
        self.scale = scale


class Told(Scaled):
    def _arguments(self):
        return super()._arguments() | {"scale": self.scale}


class Narrow(SparseSharing):
    "Takes less than a folder gives."

    def __init__(self, encoder, heads, masks):
        super().__init__(encoder, heads, masks)


def test_a_class_with_arguments_of_its_own_says_them_or_is_not_saved(tmp_path):
    encoder = nn.Linear(8, 4)
    with pytest.raises(TypeError, match="is called with .*scale.*, which would be lost"):
        Scaled(encoder, identities(), masks_of(encoder, tasks=BOTH), scale=3.0).save(tmp_path)
    with pytest.raises(TypeError, match="which would be lost"):
        Scaled(encoder, identities(), masks_of(encoder, tasks=BOTH)).twin(
            nn.Linear(8, 4), identities()
        )
    with pytest.raises(TypeError, match="a Narrow takes no .*private"):
        Narrow(encoder, identities(), masks_of(encoder, tasks=BOTH)).save(tmp_path)
    Told(encoder, identities(), masks_of(encoder, tasks=BOTH), scale=3.0).save(tmp_path / "told")
    assert Told.load(tmp_path / "told", nn.Linear(8, 4), identities()).scale == 3.0
    hard = HardSharing(encoder, identities())
    hard.masks["a"] = masks_of(encoder, tasks=BOTH)["a"]
    with pytest.raises(TypeError, match="a HardSharing takes no masks, and would be made with"):
        hard.save(tmp_path)


@pytest.mark.parametrize("put", ["forward hook", "hook before", "method"])
def test_what_was_put_upon_a_model_is_not_lost_by_an_export(put):
    encoder = nn.Linear(8, 4)
    model = SparseSharing(encoder, identities(), masks_of(encoder, tasks=BOTH)).eval()
    if put == "forward hook":
        model.register_forward_hook(lambda module, inputs, output: 3 * output)
    elif put == "hook before":
        model.register_forward_pre_hook(lambda module, inputs: inputs)
    else:
        model.forward = model.forward
    with pytest.raises(TypeError, match="the model has a hook, or a `forward` put upon it"):
        model.export("a")


def test_a_loss_of_another_model_is_refused():
    "What finders train is a copy, so a loss that knows the outer network trains nothing."
    network = HardSharing(nn.Linear(8, 16), {"a": nn.Linear(16, 1)})
    x = torch.randn(16, 8)
    task = Task(
        "a", [x], lambda model, batch: network(batch, task="a").mean(), lambda model: 0.0, 16
    )
    for finder in ("imp", "one_round"):
        with pytest.raises(
            ValueError, match="'a' gives the model no gradient: let it call the model"
        ):
            find_masks(network, [task], finder, density=0.5, epochs=1, log=None)


def test_a_network_that_gives_a_generator_is_refused():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            yield self.layer(x)

    encoder = Lazy()
    model = SparseSharing(encoder, identities(), masks_of(encoder, tasks=BOTH))
    with pytest.raises(TypeError, match="gives a generator, which would compute after its call"):
        model(torch.randn(2, 8), task="a")


@pytest.mark.parametrize("new", [torch.bfloat16, torch.float64])
def test_velocities_follow_the_number_type_of_the_model(new):
    encoder = nn.Linear(16, 8)
    model = SparseSharing(encoder, identities(), masks_of(encoder, tasks=BOTH))
    optimizer = SubnetSGD(model, lr=0.1, momentum=0.9)

    def step():
        optimizer.zero_grad()
        dtype = encoder.weight.dtype
        model(torch.ones(4, 16, dtype=dtype), task="a").square().mean().backward()
        optimizer.step("a")

    step()
    before = optimizer.state[encoder.weight]["velocity"].clone()
    model.to(new)
    optimizer.zero_grad()
    for p in encoder.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step("a")
    after = optimizer.state[encoder.weight]["velocity"]
    assert after.dtype == new
    torch.testing.assert_close(after.float(), 0.9 * before, rtol=0.01, atol=1e-6)
    step()


def test_classes_that_know_their_subclasses_do_not_hear_of_ours():
    known = {}

    class Registered(nn.Module):
        def __init_subclass__(cls, *, kind, **how):
            super().__init_subclass__(**how)
            known[kind] = cls

    class Block(Registered, kind="block"):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))

        def forward(self, x):
            return x @ self.weight

    encoder = nn.Sequential(Block())
    model = SparseSharing(encoder, identities(), masks_of(encoder, tasks=BOTH))
    assert known == {"block": Block} and isinstance(encoder[0], Block)
    x, mask = torch.randn(2, 8), model.masks["a"]["0.weight"]
    torch.testing.assert_close(model(x, task="a"), x @ (encoder[0].weight * mask))


def test_a_head_that_is_tied_to_a_masked_weight_can_be_trained():
    encoder = nn.Sequential(nn.Linear(8, 8))
    heads = {task: nn.Linear(8, 8, bias=False) for task in "ab"}
    for head in heads.values():
        head.weight = encoder[0].weight
    model = SparseSharing(encoder, heads, masks_of(encoder, tasks=BOTH))
    x = torch.randn(4, 8)
    task = Task("a", [x], lambda m, b: m(b, task="a").square().mean(), lambda m: 0.0, 4)
    assert len(fit(model, [task], 1, log=None).curve) == 1


def test_arguments_that_would_be_overruled_are_refused():
    network = HardSharing(nn.Linear(8, 16), {"a": nn.Linear(16, 1)})
    x = torch.randn(16, 8)
    task = Task("a", [x], lambda m, b: m(b, task="a").square().mean(), lambda m: 0.0, 16)
    with pytest.raises(TypeError, match="say magnitudes='best' or 'last', and give make_optimizer"):
        find_masks(network, [task], "imp", density=0.5, epochs=1, log=None, keep="last")
    with pytest.raises(TypeError, match="a warmup ends with its last weights"):
        warmup(network, [task], 1, log=None, keep="best")
    with pytest.raises(ValueError, match="size of 'a' is 0: give its number of examples"):
        fit(network, [replace(task, size=0)], 1, log=None)
    with pytest.raises(TypeError, match="a model is wanted, not a generator"):
        SubnetSGD(network.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="heads are a list: give"):
        HardSharing(nn.Linear(8, 16), [nn.Linear(16, 1)])
