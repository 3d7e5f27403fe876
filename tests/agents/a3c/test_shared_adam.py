"""The shared Adam is torch's Adam, and gradients do not pile up."""

import multiprocessing

import pytest
import torch
from torch import nn

from agents.a3c.shared_adam import FlatParameters, SharedAdam


def gradients(count, size=5):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) * 10.0**k for k in range(count)]


@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_equals_torchs_adam(eps):
    begin = torch.tensor([1.0, -2.0, 0.0, 3.0, 1e-3])
    shared = SharedAdam(begin, betas=(0.8, 0.95), eps=eps)
    parameter = nn.Parameter(begin.clone())
    theirs = torch.optim.Adam([parameter], lr=0.1, betas=(0.8, 0.95), eps=eps)
    for step, gradient in enumerate(gradients(6)):
        rate = 0.1 / (step + 1)
        shared.step(gradient, rate)
        theirs.param_groups[0]["lr"] = rate
        parameter.grad = gradient.clone()
        theirs.step()
        torch.testing.assert_close(shared.parameters, parameter.detach())
    state = theirs.state[parameter]
    torch.testing.assert_close(shared.mean, state["exp_avg"])
    torch.testing.assert_close(shared.square, state["exp_avg_sq"])
    assert shared.steps == state["step"] == 6
    assert begin.tolist() == [1.0, -2.0, 0.0, 3.0, pytest.approx(1e-3)]  # was copied


def test_first_step_by_hand():
    """Both moments are corrected to the gradient itself: a step of the learning rate."""
    shared = SharedAdam(torch.tensor([1.0, 1.0]), eps=0.0)
    shared.step(torch.tensor([5.0, -0.01]), 0.25)
    assert shared.parameters.tolist() == pytest.approx([0.75, 1.25])


def test_everything_is_shared():
    shared = SharedAdam(torch.zeros(3))
    for tensor in (shared.parameters, shared.mean, shared.square, shared.steps):
        assert tensor.is_shared()
    shared.step(torch.ones(3), 0.1)
    for tensor in (shared.parameters, shared.mean, shared.square, shared.steps):
        assert tensor.is_shared()


def test_a_state_is_a_copy_and_comes_back():
    one, other = SharedAdam(torch.zeros(5)), SharedAdam(torch.ones(5))
    first, *later = gradients(4)
    one.step(first, 0.1)
    state = one.state()
    other.load_state(state)
    assert other.parameters.is_shared() and other.steps == 1
    for gradient in later:
        one.step(gradient, 0.1)
        other.step(gradient, 0.1)
    assert torch.equal(one.parameters, other.parameters)
    assert state["steps"] == 1 and not torch.equal(state["mean"], one.mean)
    with pytest.raises(ValueError, match=r"parameters must have shape \(4,\), got \(5,\)"):
        SharedAdam(torch.zeros(4)).load_state(state)


def test_a_network_is_one_vector():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    inputs = torch.randn(4, 3)
    expected = network(inputs)
    grown = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    flat = FlatParameters(network)
    assert torch.equal(flat.values, grown) and torch.equal(network(inputs), expected)
    network(inputs).sum().backward()
    own = torch.cat([p.grad.ravel() for p in network.parameters()])
    assert torch.equal(flat.gradient, own) and own.abs().sum() > 0
    flat.values.zero_()
    assert (network(inputs) == 0).all()
    assert all(p.grad.data_ptr() >= flat.gradient.data_ptr() for p in network.parameters())


def _steps(shared, lock, gradient, count):
    for _ in range(count):
        with lock:
            shared.step(gradient, 0.01)


def test_steps_of_several_threads_of_control_make_one_sequence():
    """Two processes step 50 times each; as one that stepped 100 times."""
    context = multiprocessing.get_context("fork")
    gradient = torch.tensor([1.0, -2.0])
    shared, alone = SharedAdam(torch.zeros(2)), SharedAdam(torch.zeros(2))
    lock = context.Lock()
    arguments = (shared, lock, gradient, 50)
    processes = [context.Process(target=_steps, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    _steps(alone, lock, gradient, 100)
    assert shared.steps == 100
    assert torch.equal(shared.parameters, alone.parameters)
