"""Random devices, graphs and decisions, against a simulation event by event."""

import collections

import numpy as np
import pytest
from gossip_training import hand, oracle

from mec_gym.core import arrays
from mec_gym.gossip_training import model
from mec_gym.gossip_training.model import Decision
from mec_gym.gossip_training.scenario import Scenario

EPISODES = 3
GRAPHS = ("complete", "ring", "torus", "geometric", "one-sided")
WAYS = (
    {},
    {"mixing": "push-sum"},
    {"mixing": "metropolis"},
    {"overlap": True},
    {"overlap": True, "mixing": "push-sum"},
    {"payload": "choco", "payload_share": 0.1},
    {"payload": "choco", "payload_share": 0.3, "mixing": "metropolis"},
    {"payload": "segments"},
    {"payload": "segments", "overlap": True},
    {"payload": "class-logits"},
    {"payload": "shared-logits", "shared": 3},
)


def bits_of(s):
    """What a speaker sends to a listener, and what an all-reduce averages."""
    parameters = 64 * 1 + 1 + 1 * 10 + 10  # one hidden neuron
    if s.payload == "choco":
        kept = int(np.ceil(s.payload_share * parameters))
        return s.model_bits * kept * (32 + 7) / (32 * parameters), s.model_bits
    if s.payload == "segments":
        return s.model_bits / s.segments, s.model_bits
    if s.payload == "weights":
        return s.model_bits, s.model_bits
    rows = 10 if s.payload == "class-logits" else s.shared
    return 32 * rows * 10, 32 * rows * 10


def random_scenario(seed, rng):
    """Ways and graphs take turns; all else is drawn."""
    graph, way = GRAPHS[seed % len(GRAPHS)], WAYS[seed % len(WAYS)]
    drawn = {}
    if graph == "geometric":
        drawn["radius"] = float(rng.uniform(0.3, 1))
    if way.get("payload") == "segments":
        drawn["segments"] = int(rng.integers(1, 6))
    return Scenario(
        devices=int(rng.integers(2, 8)),
        graph=graph,
        rounds=int(rng.integers(4, 10)),
        budget_s=float(rng.uniform(20, 150)),
        local_steps=1,
        batch=1,
        hidden=1,
        partition="iid",
        forward_flop=float(8e9 * rng.lognormal(0, 0.5)),
        model_bits=float(8e6 * rng.lognormal(0, 1)),
        rate=4e6,
        speed_spread=float(rng.uniform(0, 1)),
        rate_spread=float(rng.uniform(0, 1)),
        jitter=float(rng.uniform(0, 0.5)),
        **drawn,
        **way,
    )


def near(found, expected):
    return abs(float(found) - expected) <= 1e-9 * max(1.0, abs(expected))


def check_random_devices(seed, seen):
    """Play one kind of gossip on several fleets at once, and each of them event by event."""
    rng = np.random.default_rng(seed)
    s = random_scenario(seed, rng)
    edges = [tuple(edge) for edge in s.edges.tolist()]
    trace = s.sample(rng, EPISODES)
    reduce = rng.random((EPISODES, s.rounds)) < 0.15
    listen = rng.random((EPISODES, s.rounds, len(edges))) < rng.random((EPISODES, 1, 1))
    expected = [
        oracle.play(
            s,
            edges,
            *(values[i].tolist() for values in (trace.compute_s, trace.rate, reduce, listen)),
            *bits_of(s),
        )
        for i in range(EPISODES)
    ]
    state = model.start(arrays.slot_at(trace, 0), s)
    for t in range(s.rounds):
        before, slot = state, arrays.slot_at(trace, t)
        decision = Decision(reduce=reduce[:, t], listen=listen[:, t])
        state, outcome = model.evaluate(slot, before, decision, s)
        for i, log in enumerate(expected):
            if t >= len(log):
                assert before.over[i]
                continue
            found = (arrays.at(record, i) for record in (before, state, outcome))
            check_round(s, log[t], bool(reduce[i, t]), *found)
            assert bool(state.over[i]) == (t == len(log) - 1)
            seen.update(
                rounds=1,
                reduced=int(reduce[i, t]),
                heard=bool(log[t].heard),
                alone=not log[t].heard and not reduce[i, t],
                out=len(log[t].active) < s.devices,
                few_reduced=int(reduce[i, t]) * (len(log[t].active) < s.devices),
                waited=log[t].waited > 1e-9,
                late=max(log[t].clock) > s.budget_s,
                ended_by_rounds=t == s.rounds - 1 and min(log[t].clock) < s.budget_s,
                ended_by_time=min(log[t].clock) >= s.budget_s,
                **{s.payload: 1, s.mixing: 1, f"overlap {s.overlap}": 1, s.graph: 1},
            )


def check_round(s, expected, all_reduce, before, after, outcome):
    for i, at in enumerate(expected.clock):
        assert near(after.clock[i], at)
    assert near(outcome.sent_bits, expected.bits)
    assert near(outcome.waiting_s, expected.waited / s.devices)
    if not all_reduce:
        assert near(outcome.heard, len(expected.heard) / s.devices)
    begun, ended = np.minimum(before.clock, s.budget_s), np.minimum(expected.clock, s.budget_s)
    assert near(outcome.seconds, (ended - begun).mean())


def check_variety(seen, least):
    """A comparison of episodes in which nothing happens would prove nothing."""
    assert min(seen.values()) > least * seen["rounds"], seen
    assert len(seen) == 10 + 5 + 3 + 2 + 5


def test_random_devices():
    seen = collections.Counter()
    for seed in range(17):
        check_random_devices(seed, seen)
    check_variety(seen, 0)


@pytest.mark.slow
def test_many_random_devices():
    seen = collections.Counter()
    for seed in range(100, 500):
        check_random_devices(seed, seen)
    check_variety(seen, 0.005)


def test_the_simulation_by_hand():
    """The numbers of the design."""
    heard = [(0, 1), (2, 1)]
    now, compute, rate = dict.fromkeys(range(3), 0.0), [2.0, 5.0, 3.0], [1.0, 1.0, 0.5]
    bits, free = dict.fromkeys(heard, 1.0), dict.fromkeys(range(3), 0.0)
    assert oracle.play_gossip(now, compute, rate, heard, bits, False, free) == {0: 7, 1: 5, 2: 7}
    assert free == {0: 0, 1: 7, 2: 0}  # 1 goes on sending when it has long begun the next round
    assert oracle.play_gossip(now, compute, rate, heard, bits, False, free)[0] == 9
    free = dict.fromkeys(range(3), 0.0)
    assert oracle.play_gossip(now, compute, rate, heard, bits, True, free) == {0: 2, 1: 5, 2: 3}
    end, sent = oracle.play_all_reduce(now, compute, rate, 1.0, free)
    assert (end, sent) == pytest.approx((5 + 4 / 3 * 2, 4.0))
    s = hand.scenario(rounds=2)
    edges = [tuple(edge) for edge in s.edges.tolist()]
    listen = [[edge == (0, 2) for edge in edges]] * 2
    nature = [hand.COMPUTE_S] * 2, [hand.RATE] * 2
    one, two = oracle.play(s, edges, *nature, [False, True], listen, 8e6, 8e6)
    assert one.clock == [7, 5, 3, 11] and (one.bits, one.waited) == (8e6, 5)
    assert two.clock == [22 + 1.5 * 4] * 4 and two.bits == 6 * 8e6
