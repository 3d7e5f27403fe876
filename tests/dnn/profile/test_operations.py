"""What counts, what only passes over its data, and what cannot be counted."""

import pytest
import torch
from dnn.profile.nets import ROW, net, of, strange
from torch import nn

from mec_gym.dnn.graph import from_json
from mec_gym.dnn.profile import profile


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


def test_products_without_a_formula_of_torch():
    def forward(self, x):
        row, square = x[0], torch.zeros(8, 8)
        square.addmm_(x.expand(8, 8), self.h.weight)
        square.addr_(row, row)
        band = torch.conv_tbc(torch.zeros(6, 2, 8), torch.zeros(3, 8, 5), row[:5], 1)
        return torch.vdot(row, row) + torch.addr(square, row, row) + band.sum()

    graph = profile(net(forward), ROW)
    assert not graph.uncounted
    flops = {one.name: one.flops for one in graph.layers if one.flops}
    assert flops == {
        "addmm_": 2 * 8**3, "addr_": 2 * 64, "conv_tbc": 2 * 6 * 2 * 5 * 3 * 8, "vdot": 16,
        "addr": 2 * 64,
    }  # fmt: skip


def test_bilinear():
    """As einsum counts it: first (n, i) x (o, i, j), then the result with (n, j)."""
    n, i, j, o = 2, 3, 5, 4
    first, second = torch.zeros(n, i), torch.zeros(n, j)
    module = net(lambda self, a, b: self.part(a, b), part=nn.Bilinear(i, j, o))
    counted = profile(module, (first, second)).flops
    by_hand = profile(
        net(lambda self, a, b: torch.einsum("ni,oij,nj->no", a, self.w, b), w=torch.zeros(o, i, j)),
        (first, second),
    ).flops
    assert counted.sum() == by_hand.sum() == 2 * n * o * j * (i + 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.zero_(), lambda y: y.fill_(2.0), lambda y: torch.zero_(y), lambda y: y.put_(
            torch.tensor([0]), torch.tensor([1.0])),
        lambda y: y.cauchy_(), lambda y: y.geometric_(0.5), lambda y: y.log_normal_(),
        lambda y: y.cumsum_(1), lambda y: y.nansum(1), lambda y: y.cummin(1)[0],
        lambda y: torch.dist(y, y), lambda y: torch.histc(y, 4),
        lambda y: torch.linalg.cross(y[:, :3], y[:, 3:6]), lambda y: torch.multinomial(y, 2),
    ],
)  # fmt: skip
def test_what_passes_in_place_or_not_has_no_flops(change):
    graph = profile(net(lambda self, x: change(self.h(x)) + 1), ROW)
    assert graph.uncounted == () and graph.flops.sum() == 128


def test_other_precisions():
    graph = profile(nn.Sequential(nn.Linear(8, 4).bfloat16()), ROW.bfloat16())
    assert graph.output_bits.tolist() == [8 * 16, 4 * 16]
    assert graph.layers[1].bytes_moved == 2 * (8 + 8 * 4 + 4 + 4)
