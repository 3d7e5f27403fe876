"""A tiny problem for tests whose actions are numbers: aim at what is seen.

In each of HORIZON slots a target (x, y) is seen in [0, 1] x [0, 1], and the action is a point in
LOW..HIGH, which is as wide as tall in neither axis. The point that hits is

    LOW + target (HIGH - LOW)

and the reward is minus the squared distance to it, in units of the box: at best 0.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

HORIZON = 4
LOW = np.array([-2.0, 5.0], np.float32)
HIGH = np.array([4.0, 6.0], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    target: np.ndarray  # (..., 2) in [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    slots_left: np.ndarray  # (...)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    point: np.ndarray  # (..., 2) in LOW..HIGH


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    miss: np.ndarray  # (...) squared distance


class AimProblem:
    """The problem that the module describes."""

    costs = ("miss",)
    gains = ()
    horizon = HORIZON
    episodes_ahead = 8

    def __init__(self):
        self.observation_space = spaces.Box(0.0, 1.0, (3,), np.float32)
        self.action_space = spaces.Box(LOW, HIGH, dtype=np.float32)

    def sample(self, rng, n):
        return Slot(target=rng.uniform(size=(n, HORIZON, 2)))

    def check(self, trace):
        if (trace.target < 0).any():
            raise ValueError(f"trace.target must not be negative, got {trace.target.min()}")

    def start(self, slot):
        return State(slots_left=np.full(np.shape(slot.target)[:-1], float(HORIZON)))

    def observe(self, slot, state):
        left = (state.slots_left / HORIZON)[..., None]
        return np.concatenate([slot.target, left], axis=-1).astype(np.float32)

    def decode(self, observation):
        seen = np.asarray(observation, dtype=np.float64)
        return Slot(target=seen[..., :2]), State(slots_left=np.rint(seen[..., 2] * HORIZON))

    def decision(self, action):
        return Decision(point=np.asarray(action, dtype=np.float64))

    def encode(self, decision):
        return np.clip(decision.point, LOW, HIGH).astype(np.float32)

    def step(self, slot, state, decision):
        share = (decision.point - LOW) / (HIGH - LOW)
        outcome = Outcome(miss=np.square(share - slot.target).sum(axis=-1))
        return State(slots_left=state.slots_left - 1.0), outcome

    def reward(self, outcome):
        return -outcome.miss

    def done(self, state):
        return np.asarray(state.slots_left) <= 0

    def bound(self, trace):
        return np.zeros(len(trace.target))

    def draw(self, episode):
        from mec_gym.core.pictures import new_figure

        figure = new_figure(3.0, 2.0)
        figure.add_subplot().plot([outcome.miss for outcome in episode.outcomes])
        return figure
