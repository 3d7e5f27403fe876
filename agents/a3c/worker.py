"""A worker pulls parameters, plays T steps and makes one step of the shared Adam."""

from __future__ import annotations

import math
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.a3c.collector import Batch, Collector
from agents.a3c.losses import Losses, actor_critic_loss, advantages
from agents.a3c.settings import A3CSettings
from agents.a3c.shared_adam import FlatParameters, SharedAdam
from agents.heads import Head
from agents.networks import PolicyNetwork, make_network
from mec_gym.core.problem import AnyProblem
from mec_gym.core.types import FloatArray

REPORT_EVERY = 0.5
"""Time between two reports of a worker, s."""
SAMPLES = 500
"""Most values of one time in a report, which must fit into a pipe that nobody reads for long."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers of a trainer share.

    Attributes:
        adam: The shared Adam, which holds the parameters.
        clock: Number of steps played and number to pause at, int64 (2,).
        lock: Lock that a worker holds while it reads or changes the other two.
    """

    adam: SharedAdam
    clock: Tensor
    lock: Lock

    @property
    def steps(self) -> int:
        """Number of environment steps that all workers have played."""
        return int(self.clock[0])

    @property
    def pause_at(self) -> int:
        """Number of environment steps at which workers pause."""
        return int(self.clock[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker is told at its start.

    Attributes:
        problem: The problem that is learnt.
        head: The head that stands between environments and network.
        settings: Everything else that shapes learning.
        seed: Seed of the run.
        total_timesteps: Number of environment steps after which learning rate and entropy bonus
            have fallen to their last values.
        memory: What an earlier worker's ``Collector.memory`` returned, to go on from there; None
            to begin anew.
    """

    problem: AnyProblem
    head: Head
    settings: A3CSettings
    seed: int
    total_timesteps: int
    memory: bytes | None = None


@dataclass(slots=True, kw_only=True)
class Report:
    """What a worker has seen since its last report.

    Attributes:
        updates: Number of updates.
        samples: At most ``SAMPLES`` values per update of each part of the outcome that is a
            time, evenly spread over the steps, s.
        outcomes: Sums over updates of the mean per step of each cost and gain of the problem.
        sums: Sums over updates of everything else, by name.
        episode_returns: Return of each episode that ended.
        episode_lengths: Number of steps of each episode that ended.
    """

    updates: int = 0
    samples: dict[str, FloatArray] = field(default_factory=dict)
    outcomes: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    episode_returns: list[float] = field(default_factory=list)
    episode_lengths: list[int] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Add what another report says to this one."""
        self.updates += other.updates
        for name, values in other.samples.items():
            self.samples[name] = np.concatenate([self.samples.get(name, np.empty(0)), values])
        for mine, its in ((self.outcomes, other.outcomes), (self.sums, other.sums)):
            for name, value in its.items():
                mine[name] = mine.get(name, 0.0) + value
        self.episode_returns += other.episode_returns
        self.episode_lengths += other.episode_lengths

    def means(self, sums: dict[str, float]) -> dict[str, float]:
        """Turn ``outcomes`` or ``sums`` into means over updates."""
        return {name: value / self.updates for name, value in sums.items()}


@dataclass(frozen=True, slots=True)
class Paused:
    """The message of a worker that waits for a command.

    Attributes:
        report: What the worker has seen since its last report.
    """

    report: Report


@dataclass(frozen=True, slots=True)
class Failed:
    """The message of a worker that cannot go on.

    Attributes:
        why: Type and text of the error.
        trace: Where it came from, as Python writes it.
    """

    why: str
    trace: str


class Learner:
    """A worker without its process.

    Args:
        task: What the worker is told.
        shared: What all workers share.
        worker: Number of the worker, from 0 on.
    """

    def __init__(self, task: Task, shared: Shared, worker: int) -> None:
        self.task = task
        self.shared = shared
        settings = task.settings
        self.network = first_network(task.problem, task.head, settings, task.seed)
        self.flat = FlatParameters(self.network)
        self.flat.values.copy_(shared.adam.parameters)
        self.collector = Collector(task.problem, task.head, settings, task.seed, worker)
        if task.memory is not None:
            self.collector.remember(task.memory)

    def update(self) -> Report:
        """Pull parameters, play, and push one step of the shared Adam.

        Returns:
            The report of this update.

        Raises:
            FloatingPointError: The gradient is not finite.
        """
        settings, shared = self.task.settings, self.shared
        with locked(shared.lock):
            self.flat.values.copy_(shared.adam.parameters)
            pulled, steps = int(shared.adam.steps), shared.steps
        left = max(1.0 - steps / self.task.total_timesteps, 0.0)
        batch = self.collector.collect(self.network)
        ent_coef = settings.ent_coef_end + (settings.ent_coef - settings.ent_coef_end) * left
        losses = self.backward(batch, ent_coef)
        norm = clip(self.flat.gradient, settings.max_grad_norm)
        with locked(shared.lock):
            lag = int(shared.adam.steps) - pulled
            shared.adam.step(self.flat.gradient, settings.learning_rate * left)
            shared.clock[0] += settings.rollout
        return _report(batch, losses, {"grad_norm": norm, "lag": lag})

    def backward(self, batch: Batch, ent_coef: float) -> Losses:
        """Compute the loss of a batch, and its gradient in ``flat.gradient``.

        Args:
            batch: What was played.
            ent_coef: Weight of the entropy bonus.
        """
        settings = self.task.settings
        steps, envs, parts = batch.actions.shape
        inputs, played = batch.inputs.flatten(0, 1), batch.actions.view(-1, parts)
        # The last state has been seen but not been acted in.
        after = played.new_zeros(envs, parts)
        outputs, values = self.network(inputs, torch.cat([played, after]))
        known = values.detach().view(steps + 1, envs).numpy()
        gained = advantages(batch.rewards, known, batch.ended, settings.gamma, settings.gae_lambda)
        returns = torch.from_numpy((gained + known[:-1]).astype(np.float32)).flatten()
        advantage = torch.from_numpy(gained.astype(np.float32)).flatten()
        if settings.normalize:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        losses = actor_critic_loss(
            chosen=self.network.distribution(outputs[: steps * envs]),
            values=values[: steps * envs],
            actions=played,
            advantage=advantage,
            returns=returns,
            ent_coef=ent_coef,
            value_coef=settings.value_coef,
            multi_task=settings.multi_task,
            sharing=self.network.sharing_loss(),
        )
        # backward() adds: without this, gradients of earlier updates would pile up.
        self.flat.gradient.zero_()
        losses.total.backward()  # type: ignore[no-untyped-call]
        return losses


def clip(gradient: Tensor, most: float) -> float:
    """Scale a gradient down in place if it is too long.

    Args:
        gradient: The gradient, (P,).
        most: The largest norm that it may have.

    Returns:
        The norm that it had.

    Raises:
        FloatingPointError: The gradient is not finite.
    """
    norm = float(gradient.norm())
    if not math.isfinite(norm):
        raise FloatingPointError("the gradient is not finite; try a smaller learning_rate")
    if norm > most:
        gradient.mul_(most / norm)
    return norm


def _report(batch: Batch, losses: Losses, other: dict[str, float]) -> Report:
    return Report(
        updates=1,
        samples={
            name: values.ravel()[:: -(-values.size // SAMPLES)]
            for name, values in batch.parts.items()
            if name.endswith("_s")
        },
        outcomes={name: float(values.mean()) for name, values in batch.parts.items()},
        sums={
            "policy_loss": float(losses.policy),
            "value_loss": float(losses.value),
            "entropy": float(losses.entropy),
            "sharing_loss": float(losses.sharing),
            **other,
        },
        episode_returns=batch.episode_returns,
        episode_lengths=batch.episode_lengths,
    )


def first_network(
    problem: AnyProblem, head: Head, settings: A3CSettings, seed: int
) -> PolicyNetwork:
    """Make the network that a run of a seed begins with; torch's own generator is left alone.

    Raises:
        ValueError: The network does not fit the head, or multi-task A3C is asked to learn a single
            choice.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(settings.network, head, settings.options)
    if settings.multi_task and network.choices < 2:
        raise ValueError(
            f"multi_task must be False for {type(problem).__name__} with head {settings.head!r}, "
            "whose action is a single choice: multi-task A3C learns several side by side"
        )
    return network


def work(worker: int, shared: Shared, parent: Connection) -> None:
    """Run a worker in its process until it is told to stop or its parent is gone.

    Ctrl-C and SIGTERM are the parent's business: it tells its workers when to pause.

    Args:
        worker: Number of the worker, from 0 on.
        shared: What all workers share.
        parent: The pipe to the trainer, which sends the :class:`Task` first.
    """
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        _serve(Learner(parent.recv(), shared, worker), parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)  # the parent is gone
    except BaseException as error:
        with suppress(OSError):
            parent.send(Failed(f"{type(error).__name__}: {error}", traceback.format_exc()))
        sys.exit(1)


def _serve(learner: Learner, parent: Connection) -> None:
    """Learn, and pause where the clock says so until told to go on or to stop."""
    shared, report, last = learner.shared, Report(), time.monotonic()
    while True:
        if shared.steps >= shared.pause_at:
            parent.send(Paused(report))
            report, last = Report(), time.monotonic()
            if not _obey(learner, parent):
                return
            continue
        report.add(learner.update())
        if time.monotonic() - last > REPORT_EVERY:
            parent.send(report)
            report, last = Report(), time.monotonic()
        check_parent()


def _obey(learner: Learner, parent: Connection) -> bool:
    """Answer commands until one says whether to go on; return that."""
    while True:
        command: Any = parent.recv()
        if command == "memory":
            parent.send(learner.collector.memory())
        else:
            return bool(command == "go")


def check_parent() -> None:
    """Raise EOFError if the process that started this one is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise EOFError("the parent is gone")


@contextmanager
def locked(lock: Lock) -> Iterator[None]:
    """Hold a lock; a holder may have died, so the wait checks that the parent still lives."""
    while not lock.acquire(timeout=1.0):
        check_parent()
    try:
        yield
    finally:
        lock.release()
