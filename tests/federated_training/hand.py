"""Worlds by hand, in which everything is known, and what a job there leads to.

Four clients, whose rates stay. A job has 48e9 FLOP of work and a model 8e6 bit:

    =======  ===========  ==========  =============  ==========  =======  =========
    client   FLOP/s       up, bit/s   down, bit/s    in s        total    in J
    =======  ===========  ==========  =============  ==========  =======  =========
    A        4e9          4e6         16e6           .5 + 12 + 2 14.5 s   36 + 2.4
    B        2e9          8e6         8e6            1 + 24 + 1  26 s     72 + 1.2
    C        8e9          5e6         20e6           .4 + 6 + 1.6  8 s    18 + 1.92
    D        1e9          16e6        4e6            2 + 48 + .5 50.5 s   144 + 0.6
    =======  ===========  ==========  =============  ==========  =======  =========
"""

import dataclasses

import numpy as np

from mec_gym.core import arrays
from mec_gym.federated_training import model
from mec_gym.federated_training.model import Decision
from mec_gym.federated_training.scenario import Scenario, Slot
from mec_gym.learning.hashing import draw_indices
from mec_gym.learning.sgd import train

SPEED = [4e9, 2e9, 8e9, 1e9]
UP = [4e6, 8e6, 5e6, 16e6]
DOWN = [16e6, 8e6, 20e6, 4e6]
SECONDS = [14.5, 26.0, 8.0, 50.5]
COMPUTE_J = [36.0, 72.0, 18.0, 144.0]
SEND_J = [2.4, 1.2, 1.92, 0.6]
SAMPLES = [30, 10, 50, 20]


def scenario(clients=4, **changes):
    """A scenario whose job has 3 x 2e9 x 2 x 4 = 48e9 FLOP; bins of 5 s, 200 s in all."""
    return Scenario(
        **{
            "clients": clients,
            "at_once": clients,
            "quorum": clients,
            "local_steps": 2,
            "batch": 4,
            "rate": 0.2,
            "forward_flop": 2e9,
            "model_bits": 8e6,
            "hidden": 4,
            "budget_s": 200.0,
            "bin_s": 5.0,
            "decisions": 20,
            **changes,
        }
    )


def slot(s, **changes):
    """The first slot of a world in which rates stay and everybody is present."""
    n, k, rng = s.clients, s.bins, np.random.default_rng(5)

    def for_ever(values):
        return np.repeat(np.array(values[:n], dtype=float)[:, None], k, axis=1)

    labels = s.data.learn.labels
    classes = s.network.sizes[-1]
    images = rng.permutation(len(labels))[: n * 60].reshape(n, 60)
    usual = np.bincount(s.data.validate.labels, minlength=classes) / len(s.data.validate.labels)
    return Slot(
        **{
            "jitter": np.ones(n),
            "key": np.uint64(1234567),
            "present": np.ones((n, k), dtype=bool),
            "speed": for_ever(SPEED),
            "uplink": for_ever(UP),
            "downlink": np.array(DOWN[:n]),
            "own": images,
            "samples": np.array(SAMPLES[:n]),
            "gain": np.ones(n, dtype=np.float32),
            "initial": s.network.initial(rng).astype(np.float32),
            "demand": usual[None],
            **changes,
        }
    )


def play(s, world, *scores, effort=()):
    """Let one decision follow the other in the same slot; their states and outcomes.

    A decision is a string such as ``"AC"``: who is to be sent off, the first ones preferred.
    """
    state = model.start(world, s)
    states, outcomes = [], []
    for who in scores:
        score = np.full(s.clients, -1.0)
        for place, letter in enumerate(who):
            score["ABCDEFGH".index(letter)] = 1 - place / 10
        decision = Decision(score=score, effort=np.array(effort, dtype=float))
        state, outcome = model.evaluate(world, state, decision, s)
        for parts in (state, outcome):
            for name, values in arrays.as_dict(parts).items():
                known = np.isfinite(values) if values.dtype.kind == "f" else np.True_
                assert known.all() or name == "loss", name
        states.append(state)
        outcomes.append(outcome)
    return states, outcomes


def learnt(s, world, client, begin_from, steps=None, **options):
    """The weights that a client comes to, trained alone, and the loss that it reports."""
    steps = s.local_steps if steps is None else steps
    place = draw_indices(world.key, client, s.local_steps * s.batch, world.samples[client])
    index = world.own[client][place].reshape(1, s.local_steps, s.batch)[:, :steps]
    begin_from = np.asarray(begin_from, dtype=np.float32)[None]
    trained, loss = train(s.network, begin_from, s.data.learn, index, rate=s.rate, **options)
    return trained[0], float(loss[0])


def close(found, expected):
    """Weights are float32, of which sums differ in the last digits."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7)


def replaced(world, **changes):
    return dataclasses.replace(world, **changes)
