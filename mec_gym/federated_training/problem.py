"""Federated training as a Problem: spaces, observations, actions and the reward."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core import arrays
from mec_gym.core.checks import within_limits
from mec_gym.core.problem import Episode
from mec_gym.core.scaling import squash, stretch
from mec_gym.core.types import BoolArray, Float32Array, FloatArray
from mec_gym.federated_training import jobs, model
from mec_gym.federated_training.model import NEVER, Decision, Outcome, State
from mec_gym.federated_training.scenario import Scenario, Slot
from mec_gym.federated_training.world import World, known_images
from mec_gym.learning.partition import check_held, class_shares

D = TypeVar("D", bound=np.generic)

MOST_LOSS = 5.0
MOST_AGE = 20.0
COLUMNS = 10
"""Numbers per client; a timetable adds one, and privileged observations add the classes."""


class FederatedTraining:
    """Decide who trains next, while a server learns from clients that come and go.

    **Description.** A server trains a model with N clients of unequal speed and unlike data. In
    each step the agent gives every client a score; the best ones that are present and idle are
    sent off, as many as there is room for. A client receives the model, trains it on
    minibatches of its own images, and sends its update. The server waits until ``quorum``
    updates have arrived or ``deadline`` has passed, and merges them; those that arrive later are
    dropped, or merged as stale ones. So the parameters of the scenario make synchronous,
    semi-asynchronous and asynchronous protocols of one mechanism. What is learnt is learnt for
    real (a perceptron on images of handwritten digits); what the clock charges is the named work
    and size of a larger model. The setting is that of [Wang2023], sections 2.1.1 and 2.2.1.

    **Observation.** ``Box(0, 1)`` of float32. First come rows of N numbers each:

    ============== ================================================= =========================
    row            meaning                                           scale
    ============== ================================================= =========================
    0              time that a job computes at the speed now         x / (x + the usual time)
    1              time that it receives and sends at the rates now  x / (x + the usual time)
    2              images that the client knows                      x / (x + the mean number)
    3              loss that it reported last                        5, clipped
    4              whether it has never been merged                  1
    5              merges since it was merged                        20, clipped
    6              how often it has been sent off                    x / (1 + x)
    7              whether it is present and idle                    1
    8              whether it is on its way                          1
    9              time that its last update took                    x / (x + the usual time)
    10             time until it leaves; only with ``timetable``     ``budget_s``, clipped
    ============== ================================================= =========================

    Then come accuracy on validation images, weighted by demand; time, by ``budget_s``; the share
    of the m rows that are in use; the share of clients that are present or on their way; decisions
    left, by T. With ``drift_s``, the share of each class that the model gets right and the demand
    for each class follow; with ``privileged``, the shares of classes that each client holds.
    Weights, and what will come, are hidden.

    **Action.** ``Box(-1, 1, (N,))``: a score for each client. Of those above 0, the best ones that
    are present and idle are sent off. So the agent also decides how many go. With
    ``control_steps``, N more numbers say how many minibatches each client trains on, from one at
    -1 to ``local_steps`` at 1.

    **Reward.** The model is in service while it is trained: the reward is minus its error,
    integrated over the step, by the budget. The last step also charges the rest of the budget, with
    the model that is then left. So the return is minus the mean error over the budget. With
    ``goal="target"`` the reward is minus the time of the step, by the budget, until the mean of
    three evaluations has reached the target; it is -1 in total if that never happens.

    **Starting state.** The model is new, and nobody is on their way.

    **Episode end.** The episode terminates after ``budget_s``, after T decisions, if the
    target is reached, or if the model has diverged; then the rest of the budget counts as error 1.

    **Arguments.** ``gymnasium.make("mec/FederatedTraining-v0", scenario=...)`` takes the name of
    a preset (``semi-async`` by default) or a ``Scenario``.

    **Version history.** v0: first version.

    **Out of scope.** Vertical and transfer federated learning, blockchain, privacy and security
    have no decision against a clock here; personalised models have another objective than one
    model.

    Args:
        scenario: The parameters.

    Attributes:
        costs: Names of the parts of an ``Outcome`` of which less is better.
        gains: Names of the parts of which more is better.
    """

    costs: tuple[str, ...] = ("cost_s",)
    gains: tuple[str, ...] = ()
    episodes_ahead = 1

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = s = scenario
        self.classes = s.network.sizes[-1]
        self.columns = COLUMNS + s.timetable
        size = self.columns * s.clients + 5
        size += 2 * self.classes if s.drift_s is not None else 0
        size += self.classes * s.clients if s.privileged else 0
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        numbers = s.clients * (2 if s.control_steps else 1)
        self.action_space = spaces.Box(-1.0, 1.0, (numbers,), np.float32)
        self.horizon = s.decisions

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...) or (n, 1, ...)."""
        return self.scenario.sample(rng, n)

    def check(self, trace: Slot) -> None:
        """Check that a trace makes sense.

        Args:
            trace: Fields (n, T, ...) or (n, 1, ...).

        Raises:
            ValueError: Nobody is ever present, a rate is not positive, a client holds images that
                do not exist, or demand is not shares.
        """
        nobody = ~trace.present.any(axis=(1, 2, 3))
        if nobody.any():
            raise ValueError(
                "trace.present must hold somebody at some time, nobody is ever present in episode "
                f"{int(nobody.argmax())}"
            )
        for name in ("jitter", "speed", "uplink", "downlink", "gain"):
            within_limits(f"trace.{name}", getattr(trace, name))
        check_held(trace.own, trace.samples, len(self.scenario.data.learn.labels))
        demand = trace.demand
        if (demand < 0).any() or not np.allclose(demand.sum(axis=-1), 1.0):
            raise ValueError("trace.demand must be shares of at least 0 that add up to 1")

    def start(self, slot: Slot) -> State:
        """Begin with a new model, and with nobody on their way."""
        return model.start(slot, self.scenario)

    def observe(self, slot: Slot, state: State) -> Float32Array:
        """Return the observation, (..., observation)."""
        s, n = self.scenario, self.scenario.clients
        batch = np.broadcast_shapes(np.shape(slot.key), np.shape(state.clock))
        world = World(slot, batch, s)
        now = arrays.spread(state, np.ndim(state.clock), batch)
        seen = np.empty((len(now.clock), *self.observation_space.shape), dtype=np.float32)
        samples = known_images(world.each("samples"), now.clock[:, None], s)[1]
        computing = s.job_flop / world.now("speed", now.clock)
        linking = s.download_bits / world.each("downlink") + s.upload_bits / world.now(
            "uplink", now.clock
        )
        busy = jobs.busy(now.client, n)
        idle = world.now("present", now.clock) & ~busy
        never = now.merged_into == NEVER
        age = now.version[:, None] - now.merged_into
        rows = [
            squash(computing, s.compute_scale),
            squash(linking, s.link_scale),
            squash(samples, s.usual_samples),
            np.minimum(now.last_loss / MOST_LOSS, 1.0),
            never,
            np.where(never, 1.0, np.minimum(age / MOST_AGE, 1.0)),
            now.taken / (1.0 + now.taken),
            idle,
            busy,
            squash(now.last_duration, s.compute_scale + s.link_scale),
        ]
        if s.timetable:
            rows.append(np.minimum((world.leaves(now.clock) - now.clock[:, None]) / s.budget_s, 1))
        for number, row in enumerate(rows):
            seen[:, number * n : (number + 1) * n] = row
        begin = self.columns * n
        demand = world.demand_now(now.clock)
        seen[:, begin] = (demand * now.recall).sum(axis=-1)
        seen[:, begin + 1] = np.minimum(now.clock / s.budget_s, 1.0)
        seen[:, begin + 2] = (now.client != jobs.FREE).mean(axis=-1)
        seen[:, begin + 3] = (idle | busy).mean(axis=-1)
        seen[:, begin + 4] = np.maximum(now.decisions_left, 0.0) / s.decisions
        begin += 5
        if s.drift_s is not None:
            seen[:, begin : begin + self.classes] = now.recall
            begin += self.classes
            seen[:, begin : begin + self.classes] = demand
            begin += self.classes
        if s.privileged:
            seen[:, begin:] = self._held(world).reshape(len(seen), -1)
        return seen.reshape(*batch, -1)

    def decode(self, observation: Float32Array) -> tuple[Slot, State]:
        """Return slot and state as the agent knows them.

        The world stays as it is now for ever, except for departures that a timetable announces.
        Models are not seen; they come back as zeros.
        """
        s, n = self.scenario, self.scenario.clients
        seen = np.asarray(observation, dtype=np.float64)
        batch = seen.shape[:-1]
        rows = seen[..., : self.columns * n].reshape(*batch, self.columns, n)
        accuracy, passed, _, _, left = np.moveaxis(
            seen[..., self.columns * n : self.columns * n + 5], -1, 0
        )
        clock = passed * s.budget_s
        computing = stretch(rows[..., 0, :], s.compute_scale)
        linking = stretch(rows[..., 1, :], s.link_scale)
        receiving = linking * (s.download_bits / s.downlink / s.link_scale)
        idle, busy = rows[..., 7, :] > 0.5, rows[..., 8, :] > 0.5
        recall = np.broadcast_to(accuracy[..., None], (*batch, self.classes))
        demand = np.broadcast_to(s.usual_demand, (*batch, 1, self.classes))
        begin = self.columns * n + 5
        if s.drift_s is not None:
            recall = seen[..., begin : begin + self.classes]
            demand = seen[..., None, begin + self.classes : begin + 2 * self.classes]
            begin += 2 * self.classes
            demand = np.broadcast_to(demand, (*batch, s.bins, self.classes))
        own, samples = self._believed_images(seen[..., begin:], rows[..., 2, :], clock)
        slot = Slot(
            jitter=np.ones((*batch, n)),
            key=np.zeros(batch, dtype=np.uint64),
            present=self._believed_presence(idle | busy, rows, clock),
            speed=self._for_ever(s.job_flop / np.maximum(computing, 1e-9)),
            uplink=self._for_ever(s.upload_bits / np.maximum(linking - receiving, 1e-9)),
            downlink=s.download_bits / np.maximum(receiving, 1e-9),
            own=own,
            samples=samples,
            gain=np.ones((*batch, n), dtype=np.float32),
            initial=s.network.unseen(batch),
            demand=demand,
        )
        return slot, self._believed_state(rows, clock, left, recall, busy, computing + linking)

    def _believed_state(
        self,
        rows: FloatArray,
        clock: FloatArray,
        left: FloatArray,
        recall: FloatArray,
        busy: BoolArray,
        duration: FloatArray,
    ) -> State:
        s, batch, m = self.scenario, clock.shape, self.scenario.at_once
        version = np.full(batch, int(MOST_AGE))
        order = np.argsort(~busy, axis=-1, kind="stable")[..., :m]
        used = np.arange(m) < busy.sum(axis=-1, keepdims=True)
        age = np.rint(rows[..., 5, :] * MOST_AGE).astype(np.int64)
        return State(
            clock=clock,
            version=version,
            decisions_left=np.rint(left * s.decisions),
            over=np.zeros(batch, dtype=np.bool_),
            weights=s.network.unseen(batch),
            recall=recall,
            recent=np.zeros((*batch, 2)),
            client=np.where(used, order, jobs.FREE),
            begin=np.broadcast_to(clock[..., None], (*batch, m)),
            end=clock[..., None] + np.take_along_axis(duration, order, axis=-1),
            arrives=np.ones((*batch, m), dtype=np.bool_),
            based_on=np.broadcast_to(version[..., None], (*batch, m)),
            steps=np.full((*batch, m), float(s.local_steps)),
            loss=np.zeros((*batch, m)),
            sent=s.network.unseen((*batch, m)),
            own_next=s.network.unseen((*batch, m if s.memory_rows else 0)),
            own=s.network.unseen((*batch, s.memory_rows)),
            control=s.network.unseen((*batch, int(s.control_variates))),
            momentum=s.network.unseen((*batch, int(s.server_momentum > 0))),
            last_loss=rows[..., 3, :] * MOST_LOSS,
            last_duration=stretch(rows[..., 9, :], s.compute_scale + s.link_scale),
            merged_into=np.where(rows[..., 4, :] > 0.5, NEVER, version[..., None] - age),
            taken=np.rint(stretch(rows[..., 6, :], 1.0)),
        )

    def _for_ever(self, values: npt.NDArray[D]) -> npt.NDArray[D]:
        """A table in which all bins of time are alike, which takes no memory."""
        return np.broadcast_to(values[..., None], (*values.shape, self.scenario.bins))

    def _believed_presence(self, now: BoolArray, rows: FloatArray, clock: FloatArray) -> BoolArray:
        s = self.scenario
        if not s.timetable:
            return self._for_ever(now)
        until = rows[..., 10, :]
        leaves = np.rint((clock[..., None] + until * s.budget_s) / s.bin_s)
        leaves = np.where(until < 1, leaves, s.bins)
        return np.asarray(now[..., None] & (np.arange(s.bins) < leaves[..., None]))

    def _believed_images(
        self, shares: FloatArray, known: FloatArray, clock: FloatArray
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Images by numbers: those of the shares that privileged agents see, or the first one."""
        s, batch = self.scenario, clock.shape
        count = np.maximum(np.rint(stretch(known, s.usual_samples)), 1)
        if s.growth_s is not None:
            passed = 0.0 if s.sliding else np.minimum(clock / s.growth_s, 1.0)[..., None]
            count = np.floor(count / (s.growth_from + (1 - s.growth_from) * passed) + 1e-6)
        samples = count.astype(np.int64)
        shape = (*batch, s.clients, s.most)
        if not s.privileged:
            return np.broadcast_to(np.int64(0), shape), samples
        shares = shares.reshape(*batch, s.clients, self.classes)
        labels = self.scenario.data.learn.labels
        one_each = np.array([np.flatnonzero(labels == c)[0] for c in range(self.classes)])
        ends = np.rint(np.cumsum(shares, axis=-1) * samples[..., None])
        image = (np.arange(s.most)[:, None] >= ends[..., None, :]).sum(axis=-1)
        return one_each[np.minimum(image, self.classes - 1)], samples

    def _held(self, world: World) -> FloatArray:
        """The shares of classes that clients hold, (Z, N, classes)."""
        own, samples = world.table("own", 2), world.table("samples", 1)
        labels = self.scenario.data.learn.labels
        return class_shares(labels, own, samples, self.classes)[world.row]

    def decision(self, action: npt.NDArray[Any]) -> Decision:
        """Return the decision that an action (..., N or 2 N) stands for."""
        numbers = np.asarray(action, dtype=np.float64)
        n = self.scenario.clients
        return Decision(score=numbers[..., :n], effort=numbers[..., n:])

    def encode(self, decision: Decision) -> npt.NDArray[np.float32]:
        """Return the action (..., N or 2 N) of a decision."""
        parts = [np.asarray(decision.score), np.asarray(decision.effort)]
        action = np.clip(np.concatenate(parts, axis=-1), -1.0, 1.0)
        return np.asarray(action, dtype=np.float32)

    def step(self, slot: Slot, state: State, decision: Decision) -> tuple[State, Outcome]:
        """Send clients off, wait, and merge what has arrived."""
        return model.evaluate(slot, state, decision, self.scenario)

    def reward(self, outcome: Outcome) -> FloatArray:
        """Return minus the cost of the step as a share of the budget, (...)."""
        return np.asarray(-outcome.cost_s / self.scenario.budget_s)

    def done(self, state: State) -> BoolArray:
        """Return whether the episode has ended, (...)."""
        return np.asarray(state.over)

    def bound(self, trace: Slot) -> None:
        """Return None: of how fast a network learns, nothing useful can be proved."""

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """Return a matplotlib Figure of the episode so far."""
        from mec_gym.federated_training.viewer import draw_episode

        return draw_episode(self.scenario, episode)
