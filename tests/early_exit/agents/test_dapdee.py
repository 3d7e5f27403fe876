"""DADS and DAPDEE: the choice of an exit, the load, the memory, and whole episodes."""

import dataclasses

import early_exit.cases as cases
import numpy as np
import pytest
from early_exit.cases import UNIT, idle, one_slot, pair, stage_times
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.early_exit.dapdee import (
    HEAVY_FROM,
    DADSSolver,
    DAPDEEAgent,
    Memory,
    choose_exit,
    heavy_cut,
    load_indicators,
    remember,
)
from agents.early_exit.mincut import SearchConfig, WeightedSearchSolver, weighted_search
from agents.early_exit.rules import ExactLoadSolver
from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.early_exit.lookup import Lookup
from mec_gym.early_exit.model import service_times
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.network.bandwidth import Regimes

# --- DADS

# Light: (0, 1/4, 1/8), 0.375 s in all; heavy: (0.2, 0.1, 0.1), slowest stage 0.2 s.
SWITCH = [(0, 0.25, 0.125), (0.2, 0.1, 0.1), (1.2, 0, 0)]


def test_dads_switches_at_one_over_the_rate():
    solver = DADSSolver(cases.chain_scenario(SWITCH))

    def choice(rate, **changes):
        slot = one_slot(**{**UNIT, "arrival_rate": rate, **changes})
        return pair(solver.solve(slot, idle()).decision)

    assert choice(1.0) == (0, 0)
    assert choice(4.0) == (0, 0)  # just keeps up
    assert choice(np.nextafter(4.0, 5.0)) == (0, 1)
    assert choice(100.0) == (0, 1)
    # At half the bandwidth the light cut is the middle one, 0.2 + 0.2 + 0.1, and the slowest
    # stage 0.2.
    assert choice(5.1, bandwidth=0.5) == (0, 1) == choice(1.0, bandwidth=0.5)
    # How long the next frame really takes to come, and queues, are not looked at.
    assert choice(1.0, interval=1e-6) == (0, 0)
    busy = cases.state_of(np.full(3, 0.8), 11.0, 3.0)
    assert pair(solver.solve(one_slot(**UNIT, arrival_rate=1.0), busy).decision) == (0, 0)


def test_dads_in_a_batch():
    rng = np.random.default_rng(11)
    problem, _ = cases.random_problem(rng, exits=2)
    slots = cases.random_slots(rng, (3, 50))
    decision = DADSSolver(problem.scenario).solve(slots, idle((3, 50))).decision
    light = ExactLoadSolver(problem.scenario, "light").solve(slots, idle((3, 50))).decision
    heavy = WeightedSearchSolver(problem.scenario).solve(slots, idle((3, 50))).decision
    cannot = stage_times(problem, slots, light).max(-1) > 1.0 / slots.arrival_rate
    expected = np.where(cannot, heavy.partition, light.partition)
    assert np.array_equal(decision.partition, expected) and (decision.exit == 1).all()
    assert 0.1 < cannot.mean() < 0.9
    assert (heavy.partition != light.partition)[cannot].any()


# --- DAPDEE: the choice of an exit


def lookups(scenario):
    return [Lookup(scenario.table.candidates(n)) for n in range(scenario.exits)]


def test_the_deepest_exit_that_meets_the_deadline():
    """Hand network, all speeds 1, 1 Mbit/s. Late: 6 ms + 19 ms on the edge; early: 6 + 6 ms."""
    known = lookups(cases.scenario())

    def choose(deadline, heavy=False, bandwidth=1e6):
        slot = one_slot(device_speed=1.0, edge_speed=1.0, bandwidth=bandwidth, deadline=deadline)
        return pair(choose_exit(known, slot, np.array(heavy)))

    assert choose(0.0251) == (1, 0)
    assert choose(0.0249) == (0, 0)
    assert choose(0.0121) == (0, 0)
    # Nobody is in time: the fastest, be it early ...
    assert choose(0.0119) == (0, 0)
    # ... and no link: 0.16 s and 0.05 s, all on the device.
    assert choose(0.161, bandwidth=1.0) == (1, 6)
    assert choose(0.159, bandwidth=1.0) == (0, 2)
    assert choose(0.049, bandwidth=1.0) == (0, 2)


def test_in_time_to_the_last_digit():
    known = lookups(cases.chain_scenario(SWITCH))
    slot = one_slot(**UNIT, deadline=0.375)
    assert pair(choose_exit(known, slot, np.array(False))) == (0, 0)
    # Two exits, both of 0.375 s at best: the deeper one, in time or not.
    graph = cases.network(
        ((0, 1), (0, 2)), (0.25, 0, 0), (0, 1.2, 1.2), (0, 0.125, 0.125), ((1, 0.5), (2, 0.9))
    )
    scenario = cases.scenario(network=graph, bandwidth=Regimes((0.5, 2.0)))
    for deadline in (0.375, np.nextafter(0.375, 0)):
        slot = one_slot(**UNIT, deadline=deadline)
        assert pair(choose_exit(lookups(scenario), slot, np.array(False))) == (1, 0)


def test_heavy_load_tests_the_end_to_end_time():
    """(0.2, 0.1, 0.1): 0.4 s from end to end, though its slowest stage takes 0.2 s."""
    # The early head is on the input: (0, 1/4, 0.05) or (0.3, 0, 0).
    graph = cases.network(
        ((0, 1), (1, 2), (0, 3)), (0.25, 0.1, 0, 0), (0, 0.2, 1.0, 0.3), (0, 0.025, 0.1, 0.05),
        ((3, 0.5), (2, 0.9)),
    )  # fmt: skip
    scenario = cases.scenario(network=graph, bandwidth=Regimes((0.5, 2.0)))
    known = lookups(scenario)
    np.testing.assert_allclose(known[1].cost, SWITCH)
    np.testing.assert_allclose(known[0].cost, [(0, 0.25, 0.05), (0.3, 0, 0)])

    def choose(deadline, heavy):
        return pair(choose_exit(known, one_slot(**UNIT, deadline=deadline), np.array(heavy)))

    assert choose(0.41, True) == (1, 1)
    assert choose(0.41, False) == (1, 0)
    assert choose(0.39, True) == (0, 0)  # 0.25 slowest stage against 0.3
    assert choose(0.39, False) == (1, 0)
    # Neither is in time: of the heavy cuts 0.3 s and 0.4 s.
    assert choose(0.1, True) == (0, 0)


@pytest.mark.parametrize("config", [SearchConfig(), SearchConfig(steps=2, rounds=1)])
def test_heavy_cuts_where_asked_for_only(config):
    rng = np.random.default_rng(12)
    cost = rng.lognormal(0, 1, (30, 3))
    slots = cases.random_slots(rng, (4, 6))
    mask = rng.random((4, 6)) < 0.5
    found = heavy_cut(cost, slots, mask, config)
    every, _ = weighted_search(service_times(cost, cases.widen(slots)), config)
    assert np.array_equal(found, np.where(mask, every, 0))
    assert heavy_cut(cost, slots, np.zeros((4, 6), dtype=bool), config).sum() == 0
    assert heavy_cut(cost, one_slot(), np.array(True), config).shape == ()


@pytest.mark.parametrize("exits", [1, 2, 4])
def test_choose_exit_equals_a_walk_over_the_exits(exits):
    rng = np.random.default_rng(13)
    problem, _ = cases.random_problem(rng, exits=exits)
    known = lookups(problem.scenario)
    slots = cases.random_slots(rng, (300,))
    slots = dataclasses.replace(slots, deadline=slots.deadline * rng.choice([0.1, 0.3, 1.0], 300))
    heavy = rng.random(300) < 0.5
    decision = choose_exit(known, slots, heavy)
    chosen = {"met": 0, "missed": 0}
    for k in range(300):
        slot, best = arrays.at(slots, k), None
        for n in reversed(range(exits)):
            times = cases.times_in_all(known[n].cost, slot)
            service = service_times(known[n].cost, slot)
            cut = weighted_search(service)[0] if heavy[k] else times.argmin()
            total = times[cut]
            if total <= slot.deadline:
                best = (total, n, int(cut))
                chosen["met"] += 1
                break
            if best is None or total < best[0]:
                best = (total, n, int(cut))
        else:
            chosen["missed"] += 1
        assert (decision.exit[k], decision.partition[k]) == best[1:]
    assert min(chosen.values()) > 20


# --- DAPDEE: load


def test_indicators_by_hand():
    scenario = cases.scenario(bandwidth=Regimes((1e4, 1e6), spread=0.0))
    state = cases.state_of([0.27, 0.5, 0.6], 8.8, 4.0)
    slot = one_slot(bandwidth=1e5, deadline=0.2)
    # Memory 0.27 / 0.9; 100 kbit/s is half way from 10 to 1000; 6000 bits take 0.06 s of 0.2 s;
    # a fifth of 11 J is used; the shortest deadline is 0.12 s.
    expected = [0.2, 0.3, 0.5, 0.3, 0.2, 0.6, 0.4]
    got = load_indicators(scenario, slot, state)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    # At most 1, and a constant bandwidth is no load.
    assert load_indicators(scenario, one_slot(bandwidth=1e4), state)[3] == 1.0
    constant = cases.scenario(bandwidth=Regimes((5e4,), spread=0.0))
    assert load_indicators(constant, one_slot(), state)[2] == 1.0


def first_memory(indicators):
    """Nothing is seen, and the weights are equal."""
    zero = np.zeros_like(indicators)
    return Memory(
        seen=np.zeros(len(zero)),
        last=indicators,
        mean=zero,
        spread=zero,
        change_mean=zero,
        change_spread=zero,
        weights=np.full_like(zero, 1 / 7),
    )


def test_memory_by_hand():
    """One indicator moves 0.1, 0.2, then 0.3: mu 0.15 and sigma 0.05, so 0.25 is the limit."""
    frames = np.full((4, 1, 7), 0.5)
    frames[:, 0, 2] = [0.1, 0.2, 0.4, 0.7]
    frames[:, 0, 5] = [0.3, 0.3, 0.3, 0.4]
    memory = first_memory(frames[0])
    for frame in frames[:3]:
        memory = remember(memory, frame)
        np.testing.assert_allclose(memory.weights, 1 / 7, rtol=1e-12)
    assert memory.seen == 3.0
    np.testing.assert_allclose(memory.mean[0, 2], 0.7 / 3, rtol=1e-12)
    np.testing.assert_allclose(memory.change_mean[0, 2], 0.15, rtol=1e-12)
    np.testing.assert_allclose(memory.change_spread[0, 2], 2 * 0.05**2, rtol=1e-9)
    memory = remember(memory, frames[3])
    spread = np.array([0, 0, np.std([0.1, 0.2, 0.4, 0.7]), 0, 0, np.std([0.3, 0.3, 0.3, 0.4]), 0])
    np.testing.assert_allclose(memory.weights[0], spread / spread.sum(), rtol=1e-9, atol=1e-11)
    # Without a change nothing is updated again, though deviations go on changing.
    again = remember(memory, frames[3])
    assert np.array_equal(again.weights, memory.weights) and again.seen == 5.0


def test_running_moments_equal_numpys():
    """Of indicators and of their changes, for five episodes side by side."""
    frames = np.random.default_rng(0).random((40, 5, 7))
    # Nothing is seen yet, so the last frame that this memory holds does not count.
    memory = first_memory(frames[-1])
    for t in range(40):
        memory = remember(memory, frames[t])
        so_far, changes = frames[: t + 1], np.abs(np.diff(frames[: t + 1], axis=0))
        assert memory.seen.tolist() == [t + 1] * 5
        assert np.array_equal(memory.last, frames[t])
        np.testing.assert_allclose(memory.mean, so_far.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(memory.spread / (t + 1), so_far.var(axis=0), atol=1e-14)
        if t:
            np.testing.assert_allclose(memory.change_mean, changes.mean(axis=0), rtol=1e-12)
            variance = memory.change_spread / t
            np.testing.assert_allclose(variance, changes.var(axis=0), atol=1e-14)
        else:
            assert not memory.change_mean.any() and not memory.change_spread.any()


def test_weights_change_exactly_when_a_change_stands_out():
    rng = np.random.default_rng(1)
    # Some steps are ten times as large.
    steps = rng.normal(size=(60, 8, 7)) * np.where(rng.random((60, 8, 7)) < 0.01, 0.1, 0.01)
    frames = 0.5 + np.cumsum(steps, axis=0)
    memory, updates, kept = first_memory(frames[0]), 0, 0
    for t in range(60):
        before, memory = memory, remember(memory, frames[t])
        changes = np.abs(np.diff(frames[: t + 1], axis=0))
        stands_out = np.zeros(8, dtype=bool)
        if t >= 3:
            limit = changes[:-1].mean(axis=0) + 2 * changes[:-1].std(axis=0)
            stands_out = (changes[-1] > limit).any(axis=-1)
        deviation = frames[: t + 1].std(axis=0)
        for e in range(8):
            if stands_out[e]:
                expected = deviation[e] / deviation[e].sum()
                np.testing.assert_allclose(memory.weights[e], expected, rtol=1e-6)
            else:
                assert np.array_equal(memory.weights[e], before.weights[e])
        updates, kept = updates + stands_out.sum(), kept + (~stands_out).sum()
        np.testing.assert_allclose(memory.weights.sum(axis=-1), 1.0, rtol=1e-12)
    assert min(updates, kept) > 50


# --- DAPDEE: whole episodes


def walk(problem, seed, frames):
    """Observations (T, 14) of an episode under random actions."""
    env = MecEnv(problem)
    problem.action_space.seed(seed)
    seen = [env.reset(seed=seed)[0]]
    while len(seen) < frames:
        seen.append(env.step(problem.action_space.sample())[0])
    return np.stack(seen)


@pytest.mark.parametrize("seed", range(4))
def test_dapdee_equals_a_walk_through_algorithm_4(seed):
    rng = np.random.default_rng(seed)
    problem, _ = cases.random_problem(
        rng, exits=3, horizon=60, arrival_rates=(6.0, 25.0), battery=20.0, urgent_share=0.3
    )
    agent, known = DAPDEEAgent(problem), lookups(problem.scenario)
    memory = expected = None
    counts = dict.fromkeys(("updated", "heavy", "light", "urgent"), 0)
    for observation in walk(problem, seed, 60):
        action, memory = agent.predict(observation, memory)
        slot, state = problem.decode(observation)
        indicators = load_indicators(problem.scenario, slot, state)
        before = first_memory(indicators[None]) if expected is None else expected
        expected = remember(before, indicators[None])
        for name, value in arrays.as_dict(expected).items():
            assert np.array_equal(getattr(memory, name), value)
        urgent = float(slot.priority) == 1.0
        heavy = not urgent and float(expected.weights[0] @ indicators) >= HEAVY_FROM
        counts["updated"] += not np.array_equal(expected.weights, before.weights)
        counts["urgent" if urgent else "heavy" if heavy else "light"] += 1
        assert tuple(action) == pair(choose_exit(known, slot, np.array(heavy)))
    assert min(counts.values()) >= 1, counts
    assert counts["heavy"] + counts["urgent"] > 5


def test_priority_one_is_light_whatever_the_load():
    """All indicators high: SWITCH's light and heavy cuts differ, so the mode shows."""
    scenario = cases.chain_scenario(SWITCH, deadline=(0.6, 0.8), battery=1.0, normal_priority=0.99)
    problem = EarlyExitPartition(scenario)
    loaded = cases.state_of([0.9, 0.0, 0.0], 0.1, 3.0)
    for priority, expected in ((1.0, 0), (0.99, 1)):
        slot = one_slot(**UNIT, deadline=0.6, priority=priority)
        # Equal weights: cpu 0, memory 1, uplink 1/2, delay 5/12, battery 0.9, deadline 1, priority.
        score = load_indicators(scenario, slot, loaded).mean()
        assert score == pytest.approx((1 + 0.5 + 0.25 / 0.6 + 0.9 + 1 + priority) / 7, rel=1e-9)
        assert score > HEAVY_FROM
        action, _ = DAPDEEAgent(problem).predict(problem.observe(slot, loaded))
        assert tuple(action) == (0, expected)


def test_load_is_heavy_from_a_score_of_04():
    scenario = cases.chain_scenario(
        SWITCH, deadline=(0.6, 0.8), battery=1.0, normal_priority=0.0, load_spread=1.0
    )
    problem = EarlyExitPartition(scenario)
    # cpu 0, uplink 1/2, delay 5/12, deadline 1, priority 0; 2.8 in all are 0.4 on average.
    rest = 0.5 + 0.25 / 0.6 + 1.0
    for shift, expected in ((-1e-3, 0), (1e-3, 1)):
        memory, battery = 0.5, 2.8 - rest - 0.5 + shift
        state = cases.state_of([0.9 * memory, 0, 0], 1.0 - battery, 3.0)
        slot = one_slot(**UNIT, deadline=0.6, priority=0.0)
        action, _ = DAPDEEAgent(problem).predict(problem.observe(slot, state))
        assert tuple(action) == (0, expected)


def test_a_batch_equals_single_episodes_and_starts_forget():
    """Episodes of one batch that begin at different times play as they do alone."""
    rng = np.random.default_rng(15)
    problem, _ = cases.random_problem(rng, exits=3, horizon=30, arrival_rates=(20.0,))
    walks = np.stack([walk(problem, seed, 30) for seed in range(4)])  # (4, T, 11)
    begins = np.array([0, 0, 5, 12])
    agent, memory, played = DAPDEEAgent(problem), None, []
    for t in range(30):
        # An episode that begins later takes the place of another one that ends then.
        observation = walks[np.arange(4), (t - begins) % 30]
        start = (t == 0) | (t == begins)
        action, memory = agent.predict(observation, memory, episode_start=start)
        assert action.shape == (4, 2) and action.dtype == problem.action_space.dtype
        played.append((action, memory))
    assert memory.seen.tolist() == [30, 30, 25, 18]
    for e, begin in enumerate(begins):
        alone = None
        for t in range(begin, 30):
            action, alone = agent.predict(walks[e, t - begin], alone)
            assert action.shape == (2,) and np.array_equal(action, played[t][0][e])
            assert np.array_equal(alone.weights[0], played[t][1].weights[e])
    # There may be one flag for all.
    _, anew = agent.predict(walks[:, 0], memory, episode_start=True)
    assert anew.seen.tolist() == [1, 1, 1, 1]


def test_sb3_evaluates_dapdee_as_it_plays_alone():
    """Two episodes per environment, so that memory must be given up in between."""
    rng = np.random.default_rng(17)
    problem, _ = cases.random_problem(rng, exits=3, horizon=25, arrival_rates=(20.0,))
    workers = DummyVecEnv([lambda: Monitor(MecEnv(problem))] * 3)
    workers.seed(50)
    rewards, lengths = evaluate_policy(
        DAPDEEAgent(problem), workers, n_eval_episodes=6, return_episode_rewards=True
    )
    assert lengths == [25] * 6
    expected = []
    for i in range(3):
        env = MecEnv(problem)
        observation, _ = env.reset(seed=50 + i)
        for _ in range(2):
            agent, memory, total, over = DAPDEEAgent(problem), None, 0.0, False
            while not over:
                action, memory = agent.predict(observation, memory)
                observation, reward, over, _, _ = env.step(action)
                total += reward
            expected.append(total)
            observation, _ = env.reset()
    np.testing.assert_allclose(sorted(rewards), sorted(expected), atol=1e-6)
