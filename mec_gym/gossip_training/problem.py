"""Gossip training as a Problem: spaces, observations, actions and the reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.checks import SMALLEST, within_limits
from mec_gym.core.problem import Episode
from mec_gym.core.scaling import squash, stretch
from mec_gym.core.types import BoolArray, Float32Array, FloatArray
from mec_gym.gossip_training import model
from mec_gym.gossip_training.model import Decision, Outcome, State
from mec_gym.gossip_training.scenario import Scenario, Slot
from mec_gym.learning.partition import check_held

ROWS = 5


class GossipTraining:
    """Decide who listens to whom, while devices train one model without a server.

    **Description.** N devices train models that begin alike, each on images of its own and by its
    own clock. In every round each of them trains, and then averages what it listens to. Whoever
    speaks to several listeners shares its uplink among them, and sends one round after the other.
    Whoever listens waits until all of it has arrived. The setting is that of [Wang2023], section
    2.1.2.

    **Observation.** ``Box(0, 1)`` of float32:

    ======= ============================================== ========================
    numbers meaning                                        scale
    ======= ============================================== ========================
    N       time that the device trains in this round      x / (x + the usual time)
    N       rate at which it sends in this round           x / (x + ``rate``)
    N       its clock                                      ``budget_s``, clipped
    N       its accuracy on validation images              1
    N       time until its uplink is free                  x / (x + the usual time)
    1       rounds left                                    ``rounds``
    N x N   how far apart devices are in what they hold    0 to 1; if ``privileged``
    ======= ============================================== ========================

    Weights and later rounds are hidden, and what devices hold is, unless the scenario is
    ``privileged``.

    **Action.** ``MultiDiscrete([2] * (1 + E))``: first whether all average all (a ring all-reduce),
    then for each directed edge of the graph whether its listener listens to its speaker. An
    all-reduce makes the rest meaningless.

    **Reward.** Minus the error of each device's model, integrated over its own clock up to the
    budget, as a share of the budget; the mean over devices. The last round also charges the rest of
    the budget with the models that are then left.

    **Starting state.** All devices have the same new model, and their clocks are 0.

    **Episode end.** The episode terminates when all clocks have passed the budget, after T rounds,
    or when a model has diverged; then the rest of the budget counts as error 1.

    **Arguments.** ``gymnasium.make("mec/GossipTraining-v0", scenario=...)`` takes the name of a
    preset (``unequal`` by default) or a ``Scenario``.

    **Version history.** v0: first version.

    Args:
        scenario: The parameters.

    Attributes:
        costs: Names of the parts of an ``Outcome`` of which less is better.
        gains: Names of the parts of which more is better.
    """

    costs: tuple[str, ...] = ("error_s",)
    gains: tuple[str, ...] = ()
    episodes_ahead = 1

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = s = scenario
        size = ROWS * s.devices + 1 + (s.devices**2 if s.privileged else 0)
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        self.action_space = spaces.MultiDiscrete([2] * (1 + len(s.edges)))
        self.horizon = s.rounds

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...) or (n, 1, ...)."""
        return self.scenario.sample(rng, n)

    def check(self, trace: Slot) -> None:
        """Check that a trace makes sense.

        Args:
            trace: Fields (n, T, ...) or (n, 1, ...).

        Raises:
            ValueError: A time or a rate is not positive, or a device holds images that do not
                exist, or lacks those that all should hold whose logits are shared.
        """
        for name in ("compute_s", "rate"):
            within_limits(f"trace.{name}", getattr(trace, name))
        if (trace.apart < 0).any() or (trace.apart > 1).any():
            raise ValueError(
                f"trace.apart must be in [0, 1], got {trace.apart.min():g} to {trace.apart.max():g}"
            )
        s = self.scenario
        common = s.shared if s.payload == "shared-logits" else 0
        check_held(trace.own, trace.samples, len(s.data.learn.labels), max(common, 1))
        last = trace.samples[..., None] - common + np.arange(common)
        held = np.take_along_axis(trace.own, last, axis=-1)
        differs = (held != held[..., :1, :]).any(axis=-1)
        if differs.any():
            episode, _, device = (int(i) for i in np.argwhere(differs)[0])
            raise ValueError(
                f"trace.own must end with the same {common} images for all devices, device "
                f"{device} of episode {episode} has others"
            )

    def start(self, slot: Slot) -> State:
        """Begin with the same new model everywhere."""
        return model.start(slot, self.scenario)

    def observe(self, slot: Slot, state: State) -> Float32Array:
        """Return the observation, (..., observation)."""
        s, n = self.scenario, self.scenario.devices
        batch = np.broadcast_shapes(np.shape(slot.key), np.shape(state.over))
        seen = np.empty((*batch, *self.observation_space.shape), dtype=np.float32)
        rows = (
            squash(slot.compute_s, s.usual_s),
            squash(slot.rate, s.rate),
            np.minimum(state.clock / s.budget_s, 1.0),
            state.accuracy,
            squash(np.maximum(state.uplink_free - state.clock, 0.0), s.usual_s),
        )
        for number, row in enumerate(rows):
            seen[..., number * n : (number + 1) * n] = row
        seen[..., ROWS * n] = np.maximum(state.rounds_left, 0.0) / s.rounds
        if s.privileged:
            seen[..., ROWS * n + 1 :] = slot.apart.reshape(*slot.apart.shape[:-2], n * n)
        return seen

    def decode(self, observation: Float32Array) -> tuple[Slot, State]:
        """Return slot and state as the agent knows them; weights and images come back empty."""
        s, n = self.scenario, self.scenario.devices
        seen = np.asarray(observation, dtype=np.float64)
        batch = seen.shape[:-1]
        compute, rate, clock, accuracy, busy = np.moveaxis(
            seen[..., : ROWS * n].reshape(*batch, ROWS, n), -2, 0
        )
        apart = np.zeros((*batch, n, n))
        if s.privileged:
            apart = seen[..., ROWS * n + 1 :].reshape(*batch, n, n)
        slot = Slot(
            compute_s=np.maximum(stretch(compute, s.usual_s), SMALLEST),
            rate=np.maximum(stretch(rate, s.rate), SMALLEST),
            key=np.zeros(batch, dtype=np.uint64),
            own=np.broadcast_to(np.int64(0), (*batch, n, s.most)),  # as if all held one image
            samples=np.ones((*batch, n), dtype=np.int64),
            apart=apart,
            initial=s.network.unseen(batch),
        )
        state = State(
            clock=clock * s.budget_s,
            uplink_free=clock * s.budget_s + stretch(busy, s.usual_s),
            rounds_left=np.rint(seen[..., ROWS * n] * s.rounds),
            over=np.zeros(batch, dtype=np.bool_),
            weights=s.network.unseen((*batch, n)),
            accuracy=accuracy,
            mass=np.ones((*batch, s.masses)),
            copies=s.network.unseen((*batch, n if s.payload == "choco" else 0)),
            missed=np.zeros((*batch, s.copied_edges)),
            taught=np.zeros((*batch, *s.taught_shape), dtype=np.float32),
        )
        return slot, state

    def decision(self, action: npt.NDArray[Any]) -> Decision:
        """Return the decision that an action (..., 1 + E) stands for."""
        chosen = np.asarray(action) > 0
        return Decision(reduce=chosen[..., 0], listen=chosen[..., 1:])

    def encode(self, decision: Decision) -> npt.NDArray[np.int64]:
        """Return the action (..., 1 + E) of a decision."""
        parts = [np.asarray(decision.reduce)[..., None], np.asarray(decision.listen)]
        return np.concatenate(parts, axis=-1).astype(np.int64)

    def step(self, slot: Slot, state: State, decision: Decision) -> tuple[State, Outcome]:
        """Train, send, and average."""
        return model.evaluate(slot, state, decision, self.scenario)

    def reward(self, outcome: Outcome) -> FloatArray:
        """Return minus the mean error of the round as a share of the budget, (...)."""
        return np.asarray(-outcome.error_s / self.scenario.budget_s)

    def done(self, state: State) -> BoolArray:
        """Return whether the episode has ended, (...)."""
        return np.asarray(state.over)

    def bound(self, trace: Slot) -> None:
        """Return None: of how fast networks learn, nothing useful can be proved."""

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """Return a matplotlib Figure of the episode so far."""
        from mec_gym.gossip_training.viewer import draw_episode

        return draw_episode(self.scenario, episode)
