"""What no policy can expect while devices come and go."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from slow import slow_except

from agents.registry import make_agent
from mec_gym.core import arrays
from mec_gym.pipeline_training import PRESETS, PipelineTraining, Scenario
from mec_gym.pipeline_training import online_bound as module
from mec_gym.pipeline_training.exact import episode_optimum, plan_rewards
from mec_gym.pipeline_training.model import NOWHERE
from mec_gym.pipeline_training.next_slots import next_slots
from mec_gym.pipeline_training.online_bound import online_bound
from mec_gym.pipeline_training.plans import all_plans
from mec_gym.testing import check_online_bound

SMALL = Scenario(
    network="mobilenetv2",
    weight_factor=8.0,
    blocks=2,
    devices=2,
    microbatches=2,
    horizon=4,
    speed=(9e9, 6e9),
    speed_spread=0.0,
    load_spread=0.0,
    link_spread=0.0,
    store_spread=0.0,
    fading=0.0,
    stay=(2.0, 2.0),
    away=1.5,
)
"""Rates are constant and mean stays are known, so only who is present is left to chance."""


@pytest.fixture(scope="module")
def sized():
    """As many episodes as it takes for an exact mean, where an episode takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_EPISODES", 400)
        patch.setattr(module, "_MEAN_OF", 20_000)
        online_bound.cache_clear()
        yield
    online_bound.cache_clear()


@pytest.fixture(scope="module")
def exact():
    return Exact(SMALL)


def paths_of_a_device(scenario):
    """The probability of every way of being present, by its definition, a dictionary."""
    (stay, _), away, horizon = scenario.stay, scenario.away, scenario.horizon
    found = {}
    for path in itertools.product((False, True), repeat=horizon):
        chance = stay / (stay + away) if path[0] else away / (stay + away)
        for before, now in itertools.pairwise(path):
            changes = 1.0 / stay if before else 1.0 / away
            chance *= changes if now != before else 1.0 - changes
        found[path] = chance
    never = found.pop((False,) * horizon)
    for comes in range(horizon):
        for stays in range(1, horizon - comes + 1):
            path = tuple(comes <= t < comes + stays for t in range(horizon))
            chance = (1.0 - 1.0 / stay) ** (stays - 1)
            if comes + stays < horizon:
                chance /= stay
            found[path] += never * chance / horizon
    assert sum(found.values()) == pytest.approx(1.0)
    return found


class Exact:
    """The best online policy by enumeration of all that may happen."""

    def __init__(self, scenario):
        one = paths_of_a_device(scenario)
        both = itertools.product(one.items(), repeat=2)
        self.chances = {tuple(zip(a, b, strict=True)): p * q for (a, p), (b, q) in both}
        self.scenario = scenario
        self.slot = arrays.slot_at(scenario.sample(np.random.default_rng(0), 1), 0)
        self.plans = all_plans(2, 2).place
        self.known = {}

    def rewards(self, present, place):
        """The rewards of all plans, (P,)."""
        key = (present, tuple(place))
        if key not in self.known:
            slot = replace(self.slot, present=np.array([present]))
            self.known[key] = plan_rewards(slot, np.array([place]), self.scenario)[0]
        return self.known[key]

    def value(self, seen=(), place=(NOWHERE, NOWHERE)):
        """What can be expected after such fleets, weighted by the chance of these."""
        if len(seen) == self.scenario.horizon:
            return 0.0
        total = 0.0
        for present in itertools.product((False, True), repeat=2):
            now = (*seen, present)
            chance = sum(p for path, p in self.chances.items() if path[: len(now)] == now)
            if not chance:
                continue
            if not any(present):
                total += self.value(now)
                continue
            rewards = self.rewards(present, place)
            total += max(
                chance * reward + self.value(now, tuple(plan))
                for reward, plan in zip(rewards, self.plans, strict=True)
                if np.isfinite(reward)
            )
        return total

    def foreseen(self):
        """What the best plan of every episode earns, in expectation."""
        paths = list(self.chances)
        present = np.array(paths)
        trace = self.scenario.sample(np.random.default_rng(0), len(paths))
        trace = replace(trace, present=present)
        best, _ = episode_optimum(trace, self.scenario)
        return float(best @ np.array(list(self.chances.values())))


def test_the_bound_lies_between_the_best_policy_and_the_best_prophet(sized, exact):
    optimum, foreseen = exact.value(), exact.foreseen()
    bound = online_bound(SMALL)
    assert foreseen - optimum > 0.05
    assert optimum - 4 * bound.se < bound.mean < foreseen - 4 * bound.se
    # It takes most of what the prophet has gained.
    assert bound.mean - optimum < 0.6 * (foreseen - optimum)


def test_any_value_will_do(sized, exact, monkeypatch):
    """The worse it is, the higher lies the bound."""
    optimum, good = exact.value(), online_bound(SMALL)
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(2, 2, len(exact.plans) + 1))

    def nonsense(slots, scenario, lasts):
        return noise[slots.present[:, 0].astype(int), slots.present[:, 1].astype(int)]

    monkeypatch.setattr(module, "plan_worth", nonsense)
    bad = online_bound.__wrapped__(SMALL)  # not the one that is remembered
    assert bad.mean > good.mean + 3 * np.hypot(good.se, bad.se)
    assert bad.mean > optimum


def test_who_knows_the_future_beats_it(sized):
    problem, bound = PipelineTraining(SMALL), online_bound(SMALL)
    trace = problem.sample(np.random.default_rng(9), 2000)
    fair = episode_optimum(trace, SMALL)[0] - bound.luck(trace, None)
    assert fair.mean() > bound.mean + 4 * np.hypot(bound.se, fair.std() / np.sqrt(2000))


@pytest.mark.parametrize("notice", [0, 2])
def test_slots_are_drawn_from_the_law_of_those_that_follow(notice):
    """Whatever is known before, what follows and what is drawn have the same mean beside it."""
    scenario = replace(
        PRESETS["tiny"].make(), horizon=4, stay=(1.5, 6.0), away=5.0, notice=notice,
        memory_of_load=0.7, load_spread=1.2,
    )  # fmt: skip
    rng = np.random.default_rng(6)
    trace, hidden = scenario.draw(rng, 20_000)
    drawn = next_slots(trace, hidden, scenario, rng, 2)
    assert drawn.present.shape == (20_000, 3, 2, 2)
    now, after = (
        arrays.at(trace, (slice(None), slice(-1))),
        arrays.at(trace, (slice(None), slice(1, None))),
    )
    past = {
        "nothing": np.ones(now.speed.shape),
        "present": now.present,
        "seen": now.seen + now.present,
        "speed": np.log(now.speed),
        "stay": np.broadcast_to(hidden.stay[:, None], now.speed.shape),
    }
    what = {
        "present": lambda slot: 1.0 * slot.present,
        "both": lambda slot: np.broadcast_to(slot.present.all(-1)[..., None], slot.present.shape),
        "speed": lambda slot: np.log(slot.speed),
        "square": lambda slot: np.log(slot.speed) ** 2,
        "link": lambda slot: np.log(slot.link.max(axis=-1)),
        "store": lambda slot: np.log(slot.store) ** 2,
    }
    for (name, weight), (kind, f) in itertools.product(past.items(), what.items()):
        differences = weight * (f(after) - f(drawn).mean(axis=2))
        mean = differences.mean(axis=(0, 2))
        error = differences.mean(axis=2).std(axis=0) / np.sqrt(len(differences))
        assert (abs(mean) <= 4.5 * error).all(), (name, kind)
    if notice:
        assert (drawn.present == after.present[:, :, None]).all()


def test_where_there_is_none():
    for changes in ({"devices": 5}, {"horizon": module.LONGEST + 1}):
        problem = PipelineTraining(Scenario(**changes))
        assert not problem.has_online_bound and problem.online_bound() is None


def test_nobody_present_and_a_single_slot(sized):
    """With all devices away at times, and with nothing to be paid for."""
    scenario = replace(SMALL, away=8.0)
    exact = Exact(scenario)
    bound = online_bound(scenario)
    assert exact.value() - 4 * bound.se < bound.mean < exact.foreseen() + 4 * bound.se
    one = online_bound(replace(SMALL, horizon=1))
    assert one.mean == pytest.approx(Exact(replace(SMALL, horizon=1)).value(), abs=4 * one.se)


@pytest.mark.parametrize("name", slow_except(["myopic", "patience", "single-device"], "myopic"))
def test_nobody_can_expect_more(name):
    problem = PipelineTraining(PRESETS["tiny"].make())
    check_online_bound(make_agent(name, problem), problem)
