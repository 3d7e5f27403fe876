"""Arguments of a profile, its warning, and what it leaves as it was."""

import copy
import logging
import warnings

import pytest
import torch
from dnn.profile.nets import IMAGE, ROW, Residual, by_item, net, strange
from torch import nn

from mec_gym.dnn.profile import profile


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
        (None, ROW, r"module .*got NoneType"),
        (nn.Linear, ROW, r"module .*got type"),
        (torch.relu, ROW, r"module .*got builtin"),
        (nn.Sequential(nn.LazyLinear(3)), ROW, "LazyLinear is lazy"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(module, example, message):
    with pytest.raises(ValueError, match=message) as error:
        profile(module, example)
    assert "\n" not in str(error.value)


def test_scripts_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(nn.Sequential(nn.Linear(8, 4)))
    with pytest.raises(ValueError, match="module must be given as it was before"):
        profile(module, ROW)


def test_types_that_do_not_go_together_are_refused():
    for module, x in ((nn.Linear(8, 4), ROW.half()), (nn.Linear(8, 4).half(), ROW)):
        with pytest.raises(ValueError, match=r"does not fit Linear: .*float(16|32)"):
            profile(module, x)
    with pytest.raises(ValueError, match=r"does not fit Conv2d"):
        profile(nn.Conv2d(3, 4, 3), IMAGE.double())


def test_quantised_modules_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.ReLU(), nn.Linear(8, 4)), {nn.Linear}, torch.qint8
        )
    with pytest.raises(ValueError, match=r"module .*'1' is a torch.ao.nn.quantized.*Linear"):
        profile(module, ROW)


def test_huge_inputs_need_no_memory():
    side = 10**6  # 12 Tbyte
    graph = profile(nn.Conv2d(3, 4, 3, padding=1), torch.empty(1, 3, side, side, device="meta"))
    assert graph.flops.sum() == 2 * 4 * 27 * side**2
    assert graph.layers[0].output_bits == 3 * 32 * side**2


def test_the_warning_points_to_who_asked():
    with pytest.warns(UserWarning) as caught:
        profile(net(lambda self, x: strange(x)), ROW)
    assert [warning.filename for warning in caught] == [__file__]


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
