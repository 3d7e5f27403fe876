"""What the pair scorer computed before it was rewritten, number by number.

``golden.npz`` holds observations, and what heads and networks made of them. Run this file as a
script to write it anew, after a change that is meant to change numbers.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_inference.oracle import contended

import mec_gym
from agents.heads import make_head
from agents.networks import FusedCategorical, NetworkOptions, make_network
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Channel

FILE = Path(__file__).parent / "golden.npz"
ID = "mec/DistributedInference-v1"
PROBLEMS = {
    "small": mec_gym.make_problem(ID, "small"),
    "patent": mec_gym.make_problem(ID, "patent"),
    "odd": DistributedInference(
        contended(
            devices=3, servers=2, blocks=4, tasks=2, channel=Channel(), idle=0.2, background=1.0,
            battery=3.0,
        )
    ),
}  # fmt: skip
HEADS = ("pairs", "pairs-2", "pairs-0")
ORDERS = ("sequential", "together")
# How many devices and servers more there is room for; larger ones with one head only.
ROOMS = [*itertools.product(HEADS, [(0, 0)]), ("pairs", (2, 1)), ("pairs-2", (0, 2))]
CASES = [
    (name, head, more)
    for name in PROBLEMS
    for head, more in ROOMS
    if name != "patent" or more == (0, 0)
]


def observed(problem, rounds, batch=2):
    """Observations of some rounds of random play, (len(rounds) * batch, observation)."""
    env = MecVectorEnv(problem, batch)
    observation, _ = env.reset(seed=3)
    rng = np.random.default_rng(0)
    nvec = problem.action_space.nvec
    seen = []
    for t in range(max(rounds) + 1):
        if t in rounds:
            seen.append(observation)
        observation, *_ = env.step(rng.integers(nvec, size=(batch, len(nvec))))
    return np.concatenate(seen)


def head_of(name, head, more):
    problem = PROBLEMS[name]
    made = make_head(head, problem)
    s = problem.scenario
    return type(made)(problem, made.foresight, (s.devices + more[0], s.servers + more[1]))


def network_of(head, order):
    """A network in which every parameter is drawn, and so matters."""
    network = make_network("pairs", head, NetworkOptions(hidden=8, order=order))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            drawn = torch.randn(parameter.shape)
            start = {"trust": 0.3, "log_sharp": 1.0}.get(name, 0.0)
            parameter.copy_(start + 0.4 * drawn)
    return network


def numbers_of(observation, name, head_name, more):
    """Everything that a head and its networks make of observations, by name."""
    head = head_of(name, head_name, more)
    key = f"{name}/{head_name}/{more[0]}+{more[1]}"
    found = {f"{key}/inputs": head.inputs(observation)}
    inputs = torch.from_numpy(found[f"{key}/inputs"])
    rng, nvec = np.random.default_rng(1), head.output_space.nvec
    places = torch.from_numpy(rng.integers(nvec, size=(len(inputs), len(nvec))))
    for order in ORDERS:
        network = network_of(head, order)
        with torch.no_grad():
            logits, values = network(inputs)
            given, _ = network(inputs, places)
            greedy, chosen, same = network.choose(inputs, greedy=True)
            drawn, *_ = network.choose(inputs, torch.Generator().manual_seed(2))
        numbers = {
            "logits": logits, "values": values, "logits of given": given, "greedy": greedy,
            "logits of greedy": chosen, "values of greedy": same, "drawn": drawn,
        }  # fmt: skip
        log_prob = FusedCategorical(network(inputs, greedy)[0]).joint_log_prob(greedy).sum()
        (log_prob + network(inputs)[1].square().sum()).backward()
        gradients = [p.grad.flatten() for _, p in sorted(network.named_parameters())]
        numbers["gradients"] = torch.cat(gradients)
        found |= {f"{key}/{order}/{what}": value.numpy() for what, value in numbers.items()}
    return found


def arithmetic():
    """A few numbers that come out otherwise, in the last digit, on another kind of machine."""
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(size, generator=generator) for size in ((40, 22), (22, 8), (8, 8)))
    hidden = torch.tanh(torch.tanh(a @ b) @ c)
    parts = [hidden, hidden.sigmoid(), hidden.abs().log1p(), hidden.softmax(-1), a.log_softmax(-1)]
    return torch.cat([part.flatten() for part in parts]).numpy()


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as archive:
        return dict(archive)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_every_number_is_what_it_was(golden, case):
    """To the bit where the machine computes alike; else to rounding."""
    alike = np.array_equal(arithmetic(), golden["arithmetic"])
    for key, found in numbers_of(golden[f"{case[0]}/observation"], *case).items():
        expected = golden[key]
        assert found.dtype == expected.dtype, key
        if alike or key.endswith(("/inputs", "/greedy", "/drawn")):
            np.testing.assert_array_equal(found, expected, err_msg=key)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=key)


def test_the_cases_differ(golden):
    for name in ("small", "odd"):
        for head in HEADS:
            kinds = [golden[f"{name}/{head}/0+0/{order}/logits of given"] for order in ORDERS]
            assert not np.allclose(*kinds, rtol=1e-2)
            greedy = golden[f"{name}/{head}/0+0/sequential/greedy"]
            assert len(np.unique(greedy)) > 2


if __name__ == "__main__":
    ROUNDS = {"small": (0, 5), "patent": (3,), "odd": (1, 3, 7)}
    written = {"arithmetic": arithmetic()}
    for name, problem in PROBLEMS.items():
        written[f"{name}/observation"] = observed(problem, ROUNDS[name])
    for case in CASES:
        written |= numbers_of(written[f"{case[0]}/observation"], *case)
    np.savez_compressed(FILE, **written)
