"What once went wrong without a word in ordinary code: interrupted steps, modules that act on their mode, parameters beside a model."

import gc
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

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
from sparse_sharing.finders import shuffled


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


class Short(nn.Linear):
    "Keeps its rows at a norm of at most 1."

    def forward(self, x):
        with torch.no_grad():
            self.weight.data.renorm_(2, 0, 1.0)
        return super().forward(x)


class Replaced(nn.Linear):
    "The same, with another tensor in the place of the numbers."

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, 2, 0, 1.0)
        return super().forward(x)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("kind", [Short, Replaced])
def test_what_a_call_writes_to_a_masked_weight_is_not_lost_in_silence(kind, graph):
    net = kind(8, 8)
    nn.init.ones_(net.weight)
    model = halves(net)
    for _ in range(2):  # and it stays refused
        with (
            torch.set_grad_enabled(graph),
            pytest.raises(TypeError, match="writes to its 'weight'"),
        ):
            model(torch.ones(4, 8), task="a")
    assert torch.equal(net.weight, torch.ones(8, 8))


class Begins(nn.Module):
    "Sets its factor by the first batch, as ActNorm does."

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(8))
        self.register_buffer("begun", torch.tensor(False))

    def forward(self, x):
        if not self.begun:
            self.factor.data.copy_(1 / (1 + x.abs().mean(0)))
            self.begun.fill_(True)
        return x * self.factor


def test_a_shared_parameter_is_not_begun_by_each_task_anew():
    x = torch.randn(4, 8)
    with pytest.raises(TypeError, match="its parameter 'factor' and its buffer 'begun'"):
        halves(nn.Sequential(nn.Linear(8, 8), Begins()))(x, task="a")
    model = halves(nn.Sequential(nn.Linear(8, 8), Begins()), shared_buffers=True)
    model(x, task="a")
    factor = model.encoder[1].factor.detach().clone()
    model(x + 1, task="b")
    assert torch.equal(model.encoder[1].factor, factor)
    net = nn.Sequential(nn.Linear(8, 8), Begins())
    net(x)
    model = halves(net)
    factor = net[1].factor.detach().clone()
    for task in "ab":
        model(x, task=task)
    assert torch.equal(net[1].factor, factor)


def test_weights_that_are_no_numbers_do_not_look_written():
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    with torch.no_grad():
        net[0].weight[:, 0] = torch.nan
    halves(net)(torch.ones(4, 8), task="a")


class Scaled(SparseSharing):
    def run_encoder(self, task, x):
        return super().run_encoder(task, x / 2)


class Reads(SparseSharing):
    def forward(self, x, task):
        return super().forward(x.float(), task=task)


class Named(SparseSharing):
    "A class of one's own that computes as ours does."


@pytest.mark.parametrize("kind", [Scaled, Reads])
def test_a_class_that_computes_in_its_own_way_has_no_export(kind):
    net = nn.Linear(8, 8)
    arguments = net, {"a": nn.Linear(8, 2)}, {"a": Mask.ones(net)}
    with pytest.raises(TypeError, match=f"{kind.__name__} has a '.*' of its own"):
        kind(*arguments).export("a")
    x = torch.ones(2, 8)
    model = Named(*arguments).eval()
    assert torch.equal(model.export("a")(x), model(x, task="a"))


class Shifted(nn.Module):
    def forward(self, x, kind=torch.float32, factor=1.0):
        return x.to(kind) * factor


class KeywordAlone(nn.Module):
    def forward(self, x, factor=1.0, *, kind=torch.float32):
        return x.to(kind) * factor


def test_an_argument_does_not_move_into_the_place_of_another_in_an_export():
    heads = {"a": nn.Identity()}
    with pytest.raises(TypeError, match="'factor' after 'kind'"):
        HardSharing(Shifted(), heads).export("a")
    exported = HardSharing(KeywordAlone(), heads).export("a")
    assert torch.equal(exported(torch.ones(2), 3.0), torch.full((2,), 3.0))


def test_an_export_has_the_updates_that_rows_wait_for():
    net = nn.Sequential(nn.Embedding(6, 8, sparse=True), nn.Flatten(), nn.Linear(8, 8))
    model = SparseSharing(net, {"a": nn.Linear(8, 2)}, {"a": Mask.ones(net, ["2.weight"])})
    optimizer = SubnetSGD(model, lr=0.1, momentum=0.9)
    for rows in ([[0], [1]], [[2], [3]], [[4], [5]]):
        optimizer.zero_grad()
        model(torch.tensor(rows), task="a").square().sum().backward()
        subnet_step(optimizer, model, "a")
    rows = torch.arange(6)[:, None]
    exported = model.export("a")
    model.eval()
    assert torch.equal(exported(rows), model(rows, task="a"))


def test_a_masked_embedding_is_not_counted_twice():
    net = nn.Sequential(nn.Embedding(6, 8), nn.Linear(8, 8))
    draw, names = torch.Generator().manual_seed(0), ["0.weight", "1.weight"]
    masks = dict.fromkeys("ab", Mask.random(net, 0.5, draw, names))
    heads = {task: nn.Linear(8, 2) for task in "ab"}
    kept = int(masks["a"]["1.weight"].sum() + 8)  # and the bias
    assert SparseSharing(net, heads, masks).count_parameters() == kept
    private = SparseSharing(net, heads, masks, private=["1.bias"])
    assert private.count_parameters() == kept + 8


def test_finding_masks_takes_no_checkpoint(tmp_path):
    net = nn.Linear(8, 8)
    model = HardSharing(net, {"a": nn.Linear(8, 2)})
    task = Task("a", [torch.ones(2, 8)], lambda m, x: m(x, task="a").sum(), lambda m: 0.0, 2)
    with pytest.raises(ValueError, match="cannot share a checkpoint"):
        find_masks(model, [task], density=0.5, checkpoint=tmp_path / "run")


def test_a_frozen_network_is_scored_by_its_gradients():
    torch.manual_seed(0)
    net = nn.Linear(8, 8, bias=False).requires_grad_(False)
    model = HardSharing(net, {"a": nn.Linear(8, 2)})
    x = torch.zeros(2, 8)
    x[:, :2] = 1
    task = Task("a", [x], lambda m, x: m(x, task="a").square().sum(), lambda m: 0.0, 2)
    whole = Mask.ones(net, ["weight"])
    mask = find_masks(model, [task], "snip", density=0.25, within=whole)["a"]["weight"]
    assert mask[:, :2].all() and not mask[:, 2:].any() and not net.weight.requires_grad


def test_gates_do_not_stand_before_a_weight_that_a_head_reads_as_well():
    net, head = nn.Linear(8, 8), nn.Linear(8, 8)
    head.weight = net.weight
    task = Task("a", [torch.ones(2, 8)], lambda m, x: m(x, task="a").sum(), lambda m: 0.0, 2)
    with pytest.raises(ValueError, match="tied to the encoder"):
        find_masks(HardSharing(net, {"a": head}), [task], "l0", density=0.5, epochs=1)


@pytest.mark.parametrize(
    "other",
    [
        dict(clip=1.0),
        dict(clip=None),
        dict(autocast=torch.bfloat16),
        dict(weight=2.0),
        dict(size=3),
    ],
)
def test_a_checkpoint_knows_limits_weights_and_precision(tmp_path, other):
    def train(epochs, weight=1.0, size=2, **options):
        torch.manual_seed(0)
        model = halves(nn.Linear(8, 8), "a")
        x = torch.randn(2, 8)
        loss = lambda m, x: m(x, task="a").square().sum()  # noqa: E731
        task = Task("a", [x], loss, lambda m: 0.0, size, weight)
        fit(model, [task], epochs, checkpoint=tmp_path / "run", log=None, **options)

    train(1)
    with pytest.raises(ValueError, match=f"another run, with other {next(iter(other))}"):
        train(2, **other)
    train(2)


def test_a_function_of_batches_may_draw_from_wherever_it_likes(tmp_path):
    data = torch.utils.data.TensorDataset(torch.randn(12, 8, generator=torch.Generator()))

    def passes(rng):
        return torch.utils.data.DataLoader(data, batch_size=2, shuffle=True)

    def train(epochs, **options):
        torch.manual_seed(0)
        model = halves(nn.Sequential(nn.Linear(8, 8), nn.Dropout()))
        tasks = [
            Task(n, passes, lambda m, x, n=n: m(x[0], task=n).square().sum(), lambda m: 0.0, 12 + i)
            for i, n in enumerate("ab")
        ]
        fit(model, tasks, epochs, steps=5, optimizer=SubnetSGD(model), log=None, **options)
        return model.encoder[0].weight

    train(1, checkpoint=tmp_path / "run")
    torch.manual_seed(7)
    stopped = train(3, checkpoint=tmp_path / "run", keep="last")
    assert torch.equal(stopped, train(3, keep="last"))


class Kept(torch.optim.Optimizer):
    "Goes half way back to a copy of the weights that it makes in some step; its numbers are plain attributes."

    def __init__(self, parameters, begin):
        self.share, self.begin, self.steps = 0.5, begin, 0
        super().__init__(parameters, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure=None):
        self.steps += 1
        for p in (p for g in self.param_groups for p in g["params"] if p.grad is not None):
            state = self.state[p]
            if self.steps >= self.begin and not state:
                state["slow"] = p.clone()
            p.add_(p.grad, alpha=-0.01)
            if state:
                p.copy_(state["slow"].lerp_(p, self.share))


@pytest.mark.parametrize("begin", [1, 3])
def test_a_copy_of_the_weights_in_an_optimiser_of_ones_own(begin):
    "Its steps without gradients leave weights where they are, whoever takes them."
    net = nn.Linear(6, 8)
    model = SparseSharing(
        net,
        {t: nn.Identity() for t in "ab"},
        {t: Mask.random(net, 0.5, seeded(i)) for i, t in enumerate("ab")},
    )
    optimizer, before = Kept(model.parameters(), begin), net.weight.detach().clone()
    for task in "aaabbb":
        optimizer.zero_grad()
        (0 * model(torch.ones(2, 6), task=task).sum()).backward()
        subnet_step(optimizer, model, task)
    assert torch.allclose(net.weight, before)
    outside = ~model.masks["a"]["weight"]
    assert torch.allclose(optimizer.state[net.weight]["slow"][outside], before[outside])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class Again(nn.Module):
    "Computes its layer once more in the backward pass."

    def __init__(self, reentrant):
        super().__init__()
        self.layer, self.reentrant = nn.Linear(4, 4), reentrant

    def forward(self, x):
        x = x.requires_grad_() if self.reentrant else x
        return checkpoint(self.layer, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gates_are_not_learnt_through_a_checkpoint(reentrant):
    model = HardSharing(Again(reentrant), {"a": nn.Linear(4, 2)})
    task = Task(
        "a",
        batches=lambda rng: [torch.ones(2, 4)] * 2,
        loss=lambda model, x: model(x.clone(), task="a").square().sum(),
        score=lambda model: 0.0,
        size=4,
    )
    with pytest.raises(RuntimeError, match="with checkpoints turned off"):
        find_masks(model, [task], "l0", density=0.5, epochs=1)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_the_library_can_be_imported_where_no_gradients_are(mode):
    code = f"import torch\nwith torch.{mode}():\n    import sparse_sharing"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gradients_that_are_written_down_later():
    class Conjugate(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3, dtype=torch.complex64))

        def forward(self, x):
            return x @ self.weight.mH

    net = Conjugate()
    mask = Mask.random(net, 0.5, seeded(0))
    model = SparseSharing(net, {"a": nn.Identity()}, {"a": mask})
    x = torch.randn(2, 3, dtype=torch.complex64)
    model(x, task="a").abs().sum().backward()
    got, net.weight.grad = net.weight.grad, None
    kept = (net.weight * mask["weight"]).mH
    (x @ kept).abs().sum().backward()
    assert torch.allclose(got, net.weight.grad * mask["weight"])


def test_an_encoding_that_nobody_can_look_into_is_made_for_each_task():
    class Data:
        def __init__(self, x):
            self.x = x

    class Wrapping(nn.Linear):
        def forward(self, x):
            return Data(super().forward(x))

    class Changing(nn.Linear):
        def forward(self, data):
            data.x = super().forward(data.x)
            return data.x

    model = HardSharing(Wrapping(3, 4), {t: Changing(4, 4) for t in "abc"}).eval()
    x = torch.randn(2, 3)
    together = model(x, tasks=["a", "b", "c"])
    assert all(torch.equal(together[t], model(x, task=t)) for t in "abc")


def test_views_that_are_left_in_another_order():
    model = halves(deep())
    one, other = model.view("a"), model.view("b")
    one.__enter__()
    other.__enter__()
    with pytest.raises(RuntimeError, match="one that was entered later"):
        one.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="one that was entered later"):
        other.__exit__(None, None, None)
    whole = model.encoder(torch.ones(1, 8))
    with model.view("a"):
        assert not torch.equal(model.encoder(torch.ones(1, 8)), whole)
    assert torch.equal(model.encoder(torch.ones(1, 8)), whole)


def test_a_view_without_a_call_of_the_model_is_looked_at_once():
    "As of a network that is called by `generate`."
    model = halves(deep()).eval()
    with torch.no_grad():
        with model.view("a"):
            pass  # nothing was looked at
        assert model.view("a").watch is not None
        with model.view("a"):
            model.encoder(torch.ones(1, 8))
        assert model.view("a").watch is None


def test_rooms_go_with_their_weight():
    net = nn.Linear(80, 80)
    model = SparseSharing(net, {"a": nn.Identity()}, {"a": Mask.ones(net, ["weight"])}).eval()
    with torch.no_grad():
        for _ in range(5):
            fresh = {"encoder.weight": nn.Parameter(torch.randn(80, 80))}
            torch.func.functional_call(model, fresh, (torch.ones(2, 80),), {"task": "a"})
        model(torch.ones(2, 80), task="a")
    del fresh
    gc.collect()
    assert len(model._rooms._here.rooms) == 1


def test_an_encoder_that_was_compiled_apart_is_not_exported():
    model = HardSharing(torch.compile(nn.Linear(2, 2)), {"a": nn.Identity()})
    with pytest.raises(
        TypeError, match=r"'encoder' is what `torch.compile` gave.*encoder\.compile"
    ):
        model.export("a")


def test_masks_are_drawn_where_their_generator_is():
    net = nn.Linear(4, 4)
    right = Mask.random(net, 0.5, seeded(0))
    with torch.device("meta"):
        drawn = Mask.random(net, 0.5, seeded(0))
        again = shuffled(right, 1)
    assert drawn == right and again.kept == right.kept
