"""Modules that are awkward to cut: they write in place, share memory, have several outputs."""

import torch
from dnn.profile.nets import ROW, Residual, net, transformer
from torch import nn

ROWS = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
WORDS = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2))
IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def grows(self, x):
    a = self.h(x)
    b = a
    early = self.g(a)
    a += x
    middle = self.g(b)
    a.mul_(0.5)
    return early + middle * self.g(a)


def shares(self, x):
    y = self.h(x)
    left, right = y.chunk(2, dim=-1)
    before = torch.sigmoid(left)
    right.mul_(2.0)
    y[0] = 1.0
    columns = y[:, ::3]
    late = torch.cat([before, left, right, columns.t().flatten().expand(4, -1)], dim=1)
    columns.neg_()
    return late.sum(dim=1), self.g(y)


def exits(self, x):
    a = torch.relu(self.h(x))
    early = a[:, :4]
    late = self.g(a)
    early.add_(late)
    return early, late.tanh_()


def by_name(self, x, z):
    a = self.h(x)
    b = self.h(z).relu_()
    return {"sum": self.g(a + b), "parts": (a.max(dim=1), None)}


def recurrent(self, x):
    out, (h, c) = self.lstm(x)
    h.add_(out[:, -1])
    last = out[:, -1]
    out[:, 0].zero_()
    return self.g(last + h[0]) + self.g(c[0]) + self.g(out.mean(dim=1))


def twice(self, x):
    once = self.relu(self.h(x))
    again = self.relu(self.h(once))
    once += again
    return self.g(once)


def remembers(self, x):
    self.memory[1:3] = self.h(x)[:2]
    first = self.g(self.memory)
    self.memory += x
    self.count += 1
    return first + self.g(self.memory) * self.count


def joins(self, x):
    a = self.h(x)
    b, c = torch.sigmoid(a), torch.tanh(a)
    both = torch.cat([b, c], dim=1)
    b.relu_()
    c[:, :2] = 0.0
    return self.g(b) + self.g(c) + both[:, 4:8] + both.view(8, 8)[::2, :4]


def assigns(self, x):
    table = torch.zeros(3, 8)
    table[0] = self.h(x)[0]
    first = table.sum(dim=0)
    table[1] = torch.relu(table[0])
    table[2] += first
    return self.g(table)


def overwrites_its_input(self, x):
    y = self.h(x)
    x.relu_()
    y.unsqueeze_(0)
    return self.g(y + x.view_as(y))[0]


def superseded(self, x):
    """The view is older than what is written, and no layer reads it in between."""
    a = self.h(x)
    view = a[1:3]
    a.relu_()
    return self.g(view)


def as_numbers(self, x):
    a = self.h(x)
    pairs = torch.view_as_complex(a.view(4, 4, 2))
    pairs.mul_(2.0)
    whole = a.view(torch.int32)
    return self.g(a) + (whole & 1)[:, :4] + pairs.real


AWKWARD = {
    "residual": (Residual, (IMAGE,)),
    "grows": (lambda: net(grows), (ROWS,)),
    "shares": (lambda: net(shares), (ROWS,)),
    "exits": (lambda: net(exits), (ROWS,)),
    "dict": (lambda: net(by_name), (ROW, ROWS[:1])),
    "lstm": (lambda: net(recurrent, lstm=nn.LSTM(8, 8, batch_first=True)), (WORDS,)),
    "transformer": (lambda: transformer(1, 8, 2, 8), (WORDS,)),
    "twice": (lambda: net(twice, relu=nn.ReLU(inplace=True)), (ROWS,)),
    "memory": (
        lambda: net(remembers, memory=nn.Buffer(torch.ones(4, 8)), count=nn.Buffer(torch.ones(1))),
        (ROWS,),
    ),
    "cat": (lambda: net(joins), (ROWS,)),
    "items": (lambda: net(assigns), (ROWS,)),
    "input": (lambda: net(overwrites_its_input), (ROWS,)),
    "superseded": (lambda: net(superseded), (ROWS,)),
    "numbers": (lambda: net(as_numbers), (ROWS,)),
}
"""By name: what makes a module, and a frame."""


def make(name):
    """A module with weights that are always the same, and a frame."""
    factory, frame = AWKWARD[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return factory(), frame
