"""The trainer starts workers, lets them learn up to a moment and never leaves one behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor

from agents.a3c.settings import A3CSettings
from agents.a3c.shared_adam import SharedAdam, share
from agents.a3c.worker import Failed, Paused, Report, Shared, Task, first_network, work
from agents.heads import Head
from agents.networks import PolicyNetwork
from mec_gym.core.problem import AnyProblem

POLL = 0.1
"""Longest time that the trainer waits for messages before it looks up, s."""
UNGUARDED = 79
"""Exit status of a worker whose import of the main script would have started training again."""
PATIENCE = 5.0
"""Time that a worker is given to end by itself, s."""


@dataclass(frozen=True, slots=True)
class Memory:
    """All that a run consists of, between two updates.

    Attributes:
        steps: Number of environment steps that all workers have played.
        adam: State of the shared Adam: parameters, moments and number of updates.
        workers: What the next steps of each worker depend on, see ``Collector.memory``.
    """

    steps: int
    adam: dict[str, Tensor]
    workers: list[bytes]


class Trainer:
    """A3C's workers, each a process of its own.

        with Trainer(problem, head, settings, seed, total) as trainer:
            trainer.wait()                     # until all workers are ready
            trainer.release(total)             # they learn
            trainer.wait()                     # until all of them have paused again
            trainer.copy_to(network)

    Workers are asynchronous between ``release`` and ``wait``; afterwards nobody moves, so
    that what is read is consistent. They are gone when the block is left, however it is.

    Args:
        problem: The problem that is learnt.
        head: The head that stands between environments and network.
        settings: Everything else that shapes learning.
        seed: Seed of the network and of the environments.
        total_timesteps: Number of environment steps after which learning rate and entropy bonus
            have fallen to their last values.
        memory: What an earlier trainer's :meth:`memory` returned, to go on from there; None to
            begin anew.

    Raises:
        ValueError: The network does not fit the problem, or the memory to the settings.
        ChildProcessError: A worker failed or died; all others are stopped.
    """

    def __init__(
        self,
        problem: AnyProblem,
        head: Head,
        settings: A3CSettings,
        seed: int,
        total_timesteps: int,
        memory: Memory | None = None,
    ) -> None:
        _end_if_imported_by_a_worker()
        cores = usable_cores()
        if settings.workers > cores:
            warnings.warn(
                f"{settings.workers} workers share {cores} cores: each will be slower, and none "
                "of them better",
                RuntimeWarning,
                stacklevel=2,
            )
        if memory is not None and len(memory.workers) != settings.workers:
            raise ValueError(
                f"workers must stay {len(memory.workers)}, as the run began, got {settings.workers}"
            )
        network = first_network(problem, head, settings, seed)
        adam = SharedAdam(torch.nn.utils.parameters_to_vector(network.parameters()))
        steps = 0
        if memory is not None:
            adam.load_state(memory.adam)
            steps = memory.steps
        memories = [None] * settings.workers if memory is None else memory.workers
        self._tasks = [
            Task(
                problem=problem,
                head=head,
                settings=settings,
                seed=seed,
                total_timesteps=total_timesteps,
                memory=one,
            )
            for one in memories
        ]
        self._context = mp.get_context("spawn")
        # They begin paused.
        clock = share(torch.tensor([steps, 0]))
        self._shared = Shared(adam=adam, clock=clock, lock=self._context.Lock())
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._paused: set[int] = set()
        self.ready = False

    @property
    def steps(self) -> int:
        """Number of environment steps that all workers have played so far."""
        return self._shared.steps

    @property
    def updates(self) -> int:
        """Number of steps that the shared Adam has made so far."""
        return int(self._shared.adam.steps)

    @property
    def pids(self) -> list[int]:
        """Ids of the workers' processes."""
        return [process.pid for process in self._processes]

    def __enter__(self) -> Trainer:
        """Start the workers."""
        try:
            for worker in range(len(self._tasks)):
                here, there = self._context.Pipe()
                process = self._context.Process(
                    target=work, args=(worker, self._shared, there), name=f"a3c-{worker}"
                )
                process.daemon = True
                self._processes.append(process)
                self._pipes.append(here)
                start_deaf(process)
                there.close()
            # Large, so only now that all of them load their libraries at the same time.
            for worker, task in enumerate(self._tasks):
                self._send(worker, task)
        except BaseException:
            self._end(at_once=True)
            raise
        self._tasks = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the workers, at once if there was an error."""
        self._end(at_once=kind is not None)

    def release(self, pause_at: int) -> None:
        """Let all workers learn; they pause at the end of the update that reaches a number.

        Args:
            pause_at: Number of environment steps of all workers at which they pause.
        """
        self._shared.clock[1] = pause_at
        for worker in sorted(self._paused):
            self._send(worker, "go")
        self._paused.clear()

    def wait(
        self,
        stop: Callable[[], bool] = lambda: False,
        report: Callable[[Report], None] = lambda report: None,
    ) -> None:
        """Wait until all workers have paused.

        Args:
            stop: Function that is asked often; once it returns True, workers pause after the
                update they are at. While workers are only being started it ends the wait, and
                ``ready`` stays False.
            report: Function that is given the workers' reports.
        """
        while len(self._paused) < len(self._processes):
            if stop():
                if not self.ready:
                    return
                self._shared.clock[1] = 0
            for worker, message in self._messages():
                if isinstance(message, Paused):
                    self._paused.add(worker)
                    message = message.report
                if message.updates:
                    report(message)
        self.ready = True

    def memory(self) -> Memory:
        """Collect everything the run consists of; all workers must have paused."""
        assert len(self._paused) == len(self._processes)
        answers: dict[int, bytes] = {}
        for worker in self._paused:
            self._send(worker, "memory")
        while len(answers) < len(self._processes):
            answers.update(self._messages())
        workers = [answers[worker] for worker in sorted(answers)]
        return Memory(steps=self.steps, adam=self._shared.adam.state(), workers=workers)

    def copy_to(self, network: PolicyNetwork) -> None:
        """Give a network of the same kind the parameters as they are."""
        copy = self._shared.adam.parameters.clone()
        torch.nn.utils.vector_to_parameters(copy, network.parameters())

    def _messages(self) -> list[tuple[int, Any]]:
        """Return what has come, at most one message per worker; wait a little for the first.

        Raises:
            ChildProcessError: A worker failed or died.
        """
        messages = []
        for ready in wait([*self._pipes, *(p.sentinel for p in self._processes)], POLL):
            if not isinstance(ready, Connection):
                # It has ended. Its last message, if any, says more than its end.
                worker = [p.sentinel for p in self._processes].index(ready)
                if not self._pipes[worker].poll():
                    self._fail(worker)
                continue
            worker = self._pipes.index(ready)
            try:
                message = ready.recv()
            except (EOFError, OSError):
                self._fail(worker)
            if isinstance(message, Failed):
                # The command line shows the one line; from Python, the trace is shown above it.
                told = RuntimeError(f"in worker {worker}:\n{message.trace}")
                raise ChildProcessError(f"worker {worker} failed: {message.why}") from told
            messages.append((worker, message))
        return messages

    def _send(self, worker: int, message: Any) -> None:
        try:
            self._pipes[worker].send(message)
        except (BrokenPipeError, ConnectionResetError):
            self._fail(worker)

    def _fail(self, worker: int) -> None:
        """Say what became of a worker, without the broken pipe by which it was noticed."""
        process = self._processes[worker]
        process.join(PATIENCE)
        code = process.exitcode
        if code == UNGUARDED:
            raise ChildProcessError(
                "workers import the script that starts them, and this one would train again: "
                'keep its work under `if __name__ == "__main__":`'
            ) from None
        how = "" if code is None else f", exit status {code}"
        if code is not None and code < 0:
            how = f", killed by {signal.Signals(-code).name}"
        raise ChildProcessError(f"worker {worker} died (process {process.pid}{how})") from None

    def _end(self, at_once: bool) -> None:
        """End all processes and wait for them."""
        started = [process for process in self._processes if process.pid is not None]
        if not at_once and len(self._paused) == len(started):
            for pipe in self._pipes:
                with contextlib.suppress(OSError):
                    pipe.send("stop")
            for process in started:
                process.join(PATIENCE)
        for process in started:
            process.kill()  # they do not listen to SIGTERM
            process.join()
            process.close()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []
        self._paused = set()


def _end_if_imported_by_a_worker() -> None:
    """End the process if it is a worker that is only now importing the script that started it."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_deaf(process: Any) -> None:
    """Start a process that never hears Ctrl-C or SIGTERM.

    A worker ignores them itself, but only after seconds of loading libraries. What is
    blocked here is blocked there for good.
    """
    if not hasattr(signal, "pthread_sigmask"):
        process.start()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
