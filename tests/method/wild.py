"Random encoders as people have them: layers that are shared, tied, nested, frozen, normed, parametrised; and a network masked by hand."

from copy import deepcopy

import torch
from hypothesis import strategies as st
from nets import Head
from torch import nn
from torch.utils.checkpoint import checkpoint

from sparse_sharing.masks import Mask
from sparse_sharing.sharing import SparseSharing

WIDTH = 8
KINDS = ("linear", "same", "tied", "nested", "frozen", "norm", "weight norm", "attention", "read")


class Reads(nn.Module):
    "Reads the weight of a layer that it does not call, as attention does."

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return x @ self.inner.weight.t() + self.inner.bias


class Attention(nn.Module):
    "The rows of a batch look at each other."

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Wild(nn.Module):
    "A row of layers, each of which may run through a checkpoint."

    def __init__(self, kinds, reentrant=None):
        super().__init__()
        self.layers, self.reentrant = nn.ModuleList(), reentrant
        for kind in kinds:
            self.layers.append(self._layer(kind))

    def _layer(self, kind):
        layer = nn.Linear(WIDTH, WIDTH)
        before = [x for x in self.layers if type(x) is nn.Linear]
        if kind == "same" and before:
            return before[0]
        if kind == "tied" and before:
            layer.weight = before[-1].weight
        if kind == "nested":
            return nn.Sequential(nn.Sequential(layer, nn.Tanh()), nn.Linear(WIDTH, WIDTH))
        if kind == "frozen":
            return layer.requires_grad_(False)
        if kind == "norm":
            return nn.BatchNorm1d(WIDTH)
        if kind == "weight norm":
            return nn.utils.parametrizations.weight_norm(layer)
        if kind == "attention":
            return Attention()
        return Reads() if kind == "read" else layer

    def forward(self, x):
        for layer in self.layers:
            if self.reentrant is None or not x.requires_grad and self.reentrant:
                x = layer(x)
            else:
                x = checkpoint(layer, x, use_reentrant=self.reentrant)
            x = x.tanh()
        return x


kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=5).map(lambda k: ["linear", *k])


def encoder(kinds, seed=0, reentrant=None):
    "An encoder, always with the same first weights."
    torch.manual_seed(seed)
    return Wild(kinds, reentrant)


def model_of(net, density=0.5, seed=0, **options):
    "A sparse model of two tasks on it."
    draw = torch.Generator().manual_seed(seed)
    masks = {t: Mask.random(net, density, draw) for t in "ab"}
    torch.manual_seed(seed)
    return SparseSharing(net, {t: Head() for t in "ab"}, masks, **options)


def rows(seed=0):
    "Six rows, that want a gradient."
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(6, WIDTH, generator=draw, requires_grad=True)


def by_hand(model, task):
    "Encoder and head of a task, in which the weights outside its mask are zero, without this library."
    net, head = deepcopy((model.encoder, model.heads[task]))
    with torch.no_grad():
        for name, kept in model.masks[task].items():
            net.get_parameter(name).mul_(kept)
    return nn.Sequential(net, head)
