"""What the tests of training offload share."""

import pytest

from agents.training_offload import connection_belief
from mec_gym.training_offload import battery_value, online_bound


@pytest.fixture(scope="module")
def coarse():
    """Batteries have few units, and samples are small: the same in a fraction of the time."""
    caches = (
        battery_value.fit_battery_value,
        online_bound.online_bound,
        connection_belief._reference,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(battery_value, "UNITS", 1000)
        patch.setattr(online_bound, "UNITS", 1000)
        patch.setattr(online_bound, "_MEANS_OF", 1500)
        patch.setattr(online_bound, "_DRIVES", 20)
        patch.setattr(connection_belief, "_TASKS", 10_000)
        for cache in caches:
            cache.cache_clear()
        yield
    for cache in caches:
        cache.cache_clear()
