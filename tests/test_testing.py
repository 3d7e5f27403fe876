"""A conformance suite must be able to fail: one broken promise at a time.

Every problem below is the tiny problem with one promise broken, and every check is asked for
the message of just that promise.
"""

import dataclasses
import itertools
import re
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces
from target_problem import TargetProblem
from tiny_problem import HORIZON, Decision, State, TinyDiscrete, TinyProblem

import mec_gym.testing
from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.online import OnlineBound
from mec_gym.core.policies import UniformPolicy
from mec_gym.testing import check_agent, check_online_bound, check_problem

PAPER = "mec/TrainingOffloadPaper-v0"


class Sound(TinyProblem):
    """Its episodes have full length, so that every slot of them is played."""

    def __init__(self, **arguments):
        super().__init__(**{"shortest": HORIZON, **arguments})


class WrongObservationSpace(Sound):
    def observe(self, slot, state):
        return super().observe(slot, state) + np.float32(1.0)


class TraceWithoutHorizon(Sound):
    def sample(self, rng, n):
        trace = super().sample(rng, n)
        # One slot too many; what is played is unaffected.
        return arrays.map_arrays(lambda a: np.concatenate([a, a[:, :1]], axis=1), trace)


class CostThatIsNoPart(Sound):
    costs = ("latency_s", "energy", "dropped")


class GainThatIsNoPart(Sound):
    gains = ("accuracy",)


class UnbatchedOutcome(Sound):
    def step(self, slot, state, decision):
        after, outcome = super().step(slot, state, decision)
        return after, dataclasses.replace(outcome, machine=np.array(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherState:
    bank: np.ndarray
    jobs_left: np.ndarray


class StateOfAnotherKind(Sound):
    def step(self, slot, state, decision):
        after, outcome = super().step(slot, state, decision)
        return OtherState(bank=after.bank, jobs_left=after.jobs_left), outcome


class RewardOfTheWholeBatch(Sound):
    def reward(self, outcome):
        return np.sum(super().reward(outcome))


class InfiniteReward(Sound):
    """The reward is infinite only where the second machine is chosen."""

    def reward(self, outcome):
        return np.where(outcome.machine == 1, -np.inf, super().reward(outcome))


class DoneForAll(Sound):
    def done(self, state):
        return np.asarray(super().done(state)).all()


class UnseededLater(Sound):
    """Only the last slot is drawn from elsewhere, where Gymnasium's checker does not look."""

    def sample(self, rng, n):
        trace = super().sample(rng, n)
        trace.work[:, -1] = np.random.default_rng().uniform(1, 10, n)
        return trace


class DeafToSeeds(Sound):
    def sample(self, rng, n):
        return super().sample(np.random.default_rng(0), n)


class DrawsInStep(Sound):
    def sample(self, rng, n):
        self.rng = rng
        return super().sample(rng, n)

    def step(self, slot, state, decision):
        self.rng.random()
        return super().step(slot, state, decision)


class RewardOfTheOthers(Sound):
    """Correct for one environment, not for one among several."""

    def reward(self, outcome):
        reward = super().reward(outcome)
        return reward if np.ndim(reward) == 0 else reward - 0.0 * reward + reward.mean() * 1e-12


class ObservesTheOthers(Sound):
    def observe(self, slot, state):
        observation = super().observe(slot, state)
        if observation.ndim > 1:
            observation[0, 2] = observation[-1, 2]
        return observation


class OutcomeOfTheOthers(Sound):
    def step(self, slot, state, decision):
        after, outcome = super().step(slot, state, decision)
        if np.ndim(outcome.machine) == 1 and len(outcome.machine) == 3:
            outcome = dataclasses.replace(outcome, machine=outcome.machine[::-1])
        return after, outcome


class LossyDecode(Sound):
    def decode(self, observation):
        slot, state = super().decode(observation)
        return dataclasses.replace(slot, speed=slot.speed[..., ::-1]), state


class EncodeOfAnotherType(Sound):
    def encode(self, decision):
        return super().encode(decision).astype(np.float64)


class LossyEncode(Sound):
    def encode(self, decision):
        return super().encode(dataclasses.replace(decision, units=np.minimum(decision.units, 1)))


class SwarmsMix(Sound):
    def step(self, slot, state, decision):
        if np.ndim(decision.units) == 2:
            decision = dataclasses.replace(decision, units=decision.units[::-1])
        return super().step(slot, state, decision)


class PaysForLatency(Sound):
    def reward(self, outcome):
        return outcome.latency_s - 20.0

    def bound(self, trace):
        return np.zeros(len(trace.work))


class PaysForLittleProgress(TargetProblem):
    def reward(self, outcome):
        return -outcome.time_s - 20.0 * outcome.progress


class ReplaysDifferently(Sound):
    """Draws alone (as a check of a trace does) leave their mark on what is played next."""

    last = 0

    def sample(self, rng, n):
        self.last = n
        return super().sample(rng, n)

    def step(self, slot, state, decision):
        after, outcome = super().step(slot, state, decision)
        more = outcome.latency_s * (1.0 + 1e-9 * (self.last == 1))
        return after, dataclasses.replace(outcome, latency_s=more)


class BoundOfTheWholeBatch(Sound):
    def bound(self, trace):
        return super().bound(trace).max(keepdims=True)


class BoundTooLow(Sound):
    def bound(self, trace):
        return super().bound(trace) * 1.5


BROKEN = {
    WrongObservationSpace: "observation",
    TraceWithoutHorizon: rf"trace\.work must .* \(3, {HORIZON}\), or \(3, 1\).*got \(3, 6\)",
    CostThatIsNoPart: r"costs must name .*latency_s, energy_j, dropped, machine.*'energy'",
    GainThatIsNoPart: r"gains must name .*latency_s, energy_j, dropped, machine.*'accuracy'",
    UnbatchedOutcome: r"outcome\.machine must have shape \(3,\), got \(\)",
    StateOfAnotherKind: "step must return a state like the one it was given",
    RewardOfTheWholeBatch: "reward must be one number per instance",
    InfiniteReward: "reward must be finite",
    DoneForAll: "done must be one flag per instance",
    UnseededLater: "the same seed must give the same episodes$",
    DeafToSeeds: "different seeds must give different episodes",
    DrawsInStep: "no random number is drawn in step",
    RewardOfTheOthers: "vector environment must equal single ones.*bit for bit",
    ObservesTheOthers: "vector environment must equal single ones.*bit for bit",
    OutcomeOfTheOthers: "vector environment must equal single ones.*bit for bit: machine",
    LossyDecode: "decode must be observe's inverse",
    EncodeOfAnotherType: "encode must return the space's type",
    LossyEncode: "encode must be decision's inverse: units",
    SwarmsMix: r"decisions \(P, B\) on slots \(B,\)",
    PaysForLatency: "no better in latency_s, energy_j, dropped must not earn more",
    PaysForLittleProgress: "no better in time_s, progress must not earn more",
    ReplaysDifferently: "a replayed trace must give the rewards of the drawn episode",
    BoundOfTheWholeBatch: r"bound must have shape \(64,\)",
    BoundTooLow: r"the bound is beaten on seed \d+: -",
}


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")
@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_promise_is_named(broken):
    problem = broken()
    with pytest.raises(AssertionError) as error:
        check_problem(problem)
    message = str(error.value)
    expected = BROKEN[broken]
    assert _found(expected, message), f"expected {expected!r}, got {message!r}"


def _found(pattern, message):
    # Pytest may append an explanation to a plain assert's message.
    return any(re.search(pattern, line) for line in message.splitlines())


def test_the_sound_ones_pass():
    check_problem(Sound())
    check_problem(Sound(), seed=5)
    check_problem(TinyDiscrete(shortest=HORIZON))
    check_problem(TargetProblem())
    check_problem(TargetProblem(ahead=1), seed=5)
    check_problem(PAPER)
    check_problem(PAPER, "paper-split", seed=3)


def test_a_sound_problem_with_many_actions_passes():
    class Many(Sound):
        def __init__(self):
            super().__init__()
            self.action_space = spaces.MultiDiscrete([2 * 4000, 3 * 4000])

        def decision(self, action):
            action = np.asarray(action)
            return Decision(machine=action[..., 0] % 2, units=action[..., 1] % 3)

    check_problem(Many())


def test_rewarded_drops_are_noticed():
    class RewardsDrops(Sound):
        def reward(self, outcome):
            return np.where(outcome.dropped, 0.0, -outcome.latency_s)

        def bound(self, trace):
            return np.zeros(len(trace.work))

    with pytest.raises(AssertionError, match="must not earn more"):
        check_problem(RewardsDrops())


def test_states_of_swarms_are_looked_at():
    class SwarmsMixStates(Sound):
        def step(self, slot, state, decision):
            after, outcome = super().step(slot, state, decision)
            if np.ndim(decision.units) == 2:
                jobs_left = after.jobs_left + np.zeros_like(after.bank)
                after = State(bank=after.bank[::-1], jobs_left=jobs_left)
            return after, outcome

    with pytest.raises(AssertionError, match=r"decisions \(P, B\)"):
        check_problem(SwarmsMixStates())


def test_what_observations_do_not_show_may_come_back_empty():
    problem = TargetProblem()
    slot = arrays.slot_at(problem.sample(np.random.default_rng(0), 4), 0)
    state = problem.start(slot)
    for action in ([0, 1, 0, 1], [1, 1, 0, 0]):
        state, _ = problem.step(slot, state, problem.decision(action))
    _, believed = problem.decode(problem.observe(slot, state))
    assert (state.weights != 0).all() and (believed.weights == 0).all()
    assert believed.error == pytest.approx(state.error, rel=1e-6)
    check_problem(problem)


def test_a_new_environment_must_play_the_same(monkeypatch):
    """No problem that knows only what it is asked can break this, so each has its number."""

    class Numbered(Sound):
        number = 0

        def sample(self, rng, n):
            trace = super().sample(rng, n)
            trace.work[:, -1] = 1.0 + self.number % 8
            return trace

    numbers = itertools.count()

    def other_environment(problem):
        problem = Numbered()
        problem.number = next(numbers)
        return MecEnv(problem)

    monkeypatch.setattr(mec_gym.testing, "MecEnv", other_environment)
    with pytest.raises(AssertionError, match="same episodes in a new environment"):
        check_problem(Numbered())


def test_actions_that_an_adapter_lets_through(monkeypatch):
    monkeypatch.setattr("mec_gym.core.env.action_in_space", lambda space, action: action)
    with pytest.raises(AssertionError, match="an action outside the space must be a ValueError"):
        check_problem(Sound())


def test_a_trace_that_does_not_survive(monkeypatch):
    def load(path, problem):
        trace = mec_gym.load_trace(path, problem)
        trace.work[1, 2] += 1e-12
        return trace

    monkeypatch.setattr(mec_gym.testing, "load_trace", load)
    with pytest.raises(AssertionError, match="a trace must survive being saved and loaded"):
        check_problem(Sound())


class Best:
    """The faster machine; as many units as there are."""

    def __init__(self, problem):
        self.problem = problem

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        slot, now = self.problem.decode(observation)
        machine = slot.speed[..., 1] > slot.speed[..., 0]
        units = np.minimum(now.bank, 2).astype(int)
        return self.problem.encode(Decision(machine=machine, units=units)), state


def test_check_agent_passes_a_good_one():
    for problem in (TinyProblem(), TinyDiscrete(), TinyProblem(ends=False)):
        check_agent(Best(problem), problem)
        check_agent(Best(problem), problem, episodes=3, seed=8, single=False)


def test_without_a_bound_any_return_will_do():
    class Unbounded(TinyProblem):
        low = None

        def bound(self, trace):
            return self.low

    problem = Unbounded()
    check_agent(Best(problem), problem)
    problem.low = np.full(64, -1e9)
    with pytest.raises(AssertionError, match="the bound is beaten"):
        check_agent(Best(problem), problem)
    check_agent(UniformPolicy(TargetProblem()), TargetProblem())


def test_check_agent_catches_a_bound_beater():
    """Two promises as seen by an agent: the seed named is the one that is beaten."""

    class Generous(TinyProblem):
        def step(self, slot, state, decision):
            after, outcome = super().step(slot, state, decision)
            # Whoever runs the same job on the slower machine pays nothing, far below any bound.
            slower = slot.speed.argmin(axis=-1) == decision.machine
            return after, dataclasses.replace(
                outcome, latency_s=np.where(slower, 0.0, outcome.latency_s)
            )

    class Cheat(Best):
        def predict(self, observation, *args, **kwargs):
            action, state = super().predict(observation, *args, **kwargs)
            action[..., 0] = 1 - action[..., 0]
            return action, state

    problem = Generous()
    check_agent(Cheat(TinyProblem()), TinyProblem())
    with pytest.raises(AssertionError, match=r"the bound is beaten on seed 12: 0\.0 > -"):
        check_agent(Cheat(problem), problem, seed=12)


def test_a_tolerance_of_rounding_only():
    class Nearly(TinyProblem):
        slack = 0.0

        def bound(self, trace):
            return np.full(len(trace.work), super().bound(trace)) * (1 + self.slack)

    class Clairvoyant:
        """Plays one job a drive, where the best is easy to see."""

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            machine = observation[..., 4] > observation[..., 3]
            return np.stack([machine, np.full(machine.shape, 2)], -1).astype(np.int64), state

    class OneJob(Nearly):
        def sample(self, rng, n):
            trace = super().sample(rng, n)
            trace.length[:] = 1.0
            return trace

    problem = OneJob()
    problem.slack = 5e-10
    check_agent(Clairvoyant(), problem)
    problem.slack = 5e-9
    with pytest.raises(AssertionError, match="the bound is beaten"):
        check_agent(Clairvoyant(), problem)


def test_check_agent_catches_wrong_shapes():
    problem = TinyProblem()

    class AlwaysBatch(Best):
        def predict(self, observation, *args, **kwargs):
            action, state = super().predict(observation, *args, **kwargs)
            return np.atleast_2d(action), state

    class NeverBatch(Best):
        def predict(self, observation, *args, **kwargs):
            action, state = super().predict(observation, *args, **kwargs)
            return action if action.ndim == 1 else action[0], state

    with pytest.raises(AssertionError, match=r"needs an action of shape \(2,\), got \(1, 2\)"):
        check_agent(AlwaysBatch(problem), problem)
    check_agent(AlwaysBatch(problem), problem, single=False)
    with pytest.raises(ValueError, match=r"action must have shape \(64, 2\), got \(2,\)"):
        check_agent(NeverBatch(problem), problem)


def test_check_agent_catches_actions_outside_the_space():
    problem = TinyProblem()

    class Greedy(Best):
        def predict(self, observation, *args, **kwargs):
            action, state = super().predict(observation, *args, **kwargs)
            return action + 2, state

    for single in (True, False):
        with pytest.raises(ValueError, match="action must lie in"):
            check_agent(Greedy(problem), problem, single=single)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fined:
    latency_s: np.ndarray
    penalty: np.ndarray


class Fines(Sound):
    """The penalty is all that outcomes differ in; who pays more of it earns ``pay`` as much."""

    pay = -1.0

    def step(self, slot, state, decision):
        after, outcome = super().step(slot, state, decision)
        return after, Fined(latency_s=np.zeros_like(outcome.latency_s), penalty=outcome.latency_s)

    def reward(self, outcome):
        return self.pay * outcome.penalty

    def bound(self, trace):
        return None


def test_what_the_problem_names_is_compared_and_nothing_else():
    class Paid(Fines):
        pay = 1.0

    def check(cls, costs, gains=()):
        problem = cls()
        problem.costs, problem.gains = costs, gains
        check_problem(problem)

    check(Fines, ("latency_s", "penalty"))
    with pytest.raises(AssertionError, match="no better in latency_s, penalty must not earn more"):
        check(Paid, ("latency_s", "penalty"))
    check(Paid, ("latency_s",), ("penalty",))
    with pytest.raises(AssertionError, match="no better in latency_s, penalty must not earn more"):
        check(Fines, ("latency_s",), ("penalty",))
    # All outcomes are equal in what is named, so none may earn more than another.
    with pytest.raises(AssertionError, match="no better in latency_s must not earn more"):
        check(Fines, ("latency_s",))
    # Where nothing is named, nothing is compared.
    check(Fines, ())
    check(Paid, ())


def test_what_costs_more_time_may_earn_more_for_its_gain():
    class Progress(TargetProblem):
        def reward(self, outcome):
            return outcome.progress - 0.01 * outcome.time_s

    class AnyProgress(Progress):
        """The same, but progress is not said to count."""

        gains = ()

    check_problem(Progress())
    with pytest.raises(AssertionError, match="no better in time_s must not earn more"):
        check_problem(AnyProgress())


def test_what_devices_earn_adds_up_to_the_reward():
    class Shares(Sound):
        factor = 0.5

        def device_rewards(self, slot, state, decision):
            _, outcome = self.step(slot, state, decision)
            share = self.factor * self.reward(outcome)
            return np.stack([share, share], axis=-1)

    class TooMuch(Shares):
        factor = 0.6

    class OneForAll(Shares):
        def device_rewards(self, slot, state, decision):
            return super().device_rewards(slot, state, decision).sum(axis=-1)

    check_problem(Shares())
    with pytest.raises(AssertionError, match="device_rewards must add up to the reward"):
        check_problem(TooMuch())
    with pytest.raises(AssertionError, match=r"one number per choice, \(16, 2\), got \(16,\)"):
        check_problem(OneForAll())


class Offering(Sound):
    """The bound in expectation; luck is how easy the slots are, whatever is played."""

    has_online_bound = True
    sample_of = Sound().sample(np.random.default_rng(5), 100_000)

    def usual(self):
        return self.bound(self.sample_of)

    def luck(self, trace, outcomes):
        return self.bound(trace) - self.usual().mean()

    def online_bound(self):
        usual = self.usual()
        se = usual.std() / np.sqrt(len(usual))
        return OnlineBound(mean=usual.mean(), se=se, luck=self.luck)


def offering(**changes):
    """An offer in which some attributes of the bound are not what they should be."""

    class Changed(Offering):
        def online_bound(self):
            bound = super().online_bound()
            return dataclasses.replace(bound, **{k: v(bound) for k, v in changes.items()})

    return Changed()


def no_bound_but_a_number():
    problem = Offering()
    problem.online_bound = lambda: -1.0
    return problem


def never_twice_the_same():
    means = itertools.count()
    return offering(mean=lambda bound: bound.mean + 1e-9 * next(means))


def shifted(by):
    return lambda bound: lambda trace, outcomes: bound.luck(trace, outcomes) + by


def test_an_online_bound_that_holds():
    check_problem(Offering())
    check_online_bound(UniformPolicy(Offering(), 3), Offering(), episodes=64)
    check_online_bound(UniformPolicy(Sound(), 3), Sound())  # which offers none


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (no_bound_but_a_number(), "must return an OnlineBound or None, got -1.0"),
        (offering(mean=lambda b: np.nan), "must be finite, got nan"),
        (offering(se=lambda b: -0.1), "must be finite, .* standard error -0.1"),
        (never_twice_the_same(), "the same at every call"),
        (offering(luck=lambda b: lambda *_: np.zeros(1)), r"shape \(256,\), got shape \(1,\)"),
        (offering(luck=shifted(np.inf)), "luck must be finite"),
        (offering(luck=shifted(-1.0)), r"luck must be 0 in expectation, but its mean is -\d"),
        (offering(mean=lambda b: 5 * b.mean), "the online bound is beaten: an agent expects -"),
        (offering(mean=lambda b: 0.8 * b.mean), "must not be above .* with the future known"),
    ],
)
def test_an_online_bound_that_breaks_a_promise(problem, message):
    with pytest.raises(AssertionError) as error:
        check_online_bound(UniformPolicy(problem, 0), problem)
    assert _found(message, str(error.value)), str(error.value)
