"""Small networks for the tests of profiles, and questions to ask their graphs."""

import torch
from torch import nn

IMAGE = torch.zeros(1, 3, 8, 8)
ROW = torch.zeros(1, 8)


class Given(nn.Module):
    """Two linear layers, 8 -> 8 and 8 -> 4, and whatever else; forward is a function.

    fx takes a forward with its own parameters, therefore a class for each.
    """

    def __init__(self, **parts):
        super().__init__()
        self.h, self.g = nn.Linear(8, 8), nn.Linear(8, 4)
        for name, part in parts.items():
            setattr(self, name, part)


def net(forward, **parts):
    return type("Net", (Given,), {"forward": forward})(**parts)


def reads(graph):
    """By name: the names of the layers that each layer reads, in their order."""
    names = [layer.name for layer in graph.layers]
    return {
        name: tuple(names[u] for u in read)
        for name, read in zip(names, graph.predecessors, strict=True)
    }


def of(graph, name):
    return next(layer for layer in graph.layers if layer.name == name)


def exits(graph):
    return {one.name: graph.layers[one.layer].name for one in graph.exits}


class Residual(nn.Module):
    """In-place operations whose results are thrown away."""

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.c2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.out = nn.Linear(256, 5)

    def forward(self, x):
        y = self.c1(x)
        self.relu(y)
        z = self.c2(y)
        z += y
        torch.relu_(z)
        z.mul_(2.0)
        return self.out(z.flatten(1))


def transformer(layers=2, wide=16, heads=4, inner=24):
    layer = nn.TransformerEncoderLayer(wide, heads, inner, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


# Called like an operation of aten that passes over its data.
@torch.library.custom_op("mec_gym_tests::sort_strangely", mutates_args=())
def strange(x: torch.Tensor) -> torch.Tensor:
    return x @ x.T


@strange.register_fake
def _(x):
    return x.new_empty(len(x), len(x))


def by_item(self, x):
    if x.sum().item() > 0:
        return self.h(x)
    return self.g(x)
