"What once went wrong without a word in ordinary code: interrupted steps, modules that act on their mode, parameters beside a model."

import pytest
import torch
import torch.nn.functional as F
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


def halves(encoder, tasks="ab", **options):
    "A model whose tasks have random halves of an encoder."
    generator = torch.Generator().manual_seed(0)
    masks = {task: Mask.random(encoder, 0.5, generator) for task in tasks}
    return SparseSharing(encoder, {task: nn.Linear(8, 2) for task in tasks}, masks, **options)


def deep():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 4, 5, 8])
def test_a_step_that_is_interrupted_changes_nothing_outside(monkeypatch, error, at):
    model, x = halves(deep()), torch.ones(4, 8)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for task in "abab":
        optimizer.zero_grad()
        model(x, task=task).square().sum().backward()
        subnet_step(optimizer, model, task)
    before = {name: p.detach().clone() for name, p in model.encoder.named_parameters()}
    model(x, task="a").square().sum().backward()
    clone, calls = torch.Tensor.clone, [0]

    def fails(tensor, *args, **options):
        calls[0] += 1
        if calls[0] == at:
            raise error
        return clone(tensor, *args, **options)

    monkeypatch.setattr(torch.Tensor, "clone", fails)
    with pytest.raises(error):
        subnet_step(optimizer, model, "a")
    monkeypatch.undo()
    assert calls[0] == at
    for name, kept in model.masks["a"].items():
        now = model.encoder.get_parameter(name)
        assert torch.equal(now[~kept], before[name][~kept]), name


class Merging(nn.Linear):
    "A low-rank change that is added to the weight for evaluation, and taken out for training."

    def __init__(self, size):
        super().__init__(size, size)
        self.weight.requires_grad = False
        self.down = nn.Parameter(torch.ones(2, size) * 0.3)
        self.up = nn.Parameter(torch.zeros(size, 2))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (self.up @ self.down).detach() * (-1 if mode else 1)
            self.merged = not mode
        return self

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)
        return y if self.merged else y + x @ self.down.T @ self.up.T


def test_a_module_that_acts_on_its_mode_goes_on_learning():
    torch.manual_seed(0)
    x, y, layer = torch.randn(32, 8), torch.randn(32, 2), Merging(8)
    model, sizes = HardSharing(layer, {"a": nn.Linear(8, 2)}), []

    def loss(model, batch):
        return F.mse_loss(model(x, task="a"), y)

    task = Task("a", [0] * 4, loss, lambda model: -loss(model, 0).item(), 32)
    optimizer = SubnetSGD(model, 0.05)
    fit(model, [task], 3, optimizer=optimizer, log=None,
        on_step=lambda step: sizes.append(layer.up.abs().sum().item()))  # fmt: skip
    assert len(sizes) == 12 and sizes[-1] > sizes[7] > sizes[3]


class Frozen(nn.Dropout):
    "In evaluation mode, whatever is said."

    def train(self, mode=True):
        return super().train(False)


def test_modes_are_restored_one_by_one():
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(), Frozen(), nn.Dropout())
    model = HardSharing(net, {"a": nn.Linear(8, 2)}).train()
    net[1].eval()
    net[2].training = True  # set by hand
    modes = [module.training for module in model.modules()]
    task = Task(
        "a", [0], lambda model, batch: model(torch.ones(1, 8), task="a").sum(), lambda m: 1.0, 1
    )
    evaluate(model, [task])
    assert [module.training for module in model.modules()] == modes


class Unweighted(SparseSharing):
    "With a parameter of its own, such as the weight of a loss."

    def __init__(self, *args):
        super().__init__(*args)
        self.log_var = nn.Parameter(torch.zeros(()))


class Around(nn.Module):
    "The same around the model."

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.log_var = nn.Parameter(torch.zeros(()))

    def forward(self, x, task):
        return self.model(x, task=task)


@pytest.mark.parametrize("around", [True, False])
@pytest.mark.parametrize("sgd", [True, False])
def test_a_parameter_beside_encoder_and_heads_is_trained(around, sgd):
    encoder = deep()
    made = halves(encoder)
    model = Around(made) if around else Unweighted(encoder, dict(made.heads), dict(made.masks))
    optimizer = SubnetSGD(model, 0.1, 0.0) if sgd else torch.optim.SGD(model.parameters(), 0.1)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    loss = model(torch.ones(4, 8), task="a").square().mean() * (-model.log_var).exp()
    loss.backward()
    subnet_step(optimizer, model, "a")
    assert model.log_var.item() == pytest.approx(-0.1 * model.log_var.grad.item())
    for name, kept in made.masks["a"].items():
        assert torch.equal(encoder.get_parameter(name)[~kept], before[name][~kept])


class Sliced(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.eye(8)) for _ in range(3))

    def forward(self, x):
        for weight in self.weights[:2]:
            x = x @ weight
        return x @ self.weights[-1]


def test_a_slice_of_a_parameter_list_learns():
    net = Sliced()
    masks = {"a": Mask({f"weights.{i}": torch.eye(8).bool() for i in range(3)})}
    model = SparseSharing(net, {"a": nn.Identity()}, masks)
    model(torch.ones(3, 8), task="a").sum().backward()
    assert [bool((p.grad != 0).any()) for p in net.weights] == [True] * 3
    assert all(torch.equal(p.grad != 0, torch.eye(8).bool()) for p in net.weights)
    assert isinstance(net.weights[:2], nn.ParameterList), "outside of a view all is as before"


def test_numbers_that_two_parameters_share_are_refused():
    net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4))
    net[1].weight.data = net[0].weight.data.T
    with pytest.raises(ValueError, match="'1.weight' lies in the memory of '0.weight'"):
        SparseSharing(net, {"a": nn.Identity()}, {"a": Mask.ones(net)})
    flat = torch.zeros(48)  # parts of one memory that do not meet are fine
    net[0].weight.data, net[1].weight.data = flat[:24].view(6, 4), flat[24:].view(4, 6)
    assert SparseSharing(net, {"a": nn.Identity()}, {"a": Mask.ones(net)})


def test_a_table_that_scales_its_rows_is_not_masked():
    net = nn.Sequential(nn.Embedding(5, 4, max_norm=1.0), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="0 scales its rows to max_norm when it is called"):
        SparseSharing(net, {"a": nn.Identity()}, {"a": Mask.ones(net, ["0.weight"])})
    rest = Mask.ones(net, ["1.weight"])
    assert SparseSharing(net, {"a": nn.Identity()}, {"a": rest})


def test_half_precision_steps_are_as_large_where_the_optimizer_has_the_heads_alone():
    x, y = torch.randn(32, 8), torch.randn(32, 2)
    moved = {}
    for dtype in (None, torch.float16):
        model = halves(deep(), "a")
        before = model.heads["a"].weight.detach().clone()

        def loss(model, batch):
            return F.mse_loss(model(x, task="a").float(), y)

        task = Task("a", [0] * 4, loss, lambda model, loss=loss: -loss(model, 0).item(), 32)
        optimizer = torch.optim.SGD(model.heads.parameters(), 0.1)
        fit(model, [task], 2, autocast=dtype, log=None, keep="last", optimizer=optimizer)
        moved[dtype] = (model.heads["a"].weight - before).norm().item()
    assert moved[torch.float16] == pytest.approx(moved[None], rel=0.1)


class Sum(nn.Module):
    "Two parameters that get one gradient."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.p, self.q = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return self.linear(x) + (self.p + self.q)


def test_a_joint_step_of_one_task_is_its_step():
    ended = {}
    for joint in (True, False):
        torch.manual_seed(0)
        net = Sum()
        model = SparseSharing(net, {"a": nn.Identity()}, {"a": Mask.ones(net, ["linear.weight"])})
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.register_step_pre_hook(
            lambda *about, model=model: nn.utils.clip_grad_norm_(model.parameters(), 1.0) and None
        )
        loss = model(torch.ones(3, 8), task="a").square().sum()
        if joint:
            joint_step(optimizer, model, {"a": loss})
        else:
            loss.backward()
            subnet_step(optimizer, model, "a")
        ended[joint] = net.p.detach().clone()
    assert torch.equal(ended[True], ended[False]) and ended[True].abs().max() > 1e-3


def test_weights_that_come_once_take_no_room():
    "As in meta-learning, where each step has weights of its own."
    net = nn.Linear(80, 80)
    model = SparseSharing(net, {"a": nn.Identity()}, {"a": Mask.ones(net, ["weight"])})
    for _ in range(5):
        fast = {"encoder.weight": net.weight - 0.1, "encoder.bias": net.bias - 0.1}
        torch.func.functional_call(
            model, fast, (torch.ones(2, 80),), {"task": "a"}
        ).sum().backward()
    assert not vars(model._rooms._here)


def test_a_model_made_from_the_content_of_another_sees_its_own_masks():
    model, x = halves(deep()), torch.ones(2, 8)
    right = model(x, task="a")
    other = model.__new__(type(model))
    vars(other).update(vars(model))
    other._modules = dict(model._modules)
    other._modules["encoder"] = deep()
    assert torch.equal(other(x, task="a"), right)


def test_a_trace_is_refused_by_name():
    model, x = halves(deep()), torch.ones(2, 8)
    with pytest.raises(RuntimeError, match=r"trace `model.export\(task\)`"):
        torch.jit.trace(lambda x: model(x, task="a"), x)
    traced = torch.jit.trace(model.export("a"), x)
    assert torch.allclose(traced(x), model(x, task="a"))


def asked(name):
    "A task of random numbers."
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))

    def loss(model, batch):
        return model(x, task=name)[:, 0].square().mean()

    return Task(name, [0] * 4, loss, lambda model: 1.0, 32)


@pytest.mark.parametrize(
    "wrong",
    [dict(clip=0), dict(clip=-1), dict(clip=float("nan")), dict(patience=0), dict(epochs=-1)],
)
def test_limits_that_say_something_else_elsewhere_are_refused(wrong):
    model = HardSharing(deep(), {"a": nn.Linear(8, 2)})
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is|patience 0"):
        fit(model, [asked("a")], log=None, **wrong)


def test_scores_that_tell_nothing_give_no_mask():
    head = nn.Linear(8, 2)
    nn.init.zeros_(head.weight)
    model = HardSharing(deep(), {"a": head})
    with pytest.raises(ValueError, match="the loss of 'a' depends on none of the weights"):
        find_masks(model, [asked("a")], "snip", density=0.5)


def test_scores_of_one_s_own_are_looked_at():
    model = HardSharing(deep(), {"a": nn.Linear(8, 2)})

    def sizes(model, task, mask):
        return {name: model.encoder.get_parameter(name).detach().abs() for name in mask}

    def found(score):
        return find_masks(model, [asked("a")], score, density=0.25)["a"]

    assert found(sizes).kept == 48
    with pytest.raises(ValueError, match="for '0.weight' has negative numbers"):
        found(lambda *about: {name: size.log() for name, size in sizes(*about).items()})
    with pytest.raises(ValueError, match=r"no tensor of shape \(8, 8\) for '0.weight'"):
        found(lambda *about: {name: size.sum(1) for name, size in sizes(*about).items()})
    with pytest.raises(ValueError, match=r"no tensor of shape \(8, 8\) for '0.weight'"):
        found(lambda *about: None)


def test_a_density_of_no_weight_is_refused():
    model = HardSharing(deep(), {"a": nn.Linear(8, 2)})
    with pytest.raises(ValueError, match="is 0.001, which is less than one of 192 weights"):
        find_masks(model, [asked("a")], "random", density=0.001)
