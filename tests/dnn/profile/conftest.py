"""Profiles with one tracer alone."""

import pytest

from mec_gym.dnn.profile import tracing


@pytest.fixture
def only_export(monkeypatch):
    def fails(*_):
        raise RuntimeError("no fx today")

    monkeypatch.setitem(tracing.TRACERS, "fx", fails)
