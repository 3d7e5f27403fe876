"""Modules that try to get away from the tracers."""

import pytest
import torch
from dnn.profile.nets import ROW, by_item, net, reads
from slow import slow_except
from torch import nn

from mec_gym.dnn import zoo
from mec_gym.dnn.profile import profile


@pytest.mark.parametrize("name", slow_except(["alexnet", "resnet18"], "alexnet"))
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


def test_without_gradients():
    def forward(self, x):
        with torch.no_grad():
            x = self.h(x)
        return self.g(x) if x.shape[0] == 1 else x

    assert profile(net(forward), ROW).flops.tolist() == [0, 128, 64]


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


def test_without_code_of_the_user_no_line_is_named():
    with pytest.raises(ValueError, match=r"shapes \[\(1, 9\)\] does not fit Linear") as error:
        profile(nn.Linear(8, 8), torch.zeros(1, 9))
    assert "(at `" not in str(error.value)
