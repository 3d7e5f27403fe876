"""A tiny problem of training for tests, with everything that the other tiny problems lack.

A server trains a model of two weights w until it is good enough. In each of at most HORIZON
rounds it asks one of two clients to train on its own data:

    w' = w + data[client] (AIMS[client] - w),    error = |w - AIMS[0]|

Only client 0 has what is wanted, so the error never falls below 0 and asking client 1 moves
away. The reward is minus the seconds that the chosen client takes.

- An episode ends as soon as the error is at most ENOUGH, which depends on what is played.
- What a client's data are worth holds during a whole episode: a trace field of shape (n, 1, 2).
- Observations show the error but not the weights, which no observation brings back.
- Nothing useful is known about the best return, so there is no bound.
- An outcome has neither a latency nor an energy; progress is a part of which more is better.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

HORIZON = 6
MOST_SECONDS = 5.0
ENOUGH = 0.2
AIMS = np.array([[0.6, 0.8], [-0.6, 0.8]])  # both at distance 1 from where training begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    data: np.ndarray  # (..., 2) in (0, 1), the same during a whole episode
    seconds: np.ndarray  # (..., 2) in [1, MOST_SECONDS]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    weights: np.ndarray  # (..., 2), hidden
    error: np.ndarray  # (...)
    rounds_left: np.ndarray  # (...)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    client: np.ndarray  # (...) 0 or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    time_s: np.ndarray  # (...)
    progress: np.ndarray  # (...) by how much the error has fallen


class TargetProblem:
    """The problem that the module describes.

    Args:
        ahead: The number of episodes that are drawn in one call of ``sample``.
    """

    costs = ("time_s",)
    gains = ("progress",)

    def __init__(self, ahead=2):
        self.episodes_ahead = ahead
        self.horizon = HORIZON
        self.observation_space = spaces.Box(0.0, 1.0, (6,), np.float32)
        self.action_space = spaces.Discrete(2)

    def sample(self, rng, n):
        return Slot(
            data=rng.uniform(0.3, 0.9, size=(n, 1, 2)),
            seconds=rng.uniform(1.0, MOST_SECONDS, size=(n, self.horizon, 2)),
        )

    def check(self, trace):
        if (trace.data >= 1.0).any():
            raise ValueError(f"trace.data must be below 1, got {trace.data.max()}")

    def start(self, slot):
        batch = np.shape(slot.seconds)[:-1]
        return State(
            weights=np.zeros((*batch, 2)),
            error=np.ones(batch),
            rounds_left=np.full(batch, float(self.horizon)),
        )

    def observe(self, slot, state):
        parts = [
            state.error / 2.0,
            np.maximum(state.rounds_left, 0.0) / self.horizon,
            slot.data[..., 0],
            slot.data[..., 1],
            slot.seconds[..., 0] / MOST_SECONDS,
            slot.seconds[..., 1] / MOST_SECONDS,
        ]
        return np.stack(np.broadcast_arrays(*parts), axis=-1).astype(np.float32)

    def decode(self, observation):
        parts = np.asarray(observation, dtype=np.float64)
        slot = Slot(data=parts[..., 2:4], seconds=parts[..., 4:] * MOST_SECONDS)
        return slot, State(
            weights=np.zeros((*parts.shape[:-1], 2)),
            error=parts[..., 0] * 2.0,
            rounds_left=np.rint(parts[..., 1] * self.horizon),
        )

    def decision(self, action):
        return Decision(client=np.asarray(action, dtype=np.int64))

    def encode(self, decision):
        return decision.client

    def step(self, slot, state, decision):
        first = decision.client == 0
        data = np.where(first, slot.data[..., 0], slot.data[..., 1])
        aim = np.where(first[..., None], *AIMS)
        weights = state.weights + data[..., None] * (aim - state.weights)
        error = np.hypot(weights[..., 0] - AIMS[0, 0], weights[..., 1] - AIMS[0, 1])
        outcome = Outcome(
            time_s=np.where(first, slot.seconds[..., 0], slot.seconds[..., 1]),
            progress=state.error - error,
        )
        return State(weights=weights, error=error, rounds_left=state.rounds_left - 1.0), outcome

    def reward(self, outcome):
        return -outcome.time_s

    def done(self, state):
        return np.asarray(state.error <= ENOUGH)

    def bound(self, trace):
        return None

    def draw(self, episode):
        from mec_gym.core.pictures import new_figure

        figure = new_figure(3.0, 2.0)
        figure.add_subplot().plot([state.error for state in episode.states])
        return figure


def training(data, seconds):
    """A trace of one episode with the same seconds in every round."""
    seconds = np.broadcast_to(np.array(seconds, dtype=np.float64), (1, HORIZON, 2))
    return Slot(data=np.array(data, dtype=np.float64).reshape(1, 1, 2), seconds=seconds.copy())
