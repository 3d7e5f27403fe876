"""Profiles: published counts, networks counted by hand, and modules that try to get away."""

import copy
import dataclasses
import logging
import time
import warnings

import pytest
import torch
from torch import nn

import mec_gym.dnn.profile as profiles
from mec_gym.dnn import zoo
from mec_gym.dnn.graph import from_json
from mec_gym.dnn.profile import profile
from mec_gym.early_exit.partitions import enumerate_partitions

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


@pytest.fixture
def only_export(monkeypatch):
    def fails(*_):
        raise RuntimeError("no fx today")

    monkeypatch.setitem(profiles._TRACERS, "fx", fails)


# --- the zoo

PUBLISHED = {
    # GFLOP at two a multiply-accumulate, parameters, layers, valid partitions.
    "alexnet": (1.43, 61_100_840, 23, 23),
    "vgg16": (30.94, 138_357_544, 41, 41),
    "resnet18": (3.64, 11_689_512, 70, 100),
    "mobilenetv2": (0.6, 3_504_872, 154, 154),
    "googlenet": (3.0, 6_624_904, 198, 8838),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    gflop, parameters, layers, partitions = PUBLISHED[name]
    graph = zoo.load_profile(name)
    assert graph.flops.sum() / 1e9 == pytest.approx(gflop, rel=0.02)
    assert graph.provenance["parameters"] == parameters
    assert graph.provenance["input"] == [[1, 3, 224, 224]]
    assert len(graph) == layers and len(enumerate_partitions(graph)) == partitions
    with torch.device("meta"):
        module = zoo.build(name)
    assert sum(p.numel() for p in module.parameters()) == parameters
    # The input, and logits of a thousand classes, in single precision.
    assert graph.layers[0].output_bits == 3 * 224 * 224 * 32
    assert graph.layers[graph.exits[-1].layer].output_bits == 1000 * 32


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("with_exits", [False, True])
def test_shipped_profiles_are_what_is_counted_anew(name, with_exits):
    title = f"{name}-exits" if with_exits else name
    with torch.device("meta"):  # takes no memory
        module = zoo.build(name, exits=with_exits)
    fresh = profile(module, torch.zeros(1, 3, 224, 224), name=title)
    shipped = zoo.load_profile(title)
    assert fresh == shipped and from_json(fresh.to_json()) == shipped
    told = {key: shipped.provenance[key] for key in ("module", "input", "parameters", "tracer")}
    assert told == {key: fresh.provenance[key] for key in told}


def test_a_network_with_exits_holds_the_one_without():
    for name in PUBLISHED:
        whole, plain = zoo.load_profile(f"{name}-exits"), zoo.load_profile(name)
        last = whole.at_exit(len(whole.exits) - 1)
        assert last.layers == plain.layers and last.links == plain.links


# --- networks counted by hand


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


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_both_tracers_agree(name, only_export, monkeypatch):
    with torch.device("meta"):
        module = zoo.build(name, 10, 32, exits=True)
    exported = profile(module, torch.zeros(1, 3, 32, 32))
    monkeypatch.undo()
    graph = profile(module, torch.zeros(1, 3, 32, 32))
    assert (graph.provenance["tracer"], exported.provenance["tracer"]) == ("fx", "export")
    assert exported.links == graph.links
    assert exported.flops.tolist() == graph.flops.tolist()
    assert exported.output_bits.tolist() == graph.output_bits.tolist()
    assert exported.exits == graph.exits
    # Batch norm holds a counter that is not read in evaluation.
    assert (abs(exported.bytes_moved - graph.bytes_moved) <= 8).all()


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


def transformer(layers=2, wide=16, heads=4, inner=24):
    layer = nn.TransformerEncoderLayer(wide, heads, inner, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


@pytest.mark.parametrize("wrapped", [False, True])
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


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("bare", [False, True])
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


# --- what cannot be counted


# Called like an operation of aten that passes over its data.
@torch.library.custom_op("mec_gym_tests::sort_strangely", mutates_args=())
def strange(x: torch.Tensor) -> torch.Tensor:
    return x @ x.T


@strange.register_fake
def _(x):
    return x.new_empty(len(x), len(x))


class Transform(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.fft.fft(x).real * x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.mark.parametrize(
    ("forward", "culprit"),
    [
        (lambda self, x: self.h(strange(self.h(x)) * x), "sort_strangely"),
        (lambda self, x: self.g(Transform.apply(self.h(x))), "fft_fft"),
        (lambda self, x: self.g(torch.linalg.svd(x.expand(8, 8))[0]), "linalg_svd"),
    ],
)
def test_what_cannot_be_counted_is_named_and_never_nothing(forward, culprit):
    with pytest.warns(UserWarning, match=rf"^Net: the FLOPs of {culprit}\w* could not be counted$"):
        graph = profile(net(forward), ROW)
    (one,) = (layer for layer in graph.layers if layer.operation == culprit)
    assert one.flops is None and one.bytes_moved > 0 and graph.uncounted == (one.name,)
    with pytest.raises(ValueError, match=f"Net: the FLOPs of {one.name} could not be counted"):
        _ = graph.flops
    assert from_json(graph.to_json()) == graph


def test_the_warning_points_to_who_asked():
    with pytest.warns(UserWarning) as caught:
        profile(net(lambda self, x: strange(x)), ROW)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    "module",
    [
        nn.Hardswish(), nn.PReLU(), nn.GLU(), nn.GELU(), nn.SiLU(), nn.LogSigmoid(), nn.Mish(),
        nn.Softmax(1), nn.GroupNorm(2, 8), nn.LayerNorm(8), nn.InstanceNorm2d(8), nn.RMSNorm(8),
        nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(3), nn.LPPool2d(2, 2), nn.PixelShuffle(2),
        nn.Unfold(2), nn.ReflectionPad2d(1), nn.CircularPad2d(1), nn.LocalResponseNorm(2),
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"),
    ],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_what_passes_over_its_data_has_no_flops_but_moves_bytes(module):
    x = torch.zeros(1, 8, 8, 8)
    graph = profile(nn.Sequential(module), x)
    held = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
    assert graph.flops.tolist() == [0, 0]
    assert graph.layers[1].bytes_moved == 4 * (x.numel() + held + module(x).numel())
    assert graph.layers[1].output_bits == 32 * module(x).numel()


def test_what_only_looks_or_hands_on_moves_nothing():
    looks = nn.Sequential(
        nn.Dropout(), nn.Identity(), nn.Unflatten(1, (2, 4)), nn.AlphaDropout(), nn.Flatten()
    )
    graph = profile(looks.train(), ROW)
    assert graph.bytes_moved.tolist() == [0] * 6 and graph.flops.tolist() == [0] * 6
    assert graph.output_bits.tolist() == [256] * 6

    def forward(self, x):
        y = self.h(x).view(2, 4).t().unsqueeze(0)[:, 1:].transpose(1, 2).squeeze(0)
        return y.contiguous()

    graph = profile(net(forward), ROW)
    moved = {one.name: one.bytes_moved for one in graph.layers if one.bytes_moved}
    assert list(moved) == ["h", "contiguous"] and moved["contiguous"] == 2 * 6 * 4
    assert of(graph, "getitem").output_bits == 6 * 32


def test_of_a_table_only_the_rows_are_read():
    module = nn.Sequential(nn.Embedding(1000, 16), nn.Flatten(), nn.Linear(48, 2))
    words = torch.zeros(1, 3, dtype=torch.long)
    graph = profile(module, words)
    assert graph.output_bits.tolist() == [3 * 64, 48 * 32, 48 * 32, 2 * 32]
    assert graph.layers[1].bytes_moved == 3 * 8 + 2 * 48 * 4

    def forward(self, x):
        return nn.functional.embedding(x, self.table) * 2

    graph = profile(net(forward, table=nn.Parameter(torch.zeros(1000, 16))), words)
    assert graph.layers[1].bytes_moved == 3 * 8 + 2 * 48 * 4


def test_products_with_vectors():
    def forward(self, x):
        vector = self.h.weight.mv(x[0]) + torch.addmv(x[0], self.h.weight, x[0])
        square = torch.addbmm(self.h.weight, vector.expand(3, 8, 8), vector.expand(3, 8, 8))
        return torch.dot(x[0], vector) + square

    graph = profile(net(forward), ROW)
    flops = {one.operation: one.flops for one in graph.layers if one.flops}
    assert flops == {"mv": 128, "addmv": 128, "addbmm": 3 * 2 * 8**3, "dot": 16}


def test_other_precisions():
    graph = profile(nn.Sequential(nn.Linear(8, 4).bfloat16()), ROW.bfloat16())
    assert graph.output_bits.tolist() == [8 * 16, 4 * 16]
    assert graph.layers[1].bytes_moved == 2 * (8 + 8 * 4 + 4 + 4)


# --- control flow


def test_control_flow_over_shapes_is_followed_by_export():
    def forward(self, x):
        if x.shape[1] == 8:
            x = self.h(x)
        for _ in range(x.shape[0]):
            x = self.g(x)
        return x if x.numel() < 5 else self.h(x)

    graph = profile(net(forward), ROW)
    assert graph.provenance["tracer"] == "export"
    assert [one.operation for one in graph.layers] == ["input", "linear", "linear"]
    assert graph.flops.tolist() == [0, 2 * 64, 2 * 32]


def test_a_trace_that_does_something_else_is_not_taken():
    """To fx nothing is a tensor while it traces, so that it takes the wrong branch."""

    def silent(self, x):
        return self.h(x) if isinstance(x, torch.Tensor) else self.g(x)

    def loud(self, x):  # as in torchvision's DenseNet
        parts = [x] if isinstance(x, torch.Tensor) else x
        return self.h(torch.cat(parts, 1))

    def costless(self, x):
        return x * 2 if isinstance(x, torch.Tensor) else x[:, :4]

    for forward, flops in ((silent, 128), (loud, 128), (costless, 0)):
        graph = profile(net(forward), ROW)
        assert graph.provenance["tracer"] == "export"
        assert graph.flops[-1] == flops and graph.output_bits[-1] == 8 * 32

    def hopeless(self, x):  # no tracer traces a plain tensor
        return self.h(self.h(x)) if type(x) is torch.Tensor else self.h(x)

    with pytest.raises(ValueError, match=r"torch.export: finds another computation"):
        profile(net(hopeless), ROW)


def test_without_gradients():
    def forward(self, x):
        with torch.no_grad():
            x = self.h(x)
        return self.g(x) if x.shape[0] == 1 else x

    assert profile(net(forward), ROW).flops.tolist() == [0, 128, 64]


def by_item(self, x):
    if x.sum().item() > 0:
        return self.h(x)
    return self.g(x)


def by_numpy(self, x):
    return self.h(torch.from_numpy(x.numpy() + 1))


@pytest.mark.parametrize(
    ("forward", "line"),
    [(by_item, "if x.sum().item() > 0:"), (by_numpy, "torch.from_numpy(x.numpy() + 1)")],
)
def test_what_cannot_be_traced_names_the_line(forward, line, capfd):
    with pytest.raises(ValueError, match=r"^Net cannot be traced") as error:
        profile(net(forward), ROW)
    assert line in str(error.value) and str(error.value).count("\n") == 0
    assert "".join(capfd.readouterr()) == ""  # torch would have much to say


# --- inputs


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (net(lambda self, x: self.h(x)), torch.zeros(1, 9), r"\[\(1, 9\)\] does not fit Net"),
        (net(lambda self, x: self.h(x)), None, "must hold tensors, got NoneType"),
        (net(lambda self, x: self.h(x)), 3, "must hold tensors, got int"),
        (net(lambda self, x: self.h(x)), [ROW], "must hold tensors, got list"),
        (net(lambda self, x: self.h(x)), {"x": ROW}, "must hold tensors, got dict"),
        (net(lambda self, x: self.h(x)), (ROW, 3), "must hold tensors, got int"),
        (net(lambda self, x: self.h(x)), (), "must hold at least one tensor, got none"),
        (net(lambda self, x: self.h(x)), (ROW, ROW), r"does not fit Net: .*takes 2"),
        (net(lambda self, x, y: self.h(x) + y), ROW, r"shapes \[\(1, 8\)\] does not fit Net: .*y"),
        (None, ROW, "module must be a torch.nn.Module, got NoneType"),
        (nn.Linear, ROW, "module must be a torch.nn.Module, got type"),
        (torch.relu, ROW, "module must be a torch.nn.Module, got builtin"),
        (nn.Sequential(nn.LazyLinear(3)), ROW, "LazyLinear is lazy"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(module, example, message):
    with pytest.raises(ValueError, match=message) as error:
        profile(module, example)
    assert "\n" not in str(error.value)


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


def test_defaults_are_no_inputs():
    def scaled(self, x, scale=2.0, *, shift=1.0):
        return self.h(x) * scale + shift

    assert reads(profile(net(scaled), ROW)) == {
        "input": (), "h": ("input",), "mul": ("h",), "add": ("mul",),
    }  # fmt: skip

    def masked(self, x, mask=None):
        x = self.h(x)
        return x if mask is None else x * mask

    assert reads(profile(net(masked), ROW)) == {"input": (), "h": ("input",)}
    given = profile(net(masked), (ROW, ROW))
    assert reads(given) == {"input": (), "h": ("input",), "mul": ("input", "h")}

    def any_number(self, *xs, **options):
        return self.h(xs[0]) + self.h(xs[1])

    assert profile(net(any_number), (ROW, ROW)).layers[0].output_bits == 2 * 256


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


GLOBAL = torch.ones(8)


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
        (lambda self, x: None, "the module must return tensors, got None"),
        (lambda self, x: (), "the module must return tensors"),
        (lambda self, x: {"y": self.h(x), "n": 3}, "output 'n' must be a tensor, got 3"),
        (lambda self, x: x.size(0), "must be a tensor, got size"),
    ],
)
def test_outputs_that_are_no_exits(forward, message):
    with pytest.raises(ValueError, match=message):
        profile(net(forward), ROW)


# --- who reads what


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


def test_assignments_in_place_write_to_all_names():
    def forward(self, x):
        y = z = self.h(x)
        z += 1
        y *= x.shape[0]
        count = x.shape[1]
        count -= 4
        return self.g(z), y.narrow(1, 0, count)

    graph = profile(net(forward), ROW)
    assert graph.provenance["tracer"] == "fx"
    assert reads(graph) == {
        "input": (), "h": ("input",), "iadd": ("h",), "imul": ("iadd",), "g": ("imul",),
        "narrow": ("imul",),
    }  # fmt: skip
    assert [one.operation for one in graph.layers[2:4]] == ["add", "mul"]
    assert graph.output_bits[-1] == 4 * 32


def test_the_input_may_be_written_to():
    x = torch.ones(1, 8)

    def forward(self, x):
        x += 1
        return self.h(x)

    for device in (None, "cpu"):
        assert profile(net(forward), x, device).links == ((0, 1), (1, 2))
    assert (x == 1).all()


# --- what is left as it was


def state(module):
    return {
        name: (id(t), t.device, t.requires_grad, t._version, t.detach().clone())
        for name, t in (*module.named_parameters(), *module.named_buffers())
    }


@pytest.mark.parametrize("device", [None, "cpu"])
def test_the_module_is_not_changed(device):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), Residual())
    module[3].c1 = nn.Conv2d(4, 4, 3, padding=2)
    module.train()
    module[1].eval()
    module[0].weight.requires_grad_(False)
    module[3].loose = torch.ones(2)
    before, attributes = state(module), copy.deepcopy(list(vars(module)))
    training = [part.training for part in module.modules()]
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    profile(module, x, device)
    assert [part.training for part in module.modules()] == training
    assert list(vars(module)) == attributes and module[3].loose.device.type == "cpu"
    for name, (*kept, value) in state(module).items():
        *old, old_value = before[name]
        assert kept == old and torch.equal(value, old_value), name
    module[0](x).sum().backward()  # and it still learns
    assert x.grad is not None


def test_nothing_global_is_changed():
    def look():
        return (
            torch.is_grad_enabled(),
            torch.get_default_device(),
            torch.backends.mha.get_fastpath_enabled(),
            logging.root.manager.disable,
            torch.get_num_threads(),
        )

    logging.disable(logging.INFO)
    torch.backends.mha.set_fastpath_enabled(True)
    try:
        before = look()
        profile(net(lambda self, x: self.h(x)), ROW, "cpu")
        with pytest.raises(ValueError, match="traced"):
            profile(net(by_item), ROW)
        assert look() == before
    finally:
        logging.disable(logging.NOTSET)


def test_random_numbers_are_left_alone():
    before = torch.get_rng_state()
    profile(Residual(), IMAGE)
    after = torch.get_rng_state()
    Residual()
    assert not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)
    Residual()
    assert torch.equal(after, torch.get_rng_state())


# --- times


def test_layers_are_timed():
    graph = profile(Residual(), torch.rand(1, 3, 8, 8), "cpu")
    seconds = graph.measured_seconds
    assert seconds[0] == 0 and (seconds[1:] > 0).all()
    assert graph.provenance["timed_on"] == "cpu"
    assert graph.provenance["threads"] == torch.get_num_threads()
    untimed = [dataclasses.replace(layer, seconds=None) for layer in graph.layers]
    assert tuple(untimed) == profile(Residual(), IMAGE).layers
    with pytest.raises(ValueError, match="has no measured time"):
        _ = profile(Residual(), IMAGE).measured_seconds


@torch.library.custom_op("mec_gym_tests::slow", mutates_args=())
def slow(x: torch.Tensor) -> torch.Tensor:
    time.sleep(0.01)
    return x.clone()


@slow.register_fake
def _(x):
    return torch.empty_like(x)


def test_times_are_not_less_than_they_were():
    with pytest.warns(UserWarning, match="slow"):
        graph = profile(net(lambda self, x: self.h(slow(x))), ROW, "cpu")
    assert graph.measured_seconds[1] >= 0.01


def test_exported_layers_are_timed():
    def forward(self, x):
        return self.h(x) + torch.arange(x.shape[1]) if x.shape[0] == 1 else x

    graph = profile(net(forward), ROW, "cpu")
    assert graph.provenance["tracer"] == "export"
    assert graph.measured_seconds[0] == 0 and (graph.measured_seconds[1:] > 0).all()
    # torch has another way to compute these, in which layers cannot be seen.
    seconds = profile(transformer(), torch.zeros(1, 10, 16), "cpu").measured_seconds
    assert (seconds[1:] > 0).all()


@pytest.mark.parametrize("device", ["nonsense", "", "cuda:99", "cpu:x"])
def test_unknown_devices(device):
    with pytest.raises(ValueError, match=f"device must be usable by torch, got '{device}'"):
        profile(net(lambda self, x: self.h(x)), ROW, device)


def test_what_does_not_run_is_named():
    with pytest.raises(ValueError, match=r"Net does not run on 'cpu': .*dtype"):
        profile(net(lambda self, x: self.h(x)), ROW.double(), "cpu")


# --- modules that are not built plainly


def test_normed_weights():
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but in use; the weight is no leaf
        hooked = nn.utils.weight_norm(nn.Linear(8, 4))
    for module in (parametrized, hooked):
        graph = profile(nn.Sequential(module, nn.ReLU()), ROW, "cpu")
        assert graph.flops.tolist() == [0, 64, 0]


def test_tied_weights_are_held_once():
    module = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False))
    module[2].weight = module[0].weight
    graph = profile(module, ROW)
    assert graph.provenance["parameters"] == 64
    assert graph.bytes_moved.tolist() == [0, 4 * 80, 4 * 16, 4 * 80]


def test_scripts_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(nn.Sequential(nn.Linear(8, 4)))
    with pytest.raises(ValueError, match="module must be given as it was before"):
        profile(module, ROW)
