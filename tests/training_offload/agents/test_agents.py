"""The named agents, alone and in a batch."""

import numpy as np
import pytest
from training_offload.cases import DRIVE, PAPER, first_tasks

from agents.registry import make_agent
from mec_gym.training_offload.model import State

DETERMINISTIC = ("device-only", "end-cloud", "end-edge", "exact", "budget", "price")


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("problem", [PAPER, DRIVE], ids=["paper", "drive"])
def test_single_equals_batch(problem, name):
    agent = make_agent(name, problem)
    slot, state = first_tasks(problem, 0, 24)
    # In the middle of a drive, nearly empty batteries among them.
    battery = state.battery * np.linspace(0.005, 1.0, 24)
    state = State(battery=battery, tasks_left=np.arange(24.0) % problem.horizon + 1)
    batch = problem.observe(slot, state)
    actions, memory = agent.predict(batch, "mine", deterministic=True)
    assert memory == "mine"
    assert actions.dtype == np.float32 and actions.shape == (24, 11)
    for i in range(24):
        alone, _ = agent.predict(batch[i])
        assert alone.shape == (11,)
        np.testing.assert_allclose(alone, actions[i], rtol=1e-6, atol=1e-7)
        assert problem.action_space.contains(actions[i])
    # Shapes beyond one batch axis as well.
    folded, _ = agent.predict(batch.reshape(4, 6, -1))
    assert np.array_equal(folded.reshape(24, 11), actions)
