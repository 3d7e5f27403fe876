"""What may come next in an episode, given all that nature knows of it up to now."""

from __future__ import annotations

import math

import numpy as np

from mec_gym.core.types import BoolArray
from mec_gym.pipeline_training.scenario import Hidden, Rates, Scenario, Slot


def next_slots(
    trace: Slot, hidden: Hidden, scenario: Scenario, rng: np.random.Generator, count: int
) -> Slot:
    """Draw slots that might follow instead of those that do.

    Each has the law of slot t given slots 0 to t - 1, the noise up to there, and all that does not
    change: mean stays, mean rates, and when those come who would else be away for the whole
    episode. Where departures are announced, it is also given who is present in slot t.

    Args:
        trace: The episodes, fields (n, T, ...).
        hidden: What nature knows of them.
        scenario: The parameters.
        rng: The source of every draw.
        count: The number of draws per slot, K.

    Returns:
        For t = 1 ... T - 1, fields (n, T - 1, K, ...). What a slot says of the past and of
        departures is left out, and 0.
    """
    present = _present(trace, hidden, scenario, rng, count)
    memory = scenario.memory_of_load

    def drawn(rates: Rates) -> Rates:
        past = rates.noise[:, :-1, None]
        new = rng.standard_normal((*past.shape[:2], count, *past.shape[3:]))
        noise = memory * past + math.sqrt(1.0 - memory**2) * new
        return Rates(mean=rates.mean[:, :, None], spread=rates.spread, noise=noise)

    rates = scenario.rates(drawn(hidden.speed), drawn(hidden.link), drawn(hidden.store))
    nothing = np.zeros(present.shape)
    return Slot(present=present, seen=nothing, departures=nothing, leaves=nothing, **rates)


def _present(
    trace: Slot, hidden: Hidden, scenario: Scenario, rng: np.random.Generator, count: int
) -> BoolArray:
    """Who might be present next, (n, T - 1, K, M)."""
    now, after = trace.present[:, :-1], trace.present[:, 1:]
    comes = 1.0 / scenario.away
    left = np.arange(now.shape[1], 0, -1)[:, None]  # slots in which a device may still come
    # Whoever has not been there yet, and is not brought, comes in one of them.
    with np.errstate(divide="ignore"):  # who is away for one slot comes for sure
        at_last = comes / -np.expm1(left * np.log1p(-comes))
    been = np.logical_or.accumulate(now, axis=1)
    comes_now = np.where(been, comes, at_last)
    probability = np.where(now, 1.0 - 1.0 / hidden.stay[:, None], comes_now)
    drawn = rng.random((*now.shape[:2], count, now.shape[2])) < probability[:, :, None]
    known = hidden.brought[:, None, None] | bool(scenario.notice)
    return np.where(known, after[:, :, None], drawn)
