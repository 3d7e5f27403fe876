"""What the tests of training share."""

import pytest

import mec_gym


@pytest.fixture(scope="module")
def places():
    """The problem of places is registered while a module's tests run."""
    mec_gym.register_room("places_problem")
    yield
    mec_gym.unregister_room("places_problem")
