"""Networks counted by hand."""

import warnings

import pytest
import torch
from dnn.profile.nets import IMAGE, ROW, Residual, net, of, reads, transformer
from slow import slow_except, slow_off_diagonal
from torch import nn

from mec_gym.dnn.profile import profile


def check_residual(graph):
    # Who reads y or z reads whoever wrote it last.
    assert graph.predecessors == ((), (0,), (1,), (2,), (2, 3), (4,), (5,), (6,), (7,))
    expected = [  # FLOP, bytes in + weights + out, elements out
        (0, 0, 3 * 64),
        (2 * 4 * 27 * 64, 4 * (192 + 4 * 27 + 4 + 256), 256),
        (0, 4 * (256 + 256), 256),
        (2 * 4 * 36 * 64, 4 * (256 + 4 * 36 + 256), 256),
        (0, 4 * (256 + 256 + 256), 256),
        (0, 4 * (256 + 256), 256),
        (0, 4 * (256 + 256), 256),
        (0, 0, 256),
        (2 * 256 * 5, 4 * (256 + 256 * 5 + 5 + 5), 5),
    ]
    for layer, (flops, moved, elements) in zip(graph.layers, expected, strict=True):
        found = (layer.flops, layer.bytes_moved, layer.output_bits)
        assert found == (flops, moved, 32 * elements), layer
    assert [one.layer for one in graph.exits] == [8]


def test_residual_network_with_operations_in_place():
    graph = profile(Residual(), IMAGE)
    check_residual(graph)
    assert [layer.operation for layer in graph.layers] == [
        "input", "conv2d", "relu", "conv2d", "add", "relu", "mul", "flatten", "linear",
    ]  # fmt: skip
    assert graph.name == "Residual" and profile(Residual(), IMAGE, name="mine").name == "mine"
    assert graph.provenance["tracer"] == "fx"
    assert graph.provenance["parameters"] == 4 * 27 + 4 + 4 * 36 + 256 * 5 + 5


def test_export_finds_the_same(only_export):
    graph = profile(Residual(), IMAGE)
    assert graph.provenance["tracer"] == "export"
    check_residual(graph)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2 + 3 * k, 3, 3, padding=1) for k in range(3))

    def forward(self, x):
        xs = [x]
        for conv in self.convs:
            xs.append(conv(torch.cat(xs, 1)))
        return torch.cat(xs, 1)


def test_dense_block():
    graph = profile(Dense(), torch.zeros(1, 2, 4, 4))
    inputs = ("input", "convs.0", "convs.1", "convs.2")
    assert reads(graph) == {
        "input": (),
        **{
            name: inputs[: k + 1]
            for k, name in enumerate(("cat", "cat_1", "cat_2", "cat_3"))
        },
        "convs.0": ("cat",),
        "convs.1": ("cat_1",),
        "convs.2": ("cat_2",),
    }  # fmt: skip
    for k in range(3):
        conv, channels = of(graph, f"convs.{k}"), 2 + 3 * k
        assert conv.flops == 2 * 3 * channels * 9 * 16
        assert conv.bytes_moved == 4 * (channels * 16 + 3 * channels * 9 + 3 + 3 * 16)
        assert of(graph, ("cat", "cat_1", "cat_2")[k]).output_bits == channels * 16 * 32
    last = of(graph, "cat_3")
    assert last.flops == 0 and last.output_bits == 11 * 16 * 32
    assert last.bytes_moved == 2 * 4 * 11 * 16


@pytest.mark.parametrize("wrapped", slow_except([False, True], True))
def test_transformer(wrapped):
    length, wide, inner = 10, 16, 24
    module = nn.Sequential(nn.Identity(), transformer()) if wrapped else transformer()
    graph = profile(module, torch.zeros(1, length, wide))
    # Queries, keys and values; scores and their use; projection; two linear layers.
    flops = [
        2 * length * wide * 3 * wide, 2 * 2 * length * length * wide,
        2 * length * wide * wide, 2 * length * wide * inner, 2 * length * inner * wide,
    ]  # fmt: skip
    assert [f for f in graph.flops if f] == 2 * flops
    assert len(graph) > 40 and graph.exits[-1].layer == len(graph) - 1
    # A shortcut starts at the input and at every norm but the last, and ends at a sum.
    norms = [v for v, one in enumerate(graph.layers) if "norm" in one.operation]
    sums = [v for v, one in enumerate(graph.layers) if one.operation == "add"]
    assert len(norms) == len(sums) == 4
    before = [0, *norms[:-1]]
    for start, end, norm in zip(before, sums, norms, strict=True):
        assert start == graph.predecessors[end][0] and len(graph.predecessors[end]) == 2
        assert graph.predecessors[norm] == (end,)
    joints = set(graph.chain())
    assert {0, *sums, *norms} <= joints and not joints & set(range(norms[0] + 2, sums[1]))
    assert graph.output_bits[norms].tolist() == [length * wide * 32] * 4


GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}


@pytest.mark.parametrize(
    ("kind", "both_ways", "bare"), slow_off_diagonal(GATES, [False, True], [False, True])
)
def test_recurrent_networks(kind, both_ways, bare):
    """torch.export takes them when they are the module itself, torch.fx as a part."""
    wide, hidden, depth, steps = 5, 7, 2, 6
    module = kind(wide, hidden, depth, bidirectional=both_ways, batch_first=True)
    outer = module if bare else net(lambda self, x: self.rnn(x)[0], rnn=module)
    graph = profile(outer, torch.zeros(1, steps, wide))
    ways = 2 if both_ways else 1
    widths = [wide] + [ways * hidden] * (depth - 1)
    gates = GATES[kind] * hidden
    expected = sum(2 * steps * ways * gates * (below + hidden) for below in widths)
    assert graph.flops.sum() == expected
    recurrent = next(layer for layer in graph.layers if layer.flops)
    states = 2 if kind is nn.LSTM else 1
    bits = 32 * steps * ways * hidden
    if bare:  # its states are exits as well
        assert len(graph.exits) == 1 + states
        bits += states * 32 * depth * ways * hidden
    assert recurrent.output_bits == bits


def test_projected_lstm():
    graph = profile(
        net(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(5, 7, proj_size=3)), torch.zeros(6, 1, 5)
    )
    assert graph.flops.sum() == 2 * 6 * (4 * 7 * (5 + 3) + 3 * 7)


def test_cells_in_a_loop():
    def forward(self, x):
        state = torch.zeros(1, 4)
        for k in range(3):
            state = self.cell(x[:, k], state)
        return state

    graph = profile(net(forward, cell=nn.GRUCell(5, 4)), torch.zeros(1, 3, 5))
    cells = [one.name for one in graph.layers if one.operation == "grucell"]
    assert cells == ["cell #1", "cell #2", "cell #3"]
    assert all(of(graph, name).flops == 2 * 12 * (5 + 4) for name in cells)
    assert "cell #1" in reads(graph)["cell #2"] and "cell #1" not in reads(graph)["cell #3"]


def test_tied_weights_are_held_once():
    module = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False))
    module[2].weight = module[0].weight
    graph = profile(module, ROW)
    assert graph.provenance["parameters"] == 64
    assert graph.bytes_moved.tolist() == [0, 4 * 80, 4 * 16, 4 * 80]


def test_normed_weights():
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but in use; the weight is no leaf
        hooked = nn.utils.weight_norm(nn.Linear(8, 4))
    for module in (parametrized, hooked):
        graph = profile(nn.Sequential(module, nn.ReLU()), ROW, "cpu")
        assert graph.flops.tolist() == [0, 64, 0]
