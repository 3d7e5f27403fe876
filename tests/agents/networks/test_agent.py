"""A network as an agent."""

import numpy as np
import pytest
import torch
from places_problem import PlacesProblem

from agents.heads import FlatHead
from agents.networks import make_network
from agents.networks.agent import network_agent
from mec_gym.core.rollout import sample_episodes
from mec_gym.testing import check_agent

PROBLEM = PlacesProblem(devices=3, places=4)


def agent(seed=0):
    head = FlatHead(PROBLEM)
    torch.manual_seed(3)
    return network_agent(make_network("branches", head), head, seed)


def observations(n):
    slot = sample_episodes(PROBLEM, 0, n)
    return PROBLEM.observe(slot, PROBLEM.start(slot))[:, 0]


def test_one_or_many():
    check_agent(agent(), PROBLEM)
    seen = observations(50)
    many, memory = agent().predict(seen, deterministic=True)
    assert many.shape == (50, 3) and many.dtype == np.int64 and memory is None
    for i in (0, 7):
        assert np.array_equal(agent().predict(seen[i], deterministic=True)[0], many[i])
    assert len(np.unique(many)) > 1


def test_draws_from_its_own_generator():
    seen = observations(200)
    made = agent()
    torch.manual_seed(0)
    first = made.predict(seen)[0]
    assert not np.array_equal(first, made.predict(seen)[0])
    assert np.array_equal(first, agent().predict(seen)[0])
    assert not np.array_equal(first, agent(seed=1).predict(seen)[0])
    # Close to uniform at first.
    assert np.bincount(first.ravel(), minlength=4) == pytest.approx(150, rel=0.25)
