"""Results are sums and means of the episodes, and comparisons are paired."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student
from tiny_problem import HORIZON, Slot, TinyProblem

import mec_gym
from agents.registry import make_agent
from mec_gym import make_problem
from mec_gym.core.online import OnlineBound
from mec_gym.core.policies import Memoryless
from mec_gym.core.rollout import rollout, sample_episodes
from train.evaluation.evaluate import (
    compare,
    evaluate,
    gap_percent,
    interval,
    known_gaps,
    results_of,
    summarise,
    with_best_known,
)
from train.evaluation.tables import print_table

module = sys.modules["train.evaluation.evaluate"]  # the package has a function of that name
PAPER = "mec/TrainingOffloadPaper-v0"
PLACES = "mec/DistributedInference-v1"


class Always(Memoryless):
    """Takes one action in every slot."""

    def __init__(self, machine, units):
        self.action = np.array([machine, units])

    def act(self, observation, deterministic):
        return np.broadcast_to(self.action, (*observation.shape[:-1], 2))


class NoBound(TinyProblem):
    def bound(self, trace):
        return None


def by_hand():
    """Two episodes, of one job and of two; what comes after their end counts for nothing."""
    work, speed = np.full((2, HORIZON), 10.0), np.ones((2, HORIZON, 2))
    work[0, 0], speed[0, 0, 1] = 8.0, 4.0
    work[1, :2], speed[1, :2, 1] = (4.0, 9.0), (2.0, 3.0)
    length = np.broadcast_to([[1.0], [2.0]], work.shape).copy()
    return Slot(work=work, length=length, speed=speed)


def test_numbers_by_hand():
    """Latencies of "fast" are 8 / 4 / 2, then 4 / 2 / 2 and 9 / 3 / 2; of "slow" 8, 4 and 9."""
    agents = {"fast": Always(1, 1), "slow": Always(0, 0)}
    fast, slow = compare(agents, TinyProblem(), trace=by_hand())
    assert (fast.agent, fast.episodes, slow.agent) == ("fast", 2, "slow")
    assert fast.return_mean == (-1.0 - 2.5) / 2 and slow.return_mean == (-8.0 - 13.0) / 2
    # Per step, per episode, and the percentile over all three steps.
    assert fast.outcome_means == pytest.approx(
        {"latency_s": 3.5 / 3, "energy_j": 1.0, "dropped": 0.0, "machine": 1.0}
    )
    assert fast.outcome_sums == pytest.approx(
        {"latency_s": 1.75, "energy_j": 1.5, "dropped": 0.0, "machine": 1.5}
    )
    assert fast.outcome_p95["latency_s"] == pytest.approx(1.0 + 0.9 * 0.5)
    # All three units help: bounds are -(2 - 1 - 0.5) and -(5 - 1.5 - 1 - 0.75).
    assert fast.gap_percent_mean == pytest.approx((100.0 + 100 * 0.75 / 1.75) / 2)
    low, high = fast.gap_percent_ci95
    assert low == pytest.approx(100 * 0.75 / 1.75) and high == pytest.approx(100.0)
    assert fast.difference_mean == 0.0 and fast.difference_ci95 == (0.0, 0.0)
    assert slow.difference_mean == (-7.0 - 10.5) / 2
    assert slow.difference_ci95 == pytest.approx((-10.5, -7.0))
    assert fast.rollout.played.sum() == 3
    assert fast.decision_ms == pytest.approx(1e3 * fast.rollout.decision_seconds / 3)
    numbers = fast.as_dict()
    assert numbers["outcome_sums"]["energy_j"] == 1.5 and "rollout" not in numbers


def test_a_problem_without_a_bound_has_no_gap():
    (result,) = compare({"me": Always(1, 1)}, NoBound(), trace=by_hand())
    assert result.gap_percent_mean is None and result.gap_percent_ci95 is None
    assert result.return_mean == -1.75


class Offering(TinyProblem):
    """By luck, the first episode's return is 1 lower than usual, and the second's is 2 higher."""

    has_online_bound = True

    def online_bound(self):
        return OnlineBound(mean=-2.0, se=0.1, luck=lambda trace, outcomes: np.array([-1.0, 2.0]))


class Foreseeing(Always):
    def foresee(self, trace):
        pass


def test_what_can_be_expected_is_the_return_without_luck():
    """Returns are -1 and -2.5, so without luck they are 0 and -4.5."""
    agents = {"me": Always(1, 1), "seer": Foreseeing(1, 1)}
    online = Offering().online_bound()
    me, seer = results_of(agents, Offering(), by_hand(), None, online)
    assert me.return_mean == seer.return_mean == -1.75 and seer.online is None
    assert me.online.expected_return == -2.25 and me.online.gap_percent == 12.5
    assert me.online.expected_return_ci95 == (-4.5, 0.0)
    # From -100 to 125 over the episodes; a bound 0.1 lower would take 5.625 from the gap.
    half = np.hypot(112.5, 1.959964 * 5.625)
    assert me.online.gap_percent_ci95 == pytest.approx((12.5 - half, 12.5 + half))
    (unasked,) = compare({"me": Always(1, 1)}, Offering(), episodes=2)
    assert unasked.online is None
    (asked,) = compare({"me": Always(1, 1)}, Offering(), episodes=2, online_bound=True)
    assert asked.online.bound == -2.0 and asked.online.bound_se == 0.1
    (without,) = compare({"me": Always(1, 1)}, TinyProblem(), episodes=2, online_bound=True)
    assert without.online is None


def test_an_online_bound_goes_with_drawn_episodes_only():
    with pytest.raises(ValueError, match=r"online_bound .*trace"):
        compare({"me": Always(1, 1)}, Offering(), trace=by_hand(), online_bound=True)


def test_the_best_known_is_the_best_of_all_on_the_same_episode():
    """With a single unit, latencies are 8, then 4 and 9; with all of "fast", 1, then 2.5."""
    (alone,) = compare({"me": Always(1, 1)}, NoBound(), trace=by_hand())
    assert alone.behind_best_mean is None and alone.behind_best_ci95 is None
    agents = {"fast": Always(1, 1), "slow": Always(0, 0)}
    fast, slow = compare(agents, NoBound(), trace=by_hand())
    assert fast.behind_best_mean == 0.0 and slow.behind_best_mean == (7.0 + 10.5) / 2
    assert slow.behind_best_ci95 == pytest.approx((7.0, 10.5))
    # Nobody has to be the best everywhere.
    returns = np.array([[-1.0, -5.0, -2.0], [-3.0, -1.0, -2.0]])
    mixed = with_best_known(
        [replace(fast, rollout=replace(fast.rollout, returns=one)) for one in returns]
    )
    assert [result.behind_best_mean for result in mixed] == pytest.approx([4 / 3, 2 / 3])


def test_tables_claim_no_more_than_the_episodes_show(capsys):
    agents, problem = {"fast": Always(1, 1), "slow": Always(0, 0)}, TinyProblem()
    for episodes in (1, 5):
        print_table(compare(agents, problem, episodes=episodes), problem, "a title")
        printed = capsys.readouterr().out
        assert ("±" in printed) == ("[" in printed) == (episodes > 1)
    played = compare(agents, problem, episodes=5)
    optimal = [replace(r, gap_percent_mean=6e-6, gap_percent_ci95=(4e-6, 9e-6)) for r in played]
    print_table(optimal, problem, "a title")
    assert "e-06" not in capsys.readouterr().out


def test_gap_is_relative_to_the_bound():
    returns = np.array([-5.0, -2.0, -1.0, 1.0])
    np.testing.assert_allclose(
        gap_percent(returns, np.array([-4.0, -2.0, 0.0, 4.0])), [25.0, 0.0, np.nan, 75.0]
    )
    assert known_gaps(returns, np.zeros(4)) is None and known_gaps(returns, None) is None
    assert known_gaps(returns, np.array([-4.0, 0.0, 0.0, 4.0])).tolist() == [25.0, 75.0]
    # An episode whose bound is 0 has no gap; the others do.
    problem, trace = TinyProblem(), by_hand()
    played = rollout(problem, Always(1, 1), trace)
    result = summarise("me", played, np.array([-0.5, 0.0]))
    assert result.gap_percent_mean == 100.0 and result.gap_percent_ci95 == (100.0, 100.0)


def test_interval_agrees_with_the_textbook():
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    low, high = interval(values)
    half = student.ppf(0.975, 399) * values.std(ddof=1) / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.04)
    assert high == pytest.approx(values.mean() + half, abs=0.04)
    assert interval(np.array([2.5])) == (2.5, 2.5)


def test_named_agents_of_an_environment():
    """Names and objects, ids and problems say the same; a seed means the same episodes."""
    problem = make_problem(PAPER)
    results = compare(["exact", "random"], PAPER, episodes=5, seed=3)
    trace = sample_episodes(problem, 3, 5)
    for result in results:
        played = rollout(problem, make_agent(result.agent, problem, 3), trace)
        assert result.return_mean == played.returns.mean()
    named = {"exact": make_agent("exact", problem), "random": "random"}
    again = compare(named, problem, 99, 3, trace)
    assert [r.return_mean for r in again] == [r.return_mean for r in results]
    alone = evaluate("random", PAPER, episodes=5, seed=3)
    assert alone.agent == "random" and alone.return_mean == results[1].return_mean
    assert alone.difference_mean == 0.0 != results[1].difference_mean
    assert evaluate(make_agent("exact", problem), problem, trace=trace).agent == "SolverAgent"
    assert mec_gym.evaluate is evaluate and mec_gym.compare is compare


def test_bad_input_costs_no_work(monkeypatch):
    monkeypatch.setattr(module, "rollout", None)  # nobody plays
    for call, message in (
        (lambda: evaluate("nobody", PAPER), "agent .*exact.*'nobody'"),
        (lambda: compare(["random", "dads"], PAPER), "agent .*'dads'"),
        (lambda: compare([], PAPER, 1), "agents .*none"),
        (lambda: evaluate("random", "mec/No-v0"), "env_id .*'mec/No-v0'"),
        (lambda: evaluate("random", PAPER, episodes=0), "episodes .*0"),
        (
            lambda: evaluate("random", PAPER, trace=sample_episodes(TinyProblem(), 0, 2)),
            "trace .*Slot",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_who_foresees_is_shown_the_episodes():
    """Also those of a trace; whoever has seen others plays badly, or not at all."""
    problem = make_problem(PLACES)
    agent = make_agent("clairvoyant", problem)
    trace, other = (sample_episodes(problem, seed, 4) for seed in (7, 90))
    with pytest.raises(ValueError, match="foresee"):
        rollout(problem, agent, trace)
    result = evaluate(agent, problem, trace=trace)
    agent.foresee(trace)
    np.testing.assert_array_equal(rollout(problem, agent, trace).returns, result.rollout.returns)
    returns = evaluate(agent, problem, trace=other).rollout.returns
    agent.foresee(sample_episodes(problem, 70, 4))
    assert (rollout(problem, agent, other).returns < returns).all()


def test_planning_beforehand_is_deciding(monkeypatch):
    now = [0.0]

    class Planner(Always):
        def foresee(self, trace):
            now[0] += 600.0

    class Clock:
        perf_counter = staticmethod(lambda: now[0])

    monkeypatch.setattr(module, "time", Clock)
    result = evaluate(Planner(1, 1), TinyProblem(), trace=by_hand())
    assert result.decision_ms >= 1e3 * 600.0 / 3


def test_agents_are_checked_before_any_is_made(monkeypatch):
    """Making the price rule of the drive takes seconds; a wrong name after it costs none."""
    made = []
    monkeypatch.setattr(module, "make_agent", lambda *a: made.append(a))
    drive = "mec/TrainingOffload-v0"
    for agents, message in (
        (["price", "typo"], "agent must be one of .*'typo'"),
        ("price", r"agents .*'price'.*\['price'\]"),
        (["price", "exact", "price"], "agents .*once, got price, exact, price"),
        ({"a": "price", "b": None}, "agent must have the method predict.*None"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(agents, drive)
    assert made == []


def test_a_rule_of_another_problem_says_so():
    agent = make_agent("exact", "mec/TrainingOffload-v0")
    with pytest.raises(ValueError, match=r"observation .*\(24,\).*TrainingOffload, got \(2, 18\)"):
        evaluate(agent, "mec/EarlyExitPartition-v2", episodes=2)
