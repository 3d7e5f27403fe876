"""What has become of every job of an episode, for pictures and studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.problem import Episode
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.federated_training import jobs, model, server
from mec_gym.federated_training.model import Decision, Outcome, State
from mec_gym.federated_training.scenario import Scenario, Slot
from mec_gym.federated_training.world import World

History = Episode[Slot, State, Decision, Outcome]
Fate = Literal["merged", "lost", "dropped", "on its way"]
FATES: tuple[Fate, ...] = get_args(Fate)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastJobs:
    """The J jobs of an episode so far, in the order in which they were sent off."""

    client: IntArray  # (J,)
    begin: FloatArray  # (J,) s, when it was sent off
    received: FloatArray  # (J,) s, when the client has the model, if it stays
    computed: FloatArray  # (J,) s, when it has trained, if it stays
    until: FloatArray  # (J,) s, when it arrives, is lost or is dropped; now if it is on its way
    fate: npt.NDArray[np.str_]  # (J,) one of FATES
    staleness: IntArray  # (J,) merges while it was on its way; 0 unless it was merged

    def where(self, mask: BoolArray) -> PastJobs:
        """Return those of the jobs for which a mask (J,) holds."""
        return arrays.at(self, mask)

    def count(self, fate: Fate, clients: int) -> IntArray:
        """Return how many jobs of each of N clients have come to an end of this kind, (N,)."""
        return np.bincount(self.client[self.fate == fate], minlength=clients)


class Merge(NamedTuple):
    """One merge of the server."""

    time: float  # s, when it stopped waiting
    updates: int  # how many it merged


def past(scenario: Scenario, episode: History) -> tuple[PastJobs, list[Merge]]:
    """Reconstruct the jobs of an episode, and the merges of the server.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    found: list[dict[str, Any]] = []
    merges: list[Merge] = []
    flying: dict[int, dict[str, Any]] = {}
    for t, (before, after) in enumerate(_steps(episode.states)):
        world = World(arrays.slot_of(episode.trace, t), (), scenario)
        asked = arrays.spread(episode.decisions[t], 0, ())
        sent_off = model.choose(world, before, asked, scenario)
        times = jobs.times(sent_off, world, scenario)
        client = before.client.copy()
        client[0, sent_off.row] = sent_off.client
        for number, row in enumerate(sent_off.row.tolist()):
            flying[row] = {
                "client": int(sent_off.client[number]),
                "begin": float(sent_off.begin[number]),
                "received": float(times.received[number]),
                "computed": float(times.computed[number]),
                "fate": "on its way",
                "staleness": 0,
            }
            found.append(flying[row])
        end, arrives = after.end, after.arrives
        stop = float(server.stops(client, end, arrives, before.clock, scenario)[0])
        merged = 0
        for row in list(flying):
            job, last = flying[row], float(end[0, row])
            if after.client[0, row] != jobs.FREE:
                job["until"] = min(last, float(after.clock[0]))
                continue
            del flying[row]
            job["until"] = min(last, stop, float(after.clock[0]))
            new = int(after.version[0])
            if new > before.version[0] and after.merged_into[0, job["client"]] == new:
                job["fate"], merged = "merged", merged + 1
                job["staleness"] = int(before.version[0] - after.based_on[0, row])
            else:
                job["fate"] = "lost" if last <= stop and not arrives[0, row] else "dropped"
        if merged:
            merges.append(Merge(stop, merged))
    return _records(found), merges


def _steps(states: Sequence[State]) -> list[tuple[State, State]]:
    """The states before and after each step, with one batch axis."""
    flat = [arrays.spread(state, 0, ()) for state in states]
    return list(pairwise(flat))


def _records(found: list[dict[str, Any]]) -> PastJobs:
    kinds = {"client": np.int64, "staleness": np.int64, "fate": np.str_}
    return PastJobs(
        **{
            field.name: np.array(
                [job[field.name] for job in found], dtype=kinds.get(field.name, np.float64)
            )
            for field in fields(PastJobs)
        }
    )
