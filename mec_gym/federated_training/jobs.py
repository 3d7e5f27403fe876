"""Jobs: who is sent off, when a job is done, and what is learnt in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mec_gym.core.types import BoolArray, Float32Array, FloatArray, IntArray
from mec_gym.federated_training.clock import finish, leaving
from mec_gym.federated_training.scenario import Scenario
from mec_gym.federated_training.world import World, known_images
from mec_gym.learning.compression import low_rank, significant, top_k
from mec_gym.learning.hashing import draw_indices
from mec_gym.learning.partition import class_shares
from mec_gym.learning.sgd import train

FREE = -1
"""The client of a row that nobody uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """J jobs that begin in one step."""

    environment: IntArray  # (J,) in which of the Z environments
    row: IntArray  # (J,) which of the m rows it uses
    client: IntArray  # (J,)
    begin: FloatArray  # (J,) s
    steps: IntArray  # (J,) minibatches that it trains on

    def where(self, mask: BoolArray) -> Jobs:
        """Return those of the jobs for which a mask (J,) holds."""
        return Jobs(
            environment=self.environment[mask],
            row=self.row[mask],
            client=self.client[mask],
            begin=self.begin[mask],
            steps=self.steps[mask],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When the parts of J jobs are done, as if nobody left."""

    received: FloatArray  # (J,) s, when the client has the model
    computed: FloatArray  # (J,) s, when it has trained
    leaves: FloatArray  # (J,) s, when the client leaves; inf if it does not


def busy(client: IntArray, clients: int) -> BoolArray:
    """Return which clients are on their way, (..., N).

    Args:
        client: Who uses each row, (..., m).
        clients: The number of clients, N.
    """
    return np.asarray((client[..., None] == np.arange(clients)).any(axis=-2))


def pick(client: IntArray, ready: BoolArray, score: FloatArray) -> IntArray:
    """Return whom each free row is given to, (Z, m); -1 where nobody is.

    Of the clients that are ready and have a score above 0, the best fill the free rows; of equal
    scores, the lower index comes first.

    Args:
        client: Who uses each row, (Z, m).
        ready: Who is present and idle, (Z, N).
        score: (Z, N).
    """
    wanted = ready & (score > 0)
    best = np.argsort(np.where(wanted, -score, np.inf), axis=-1, kind="stable")
    free = client == FREE
    turn = np.cumsum(free, axis=-1) - 1
    gets = free & (turn < wanted.sum(axis=-1, keepdims=True))
    who = np.take_along_axis(best, np.clip(turn, 0, score.shape[-1] - 1), axis=-1)
    return np.where(gets, who, FREE)


def times(jobs: Jobs, world: World, scenario: Scenario) -> Times:
    """Compute when the clients have received the model and have trained.

    Downloading takes what is received / rate. A minibatch is 3 F B of work: the backward pass costs
    twice as much as the forward pass, and the speed varies from bin to bin.

    Args:
        jobs: The jobs.
        world: Nature's tables.
        scenario: The parameters.
    """
    row, who = world.row[jobs.environment], jobs.client
    received = jobs.begin + scenario.download_bits / world.table("downlink", 1)[row, who]
    work = scenario.job_flop * jobs.steps / scenario.local_steps
    work = work * world.table("jitter", 1)[row, who]
    speed = world.table("speed", 2)[row, who]
    present = world.table("present", 2)[row, who]
    return Times(
        received=received,
        computed=finish(speed, received, work, scenario.bin_s),
        leaves=leaving(present, jobs.begin, scenario.bin_s),
    )


def arrival(
    jobs: Jobs, computed: FloatArray, bits: FloatArray, world: World, scenario: Scenario
) -> FloatArray:
    """Compute when updates have been sent, (J,) s, as if nobody left.

    Args:
        jobs: The jobs.
        computed: When the clients have trained, (J,) s.
        bits: What each sends, (J,).
        world: Nature's tables.
        scenario: The parameters.
    """
    uplink = world.table("uplink", 2)[world.row[jobs.environment], jobs.client]
    return finish(uplink, computed, bits, scenario.bin_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What J jobs lead to."""

    sent: Float32Array  # (J, P) the update, or the weights if updates are not averaged
    own: Float32Array  # (J, P) the client's control variates afterwards; no rows without any
    loss: FloatArray  # (J,) root mean square of the losses; inf if numbers are not finite
    bits: FloatArray  # (J,) what is sent


def learn(
    jobs: Jobs,
    begin_from: Float32Array,
    own: Float32Array,
    control: Float32Array,
    world: World,
    scenario: Scenario,
) -> Learnt:
    """Train, and make of what was learnt what is sent.

    Args:
        jobs: The jobs.
        begin_from: The weights that each begins from, (J, P).
        own: The control variates of each client, (J, P); no rows if there are none.
        control: Those of the server, (J, P); no rows if there are none.
        world: Nature's tables.
        scenario: The parameters.
    """
    s, row, who = scenario, world.row[jobs.environment], jobs.client
    samples = world.table("samples", 1)[row, who]
    first, count = known_images(samples, jobs.begin, s)
    drawn = draw_indices(world.table("key", 0)[row], who, s.local_steps * s.batch, count)
    mine = world.table("own", 2)[row, who]
    index = np.take_along_axis(mine, first[:, None] + drawn, axis=-1).astype(np.int64)
    importance = None
    if s.importance:
        classes = s.network.sizes[-1]
        # Only images that are known count; behind them, whatever is there is not looked at.
        turn = np.minimum(first[:, None] + np.arange(mine.shape[1]), mine.shape[1] - 1)
        seen = np.take_along_axis(mine, turn, axis=-1)
        held = class_shares(s.data.learn.labels, seen, count, classes)
        importance = (s.class_shares / np.where(held > 0, held, 1.0)).astype(np.float32)
    correction = control - own if s.control_variates else None
    with np.errstate(over="ignore", invalid="ignore"):
        trained, loss = train(
            s.network,
            begin_from,
            s.data.learn,
            index.reshape(-1, s.local_steps, s.batch),
            rate=s.rate,
            steps=jobs.steps if s.control_steps else None,
            pull=s.pull,
            correction=correction,
            gain=world.table("gain", 1)[row, who] if s.feature_spread else None,
            class_weights=importance,
        )
        update = trained - begin_from
    broken = ~(np.isfinite(update).all(axis=-1) & np.isfinite(loss))
    update[broken] = 0.0
    bits = np.full(len(who), s.upload_bits)
    if s.payload == "top-k":
        update = top_k(update, s.payload_share)
    elif s.payload == "low-rank":
        update = low_rank(update, s.network, s.payload_rank)
    elif s.payload == "significant":
        update, share = significant(update, begin_from, s.payload_threshold)
        bits = s.model_bits * share
    own_next = own
    if s.control_variates:  # [Karimireddy2020] algorithm 1, option II, of what the server receives
        scale = (1.0 / (jobs.steps * s.rate)).astype(np.float32)
        own_next = np.where(broken[:, None], own, own - control - update * scale[:, None])
    return Learnt(
        sent=update if s.merge == "average" else begin_from + update,
        own=own_next,
        loss=np.where(broken, np.inf, loss.astype(np.float64)),
        bits=bits,
    )
