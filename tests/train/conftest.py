"""What the tests of training share."""

import functools

import pytest

import mec_gym
from agents.training_offload import connection_belief, head
from mec_gym.core.pictures import new_figure
from mec_gym.training_offload import battery_value
from train.evaluation import tensorboard


@pytest.fixture(scope="module")
def places():
    """The problem of places is registered while a module's tests run."""
    mec_gym.register_room("places_problem")
    yield
    mec_gym.unregister_room("places_problem")


@pytest.fixture(scope="module")
def quick_runs():
    """Pictures of decisions are empty, and training offload's rules are fitted on few tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard, "decisions_figure", lambda played: new_figure(0.1, 0.1))
        few = functools.partial(head.tune_energy_price, episodes=8)
        patch.setattr(head, "tune_energy_price", few)
        patch.setattr(battery_value, "_FITTED_ON", 300)
        patch.setattr(connection_belief, "_TASKS", 3000)
        fitted = (battery_value.fit_battery_value, connection_belief._reference)
        for cache in fitted:
            cache.cache_clear()
        yield
    for cache in fitted:
        cache.cache_clear()
