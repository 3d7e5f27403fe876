"""Worlds by hand, in which everything is known.

Devices, a model of 8e6 bit, and how long it takes to send it to one listener:

    ======  ==========  ==========  ========
    device  trains, s   bit/s       sends, s
    ======  ==========  ==========  ========
    A       2           8e6         1
    B       5           4e6         2
    C       3           2e6         4
    D       11          16e6        0.5
    ======  ==========  ==========  ========
"""

import dataclasses

import numpy as np

from mec_gym.core import arrays
from mec_gym.gossip_training import model
from mec_gym.gossip_training.model import Decision
from mec_gym.gossip_training.scenario import Scenario, Slot

COMPUTE_S = [2.0, 5.0, 3.0, 11.0]
RATE = [8e6, 4e6, 2e6, 16e6]
SAMPLES = [30, 10, 50, 20]
ALL = "all"


def scenario(devices=4, **changes):
    """Little is learnt, so that it takes no time."""
    return Scenario(
        **{
            "devices": devices,
            "graph": "complete",
            "local_steps": 2,
            "batch": 3,
            "hidden": 2,
            "model_bits": 8e6,
            "budget_s": 200.0,
            "rounds": 30,
            **changes,
        }
    )


def slot(s, **changes):
    """The same in every round."""
    n, rng = s.devices, np.random.default_rng(5)
    images = rng.permutation(len(s.data.learn.labels))
    own = np.concatenate(
        [
            images[: 60 * n].reshape(n, 60),
            np.zeros((n, s.shared), dtype=np.int64),
        ],
        axis=1,
    )
    samples = np.array(SAMPLES[:n])
    for i, count in enumerate(samples):  # those that all hold come last
        own[i, count : count + s.shared] = images[60 * n : 60 * n + s.shared]
    return Slot(
        **{
            "compute_s": np.array(COMPUTE_S[:n]),
            "rate": np.array(RATE[:n]),
            "key": np.uint64(1234567),
            "own": own,
            "samples": samples + s.shared,
            "apart": np.zeros((n, n)),
            "initial": s.network.initial(rng).astype(np.float32),
            **changes,
        }
    )


def heard(s, says):
    """Whether i listens to j, (N, N), from ``"BA CA"``: B and C listen to A."""
    found = np.zeros((s.devices, s.devices), dtype=bool)
    for listener, speaker in says.split():
        found["ABCDEFGH".index(listener), "ABCDEFGH".index(speaker)] = True
    return found


def decision(s, says):
    """A decision: ``"all"``, or who listens to whom."""
    if says == ALL:
        return Decision(reduce=np.True_, listen=np.ones(len(s.edges), dtype=bool))
    asked = heard(s, says)
    listener, speaker = s.edges.T
    listen = asked[listener, speaker]
    assert listen.sum() == asked.sum(), "an edge that the graph lacks"
    return Decision(reduce=np.False_, listen=listen)


def check_finite(*records):
    for parts in records:
        for name, values in arrays.as_dict(parts).items():
            assert values.dtype.kind != "f" or np.isfinite(values).all(), name


def play(s, world, *says):
    """Let one decision follow the other in the same slot; their states and outcomes."""
    state = model.start(world, s)
    states, outcomes = [state], []
    for each in says:
        state, outcome = model.evaluate(world, state, decision(s, each), s)
        check_finite(state, outcome)
        states.append(state)
        outcomes.append(outcome)
    return states, outcomes


def clocks(s, *says, **changes):
    """The devices' clocks after these rounds."""
    return play(s, slot(s, **changes), *says)[0][-1].clock.tolist()


def replaced(record, **changes):
    return dataclasses.replace(record, **changes)
