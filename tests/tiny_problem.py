"""A second problem, for tests: a bank of energy that makes jobs faster.

It exists to show that a room needs nothing but the verbs of ``mec_gym.core.problem``, and it
has what training offload lacks: discrete actions, episodes of random length (so that the
environments of a vector end at different times) and an optimum known in closed form.

An episode has L <= HORIZON jobs. Job t has work w_t and runs on one of two machines of speeds
v_t; each of up to two units of energy halves its latency:

    latency = w / v[machine] / 2 ** units

The bank holds BANK units for the whole episode. Who asks for more than is left gets nothing:
the job is dropped, costs no energy and counts as 1.5 w / v. The reward is -latency.

**Optimum.** The faster machine is best whatever else is done; call d_t = w_t / max(v_t). The
first unit saves d_t / 2, the second d_t / 4, so savings fall within a job, and the BANK
largest of all 2 L savings can always be had together. Nothing else is saved, hence

    least total latency = sum(d) - sum of the BANK largest of {d_t / 2, d_t / 4 : t < L}.

``bound`` is exact for who knows the future, and no policy can beat it.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

HORIZON = 5
BANK = 3
MOST_WORK = 10.0
MOST_SPEED = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    work: np.ndarray  # (...) in [1, MOST_WORK]
    length: np.ndarray  # (...) L, the same in every slot of an episode
    speed: np.ndarray  # (..., 2) in [1, MOST_SPEED]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    bank: np.ndarray  # (...) units left
    jobs_left: np.ndarray  # (...) the one at hand included


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    machine: np.ndarray  # (...) 0 or 1
    units: np.ndarray  # (...) 0, 1 or 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    latency_s: np.ndarray  # (...)
    energy_j: np.ndarray  # (...)
    dropped: np.ndarray  # (...) bool
    machine: np.ndarray  # (...) int, to have every kind of number in an info


class TinyProblem:
    """See the module.

    Args:
        ahead: Episodes drawn in one call of ``sample``.
        shortest: L is drawn from shortest..HORIZON.
        ends: False: an episode never says it is done, so that the adapters' time limit
            truncates it.
    """

    costs = ("latency_s", "energy_j", "dropped")
    gains = ()

    def __init__(self, ahead=2, shortest=1, ends=True):
        self.episodes_ahead = ahead
        self.horizon = HORIZON
        self.shortest = shortest
        self.ends = ends
        self.observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)
        self.action_space = spaces.MultiDiscrete([2, 3])

    def sample(self, rng, n):
        shape = (n, self.horizon)
        length = rng.integers(self.shortest, self.horizon + 1, size=(n, 1))
        return Slot(
            work=rng.uniform(1.0, MOST_WORK, size=shape),
            length=np.broadcast_to(length, shape).astype(np.float64),
            speed=rng.uniform(1.0, MOST_SPEED, size=(*shape, 2)),
        )

    def check(self, trace):
        if (trace.length < 1).any():
            raise ValueError(f"trace.length must be at least 1, got {trace.length.min()}")

    def start(self, slot):
        return State(bank=np.full(np.shape(slot.work), float(BANK)), jobs_left=1.0 * slot.length)

    def observe(self, slot, state):
        parts = [
            state.bank / BANK,
            np.maximum(state.jobs_left, 0.0) / self.horizon,
            slot.work / MOST_WORK,
            slot.speed[..., 0] / MOST_SPEED,
            slot.speed[..., 1] / MOST_SPEED,
        ]
        return np.stack(np.broadcast_arrays(*parts), axis=-1).astype(np.float32)

    def decode(self, observation):
        parts = np.asarray(observation, dtype=np.float64)
        jobs_left = np.rint(parts[..., 1] * self.horizon)
        slot = Slot(
            work=parts[..., 2] * MOST_WORK, length=jobs_left, speed=parts[..., 3:] * MOST_SPEED
        )
        return slot, State(bank=np.rint(parts[..., 0] * BANK), jobs_left=jobs_left)

    def decision(self, action):
        action = np.asarray(action)
        return Decision(machine=action[..., 0], units=action[..., 1])

    def encode(self, decision):
        return np.stack([decision.machine, decision.units], axis=-1).astype(np.int64)

    def step(self, slot, state, decision):
        first = decision.machine == 0
        alone = slot.work / np.where(first, slot.speed[..., 0], slot.speed[..., 1])
        dropped = decision.units > state.bank
        outcome = Outcome(
            latency_s=np.where(dropped, 1.5 * alone, alone / 2.0**decision.units),
            energy_j=np.where(dropped, 0.0, decision.units),
            dropped=dropped,
            machine=decision.machine + np.zeros_like(dropped, dtype=np.int64),
        )
        after = State(bank=state.bank - outcome.energy_j, jobs_left=state.jobs_left - 1.0)
        return after, outcome

    def reward(self, outcome):
        return -outcome.latency_s

    def done(self, state):
        return np.asarray(state.jobs_left <= 0) if self.ends else np.asarray(state.bank < 0)

    def bound(self, trace):
        jobs = np.arange(self.horizon) < trace.length if self.ends else True
        alone = np.where(jobs, trace.work / trace.speed.max(axis=-1), 0.0)
        savings = np.sort(np.concatenate([alone / 2.0, alone / 4.0], axis=-1), axis=-1)
        return -(alone.sum(axis=-1) - savings[..., -BANK:].sum(axis=-1))

    def draw(self, episode):
        from mec_gym.core.pictures import new_figure

        figure = new_figure(3.0, 2.0)
        axes = figure.add_subplot()
        axes.bar(range(self.horizon), episode.trace.work)
        axes.plot([outcome.latency_s for outcome in episode.outcomes], "ro")
        return figure


class TinyDiscrete(TinyProblem):
    """The same with one number for an action, which does not begin at 0."""

    FIRST = 3

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.action_space = spaces.Discrete(6, start=self.FIRST)

    def decision(self, action):
        machine, units = np.divmod(np.asarray(action) - self.FIRST, 3)
        return Decision(machine=machine, units=units)

    def encode(self, decision):
        return np.asarray(decision.machine * 3 + decision.units + self.FIRST, dtype=np.int64)


def random_actions(problem, seed, *batch):
    """Actions of either problem, (*batch, ...)."""
    rng = np.random.default_rng(seed)
    space = problem.action_space
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.start, space.start + space.n, size=batch)
    return rng.integers(space.nvec, size=(*batch, 2))


def episode(works, speed, length):
    """A trace of one episode with the same speeds in every slot."""
    shape = (1, HORIZON)
    return Slot(
        work=np.array([works], dtype=np.float64),
        length=np.full(shape, float(length)),
        speed=np.broadcast_to(np.array(speed, dtype=np.float64), (*shape, 2)).copy(),
    )
