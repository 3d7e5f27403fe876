"""A worker: pulls parameters, plays T steps, pushes one step of the shared Adam."""

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
"""Seconds between two reports of a worker."""
SAMPLES = 500
"""Most values of a time in a report: it must fit into a pipe that nobody reads for a while."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers see.

    Attributes:
        adam: Parameters and moments.
        clock: int64 [steps played, steps to pause at].
        lock: Held by whoever steps.
    """

    adam: SharedAdam
    clock: Tensor
    lock: Lock

    @property
    def steps(self) -> int:
        """Environment steps of all workers."""
        return int(self.clock[0])

    @property
    def pause_at(self) -> int:
        """Workers pause as soon as so many steps have been played."""
        return int(self.clock[1])


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is told at its start.

    Attributes:
        problem: What is played.
        head: Between environments and network.
        settings: How it learns.
        seed: Of the run.
        total_timesteps: When learning rate and entropy bonus have fallen to their end.
        memory: Of an earlier worker to go on for, see ``Collector.memory``.
    """

    problem: AnyProblem
    head: Head
    settings: A3CSettings
    seed: int
    total_timesteps: int
    memory: bytes | None = None


@dataclass(slots=True)
class Report:
    """What a worker has seen since its last report; sums over ``updates`` updates.

    Attributes:
        updates: Number of updates.
        samples: At most ``SAMPLES`` values of each part of the outcome that is a time, evenly
            spread over the steps, s.
        outcomes: Sums over updates of the mean per step of each cost and gain of the problem.
        sums: Sums over updates of everything else, by name.
        episode_returns: Of episodes that ended.
        episode_lengths: Likewise.
    """

    updates: int = 0
    samples: dict[str, FloatArray] = field(default_factory=dict)
    outcomes: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    episode_returns: list[float] = field(default_factory=list)
    episode_lengths: list[int] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take up what another report says."""
        self.updates += other.updates
        for name, values in other.samples.items():
            self.samples[name] = np.concatenate([self.samples.get(name, np.empty(0)), values])
        for mine, its in ((self.outcomes, other.outcomes), (self.sums, other.sums)):
            for name, value in its.items():
                mine[name] = mine.get(name, 0.0) + value
        self.episode_returns += other.episode_returns
        self.episode_lengths += other.episode_lengths

    def means(self, sums: dict[str, float]) -> dict[str, float]:
        """Means over updates of ``outcomes`` or ``sums``."""
        return {name: value / self.updates for name, value in sums.items()}


@dataclass(frozen=True, slots=True)
class Paused:
    """A worker waits for a command; its report is complete."""

    report: Report


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker cannot go on; why."""

    why: str


class Learner:
    """One worker without its process.

    Args:
        task: What it is told.
        shared: What it has in common with others.
        worker: Its number.
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
        """Pull, play, push: one step of the shared Adam.

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
        """The gradient of the loss of a batch, in ``flat.gradient``."""
        settings = self.task.settings
        steps, envs, choices = batch.places.shape
        inputs, played = batch.inputs.flatten(0, 1), batch.places.view(-1, choices)
        # The last state has been seen but not been acted in.
        after = played.new_zeros(envs, choices)
        logits, values = self.network(inputs, torch.cat([played, after]))
        known = values.detach().view(steps + 1, envs).numpy()
        gained = advantages(batch.rewards, known, batch.ended, settings.gamma, settings.gae_lambda)
        returns = torch.from_numpy((gained + known[:-1]).astype(np.float32)).flatten()
        advantage = torch.from_numpy(gained.astype(np.float32)).flatten()
        if settings.normalize:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        losses = actor_critic_loss(
            logits[: steps * envs],
            values[: steps * envs],
            played,
            advantage,
            returns,
            ent_coef,
            settings.value_coef,
            settings.multi_task,
            self.network.sharing_loss(),
        )
        # backward() adds: without this, gradients of earlier updates would pile up.
        self.flat.gradient.zero_()
        losses.total.backward()  # type: ignore[no-untyped-call]
        return losses


def clip(gradient: Tensor, most: float) -> float:
    """Scale a gradient down to a norm of ``most``, in place; returns what it was.

    Raises:
        FloatingPointError: It is not finite.
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
    """The network that a run of a seed begins with; torch's own generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_network(settings.network, head, settings.options)


def work(worker: int, shared: Shared, parent: Connection) -> None:
    """What a worker's process runs; ends with its parent.

    Ctrl-C and SIGTERM are the parent's business: it tells its workers when to pause.
    """
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        _serve(Learner(parent.recv(), shared, worker), parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)  # the parent is gone
    except BaseException as error:
        traceback.print_exc()
        with suppress(OSError):
            parent.send(Failed(f"{type(error).__name__}: {error}"))
        sys.exit(1)


def _serve(learner: Learner, parent: Connection) -> None:
    """Learn; pause where the clock says so, and obey until told to go on."""
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
    """Wait for commands; whether to go on."""
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
    """Hold a lock; whoever held it may be dead, so the wait looks after the parent."""
    while not lock.acquire(timeout=1.0):
        check_parent()
    try:
        yield
    finally:
        lock.release()
