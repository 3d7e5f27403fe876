"""What the pair scorer is shown, recomputed number by number."""

import dataclasses

import numpy as np
import pytest
from distributed_inference.oracle import contended, draw
from places_problem import PlacesProblem
from slow import slow_off_diagonal

from agents.distributed_inference.pairs.features import (
    DeviceFeatures,
    Layout,
    PairFeatures,
    columns,
)
from agents.distributed_inference.pairs.head import PairsHead
from agents.distributed_inference.pairs.network import PairsNetwork
from agents.heads import FlatHead, make_head
from agents.networks import make_network
from agents.settings import NetworkOptions
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.distributed_inference.lookahead import look_ahead
from mec_gym.distributed_inference.model import State
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Channel, Scenario

# Chains of 4 blocks on rates that differ up and down, between devices and between servers.
WORLD = contended(
    devices=3, servers=2, blocks=4, tasks=2, channel=Channel(), idle=0.3, background=1.0,
    battery=10.0,
)  # fmt: skip
CASES = {
    "shared": WORLD,
    "not shared": dataclasses.replace(WORLD, contention=False),
    "nothing returns": dataclasses.replace(WORLD, return_result=False),
    "blocks due": dataclasses.replace(WORLD, deadline_of="block", late_weight=0.7),
    "one block": dataclasses.replace(WORLD, blocks=1),
    "two blocks": dataclasses.replace(WORLD, blocks=2),
    "one server": dataclasses.replace(WORLD, servers=1),
    "more servers than devices": dataclasses.replace(WORLD, devices=2, servers=4),
}


def moments(s, seed=0, n=8):
    """Slots and states (n,) at every stage of a chain: poor, late, given up, away, at home."""
    trace = draw(s, seed, n)
    rng = np.random.default_rng(seed)
    shape = (n, s.devices)
    for t in range(s.rounds):
        battery = np.where(rng.random(shape) < 0.4, 10.0 ** rng.uniform(-6, 0, shape), 10.0)
        battery = np.where(rng.random(shape) < 0.1, 0.0, battery)
        state = State(
            place=rng.integers(s.servers + 1, size=shape),
            delay=rng.exponential(0.5, shape),
            failed=rng.random(shape) < 0.1,
            battery=battery,
            rounds_left=np.full(n, float(s.rounds - t)),
        )
        yield arrays.slot_at(trace, t), state


def names(kind):
    return [field.name for field in dataclasses.fields(kind)]


def after(s, slot, n, place, b, last, crowd):
    """Least cost of everything from block b on, the one before it at a place: by recursion."""
    left = int(slot.blocks_left)
    if b > last or b >= left:
        return 0.0
    bits = slot.bits[n, b]
    found = []
    for q in range(s.servers + 1):
        if q == place:
            move = 0.0
        elif place == 0:
            move = bits / slot.uplink[n, q - 1]
        else:
            move = bits / (slot.downlink[n, place - 1] if q == 0 else s.backhaul)
        if q == 0:
            compute = slot.work[n, b] / slot.device_rate[n]
        else:
            tenants = 1.0 + slot.load[q - 1] + crowd[q - 1]
            compute = slot.work[n, b] * tenants / slot.server_rate[q - 1]
        delay = move + compute
        if q and b == left - 1 and s.return_result:
            delay += slot.bits[n, b + 1] / slot.downlink[n, q - 1]
        if s.deadline_of == "block" and delay > slot.deadline[n]:
            late = min(delay / slot.deadline[n] - 1, 2.0)
            delay += (s.miss_cost + s.late_weight * late) / s.latency_weight
        found.append(delay + after(s, slot, n, q, b + 1, last, crowd))
    return min(found)


def pair_by_hand(s, slot, state, n, p, last, crowd):
    """Every number of device n and place p, one episode, by name."""
    bits, work = slot.bits[n], slot.work[n]
    before, left, m = state.place[n], int(slot.blocks_left), p - 1
    following = work[1] if s.blocks > 1 else 0.0
    seen = dict.fromkeys(names(PairFeatures), 0.0)
    seen["stays"] = float(before == p)
    seen["ahead"] = after(s, slot, n, p, 1, last, crowd)
    if p == 0:
        local = work[0] / slot.device_rate[n]
        fetch = bits[0] / slot.downlink[n, before - 1] if before else 0.0
        needed = slot.compute_power[n] * work[0] / slot.device_rate[n]
        seen["now"] = local + fetch
        seen["download"] = fetch if s.contention else 0.0
        seen["rest"] = sum(work) / slot.device_rate[n]
        seen["stay"] = following / slot.device_rate[n]
        leaves = [bits[1] / rate for rate in slot.uplink[n]]
    else:
        upload = bits[0] / slot.uplink[n, m]
        needed = s.transmit_power * upload if before == 0 else 0.0
        rate = slot.server_rate[m] / (1.0 + slot.load[m])
        move = 0.0 if before == p else bits[0] / s.backhaul
        move = upload if before == 0 else move
        result = bits[1] / slot.downlink[n, m] if left == 1 and s.return_result else 0.0
        seen["now"] = move + work[0] / rate + result
        if s.contention:
            seen["compute"] = work[0] / slot.server_rate[m]
            seen["upload"] = upload if before == 0 else 0.0
            seen["download"] = result
        seen["rest"], seen["stay"] = sum(work) / rate, following / rate
        # With one server there is no other.
        leaves = [bits[1] / slot.downlink[n, m], bits[1] / s.backhaul][: s.servers]
        seen["send"] = 1e6 / slot.uplink[n, m]
        seen["load"] = slot.load[m]
    seen["leave"] = min(leaves) if left > 1 else 0.0
    return seen, needed <= state.battery[n]


@pytest.mark.parametrize(("name", "foresight"), slow_off_diagonal(CASES, [None, 2, 0]))
def test_every_number(name, foresight):
    s = CASES[name]
    problem = DistributedInference(s)
    head = PairsHead(problem, foresight)
    last = s.blocks if foresight is None else min(foresight, s.blocks)
    met = dict.fromkeys(("idle", "poor", "penniless", "away", "home", "alone", "nobody"), 0)
    for slots, states in moments(s):
        inputs = head.inputs(problem.observe(slots, states))
        assert inputs.dtype == np.float32
        assert all(head.input_space.contains(row) for row in inputs)
        shown = head.layout.unpack(inputs)
        for e in range(len(inputs)):
            slot, state = arrays.at(slots, e), arrays.at(states, e)
            active = slot.active & ~state.failed
            busy = int(active.sum())
            met["alone"] += busy == 1
            met["nobody"] += busy == 0
            crowd = max(busy - 1, 0) * slot.server_rate / sum(slot.server_rate)
            crowd = crowd if s.contention else np.zeros(s.servers)
            left = state.rounds_left / s.rounds
            np.testing.assert_allclose(shown.round.rounds_left[e], left, rtol=1e-6)
            np.testing.assert_allclose(shown.round.crowd[e], busy / s.servers, rtol=1e-6)
            for n in range(s.devices):
                by_hand = [
                    pair_by_hand(s, slot, state, n, p, last, crowd) for p in range(s.servers + 1)
                ]
                can_pay = [paid for _, paid in by_hand]
                for p, (seen, paid) in enumerate(by_hand):
                    seen["allowed"] = float((paid or not any(can_pay)) if active[n] else p == 0)
                    for column, expected in seen.items():
                        found = getattr(shown.pair, column)[e, n, p]
                        message = f"{column} of device {n} at {p}"
                        np.testing.assert_allclose(
                            found, expected, rtol=2e-5, atol=1e-9, err_msg=message
                        )
                needed = slot.compute_power[n] * (sum(slot.work[n]) / slot.device_rate[n])
                battery = state.battery[n]
                whole = {
                    "exists": 1.0,
                    "active": float(active[n]),
                    "delay": state.delay[n],
                    "deadline": slot.deadline[n],
                    "blocks_left": slot.blocks_left / s.blocks,
                    "energy": min(needed / battery, 1.0) if battery else 1.0,
                }
                assert list(whole) == names(DeviceFeatures)
                for column, expected in whole.items():
                    found = getattr(shown.device, column)[e, n]
                    np.testing.assert_allclose(found, expected, rtol=2e-5, err_msg=column)
                met["idle"] += not active[n]
                met["poor"] += active[n] and any(can_pay) and not all(can_pay)
                met["penniless"] += active[n] and not any(can_pay)
                met["away" if state.place[n] else "home"] += 1
    assert all(met[kind] for kind in met if s.blocks > 1 or kind in ("idle", "poor", "away")), met


@pytest.mark.parametrize("foresight", [None, 2, 0])
def test_what_is_ahead_is_what_planners_look_ahead(foresight):
    """The crowd that is expected at a server is its share of all servers' rates."""
    problem = DistributedInference(WORLD)
    head = PairsHead(problem, foresight)
    for slots, states in moments(WORLD, seed=1):
        observation = problem.observe(slots, states)
        shown = head.layout.unpack(head.inputs(observation))
        slot, _ = problem.decode(observation)
        others = np.maximum(slot.active.sum(-1) - 1, 0)[:, None]
        crowd = others * slot.server_rate / slot.server_rate.sum(-1)[:, None]
        expected = look_ahead(slot, WORLD, crowd, foresight)
        np.testing.assert_allclose(shown.pair.ahead, expected, rtol=1e-6)
        # After the last block there is nothing to look at.
        ends = (slot.blocks_left == 1.0).all()
        assert (expected > 0).any() == (foresight != 0 and not ends)


def test_heads_by_name():
    problem = DistributedInference(WORLD)
    for name, foresight in (("pairs", None), ("pairs-2", 2), ("pairs-0", 0)):
        head = make_head(name, problem)
        assert type(head) is PairsHead and head.foresight == foresight
        assert head.layout == Layout(3, 2) and head.device_columns == 0 and head.parameters() == {}
        assert head.output_space.nvec.tolist() == [3, 3, 3]
        with pytest.raises(ValueError, match=f"'{name}' fits distributed_inference"):
            make_head(name, PlacesProblem())


def test_room_for_more():
    """What exists not is seen as nothing, and what exists as without it."""
    problem = DistributedInference(WORLD)
    head, wide = PairsHead(problem), PairsHead(problem, room_for=(5, 4))
    assert wide.output_space.nvec.tolist() == [5] * 5
    for slots, states in moments(WORLD, seed=2):
        observation = problem.observe(slots, states)
        inputs = wide.inputs(observation)
        assert all(wide.input_space.contains(row) for row in inputs)
        shown, padded = head.layout.unpack(head.inputs(observation)), wide.layout.unpack(inputs)
        for name in names(PairFeatures):
            found, expected = getattr(padded.pair, name), getattr(shown.pair, name)
            np.testing.assert_array_equal(found[:, :3, :3], expected)
            assert (found[:, :3, 3:] == 0).all()  # not allowed, too
            assert (found[:, 3:, 0] == (name == "allowed")).all()
            assert (found[:, 3:, 1:] == 0).all()
        for name in names(DeviceFeatures):
            found, expected = getattr(padded.device, name), getattr(shown.device, name)
            np.testing.assert_array_equal(found[:, :3], expected)
            assert (found[:, 3:] == (name == "deadline")).all()
        np.testing.assert_array_equal(columns(padded.round), columns(shown.round))
        one = wide.inputs(observation[0])
        np.testing.assert_array_equal(one, inputs[0])


def test_not_enough_room():
    problem = DistributedInference(WORLD)
    for room in ((2, 2), (3, 1), (5, 1), (2, 9)):
        with pytest.raises(ValueError, match=r"room_for must be at least \(3, 2\), got \("):
            PairsHead(problem, room_for=room)
    assert PairsHead(problem, room_for=(3, 2)).layout == Layout(3, 2)


def test_actions_are_those_of_the_devices_that_exist():
    problem = DistributedInference(WORLD)
    observation = np.zeros((2, *problem.observation_space.shape), np.float32)
    raw = np.array([[1, 0, 2, 0, 0], [2, 2, 0, 0, 0]])
    head = PairsHead(problem, room_for=(5, 4))
    assert head.act(observation, raw).tolist() == [[1, 0, 2], [2, 2, 0]]
    assert head.act(observation[0], raw[0]).tolist() == [1, 0, 2]
    assert head.usual_reward(observation).tolist() == [0.0, 0.0]


def test_numbers_do_not_depend_on_others_but_for_the_crowd():
    """Without contention a device sees what it would see alone, whatever the number of devices."""
    s = dataclasses.replace(WORLD, contention=False)
    single = dataclasses.replace(s, devices=1)
    head, one = (PairsHead(DistributedInference(x)) for x in (s, single))
    narrow = ("bits", "work", "active", "deadline", "uplink", "downlink", "device_rate")
    narrow += ("compute_power",)
    for slots, states in moments(s, seed=3):
        shown = head.layout.unpack(head.inputs(head.problem.observe(slots, states)))
        for n in range(3):
            slot = dataclasses.replace(
                slots, **{f: getattr(slots, f)[:, n : n + 1] for f in narrow}
            )
            state = dataclasses.replace(
                states,
                **{f: getattr(states, f)[:, n : n + 1]
                   for f in ("place", "delay", "failed", "battery")},
            )  # fmt: skip
            alone = one.inputs(one.problem.observe(slot, state))
            its = one.layout.unpack(alone)
            for found, expected in (
                *zip(columns(its.pair), columns(shown.pair), strict=True),
                *zip(columns(its.device), columns(shown.device), strict=True),
            ):
                np.testing.assert_array_equal(found[:, 0], expected[:, n])


def test_the_head_offers_its_network():
    problem = DistributedInference(WORLD)
    head = make_head("pairs", problem)
    assert set(head.networks) == {"pairs"}
    assert type(make_network("pairs", head)) is PairsNetwork
    for other in (make_head("flat", problem), FlatHead(PlacesProblem())):
        assert not other.networks
        with pytest.raises(ValueError, match=r"network .*flat.* this head, got 'pairs'"):
            make_network("pairs", other)
        with pytest.raises(ValueError, match=r"network 'pairs' .*got FlatHead"):
            PairsNetwork(other, NetworkOptions())
    # The other way round the head fits: a flat network sees the pairs as a list of numbers.
    assert make_network("flat", head).choices == 3


def test_sizes_side_by_side():
    """All have the room of the largest; rewards count as if there were as many devices."""
    problem = DistributedInference(WORLD)
    parts = PairsHead(problem, foresight=2).side_by_side([(2, 1), (4, 1), (1, 3)], 0.7)
    sizes = [(part.problem.scenario.devices, part.problem.scenario.servers) for part in parts]
    assert sizes == [(2, 1), (4, 1), (1, 3)]
    assert [part.reward_scale for part in parts] == [0.7 * 3 / 2, 0.7 * 3 / 4, 0.7 * 3 / 1]
    for part in parts:
        assert part.head.problem is part.problem
        assert part.head.foresight == 2 and part.head.layout == Layout(4, 3)
        devices, servers = part.problem.scenario.devices, part.problem.scenario.servers
        assert part.problem.scenario == dataclasses.replace(WORLD, devices=devices, servers=servers)


def test_the_inputs_of_whole_episodes_are_finite():
    """Also at the end, where no round is left and the slot is the last one's."""

    class Watching:
        def __init__(self, head):
            self.head = head

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            inputs = self.head.inputs(observation)
            assert np.isfinite(inputs).all() and (inputs >= 0).all()
            places = np.random.default_rng(0).integers(4, size=(len(observation), 5))
            return places, state

    problem = DistributedInference(Scenario(battery=1.0))
    trace = sample_episodes(problem, 0, 20)
    played = rollout(problem, Watching(PairsHead(problem)), trace)
    assert played.outcomes.dropped.sum() > 0
