import numpy as np
import pytest
import torch
from dnn.profile.nets import IMAGE, ROW, Residual, net
from dnn.split.awkward import ROWS

from mec_gym.dnn.split import SplitNetwork, check_equal


@pytest.fixture(scope="module")
def network():
    return SplitNetwork(net(lambda self, x: self.g(torch.relu(self.h(x)))), ROWS)


def cut(*on_edge):
    return np.array(on_edge, dtype=bool)


def test_all_on_the_device(network):
    halves = network.split(cut(0, 0, 0, 0))
    assert (halves.sent, halves.bits, halves.edge_module) == ((), 0, None)
    (answer,) = halves.front(ROWS)
    check_equal(answer, network.whole(ROWS))
    check_equal(halves.back((answer,)), network.whole(ROWS))


def test_all_on_the_edge(network):
    halves = network.split(cut(0, 1, 1, 1))
    assert [(one.shape, one.dtype, one.layer) for one in halves.sent] == [
        ((32,), torch.float32, "input")
    ]
    (sent,) = halves.front(ROWS)
    assert torch.equal(sent.reshape(4, 8), ROWS)
    check_equal(halves.back((sent,)), network.whole(ROWS))


def test_each_side_holds_its_own_weights(network):
    halves = network.split(cut(0, 0, 0, 1))
    assert set(halves.device_module.state_dict()) == {"h.weight", "h.bias"}
    assert set(halves.edge_module.state_dict()) == {"g.weight", "g.bias"}


def test_only_what_the_exit_needs_is_run():
    module = net(lambda self, x: (self.g(x), self.g(torch.relu(self.h(x)))))
    halves = SplitNetwork(module, ROW).split(cut(0, 0), exit=0)
    assert set(halves.device_module.state_dict()) == {"g.weight", "g.bias"}


@pytest.mark.parametrize(
    ("on_edge", "exit", "message"),
    [
        (cut(0, 1, 0, 1), -1, r"'relu' \(layer 2\) .* reads 'h' \(layer 1\)"),
        (cut(1, 1, 1, 1), -1, "on_edge .* input"),
        (cut(0, 0, 1), -1, r"on_edge .*\(4,\).*\(3,\)"),
        (np.array([0, 0, 0, 1]), -1, r"on_edge .*array\(\[0, 0, 0, 1\]\)"),
        (cut(0, 0, 0, 1), 1, r"exit .*\[-1, 1\), got 1"),
        (cut(0, 0, 0, 1), True, "exit .* True"),
    ],
)
def test_bad_partitions_are_named(network, on_edge, exit, message):
    with pytest.raises(ValueError, match=message):
        network.split(on_edge, exit)


def test_bad_frames_and_messages_are_named(network):
    halves = network.split(cut(0, 0, 1, 1))
    for run in (halves.front, network.whole):
        with pytest.raises(ValueError, match=r"inputs .*\(4, 8\).*got \(1, 8\)"):
            run(ROW)
        with pytest.raises(ValueError, match=r"inputs .*float32.*float64"):
            run(ROWS.double())
    with pytest.raises(ValueError, match=r"sent .*\(32,\).*got nothing"):
        halves.back(())
    with pytest.raises(ValueError, match=r"sent .*\(32,\).*got \(4, 8\)"):
        halves.back((ROWS,))


def test_where_a_frame_or_a_message_lies_in_memory_does_not_matter():
    network = SplitNetwork(Residual(), IMAGE)
    frame = torch.randn(1, 3, 8, 8)
    whole = network.whole(frame)
    halves = network.split(np.arange(len(network.graph)) > 2)
    crowd = torch.zeros(3, 3, 8, 8)
    crowd[1] = frame[0]
    for other in (crowd[1:2], frame.to(memory_format=torch.channels_last)):
        check_equal(network.whole(other), whole)
        check_equal(halves.back(halves.front(other)), whole)
    odd = []
    for one in halves.front(frame):
        memory = torch.zeros(one.numel() + 1)
        memory[1:] = one
        odd.append(memory[1:])
    check_equal(halves.back(odd), whole)


def test_meta_tensors_have_no_content_to_split():
    with pytest.raises(ValueError, match="example_input must have content"):
        SplitNetwork(net(lambda self, x: self.g(x)), ROW.to("meta"))


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (torch.zeros(2), torch.zeros(2, 1), r"\(2,\) .*\(2, 1\)"),
        (torch.zeros(2), torch.zeros(2).double(), "float32 .*float64"),
        (torch.tensor([0.0, 1.0, 2.0]), torch.tensor([-0.0, 1.0, 2.5]), "2 of 3"),
        (torch.tensor([torch.nan, 1.0]), torch.tensor([1.0, 1.0]), "1 of 2"),
    ],
)
def test_answers_that_differ(one, other, message):
    with pytest.raises(ValueError, match=message):
        check_equal(one, other)


def test_answers_that_are_equal_although_nan_is_not():
    one = torch.tensor([[torch.nan, -0.0], [1.0, 2.0]])
    check_equal(one, one.t().contiguous().t())
    check_equal(torch.tensor(3), torch.tensor(3))
