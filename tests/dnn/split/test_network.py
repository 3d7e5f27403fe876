import copy

import numpy as np
import pytest
import torch
from dnn.profile.nets import ROW, net
from dnn.split.awkward import AWKWARD, ROWS, make
from slow import slow_except

from mec_gym.dnn import zoo
from mec_gym.dnn.profile import profile
from mec_gym.dnn.profile.tensors import tensors_in
from mec_gym.dnn.split import SplitNetwork, building, check_equal
from mec_gym.dnn.split.memory import take
from mec_gym.early_exit.partitions import enumerate_partitions, partition_cost

FAST = ("grows", "superseded")


def another(frame):
    """A frame of the same shapes and types, with another content."""
    random = torch.Generator().manual_seed(11)
    return tuple(torch.randn(one.shape, generator=random) for one in frame)


def answers(module, frame):
    """What a copy of the user's module returns."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            returned = copy.deepcopy(module).eval()(*(one.clone() for one in frame))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return list(tensors_in(returned))


def partitions(network, index, at_most=None):
    found = enumerate_partitions(network.graph.at_exit(index))
    if at_most is None or len(found) <= at_most:
        return found
    return found[np.linspace(0, len(found) - 1, at_most).astype(int)]


def check(network, frame, expected, at_most=None, *, shares_memory=True):
    """Every partition gives the answer of the module, also a second time; how many there were."""
    count = 0
    outputs = network.graph.provenance.get("outputs", range(len(expected)))
    for index, output in enumerate(outputs):
        whole = network.whole(frame, index)
        check_equal(whole, expected[output])
        for on_edge in partitions(network, index, at_most):
            halves = network.split(on_edge, index)
            if not shares_memory:
                assert halves.bits == bits_charged(network.graph.at_exit(index), on_edge)
            # The edge has memory of its own.
            sent = tuple(one.clone() for one in halves.front(frame))
            for _ in range(2):
                check_equal(halves.back(sent), whole)
            count += 1
    return count


@pytest.mark.parametrize("name", slow_except(AWKWARD, *FAST))
def test_every_partition_gives_the_same_answer(name):
    module, example = make(name)
    network = SplitNetwork(module, example)
    frame = another(example)
    before = [one.clone() for one in frame]
    assert check(network, frame, answers(module, frame)) >= 4
    assert all(map(torch.equal, frame, before))


@pytest.mark.parametrize("name", slow_except(zoo.NETWORKS))
@pytest.mark.parametrize("size", slow_except([32, 224]))
def test_partitions_of_the_zoo(name, size):
    module = zoo.build(name, 10, size, exits=True)
    example = torch.randn(1, 3, size, size)
    network = SplitNetwork(module, example)
    frame = another((example,))
    count = check(network, frame, answers(module, frame), 10, shares_memory=False)
    assert count == 10 * len(network.graph.exits)


@pytest.mark.parametrize("name", slow_except(AWKWARD, "grows"))
def test_graph_is_the_profile(name):
    module, example = make(name)
    network = SplitNetwork(module, example, "mine")
    expected = profile(module, example, name="mine")
    assert network.graph == expected
    assert network.graph.provenance == expected.provenance


def test_module_is_unchanged():
    module, example = make("memory")
    module.train()
    before = copy.deepcopy(module.state_dict())
    network = SplitNetwork(module, example)
    on_edge = partitions(network, 0)[1]
    first = network.split(on_edge).front(ROWS)
    check_equal(network.whole(ROWS), network.whole(ROWS))  # a frame leaves nothing behind
    assert all(map(torch.equal, first, network.split(on_edge).front(ROWS)))
    assert module.training
    after = module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    # Nor does what later becomes of the module change the network.
    expected = network.whole(ROWS)
    with torch.no_grad():
        module.h.weight.zero_()
    check_equal(network.whole(ROWS), expected)


def grows_on_the_device():
    """A network that writes twice to a tensor; the edge reads it before, between and after."""
    module, example = make("grows")
    network = SplitNetwork(module, example)
    names = [layer.name for layer in network.graph.layers]
    on_edge = np.array([name.startswith("g") or name in ("add", "mul") for name in names])
    return network, on_edge, example


def test_what_is_read_between_writes_crosses_as_it_was():
    network, on_edge, example = grows_on_the_device()
    halves = network.split(on_edge)
    assert [one.layer for one in halves.sent] == ["h", "iadd", "mul_"]
    h, grown, halved = halves.front(example)
    with torch.no_grad():
        assert torch.equal(h.reshape(4, 8), make("grows")[0].h(ROWS))
    assert torch.equal(grown.reshape(4, 8), h.reshape(4, 8) + ROWS)
    assert torch.equal(halved, grown * 0.5)
    assert halves.bits == bits_charged(network.graph, on_edge)


def test_a_forgotten_copy_is_noticed(monkeypatch):
    network, on_edge, example = grows_on_the_device()
    whole = network.whole(example)

    def careless(memory, dtype, where, *, overwritten):
        return take(memory, dtype, where, overwritten=False)

    monkeypatch.setattr(building, "take", careless)
    halves = network.split(on_edge)
    with pytest.raises(ValueError, match=r"answers .* 16 of 16 values"):
        check_equal(halves.back(halves.front(example)), whole)


def bits_charged(graph, on_edge):
    nothing = np.zeros(len(graph))
    return partition_cost(graph, on_edge, nothing, nothing)[..., 1]


def test_bits_are_those_of_the_graph_where_no_memory_is_shared():
    module, example = make("residual")
    network = SplitNetwork(module, example)
    found = [network.split(on_edge).bits for on_edge in partitions(network, 0)]
    assert found == bits_charged(network.graph, partitions(network, 0)).tolist()
    assert len(set(found)) > 2


def test_shared_memory_crosses_once():
    def forward(self, x):
        a = self.h(x)
        return self.g(a) + self.g(a.flip(0)) + self.g(a.t()[:, :4].reshape(4, 8)) + a[:, ::2]

    network = SplitNetwork(net(forward), ROWS)
    names = [layer.name for layer in network.graph.layers]
    on_edge = np.ones(len(names), dtype=bool)
    on_edge[[0, names.index("h"), names.index("t"), names.index("getitem_1")]] = False
    halves = network.split(on_edge)
    # a, its transpose and every second of its columns are the same memory.
    assert [(one.shape, one.layer) for one in halves.sent] == [((32,), "h")]
    assert halves.bits == 32 * 32
    assert bits_charged(network.graph, on_edge) == (32 + 32 + 16) * 32
    check_equal(halves.back(halves.front(ROWS)), network.whole(ROWS))


def test_only_what_is_read_crosses():
    def forward(self, x):
        a = self.h(x)
        b = a[1:3, ::3]
        return b * 2.0

    network = SplitNetwork(net(forward), ROWS)
    halves = network.split(np.array([False, False, False, True]))
    (sent,) = halves.front(ROWS)
    with torch.no_grad():
        rows = network._module.h(ROWS)
    assert torch.equal(sent, rows[1:3, ::3].flatten())
    assert [one.shape for one in halves.sent] == [(6,)]


def test_exits_are_in_the_order_of_the_graph():
    module = net(lambda self, x: (self.g(torch.relu(self.h(x))), self.g(x)))
    network = SplitNetwork(module, ROW)
    assert network.graph.provenance["outputs"] == [1, 0]
    with torch.no_grad():
        check_equal(network.whole(ROW, 0), module.g(ROW))
        check_equal(network.whole(ROW), module.g(torch.relu(module.h(ROW))))


def test_digest_says_whether_networks_are_the_same():
    module, example = make("grows")
    one = SplitNetwork(module, example)
    assert one.digest == SplitNetwork(copy.deepcopy(module), example, "other name").digest
    assert len(one.digest) == 64
    assert one.digest != SplitNetwork(module, example[0].repeat(2, 1)).digest
    with torch.no_grad():
        module.g.bias[3].add_(1e-7)
    assert one.digest != SplitNetwork(module, example).digest
    assert SplitNetwork(net(lambda self, x: self.g(x.relu())), ROW).digest != (
        SplitNetwork(net(lambda self, x: self.g(x.tanh())), ROW).digest
    )


def random(self, x):
    return self.g(x + torch.rand(8))


def conjugated(self, x):
    pairs = torch.view_as_complex(self.h(x).view(1, 4, 2)).conj()
    return self.g(x) + torch.view_as_real(pairs * 2.0)[..., 1]


OUTSIDE = torch.zeros(4)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (random, "Net cannot be split: .*another answer"),
        (conjugated, "Net cannot be split: .* conjugated"),
        (lambda self, x: OUTSIDE.add_(self.g(x)[0]) + self.g(x), "Net cannot be split: .* closure"),
    ],
    ids=["random", "conjugated", "outside"],
)
def test_what_cannot_be_split_is_refused(forward, message):
    with pytest.raises(ValueError, match=message):
        SplitNetwork(net(forward), ROW)
    assert not OUTSIDE.any()
