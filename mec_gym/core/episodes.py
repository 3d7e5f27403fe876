"""The episodes that an adapter plays, drawn ahead from each environment's own generator."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.packing import array_of
from mec_gym.core.problem import AnyProblem


class EpisodeQueue:
    """B queues of episodes, one per environment, that are read slot by slot.

    Every queue holds ``problem.episodes_ahead`` episodes that were drawn in one call, so that
    an episode of a single slot costs little. What a generator yields depends on its seed only,
    never on B.

    Args:
        problem: The problem whose episodes are drawn.
        generators: The B generators of the environments.
    """

    def __init__(self, problem: AnyProblem, generators: Sequence[np.random.Generator]) -> None:
        self.problem = problem
        self.generators = list(generators)
        self._rows = np.arange(len(self.generators))
        self._depth = 0
        self._next = np.zeros(len(self.generators), dtype=np.int64)
        self._current = np.zeros_like(self._next)
        self._queue: Any = None  # fields (B, depth, T, ...) or (B, depth, 1, ...)
        # What holds during the whole of the episodes that are being played, by name, (B, ...).
        self._held: dict[str, npt.NDArray[Any]] | None = None
        # The state of the generator that each queue was drawn from; None for a user's trace.
        self._drawn_from: list[Any] = [None] * len(self.generators)

    def reseed(self, row: int, generator: np.random.Generator) -> None:
        """Give environment ``row`` another generator, and forget what was drawn ahead."""
        self.generators[row] = generator
        self._next[row] = self._depth

    def replay(self, trace: Any, mask: npt.NDArray[np.bool_] | None = None) -> None:
        """Play episode i of a trace next in environment i, and drawn episodes after it.

        Args:
            trace: A checked trace of B episodes.
            mask: The environments that play it, (B,); the others go on with what they play.
                None for all.
        """
        if mask is not None and not mask.all():
            rows, last = np.flatnonzero(mask), self._depth - 1
            for name, field in arrays.as_dict(self._queue).items():
                field[rows, last] = getattr(trace, name)[rows]
            self._next[rows] = last
            for row in rows:
                self._drawn_from[row] = None
            return
        self._queue = arrays.map_arrays(lambda a: np.ascontiguousarray(a[:, None]), trace)
        self._depth = 1
        self._next[:] = self._current[:] = 0
        self._drawn_from = [None] * len(self.generators)

    def advance(self, mask: npt.NDArray[np.bool_]) -> None:
        """Begin the next episode in those environments where ``mask`` (B,) holds."""
        empty = mask & (self._next >= self._depth)
        if empty.any():
            self._refill(np.flatnonzero(empty))
        self._current = np.where(mask, self._next, self._current)
        self._held = None
        self._next += mask

    def slot(self, t: npt.NDArray[np.int64]) -> Any:
        """Slot t[i] of the episode that environment i is playing, fields (B, ...)."""
        # One flat index and ``take`` are several times faster than indexing three axes.
        episodes = self._rows * self._depth + self._current
        slots = episodes * self.problem.horizon + t
        if self._held is None:
            self._held = {
                name: field.reshape(-1, *field.shape[3:]).take(episodes, axis=0)
                for name, field in arrays.as_dict(self._queue).items()
                if field.shape[2] != self.problem.horizon
            }
        fields = dict(self._held)
        for name, field in arrays.as_dict(self._queue).items():
            if name not in fields:
                fields[name] = field.reshape(-1, *field.shape[3:]).take(slots, axis=0)
        return arrays.from_dict(type(self._queue), fields)

    def episode(self, row: int) -> Any:
        """A copy of the episode that environment ``row`` is playing, without the axis of B."""
        current = self._current[row]
        return arrays.map_arrays(lambda field: field[row, current].copy(), self._queue)

    def trace(self) -> Any:
        """A copy of the episodes that are being played, a trace of B episodes."""
        return arrays.at(self._queue, (self._rows, self._current))

    def _refill(self, rows: npt.NDArray[np.int64]) -> None:
        ahead = self.problem.episodes_ahead
        if self._depth != ahead:
            if len(rows) == len(self.generators):
                self._queue = None
            elif self._queue is not None:  # After a replay, keep each current episode.
                kept = self.trace()
                self._queue = arrays.map_arrays(lambda a: np.repeat(a[:, None], ahead, 1), kept)
                self._current[:] = ahead - 1
                self._next[:] = ahead
        for row in rows:
            generator = self.generators[row]
            self._drawn_from[row] = generator.bit_generator.state
            self._queue = self._with(row, self.problem.sample(generator, ahead), self._queue)
        self._depth = ahead
        self._next[rows] = 0

    def _with(self, row: int, drawn: Any, queue: Any) -> Any:
        """The queue (None if there is none yet) with the drawn episodes in one of its rows.

        Rows are written one at a time, as they are drawn: all of them at once would take
        as much memory as the queue itself. They are written in place, for fresh memory costs
        more than the copy, and in C order whatever order their problem draws in: slots are
        read from flat views, which only arrays in C order have.
        """
        if queue is None:
            count = len(self.generators)
            queue = arrays.map_arrays(lambda a: np.empty((count, *a.shape), a.dtype), drawn)
        for name, field in arrays.as_dict(queue).items():
            field[row] = getattr(drawn, name)
        return queue

    def state(self) -> dict[str, Any]:
        """Return all that the next episodes depend on, as arrays and plain values.

        It holds no drawn episodes, but the states of the generators that they were drawn from:
        this takes kilobytes instead of up to hundreds of megabytes. Only episodes of a user's
        trace are kept themselves, until all of them are over.
        """
        given = self._queue is not None and None in self._drawn_from
        return {
            "generators": [generator.bit_generator.state for generator in self.generators],
            "drawn_from": list(self._drawn_from),
            "next": self._next.copy(),
            "current": self._current.copy(),
            "episodes": (
                {name: field.copy() for name, field in arrays.as_dict(self._queue).items()}
                if given
                else None
            ),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from where :meth:`state` was called; episodes are drawn again.

        Args:
            state: What :meth:`state` returned, of a queue of as many environments.

        Raises:
            ValueError: The state is of another problem, or damaged.
        """
        drawn_from, episodes = list(state["drawn_from"]), state["episodes"]
        if not len(drawn_from) == len(state["generators"]) == len(self.generators):
            raise ValueError(f"the state must be of {len(self.generators)} environments")
        queue: Any = None
        if episodes is not None:
            queue = self._given(episodes)
        elif None not in drawn_from:
            for row, generator in enumerate(self.generators):
                again = copy.deepcopy(generator)
                again.bit_generator.state = drawn_from[row]
                ahead = self.problem.episodes_ahead
                queue = self._with(row, self.problem.sample(again, ahead), queue)
        depth = 0 if queue is None else next(iter(arrays.as_dict(queue).values())).shape[1]
        upcoming, current = (array_of(state, name, self._next) for name in ("next", "current"))
        for number, most in ((upcoming, depth), (current, max(depth - 1, 0))):
            if number.min() < 0 or number.max() > most:
                raise ValueError(f"next and current must be among {depth} episodes")
        for generator, now in zip(self.generators, state["generators"], strict=True):
            generator.bit_generator.state = now
        self._queue, self._depth, self._drawn_from = queue, depth, drawn_from
        self._next, self._current, self._held = upcoming, current, None

    def _given(self, episodes: Mapping[str, Any]) -> Any:
        """The episodes of a state as a queue, if they fit the problem."""
        template = self.problem.sample(np.random.default_rng(0), 1)
        fields = {}
        for name, one in arrays.as_dict(template).items():
            depth = np.shape(episodes[name])[1]
            like = np.broadcast_to(one, (len(self.generators), depth, *one.shape[1:]))
            fields[name] = np.ascontiguousarray(array_of(episodes, name, like))
        if len({field.shape[1] for field in fields.values()}) != 1:
            raise ValueError("episodes must be as many in every field")
        return arrays.from_dict(type(template), fields)
