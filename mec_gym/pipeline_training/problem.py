"""Pipeline training as a Problem: spaces, observations, actions and the reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.online import OnlineBound
from mec_gym.core.problem import Episode
from mec_gym.core.scaling import squash, stretch
from mec_gym.core.types import BoolArray, Float32Array, FloatArray
from mec_gym.pipeline_training import model
from mec_gym.pipeline_training.exact import episode_bound
from mec_gym.pipeline_training.model import NOWHERE, Decision, Outcome, State
from mec_gym.pipeline_training.online_bound import has_online_bound, online_bound
from mec_gym.pipeline_training.scenario import Scenario, Slot, history


class PipelineTraining:
    """Cut one network over devices that come and go, and decide when moving is worth it.

    **Description.** A network of L blocks is trained by M unequal devices. In every slot the
    agent says which device trains which block. Consecutive blocks on a device are a stage of a
    pipeline, through which the microbatches of a minibatch pass: all forward passes first
    (GPipe), or one forward, one backward (1F1B); in both the pipeline is flushed after each
    minibatch, so that what is learnt does not depend on the plan. A block that changes its
    device is sent by the device that holds it, or by the store if that has gone, and the
    pipeline has to start again. Devices leave and return, and speeds and links vary. The setting
    is that of [Wang2023], section 2.2.2.

    **Observation.** ``Box(0, 1)`` of float32:

    ============== =============================================== =========================
    numbers        meaning                                         scale
    ============== =============================================== =========================
    M              whether the device is present                   1
    M              speed                                           x / (x + the usual speed)
    M              rate from the store                             x / (x + ``store``)
    M              slots in which it was present up to now         T
    M              how often it has left up to now                 T
    M              slots until it leaves; only with ``notice``     ``notice`` + 1
    M M            rates between devices, from row to column       x / (x + ``link``)
    L              who holds the block, -1 for the store only      place + 1, by M
    1              slots left                                      T
    ============== =============================================== =========================

    Speeds and rates of absent devices are shown as 0. How long each device stays on average,
    and the future, are hidden.

    **Action.** ``MultiDiscrete([M] * L)``: the device of each block. A block whose device is
    absent, or has ended a stage before, stays with the block before it; the first block goes
    to the fastest device. So every action is a plan in which each device has one stage at most.

    **Reward.** The reward of a slot is minus the share of it that is lost: the time of the
    slot, less what perfect sharing (all devices that are present busy, nothing sent) would
    have needed for the same samples. It lies in [-1, 0] unless moving takes longer than a slot.

    **Starting state.** All blocks lie in the store.

    **Episode end.** The episode terminates after T slots; it is never truncated.

    **Arguments.** ``gymnasium.make("mec/PipelineTraining-v0", scenario=...)`` takes the name of
    a preset (``default`` by default) or a ``Scenario``.

    **Version history.** v0: first version.

    Args:
        scenario: The parameters.

    Attributes:
        costs: Names of the parts of an ``Outcome`` of which less is better.
        gains: Names of the parts of which more is better.
    """

    costs: tuple[str, ...] = ("lost_s",)
    gains: tuple[str, ...] = ()

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = s = scenario
        m = s.devices
        self._columns = 6 if s.notice else 5
        size = self._columns * m + m * m + s.blocks + 1
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        self.action_space = spaces.MultiDiscrete([m] * s.blocks)
        self.horizon = s.horizon
        self.episodes_ahead = min(8, max(1, 2048 // (s.horizon * m)))

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...)."""
        return self.scenario.sample(rng, n)

    def check(self, trace: Slot) -> None:
        """Check that a trace makes sense.

        Args:
            trace: Fields (n, T, ...).

        Raises:
            ValueError: A device is never present, a rate of a device that is present is not
                positive, or what is said of the past or of departures contradicts ``present``.
        """
        never = ~trace.present.any(axis=1)
        if never.any():
            episode, device = np.argwhere(never)[0]
            raise ValueError(
                f"trace.present must hold each device at least once, device {device} is never "
                f"present in episode {episode}"
            )
        pairs = trace.present[..., :, None] & trace.present[..., None, :]
        pairs &= ~np.eye(self.scenario.devices, dtype=np.bool_)
        used = {"speed": trace.present, "store": trace.present, "link": pairs}
        for name, where in used.items():
            values = getattr(trace, name)
            wrong = (values < 0) | (where & (values <= 0))
            if wrong.any():
                at = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise ValueError(
                    f"trace.{name} must be positive where devices are present and 0 at least "
                    f"elsewhere, got {values[at]} at {at}"
                )
        expected = history(trace.present, self.scenario.notice)
        for name, right in zip(("seen", "departures", "leaves"), expected, strict=True):
            wrong = getattr(trace, name) != right
            if wrong.any():
                at = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise ValueError(
                    f"trace.{name} must follow from trace.present (as history() of "
                    f"mec_gym.pipeline_training computes it): {right[at]:g} at {at}, got "
                    f"{getattr(trace, name)[at]:g}"
                )

    def start(self, slot: Slot) -> State:
        """Begin with all blocks in the store and all slots to come."""
        batch = np.shape(slot.present)[:-1]
        return State(
            place=np.full((*batch, self.scenario.blocks), NOWHERE, dtype=np.int64),
            slots_left=np.full(batch, float(self.horizon)),
        )

    def observe(self, slot: Slot, state: State) -> Float32Array:
        """Return the observation, (..., observation)."""
        s, m = self.scenario, self.scenario.devices
        batch = np.shape(slot.present)[:-1]
        seen = np.empty((*batch, *self.observation_space.shape), dtype=np.float32)
        rows = [
            slot.present,
            squash(slot.speed, s.speed_scale) * slot.present,
            squash(slot.store, s.store) * slot.present,
            slot.seen / s.horizon,
            slot.departures / s.horizon,
            slot.leaves / (s.notice + 1),
        ][: self._columns]
        for column, row in enumerate(rows):
            seen[..., column * m : (column + 1) * m] = row
        begin = self._columns * m
        link = squash(slot.link, s.link)
        link = link * (slot.present[..., :, None] & slot.present[..., None, :])
        seen[..., begin : begin + m * m] = link.reshape(*batch, m * m)
        begin += m * m
        seen[..., begin : begin + s.blocks] = (state.place + 1) / m
        seen[..., -1] = state.slots_left / s.horizon
        return seen

    def decode(self, observation: Float32Array) -> tuple[Slot, State]:
        """Return slot and state as the agent knows them.

        Without notice, ``leaves`` says only who is present.
        """
        s, m = self.scenario, self.scenario.devices
        seen = np.asarray(observation, dtype=np.float64)
        rows = seen[..., : self._columns * m].reshape(*seen.shape[:-1], self._columns, m)
        present = rows[..., 0, :] > 0.5
        begin = self._columns * m
        link = stretch(seen[..., begin : begin + m * m], s.link)
        begin += m * m
        slot = Slot(
            present=present,
            speed=stretch(rows[..., 1, :], s.speed_scale),
            store=stretch(rows[..., 2, :], s.store),
            link=link.reshape(*seen.shape[:-1], m, m),
            seen=np.rint(rows[..., 3, :] * s.horizon),
            departures=np.rint(rows[..., 4, :] * s.horizon),
            leaves=np.rint(rows[..., -1, :] * (s.notice + 1)) if s.notice else rows[..., 0, :],
        )
        state = State(
            place=np.rint(seen[..., begin : begin + s.blocks] * m).astype(np.int64) - 1,
            slots_left=np.rint(seen[..., -1] * s.horizon),
        )
        return slot, state

    def decision(self, action: npt.NDArray[Any]) -> Decision:
        """Return the decision that an action (..., L) stands for."""
        return Decision(place=np.asarray(action, dtype=np.int64))

    def encode(self, decision: Decision) -> npt.NDArray[np.int64]:
        """Return the action (..., L) of a decision."""
        return np.maximum(np.asarray(decision.place, dtype=np.int64), 0)

    def step(self, slot: Slot, state: State, decision: Decision) -> tuple[State, Outcome]:
        """Move the blocks, and train for the rest of the slot."""
        return model.evaluate(slot, state, decision, self.scenario)

    def reward(self, outcome: Outcome) -> FloatArray:
        """Return minus the share of the slot that is lost, (...)."""
        return np.asarray(-outcome.lost_s / self.scenario.slot_s)

    def done(self, state: State) -> BoolArray:
        """Return whether all slots are over, (...)."""
        return np.asarray(state.slots_left <= 0)

    def bound(self, trace: Slot) -> FloatArray:
        """Return an upper bound on the return of any policy, (n,)."""
        return episode_bound(trace, self.scenario)

    @property
    def has_online_bound(self) -> bool:
        """Whether the scenario has an online bound."""
        return has_online_bound(self.scenario)

    def online_bound(self) -> OnlineBound | None:
        """Return what no policy can expect that does not know the future, see ``online_bound``.

        It takes about a minute the first time.
        """
        return online_bound(self.scenario)

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """Return a matplotlib Figure of the episode so far."""
        from mec_gym.pipeline_training.viewer import draw_episode

        return draw_episode(self.scenario, episode)
