"""What a rule looks at: the clients as the server knows them, and how to say who goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.federated_training import jobs
from mec_gym.federated_training.clock import bin_of
from mec_gym.federated_training.model import NEVER, Decision, State
from mec_gym.federated_training.scenario import Scenario, Slot
from mec_gym.federated_training.world import known_images


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """N clients, as they are now."""

    computing_s: FloatArray  # (..., N) s that a job computes at the speed now
    linking_s: FloatArray  # (..., N) s that it receives and sends at the rates now
    samples: FloatArray  # (..., N) images that the client knows
    loss: FloatArray  # (..., N) the loss that it reported last; 0 if it never did
    never: BoolArray  # (..., N) whether it has never been merged
    age: FloatArray  # (..., N) merges since it was merged; only where it ever was
    taken: FloatArray  # (..., N) how often it has been sent off
    idle: BoolArray  # (..., N) whether it is present and has nothing to do
    busy: BoolArray  # (..., N) whether it is on its way
    accuracy: FloatArray  # (...) the accuracy of the model
    decided: FloatArray  # (...) decisions before this one

    @property
    def seconds(self) -> FloatArray:
        """The time that a job is expected to take, (..., N) s."""
        return self.computing_s + self.linking_s

    @property
    def flying(self) -> IntArray:
        """The number of clients on their way, (...)."""
        return np.asarray(self.busy.sum(axis=-1))


def fleet_now(slot: Slot, state: State, scenario: Scenario) -> Fleet:
    """Read what the server knows of its clients.

    Args:
        slot: The slots, fields (...).
        state: The states, fields (...).
        scenario: The parameters.
    """
    s, clients = scenario, scenario.clients
    bins = slot.speed.shape[-1]
    now = bin_of(state.clock, s.bin_s, bins)

    def read(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        index = np.broadcast_to(now[..., None, None], (*now.shape, clients, 1))
        wide = np.broadcast_to(table, (*now.shape, clients, bins))
        return np.asarray(np.take_along_axis(wide, index, axis=-1)[..., 0])

    busy = jobs.busy(state.client, clients)
    demand = slot.demand
    asked = np.broadcast_to(demand, (*now.shape, *demand.shape[-2:]))
    index = bin_of(state.clock, s.bin_s, demand.shape[-2])[..., None, None]
    asked = np.take_along_axis(asked, index, axis=-2)[..., 0, :]
    never = state.merged_into == NEVER
    return Fleet(
        computing_s=s.job_flop / read(slot.speed),
        linking_s=s.download_bits / slot.downlink + s.upload_bits / read(slot.uplink),
        samples=known_images(slot.samples, state.clock[..., None], s)[1].astype(np.float64),
        loss=state.last_loss,
        never=never,
        age=np.where(never, 0.0, state.version[..., None] - state.merged_into),
        taken=state.taken,
        idle=read(slot.present).astype(np.bool_) & ~busy,
        busy=busy,
        accuracy=(asked * state.recall).sum(axis=-1),
        decided=s.decisions - state.decisions_left,
    )


def rank(value: FloatArray) -> IntArray:
    """Return the place of each client, (..., N): 0 for the least value; ties in their order."""
    order = np.argsort(value, axis=-1, kind="stable")
    return np.argsort(order, axis=-1, kind="stable")


def send(
    order: FloatArray,
    allowed: BoolArray,
    wanted: npt.ArrayLike,
    scenario: Scenario,
    effort: FloatArray | None = None,
) -> Decision:
    """Return the decision that sends off those that come first, so many of them.

    Args:
        order: Those with the least values go first, (..., N).
        allowed: Who may go at all, (..., N).
        wanted: How many may go, (...).
        scenario: The parameters.
        effort: How much each trains, (..., N), where that is decided; all steps by default.
    """
    place = rank(np.where(allowed, order, np.inf))
    goes = allowed & (place < np.asarray(wanted)[..., None])
    score = np.where(goes, 1.0 - place / order.shape[-1], -1.0)
    return Decision(score=score, effort=full_effort(score, scenario) if effort is None else effort)


def full_effort(score: FloatArray, scenario: Scenario) -> FloatArray:
    """Return the effort with which all steps are taken; it has no entries if it is not decided.

    Args:
        score: The scores, (..., N).
        scenario: The parameters.
    """
    return np.ones((*score.shape[:-1], scenario.clients if scenario.control_steps else 0))
