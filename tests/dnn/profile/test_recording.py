"""What really runs: modules that do something else while they are traced."""

import functools
import itertools

import pytest
import torch
from dnn.profile.nets import ROW, net, reads
from torch import nn

from mec_gym.dnn.profile import profile

H, G = 128, 64  # FLOP of the two linear layers


def replaced(make):
    """A module whose forward, h and then g, is replaced on the instance."""
    module = net(lambda self, x: self.g(self.h(x)))
    module.forward = make(module)
    return module


@pytest.mark.parametrize(
    "make",
    [
        lambda m: lambda x: m.g(m.h(m.h(x))),
        lambda m: functools.partial(lambda self, x: self.g(self.h(self.h(x))), m),
        lambda m: (lambda self, x: self.g(self.h(self.h(x)))).__get__(m),
        lambda m: lambda x, weight=m.h.weight: m.g((x @ weight.T) @ weight.T),
    ],
    ids=["closure", "partial", "method", "tensor"],
)
def test_a_forward_that_was_replaced_is_the_one_that_counts(make):
    graph = profile(replaced(make), ROW)
    assert graph.flops.sum() == 2 * H + G == 320
    assert [flops for flops in graph.flops if flops] == [H, H, G]


def hooked(on, hook):
    module = net(lambda self, x: self.g(self.h(x)))
    (module if on is None else getattr(module, on)).register_forward_hook(hook)
    return module


def test_hooks_count():
    extra = nn.Linear(8, 8)
    assert profile(hooked("h", lambda m, i, o: extra(o)), ROW).flops.sum() == 2 * H + G
    # torch.fx does not see what hangs on the module itself.
    graph = profile(hooked(None, lambda m, i, o: m.h(torch.cat([o, o], 1))), ROW)
    assert graph.flops.sum() == 2 * H + G


def test_patched_layers_count():
    module = net(lambda self, x: self.g(self.h(x)))
    before = module.h.forward
    module.h.forward = lambda x: before(before(x))
    assert profile(module, ROW).flops.tolist() == [0, 2 * H, G]


@pytest.mark.parametrize(
    "is_plain",
    [
        lambda x: type(x) is torch.Tensor,
        lambda x: not x.is_meta and not isinstance(x, torch.fx.Proxy),
        lambda x: x.is_cpu is True,
        lambda x: x.device == torch.device("cpu"),
        lambda x: type(x) is torch.Tensor and x.device.type == "cpu" and not x.is_cuda,
        lambda x: type(x).__name__ == "Tensor" and "fake" not in type(x).__module__,
    ],
    ids=["type", "meta", "cpu", "device", "both", "name"],
)
def test_branches_on_what_a_tensor_is(is_plain):
    graph = profile(net(lambda self, x: self.h(self.h(x)) if is_plain(x) else self.h(x)), ROW)
    assert graph.flops.sum() == 2 * H
    # What costs no FLOP counts as well.
    graph = profile(net(lambda self, x: self.h(x).relu() if is_plain(x) else self.h(x)), ROW)
    assert [one.operation for one in graph.layers][-1] == "relu"
    assert graph.flops.sum() == H and graph.provenance["tracer"] == "run"
    # The same operations, but they read from others.
    graph = profile(
        net(lambda self, x: self.g(x + self.h(x) if is_plain(x) else x + x + 0 * self.h(x))), ROW
    )
    names = [one.name for one in graph.layers if one.bytes_moved]
    assert names == ["addmm", "add", "addmm_1"]
    assert reads(graph)["add"] == ("input", "addmm")


def swallow(self, x):
    try:
        return self.g(self.h(x)) if x.numpy()[0, 0] == 0 else self.h(x)
    except TypeError:
        return self.h(x)


def by_text(self, x):
    return self.h(x) if "0." in repr(x) else self.g(x)


@pytest.mark.parametrize(("forward", "call"), [(swallow, "numpy"), (by_text, "repr")])
def test_who_asks_for_content_is_refused_even_if_the_error_is_swallowed(forward, call):
    with pytest.raises(ValueError, match=rf"Net cannot be traced.*content.*{call}"):
        profile(net(forward), ROW)


def test_operations_as_they_ran_make_a_graph():
    def forward(self, x):
        assert type(x) is torch.Tensor  # neither tracer gets past it
        low, high = self.h(x).chunk(2, 1)
        low.mul_(2)
        best, _ = torch.cat([low, high], 1).max(1, keepdim=True)
        return {"early": low, "late": best + self.table, "none": None}

    graph = profile(net(forward, table=nn.Parameter(torch.ones(1, 3))), ROW)
    assert graph.provenance["tracer"] == "run"
    assert reads(graph) == {
        "input": (), "addmm": ("input",), "split": ("addmm",), "mul_": ("split",),
        "cat": ("mul_",), "max_1": ("cat",), "add": ("max_1",),
    }  # fmt: skip
    assert graph.flops.tolist() == [0, H, 0, 0, 0, 0, 0]
    assert graph.layers[-1].bytes_moved == 4 * (1 + 3 + 3)
    assert [graph.layers[one.layer].name for one in graph.exits] == ["mul_", "add"]
    with pytest.raises(ValueError, match=r"device .*Net"):
        profile(net(forward, table=nn.Parameter(torch.ones(1, 3))), ROW, "cpu")


def test_vmap_counts():
    def forward(self, x):
        return torch.vmap(lambda row: torch.dot(row, row))(self.h(x))

    assert profile(net(forward), ROW).flops.sum() == H + 2 * 8
    # Nothing of it is left: within vmap torch refuses this.
    assert torch.ones(2).requires_grad_().requires_grad


def test_nothing_goes_uncounted_in_inference_mode():
    module = net(lambda self, x: self.g(self.h(x)))
    with torch.inference_mode():
        assert profile(module, ROW).flops.tolist() == [0, H, G]
        assert torch.is_inference_mode_enabled()
        made_here = net(lambda self, x: self.g(self.h(x)))
    assert profile(made_here, ROW).flops.tolist() == [0, H, G]
    inside = net(torch.inference_mode()(lambda self, x: self.g(self.h(x))))
    assert profile(inside, ROW).flops.sum() == H + G


# --- the user's module


def restless(module):
    """A forward that changes whatever it can reach of the module that it closes over."""

    def forward(x):
        module.steps.add_(1)
        module.h.weight.data.mul_(3)
        module.rounds += 1
        module.seen.append(x)
        module.new = x
        module.train()
        module.h.register_forward_hook(lambda *_: None)
        del module.old
        return module.g(module.h(x))

    return forward


def snapshot(module):
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        [part.training for part in module.modules()],
        [{**vars(part)} for part in module.modules()],
        [dict(part._forward_hooks) for part in module.modules()],
        list(module.seen),
    )


@pytest.mark.parametrize(
    "change",
    [lambda f: f, lambda f: lambda x: f(x)[:, None] @ ROW, lambda f: lambda x: f(x).item()],
)
@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_module_is_as_before_whatever_closes_over_it(change, device):
    module = net(lambda self, x: self.g(self.h(x))).eval()
    module.register_buffer("steps", torch.zeros(()))
    module.rounds, module.seen, module.old = 0, [], "here"
    module.forward = change(restless(module))
    module.g.register_forward_hook(lambda *_: (module.steps.add_(1), None)[1])
    before = snapshot(module)
    try:
        assert profile(module, ROW, device).flops.sum() == H + G and device is None
    except ValueError as error:
        assert "\n" not in str(error)
    after = snapshot(module)
    assert all(torch.equal(after[0][name], value) for name, value in before[0].items())
    assert after[1:] == before[1:]


def test_what_would_change_tensors_of_the_user_is_not_run_for_its_times():
    module = net(lambda self, x: self.g(self.h(x)))
    module.register_buffer("steps", torch.zeros(()))
    module.h.register_forward_hook(lambda *_: (module.steps.add_(1), None)[1])
    assert profile(module, ROW).flops.sum() == H + G
    with pytest.raises(ValueError, match="device must be None for Net"):
        profile(module, ROW, "cpu")
    assert module.steps == 0


def test_what_cannot_be_copied_is_named():
    module = net(lambda self, x: self.h(x), count=itertools.count())
    module.h.lock = __import__("threading").Lock()
    with pytest.raises(ValueError, match=r"module .*Net.*lock"):
        profile(module, ROW)
