"""Random fleets and protocols, against a simulation event by event."""

import collections
import dataclasses

import numpy as np
import pytest
from federated_training import hand, oracle

from mec_gym.core import arrays
from mec_gym.federated_training import model
from mec_gym.federated_training.model import Decision
from mec_gym.federated_training.scenario import Scenario

EPISODES = 10


def random_scenario(rng):
    clients = int(rng.integers(1, 8))
    at_once = int(rng.integers(1, clients + 1))
    local_steps = int(rng.integers(1, 4))
    late = str(rng.choice(["keep", "drop"]))
    return Scenario(
        clients=clients,
        at_once=at_once,
        quorum=int(rng.integers(1, at_once + 1)),
        deadline=float(rng.uniform(5, 60)) if rng.random() < 0.4 else None,
        late=late,
        merge=str(rng.choice(["average", "mix"])),
        max_staleness=int(rng.choice([0, 1, 20])) if late == "keep" else 20,
        local_steps=local_steps,
        batch=int(rng.integers(1, 3)),
        control_steps=bool(rng.random() < 0.5),
        hidden=1,
        forward_flop=float(2e9 * rng.lognormal(0, 0.5)),
        model_bits=float(2e7 * rng.lognormal(0, 0.5)),
        server_s=float(rng.choice([0.0, 0.05, 4.0])),
        idle_s=float(rng.uniform(3, 30)),
        speed=2e9,
        load_spread=float(rng.uniform(0, 1)),
        fading=float(rng.uniform(0, 1)),
        budget_s=float(rng.uniform(100, 300)),
        bin_s=float(rng.uniform(3, 15)),
        decisions=12,
        compute_w=float(rng.uniform(1, 5)),
        send_w=float(rng.uniform(1, 5)),
    )


def random_presence(rng, shape):
    """Stays and absences of a few bins; some are always present."""
    change = rng.random(shape) < rng.choice([0.02, 0.1, 0.3])
    change[..., 0] = rng.random(shape[:-1]) < 0.2
    return (change.cumsum(axis=-1) % 2 == 0) | (rng.random((*shape[:-1], 1)) < 0.2)


def check_random_fleets(seed, seen):
    """Play one protocol on ten fleets at once, and each of them event by event."""
    rng = np.random.default_rng(seed)
    s = random_scenario(rng)
    trace = s.sample(rng, EPISODES)
    present = random_presence(rng, trace.present.shape)
    trace = dataclasses.replace(trace, present=present)
    shape = (EPISODES, s.decisions, s.clients)
    scores = np.round(rng.uniform(-0.5, 1, shape), 1)  # so some are alike, and some are 0
    steps = rng.integers(1, s.local_steps + 1, shape)
    if not s.control_steps:
        steps[:] = s.local_steps
    expected = [
        oracle.play(s, arrays.at(arrays.slot_at(trace, 0), i), trace.jitter[i], scores[i], steps[i])
        for i in range(EPISODES)
    ]
    effort = 2 * (steps - 1) / max(s.local_steps - 1, 1) - 1
    state = model.start(arrays.slot_at(trace, 0), s)
    for t in range(s.decisions):
        before = state
        decision = Decision(
            score=scores[:, t], effort=effort[:, t] if s.control_steps else effort[:, t, :0]
        )
        state, outcome = model.evaluate(arrays.slot_at(trace, t), before, decision, s)
        for i, log in enumerate(expected):
            if t >= len(log):
                assert before.over[i]
                continue
            check_step(s, log, t, *(arrays.at(record, i) for record in (before, state, outcome)))
            seen.update(
                steps=1,
                merged=len(log[t].merged),
                stale=sum(log[t].merged.values()),
                lost=len(log[t].lost),
                dropped=len(log[t].dropped),
                idle=not log[t].sent_off and not log[t].flying,
                ended_by_time=log[t].over and t < s.decisions - 1,
                ended_by_decisions=log[t].over and log[t].clock < s.budget_s,
            )


def near(found, expected):
    """Much faster than ``pytest.approx``, of which there would be thousands."""
    return abs(float(found) - expected) <= 1e-9 * max(1.0, abs(expected))


def check_step(s, log, t, before, after, outcome):
    step = log[t]
    assert np.flatnonzero(after.taken > before.taken).tolist() == step.sent_off
    assert near(after.clock, step.clock)
    assert bool(after.over) == step.over
    version = int(before.version) + bool(step.merged)
    assert int(after.version) == version
    assert float(outcome.merged) == len(step.merged)
    if step.merged:
        assert np.flatnonzero(after.merged_into == version).tolist() == sorted(step.merged)
        mean = sum(step.merged.values()) / len(step.merged)
        assert near(outcome.staleness, mean)
        for client, seconds in step.durations.items():
            assert near(after.last_duration[client], seconds)
    else:
        assert np.array_equal(after.merged_into, before.merged_into)
        assert float(outcome.staleness) == 0
    if not (step.over and step.clock == s.budget_s):  # what becomes of jobs after it is no matter
        assert float(outcome.lost) == len(step.lost)
        assert float(outcome.dropped) == len(step.dropped)
        assert sorted(after.client[after.client >= 0].tolist()) == step.flying
    computed = sum(job.computed_s for job in step.jobs)
    sent = sum(job.sent_s for job in step.jobs)
    assert near(outcome.compute_j, s.compute_w * computed)
    assert near(outcome.send_j, s.send_w * sent)
    bits = s.model_bits * sum(1 + job.sends for job in step.jobs)
    assert near(outcome.sent_bits, bits)


def check_variety(seen):
    """A comparison of episodes in which nothing happens would prove nothing."""
    assert min(seen.values()) > 0.005 * seen["steps"], seen


def test_random_fleets():
    """200 cases: 20 protocols on 10 fleets each."""
    seen = collections.Counter()
    for seed in range(20):
        check_random_fleets(seed, seen)
    check_variety(seen)


@pytest.mark.slow
def test_many_random_fleets():
    seen = collections.Counter()
    for seed in range(100, 400):
        check_random_fleets(seed, seen)
    check_variety(seen)


def test_the_simulation_by_hand():
    """The two clients of the design: 14.5 and 26 s, then A again while B is on its way."""
    s = hand.scenario(clients=2, quorum=1)
    world = hand.slot(s)
    scores = np.full((s.decisions, 2), -1.0)
    scores[0], scores[1, 0] = 1, 1
    log = oracle.play(s, world, np.ones((s.decisions, 2)), scores, np.full((s.decisions, 2), 2))
    assert [step.clock for step in log[:2]] == pytest.approx([14.55, 26.05])
    assert [step.merged for step in log[:2]] == [{0: 0}, {1: 1}]
    assert log[1].flying == [0] and log[0].sent_off == [0, 1]
    assert [job.computed_s for job in log[0].jobs] == pytest.approx([12.0, 24.0])
    assert [job.sent_s for job in log[0].jobs] == pytest.approx([2.0, 1.0])
