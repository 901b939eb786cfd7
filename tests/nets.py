"Five tiny encoders of five kinds, and a toy task: what the tests of the method are run on."

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sparse_sharing.masks import Mask
from sparse_sharing.sharing import (
    HardSharing,
    HierarchicalSharing,
    SingleTask,
    SoftSharing,
    SparseSharing,
)
from sparse_sharing.training import Task

TASKS = "ab"


def lstm():
    return nn.LSTM(3, 4, num_layers=2, bidirectional=True), torch.randn(5, 6, 3)


def conv():
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 8, 2), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    )
    return net, torch.randn(6, 2, 7)


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(4, 6, 8)


def mlp():
    net = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Dropout(0.2), nn.Linear(7, 8), nn.Tanh())
    return net, torch.randn(6, 4)


def table():
    net = nn.Sequential(nn.Embedding(12, 5, padding_idx=0, sparse=True), nn.Linear(5, 8), nn.Tanh())
    return net, torch.randint(12, (3, 6))


ENCODERS = {f.__name__: f for f in (lstm, conv, transformer, mlp, table)}


class Head(nn.Module):
    "Two numbers for each example, from whatever an encoder of width 8 gives."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 2)

    def forward(self, x):
        x = x[0] if isinstance(x, tuple) else x  # an LSTM also gives its last state
        return self.linear(x.mean(0) if x.dim() == 3 else x)


def heads(tasks=TASKS):
    return {t: Head() for t in tasks}


def masks_of(encoder, density=0.5, tasks=TASKS, seed=0):
    "Random masks, one for each task."
    draw = torch.Generator().manual_seed(seed)
    return {t: Mask.random(encoder, density, draw) for t in tasks}


def seeded(make, seed=0):
    "An encoder, inputs for it and heads: always the same."
    torch.manual_seed(seed)
    return *make(), heads()


def sparse(make, density=0.5, seed=0):
    "A sparse model on an encoder, and inputs for it."
    encoder, inputs, tops = seeded(make, seed)
    return SparseSharing(encoder, tops, masks_of(encoder, density, seed=seed)), inputs


def hard(make, seed=0):
    "A dense model with the same first weights."
    encoder, inputs, tops = seeded(make, seed)
    return HardSharing(encoder, tops), inputs


class Level(nn.Module):
    "A layer of `Tower`: it is called with what came before it, and the inputs."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, inputs):
        return self.linear(x).tanh() + inputs.mean(1, keepdim=True)


class Tower(nn.Module):
    "An encoder that shows its layers, with a batch norm: all ways of sharing take it."

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.layers = nn.ModuleList([Level(), Level()])

    def forward(self, inputs):
        x = self.stem(inputs)
        for layer in self.layers:
            x = layer(x, inputs)
        return x


def built(name, seed=0):
    "An encoder and heads: of a kind of `ENCODERS`, or for a way of sharing."
    torch.manual_seed(seed)
    return ENCODERS[name]()[0] if name in ENCODERS else Tower(), heads()


WAYS = {  # each way of sharing, from encoder, heads and masks
    "single": lambda encoder, tops, masks: SingleTask(encoder, tops),
    "subnets": lambda encoder, tops, masks: SingleTask(encoder, tops, masks),
    "hard": lambda encoder, tops, masks: HardSharing(encoder, tops),
    "soft": lambda encoder, tops, masks: SoftSharing(encoder, tops),
    "hierarchical": lambda encoder, tops, masks: HierarchicalSharing(
        encoder, tops, {"a": 1, "b": 2}
    ),
    "sparse": lambda encoder, tops, masks: SparseSharing(encoder, tops, masks),
}


def any_way(way, seed=0):
    "A model of a way of sharing, and inputs for it."
    encoder, tops = built(way, seed)
    return WAYS[way](encoder, tops, masks_of(encoder, seed=seed)), torch.randn(6, 4)


ROWS = torch.randn(72, 4, generator=torch.Generator().manual_seed(0))
LABELS = {"a": (ROWS.sum(1) > 0).long(), "b": (ROWS[:, 0] > ROWS[:, 1]).long()}


def toy_task(name, size=48, inputs=ROWS, **changes):
    "A task on the first `size` of 48 rows, in mini-batches of 8, scored on the other 24."
    y = LABELS[name]
    parts = dict(
        batches=lambda rng: np.array_split(rng.permutation(size), size // 8),
        loss=lambda model, rows: F.cross_entropy(model(inputs[rows], task=name), y[rows]),
        score=lambda model: (
            (model(inputs[48:], task=name).argmax(1) == y[48:]).double().mean().item()
        ),
        size=size,
    )
    return Task(name, **(parts | changes))


def any_task(name, inputs):
    "A task for any of the encoders: to come near to a goal. Its six examples lie along one axis."
    axis, seed = inputs.shape.index(6), TASKS.index(name)
    goal = torch.randn(6, 2, generator=torch.Generator().manual_seed(seed))

    def error(model, rows):
        chosen = inputs.index_select(axis, torch.as_tensor(rows))
        return (model(chosen, task=name) - goal[rows]).square().mean()

    def batches(rng):
        return np.array_split(rng.permutation(6), 2)

    return Task(name, batches, error, lambda model: -error(model, np.arange(6)).item(), 6)


def bits(tensor):
    "The bytes of a tensor's numbers, in the last dimension: two zeros are not the same here."
    numbers = tensor.detach().contiguous()
    return numbers.view(-1, 1).view(torch.uint8).view(*numbers.shape, numbers.element_size())


def same(a, b):
    "Whether two tensors, or two state dicts, are the same to the last bit."
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))
    return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)


def copied(model):
    "The model's parameters and buffers as they are now."
    state = model.state_dict()
    return {k: v.detach().clone() for k, v in state.items() if not k.startswith("masks.")}
