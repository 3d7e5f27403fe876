"""Another problem for tests: N parallel choices among C places, as distributed inference has.

In each of HORIZON rounds N devices choose one of C places each. Going somewhere costs what
that place costs, and MOVE more if the device was elsewhere before (at first it is at place 0):

    latency = sum over devices of cost[n, place] + MOVE [place != place before]

Each device has one cheap place of cost CHEAP; all others cost between DEAR and 1.

**Optimum.** The cheap place always: being elsewhere costs DEAR - CHEAP more at least, and what
a different history can save is 2 MOVE < DEAR - CHEAP at most. So ``bound`` is exact, and a
policy reaches it as soon as it knows the smallest of C numbers.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from mec_gym import Entry, Preset

HORIZON = 4
CHEAP, DEAR, MOVE = 0.1, 0.6, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    cost: np.ndarray  # (..., N, C)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    place: np.ndarray  # (..., N)
    rounds_left: np.ndarray  # (...)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    place: np.ndarray  # (..., N)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    latency_s: np.ndarray  # (...)
    energy_j: np.ndarray  # (...) moves
    dropped: np.ndarray  # (...) bool, never


class PlacesProblem:
    """See the module.

    Args:
        devices: N.
        places: C.
        ends: False: episodes are truncated by the adapters' time limit.
    """

    costs = ("latency_s", "energy_j", "dropped")
    gains = ()

    def __init__(self, devices=3, places=3, ends=True):
        self.devices, self.places, self.ends = devices, places, ends
        self.horizon = HORIZON
        self.episodes_ahead = 8
        self.width = places + 1
        size = devices * self.width + 1
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        self.action_space = spaces.MultiDiscrete([places] * devices)

    def sample(self, rng, n):
        shape = (n, self.horizon, self.devices, self.places)
        cost = rng.uniform(DEAR, 1.0, size=shape)
        cheap = rng.integers(self.places, size=shape[:-1])
        np.put_along_axis(cost, cheap[..., None], CHEAP, axis=-1)
        return Slot(cost=cost)

    def check(self, trace):
        if (trace.cost < 0).any():
            raise ValueError(f"trace.cost must not be negative, got {trace.cost.min()}")

    def start(self, slot):
        shape = np.shape(slot.cost)[:-1]
        rounds_left = np.full(shape[:-1], float(self.horizon))
        return State(place=np.zeros(shape, np.int64), rounds_left=rounds_left)

    def observe(self, slot, state):
        before = state.place[..., None] / (self.places - 1)
        rows = np.concatenate([slot.cost, before], axis=-1)
        left = (state.rounds_left / self.horizon)[..., None]
        rows = rows.reshape(*rows.shape[:-2], -1)
        return np.concatenate([rows, left], axis=-1).astype(np.float32)

    def decode(self, observation):
        parts = np.asarray(observation, dtype=np.float64)
        rows = parts[..., :-1].reshape(*parts.shape[:-1], self.devices, self.width)
        place = np.rint(rows[..., -1] * (self.places - 1)).astype(np.int64)
        rounds_left = np.rint(parts[..., -1] * self.horizon)
        return Slot(cost=rows[..., :-1]), State(place=place, rounds_left=rounds_left)

    def decision(self, action):
        return Decision(place=np.asarray(action, dtype=np.int64))

    def encode(self, decision):
        return decision.place

    def step(self, slot, state, decision):
        place = decision.place
        chosen = place[..., None] == np.arange(self.places)
        cost = (slot.cost * chosen).sum(axis=(-2, -1))
        moves = (place != state.place).sum(axis=-1).astype(np.float64)
        outcome = Outcome(
            latency_s=cost + MOVE * moves,
            energy_j=moves,
            dropped=np.zeros(cost.shape, dtype=np.bool_),
        )
        return State(place=place, rounds_left=state.rounds_left - 1.0), outcome

    def reward(self, outcome):
        return -outcome.latency_s

    def done(self, state):
        left = np.asarray(state.rounds_left)
        return left <= 0 if self.ends else np.zeros(left.shape, dtype=np.bool_)

    def bound(self, trace):
        best = trace.cost.argmin(axis=-1)  # (n, T, N)
        before = np.concatenate([np.zeros_like(best[:, :1]), best[:, :-1]], axis=1)
        return -(trace.cost.min(axis=-1) + MOVE * (best != before)).sum(axis=(1, 2))

    def draw(self, episode):
        from mec_gym.core.pictures import new_figure

        figure = new_figure(3.0, 2.0)
        figure.add_subplot().plot([outcome.latency_s for outcome in episode.outcomes])
        return figure


class FailingPlaces(PlacesProblem):
    """Raises in the step in which ``steps`` have been played."""

    def __init__(self, steps=10, **arguments):
        super().__init__(**arguments)
        self.steps = steps

    def step(self, slot, state, decision):
        self.steps -= 1
        if self.steps < 0:
            raise RuntimeError("the server is on fire")
        return super().step(slot, state, decision)


@dataclass(frozen=True, slots=True)
class Scenario:
    devices: int = 3
    places: int = 3
    fails_after: int | None = None


class ScenarioPlaces(PlacesProblem):
    """The problem as a package of its own registers it; with ``fails_after``, it fails."""

    def __init__(self, scenario):
        super().__init__(scenario.devices, scenario.places)
        self.scenario = scenario
        self.steps = scenario.fails_after

    def step(self, slot, state, decision):
        if self.steps is not None:
            self.steps -= 1
            if self.steps < 0:
                raise RuntimeError("the server is on fire")
        return super().step(slot, state, decision)


ENV = "tests/Places-v0"
ENVIRONMENTS = {
    ENV: Entry(
        about="places",
        problem=ScenarioPlaces,
        scenario_type=Scenario,
        presets={
            "three": Preset(Scenario, "three devices, three places"),
            "fails": Preset(lambda: Scenario(fails_after=40), "raises in the 41st step"),
        },
        default="three",
    )
}
