"""DAPDEE's joint choice of exit and partition, [Ding2025] alg. 4, and DADS's rule, [Hu2019]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.early_exit.mincut import SearchConfig, weighted_search
from agents.protocol import Solution
from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.early_exit.lookup import Lookup
from mec_gym.early_exit.model import (
    Decision,
    State,
    backlog,
    round_trip_times,
    service_times,
)
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario, Slot

INDICATORS = ("cpu", "memory", "uplink", "network delay", "battery", "deadline", "priority")
HEAVY_FROM = 0.4  # the score from which load is heavy, [Ding2025] alg. 4, line 13


class DADSSolver:
    """DADS, [Hu2019]: it knows no exits, and load is heavy if the light cut cannot keep up.

    Load is heavy when max(Td, Tt, Te) of the light-load cut exceeds the mean time between two
    frames. Then the cut is the weighted search's.

    Args:
        scenario: The parameters.
        config: The settings of the weighted search.
    """

    def __init__(self, scenario: Scenario, config: SearchConfig = SearchConfig()) -> None:
        self.exit = scenario.exits - 1
        self.lookup = Lookup(scenario.table.candidates(self.exit))
        self.config = config

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...); queues are not looked at."""
        cost = self.lookup.cost
        choice, _ = self.lookup.light(slot)
        stage = service_times(cost[choice], slot).max(axis=-1)
        heavy = stage * slot.arrival_rate > 1.0
        choice = np.where(heavy, heavy_cut(cost, slot, heavy, self.config), choice)
        return Solution(Decision(exit=np.full_like(choice, self.exit), partition=choice), len(cost))


def heavy_cut(cost: FloatArray, slot: Slot, mask: BoolArray, config: SearchConfig) -> IntArray:
    """The weighted search's cut of each slot, as an index into the costs.

    Args:
        cost: The costs of F partitions, (F, 3).
        slot: Fields (...).
        mask: Which slots are searched, (...); the others get 0.
        config: The settings of the weighted search.

    Returns:
        The index of each slot's cut, (...).
    """
    choice = np.zeros(mask.shape, dtype=np.int64)
    if mask.any():
        part = arrays.map_arrays(lambda a: np.asarray(a)[mask][:, None], slot)
        choice[mask], _ = weighted_search(service_times(cost, part), config)
    return choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What DAPDEE remembers of the frames of B episodes; there are k indicators."""

    seen: FloatArray  # (B,) the number of frames seen
    last: FloatArray  # (B, k) the indicators of the frame before
    mean: FloatArray  # (B, k) the mean of the indicators
    spread: FloatArray  # (B, k) the sum of squared deviations of the indicators
    change_mean: FloatArray  # (B, k) the mean of the indicators' changes, mu
    change_spread: FloatArray  # (B, k) the sum of squared deviations of the changes
    weights: FloatArray  # (B, k) the weights of the indicators, omega


class DAPDEEAgent:
    """DAPDEE, the whole of [Ding2025] alg. 4.

    It goes through the exits from the deepest on, cuts each by the algorithm for light load
    (min cut) or for heavy load (weighted search), and takes the first exit whose time meets the
    deadline. The paper leaves some points open; this is how they are read here:

    * Each indicator lies in [0, 1], and 1 means much load. CPU is the load of the device.
      Memory is the device's backlog / timeout, because waiting frames fill the memory; the
      paper measures usage. Uplink is the scarcity of bandwidth on a log scale over the
      scenario's range. Network delay is the round trip and the time to send a raw frame /
      deadline, at most 1. Battery is the share that is used. Deadline is the shortest deadline /
      deadline. Priority
      is P_task.
    * The weights sum to 1 and start equal. When an indicator changes by more than
      mu + 2 sigma of its own changes so far (lines 7 and 8), the weights become proportional to
      the standard deviations of the indicators so far: what varies more tells more.
    * Load (lines 9 to 14) is light if the priority is 1 or the score is below 0.4; otherwise it
      is heavy. The score does not depend on the exit, so it is computed once per frame.
    * In heavy mode too, line 16 compares the end-to-end time Td + Tt + Te, with the round
      trip, with the deadline.
      The algorithm does not consider waiting in queues.
    * If no exit meets the deadline, the fastest one found is taken. Line 20 (the update from
      measured accuracy and latency) has nothing to learn here, because both are known.

    Args:
        problem: The problem that is played.
        config: The settings of the weighted search.
    """

    def __init__(self, problem: EarlyExitPartition, config: SearchConfig = SearchConfig()) -> None:
        self.problem = problem
        self.config = config
        table = problem.scenario.table
        self.lookups = [Lookup(table.candidates(n)) for n in range(problem.scenario.exits)]

    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions for observations (observation,) or (B, observation); ``state`` is a Memory."""
        single = np.ndim(observation) == 1
        slot, queues = self.problem.decode(np.atleast_2d(observation))
        indicators = load_indicators(self.problem.scenario, slot, queues)
        memory = _start(indicators) if state is None else state
        if state is not None and episode_start is not None:
            begins = np.broadcast_to(np.asarray(episode_start, dtype=np.bool_), len(indicators))
            memory = arrays.where(begins, _start(indicators), memory)
        memory = remember(memory, indicators)
        score = (memory.weights * indicators).sum(axis=-1)
        heavy = (slot.priority < 1.0 - 1e-6) & (score >= HEAVY_FROM)
        action = self.problem.encode(choose_exit(self.lookups, slot, heavy, self.config))
        return (action[0] if single else action), memory


def load_indicators(scenario: Scenario, slot: Slot, state: State) -> FloatArray:
    """The load indicators that :class:`DAPDEEAgent` describes.

    Args:
        scenario: The parameters.
        slot: Fields (...).
        state: Fields (...).

    Returns:
        The indicators in the order of ``INDICATORS``, (..., 7) in [0, 1].
    """
    lowest, highest = scenario.bandwidth.lowest, scenario.bandwidth.highest
    plenty = np.log(slot.bandwidth / lowest) / (np.log(highest / lowest) or 1.0)
    raw_bits = scenario.graph.layers[0].output_bits
    columns = [
        1.0 - slot.device_speed,
        backlog(slot, state)[..., 0] / scenario.timeout_s,
        1.0 - plenty,
        (slot.round_trip + raw_bits / slot.bandwidth) / slot.deadline,
        1.0 - state.battery / scenario.battery,
        scenario.deadline[0] / slot.deadline,
        slot.priority,
    ]
    return np.clip(np.stack(columns, axis=-1), 0.0, 1.0)


def _start(indicators: FloatArray) -> Memory:
    zero = np.zeros_like(indicators)
    weights = np.full_like(indicators, 1.0 / indicators.shape[-1])
    return Memory(
        seen=np.zeros(len(indicators)),
        last=indicators,
        mean=zero,
        spread=zero,
        change_mean=zero,
        change_spread=zero,
        weights=weights,
    )


def remember(memory: Memory, indicators: FloatArray) -> Memory:
    """The memory after one more frame: running moments (Welford, 1962) and weights.

    Args:
        memory: The memory before the frame, fields (B, ...).
        indicators: The indicators of the frame, (B, k).

    Returns:
        The new memory. Its weights are new where a change stands out.
    """
    before = memory.seen[:, None]
    change = np.abs(indicators - memory.last)
    # Two changes, and with them their deviation, are known from the third frame on.
    sigma = np.sqrt(memory.change_spread / np.maximum(before - 1.0, 1.0))
    stands_out = (before >= 3) & (change > memory.change_mean + 2.0 * sigma)

    def welford(
        mean: FloatArray, spread: FloatArray, x: FloatArray, n: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        delta = x - mean
        mean = mean + delta / n
        return mean, spread + delta * (x - mean)

    mean, spread = welford(memory.mean, memory.spread, indicators, before + 1.0)
    # The first frame of an episode has no change.
    later = before > 0
    changed = welford(memory.change_mean, memory.change_spread, change, np.maximum(before, 1.0))
    deviation = np.sqrt(spread) + 1e-12
    weights = deviation / deviation.sum(axis=-1, keepdims=True)
    return Memory(
        seen=memory.seen + 1.0,
        last=indicators,
        mean=mean,
        spread=spread,
        change_mean=np.where(later, changed[0], memory.change_mean),
        change_spread=np.where(later, changed[1], memory.change_spread),
        weights=np.where(stands_out.any(axis=-1, keepdims=True), weights, memory.weights),
    )


def choose_exit(
    lookups: Sequence[Lookup], slot: Slot, heavy: BoolArray, config: SearchConfig = SearchConfig()
) -> Decision:
    """The exit and the cut for loads that are known, [Ding2025] alg. 4, lines 2 to 21.

    Args:
        lookups: The partitions of each exit, from the earliest on.
        slot: Fields (...).
        heavy: Where load is heavy, (...).
        config: The settings of the weighted search.
    """
    best_exit = np.zeros(heavy.shape, dtype=np.int64)
    best_cut = np.zeros(heavy.shape, dtype=np.int64)
    fastest = np.full(heavy.shape, np.inf)
    settled = np.zeros(heavy.shape, dtype=np.bool_)
    for index, lookup in reversed(list(enumerate(lookups))):
        cost = lookup.cost
        choice, _ = lookup.light(slot)
        choice = np.where(heavy, heavy_cut(cost, slot, heavy & ~settled, config), choice)
        time = service_times(cost[choice], slot).sum(axis=-1)
        time += round_trip_times(cost[choice], slot)
        better = ~settled & (time < fastest)
        meets = ~settled & (time <= slot.deadline)
        taken = better | meets
        best_exit = np.where(taken, index, best_exit)
        best_cut = np.where(taken, choice, best_cut)
        fastest = np.where(taken, time, fastest)
        settled |= meets
    return Decision(exit=best_exit, partition=best_cut)
