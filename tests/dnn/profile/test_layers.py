"""Which nodes are layers, which outputs are exits, and who reads what."""

import pytest
import torch
from dnn.profile.nets import ROW, exits, net, of, reads
from torch import nn

from mec_gym.dnn.graph import from_json
from mec_gym.dnn.profile import profile

# --- outputs


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda self, x: self.h(x), {"final": "h"}),
        (lambda self, x: (self.h(x), self.g(x)), {"exit 1": "h", "final": "g"}),
        (lambda self, x: [self.g(x), self.h(x)], {"exit 1": "g", "final": "h"}),
        (lambda self, x: {"b": self.h(x), "a": self.g(x)}, {"b": "h", "a": "g"}),
        (lambda self, x: {1: self.h(x), "a": None}, {"1": "h"}),
        (lambda self, x: (None, self.h(x), None), {"final": "h"}),
        (
            lambda self, x: (self.h(x), (self.g(x), [x * 2])),
            {"exit 1": "h", "exit 2": "g", "final": "mul"},
        ),
        (
            lambda self, x: {"a": (self.h(x), self.g(x)), "b": x + 1},
            {"a exit 1": "h", "a": "g", "b": "add"},
        ),
        (lambda self, x: self.h(x).chunk(2, 1), {"exit 1": "chunk", "final": "chunk"}),
        (lambda self, x: (x, self.h(x)), {"exit 1": "input", "final": "h"}),
        (lambda self, x: (lambda y: (y, y))(self.h(x)), {"exit 1": "h", "final": "h"}),
        (lambda self, x: self.h(x).max(1)[1], {"final": "max_1"}),
    ],
)
@pytest.mark.parametrize("tracer", ["fx", "export"])
def test_outputs_are_exits_in_order(forward, expected, tracer, request):
    if tracer == "export":
        request.getfixturevalue("only_export")
        operation = {"h": "linear", "g": "linear", "mul": "mul", "max_1": "max"}
        graph = profile(net(forward), ROW)
        kinds = [graph.layers[one.layer].operation for one in graph.exits]
        assert kinds == [operation.get(name, name) for name in expected.values()]
    else:
        graph = profile(net(forward), ROW)
        assert list(exits(graph).values()) == list(expected.values())
    assert [one.name for one in graph.exits] == list(expected)
    assert all(one.accuracy is None for one in graph.exits)
    assert from_json(graph.to_json()) == graph


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x: torch.ones(3), "output 'final' of Net must be computed from its input"),
        (lambda self, x: (self.h(x), self.h.weight * 2), "output 'final' of Net must be computed"),
        (lambda self, x: {"w": self.h.weight, "y": self.h(x)}, "output 'w' of Net must be"),
        (lambda self, x: torch.zeros(x.shape[1]), "output 'final' of Net must be computed"),
        (lambda self, x: 3.0, "must be a tensor, got 3.0"),
        (lambda self, x: None, r"the module .*got None"),
        (lambda self, x: (), "the module must return tensors"),
        (lambda self, x: {"y": self.h(x), "n": 3}, r"output 'n' .*got 3"),
        (lambda self, x: x.size(0), "must be a tensor, got size"),
    ],
)
def test_outputs_that_are_no_exits(forward, message):
    with pytest.raises(ValueError, match=message):
        profile(net(forward), ROW)


# --- layers


GLOBAL = torch.ones(8)


def test_constants_are_no_layers():
    def forward(self, x):
        y = self.h(x) + torch.arange(8) * self.scale + self.buffer
        return y * torch.ones(x.shape[1]) + self.loose[0] + GLOBAL

    module = net(forward, scale=nn.Parameter(torch.ones(8)), loose=[torch.ones(8)])
    module.register_buffer("buffer", torch.ones(8))
    for device in (None, "cpu"):
        graph = profile(module, ROW, device)
        assert [one.operation for one in graph.layers[2:]] == ["add", "add", "mul", "add", "add"]
        assert graph.links == tuple((v, v + 1) for v in range(6))


def test_a_module_called_twice_is_two_layers():
    graph = profile(net(lambda self, x: self.g(self.h(self.h(x)) + x)), ROW)
    assert reads(graph) == {
        "input": (), "h #1": ("input",), "h #2": ("h #1",), "add": ("input", "h #2"),
        "g": ("add",),
    }  # fmt: skip
    assert of(graph, "h #1").flops == of(graph, "h #2").flops == 128
    assert graph.provenance["parameters"] == 72 + 36  # held once


def test_dead_branches_are_dropped():
    def forward(self, x):
        y = self.g(x)
        y.relu_()
        self.g(self.h(x))
        x.sum()
        return self.h(x)

    graph = profile(net(forward), ROW)
    assert reads(graph) == {"input": (), "h #2": ("input",)}


def test_items_of_a_tuple_are_no_layers():
    def forward(self, x):
        parts = torch.split(self.h(x), [3, 5], 1)
        return parts[0].sum() + parts[0].mean()  # the same item twice, the other one never

    graph = profile(net(forward), ROW)
    assert reads(graph) == {
        "input": (), "h": ("input",), "split": ("h",), "sum_1": ("split",), "mean": ("split",),
        "add": ("sum_1", "mean"),
    }  # fmt: skip
    split = of(graph, "split")
    assert (split.bytes_moved, split.output_bits) == (0, 3 * 32)

    def named(self, x):
        best = self.h(x).max(1)
        return best.values * 2

    graph = profile(net(named), ROW)
    assert [one.name for one in graph.layers] == ["input", "h", "max_1", "mul"]
    assert of(graph, "max_1").output_bits == 32  # without the indices, 64 bits

    def lstm(self, x):
        y, (hidden, _) = self.rnn(x)
        return y[:, -1] + hidden[-1]

    graph = profile(net(lstm, rnn=nn.LSTM(8, 3, batch_first=True)), torch.zeros(1, 5, 8))
    assert of(graph, "rnn").output_bits == 32 * (5 * 3 + 3)
    assert len(graph) == 5 and graph.layers[-1].operation == "add"


# --- who reads what


def test_two_inputs_come_together():
    def forward(self, x, y):
        return self.h(x) + y

    graph = profile(net(forward), (ROW, torch.zeros(1, 8, dtype=torch.float64)))
    assert graph.layers[0].output_bits == 8 * 32 + 8 * 64
    assert reads(graph) == {"input": (), "h": ("input",), "add": ("input", "h")}
    assert graph.provenance["input"] == [[1, 8], [1, 8]]
    # What is not read need not be sent.
    graph = profile(net(lambda self, x, y: self.h(y)), (torch.zeros(1, 100), ROW))
    assert graph.layers[0].output_bits == 8 * 32 and graph.links == ((0, 1),)


def test_parts_that_are_written_to():
    def forward(self, x):
        y = self.h(x)
        y[:, :2].relu_()
        return self.g(y)

    graph = profile(net(forward), ROW)
    assert reads(graph)["g"] == ("relu_",)
    # The whole of y is read where a part of it was written.
    assert of(graph, "relu_").output_bits == 8 * 32

    def assembled(self, x):
        y = torch.zeros(1, 8)
        y[:, :4] = self.g(x)
        y[:, 4:] = self.g(x * 2)
        return self.h(y)

    graph = profile(net(assembled), ROW)
    last = graph.predecessors[-1]
    assert len(last) == 1 and graph.layers[last[0]].output_bits == 8 * 32
    assert graph.flops.sum() == 2 * 64 + 128  # both halves are needed

    def remembered(self, x):
        self.memory.add_(self.h(x))
        return self.memory * 2

    module = net(remembered)
    module.register_buffer("memory", torch.zeros(1, 8))
    for device in (None, "cpu"):
        assert reads(profile(module, ROW, device)) == {
            "input": (), "h": ("input",), "add_": ("h",), "mul": ("add_",),
        }  # fmt: skip
    assert not module.memory.any()

    def into(self, x):
        y, z = self.h(x), x * 2
        torch.add(y, 1, out=z)
        return z - 1

    assert reads(profile(net(into), ROW))["sub"] == ("add",)


def test_who_read_before_a_write_read_what_was_there():
    def forward(self, x):
        y = self.h(x)
        before = self.g(y)
        y.relu_()
        return before, self.g(y)

    graph = profile(net(forward), ROW)
    assert reads(graph)["g #1"] == ("h",) and reads(graph)["g #2"] == ("relu_",)


def test_the_input_may_be_written_to():
    x = torch.ones(1, 8)

    def forward(self, x):
        x += 1
        return self.h(x)

    for device in (None, "cpu"):
        assert profile(net(forward), x, device).links == ((0, 1), (1, 2))
    assert (x == 1).all()


@pytest.mark.parametrize("named", [False, True])
def test_the_deepest_exit_comes_last(named):
    def forward(self, x):
        early = self.h(x)
        final = self.g(self.h(early))
        return {"deep": final, "early": early} if named else (final, early)

    graph = profile(net(forward), ROW)
    names = ["early", "deep"] if named else ["exit 1", "final"]
    assert exits(graph) == dict(zip(names, ["h #1", "g"], strict=True))
    assert graph.provenance["outputs"] == [1, 0]
    in_order = profile(net(lambda self, x: (self.h(x), self.g(self.h(x)))), ROW)
    assert "outputs" not in in_order.provenance
