"""What the tests of training share."""

import functools

import pytest

import mec_gym
from agents.training_offload import head


@pytest.fixture(scope="module")
def places():
    """The problem of places is registered while a module's tests run."""
    mec_gym.register_room("places_problem")
    yield
    mec_gym.unregister_room("places_problem")


@pytest.fixture(scope="module")
def quick_tuning():
    """The head of training offload tunes its price on few episodes."""
    with pytest.MonkeyPatch.context() as patch:
        few = functools.partial(head.tune_energy_price, episodes=8)
        patch.setattr(head, "tune_energy_price", few)
        yield
