"""A conformance suite must be able to fail: one broken promise at a time.

Every problem below is the tiny problem with one promise broken, and every check is asked for
the message of just that promise.
"""

import dataclasses
import re
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces
from tiny_problem import HORIZON, Decision, Outcome, State, TinyDiscrete, TinyProblem

import mec_gym.testing
from mec_gym.core import arrays
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Scenario as InferenceScenario
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario as EarlyExitScenario
from mec_gym.testing import check_agent, check_problem

PAPER = "mec/TrainingOffloadPaper-v0"


class Sound(TinyProblem):
    """Episodes of full length: check_problem itself stumbles over shorter ones (reported)."""

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


@dataclass(frozen=True, slots=True)
class Nameless:
    latency_s: np.ndarray
    energy: np.ndarray
    dropped: np.ndarray


class OutcomeWithoutEnergy(Sound):
    def step(self, slot, state, decision):
        after, outcome = super().step(slot, state, decision)
        return after, Nameless(outcome.latency_s, outcome.energy_j, outcome.dropped)


class UnbatchedOutcome(Sound):
    def step(self, slot, state, decision):
        after, outcome = super().step(slot, state, decision)
        return after, dataclasses.replace(outcome, machine=np.array(0))


@dataclass(frozen=True, slots=True)
class OtherState:
    bank: np.ndarray
    jobs_left: np.ndarray


class StateOfAnotherKind(Sound):
    def step(self, slot, state, decision):
        after, outcome = super().step(slot, state, decision)
        return OtherState(after.bank, after.jobs_left), outcome


class RewardOfTheWholeBatch(Sound):
    def reward(self, outcome):
        return np.sum(super().reward(outcome))


class InfiniteReward(Sound):
    """Only where the second machine is asked for two units."""

    def reward(self, outcome):
        free = (outcome.machine == 1) & (np.asarray(outcome.energy_j) == 2)
        return np.where(free, -np.inf, super().reward(outcome))


class DoneForAll(Sound):
    def done(self, state):
        return np.asarray(super().done(state)).all()


class UnseededLater(Sound):
    """Only the last slot is drawn from elsewhere, where Gymnasium's checker does not look."""

    def sample(self, rng, n):
        trace = super().sample(rng, n)
        trace.work[:, -1] = np.random.default_rng().uniform(1, 10, n)
        return trace


class RemembersEnvironments(Sound):
    """What is drawn depends on how often the problem has been asked in all."""

    armed = False

    def sample(self, rng, n):
        trace = super().sample(rng, n)
        if self.armed:
            trace.work[:] = 1.0
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
        return super().encode(Decision(decision.machine, np.minimum(decision.units, 1)))


class SwarmsMix(Sound):
    def step(self, slot, state, decision):
        if np.ndim(decision.units) == 2:
            decision = Decision(decision.machine, decision.units[::-1])
        return super().step(slot, state, decision)


class PaysForLatency(Sound):
    def reward(self, outcome):
        return outcome.latency_s - 20.0

    def bound(self, trace):
        return np.zeros(len(trace.work))


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
    TraceWithoutHorizon: rf"trace\.work must have the leading axes \(3, {HORIZON}\), got \(3, 6\)",
    OutcomeWithoutEnergy: "the Outcome must have a field energy_j",
    UnbatchedOutcome: r"outcome\.machine must have shape \(3,\), got \(\)",
    StateOfAnotherKind: "step must return a state like the one it was given",
    RewardOfTheWholeBatch: "reward must be one number an instance",
    InfiniteReward: "reward must be finite",
    DoneForAll: "done must be one flag an instance",
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
    PaysForLatency: "no better in latency, energy and drops must not earn more",
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
    check_problem(PAPER)
    check_problem(PAPER, "paper-split", seed=3)


def test_a_sound_problem_with_many_actions_passes():
    class Many(Sound):
        def __init__(self):
            super().__init__()
            self.action_space = spaces.MultiDiscrete([2 * 4000, 3 * 4000])

        def decision(self, action):
            action = np.asarray(action)
            return Decision(action[..., 0] % 2, action[..., 1] % 3)

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
                after = State(after.bank[::-1], after.jobs_left + np.zeros_like(after.bank))
            return after, outcome

    with pytest.raises(AssertionError, match=r"decisions \(P, B\)"):
        check_problem(SwarmsMixStates())


def test_a_new_environment_must_play_the_same():
    """Reached by no problem that knows only what it is asked: armed between the two plays."""
    problem = RemembersEnvironments()
    create = mec_gym.testing.MecEnv
    made = []

    def counting(*arguments):
        made.append(arguments)
        problem.armed = len(made) > 1
        return create(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mec_gym.testing, "MecEnv", counting)
        with pytest.raises(AssertionError, match="same episodes in a new environment"):
            mec_gym.testing._check_seeding(problem, 0)


def test_actions_that_an_adapter_lets_through(monkeypatch):
    monkeypatch.setattr("mec_gym.core.env.action_in_space", lambda space, action: action)
    with pytest.raises(AssertionError, match="an action outside the space must be a ValueError"):
        mec_gym.testing._check_bad_actions(Sound(), 0)


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
        return self.problem.encode(Decision(machine, units)), state


def test_check_agent_passes_a_good_one():
    for problem in (TinyProblem(), TinyDiscrete(), TinyProblem(ends=False)):
        check_agent(Best(problem), problem)
        check_agent(Best(problem), problem, episodes=3, seed=8, single=False)


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


def test_common_parts_are_those_of_every_outcome():
    assert mec_gym.testing.COMMON_PARTS == ("latency_s", "energy_j", "dropped")
    assert set(mec_gym.testing.COMMON_PARTS) <= set(arrays.field_names(Outcome))


def test_accuracy_counts_where_there_is_one():
    class PaysForErrors(EarlyExitPartition):
        def reward(self, outcome):
            return super().reward(outcome) + 2.0 * outcome.accuracy_cost

    with pytest.raises(AssertionError, match="nor in accuracy"):
        mec_gym.testing.check_problem(PaysForErrors(EarlyExitScenario(horizon=20)))
    # What is more accurate may cost latency and earn more all the same.
    mec_gym.testing.check_problem(EarlyExitPartition(EarlyExitScenario(horizon=20)))


def test_penalties_count_where_there_are_any():
    class PaysForPenalties(DistributedInference):
        def reward(self, outcome):
            return super().reward(outcome) + 2.0 * outcome.penalty

        def bound(self, trace):
            return super().bound(trace) + 1e3  # what is paid for is not what this is about

    class PaysForLateness(Sound):
        """The same of the tiny problem: the penalty is all that its outcomes differ in."""

        def step(self, slot, state, decision):
            after, outcome = super().step(slot, state, decision)
            still = np.zeros_like(outcome.latency_s)
            never = np.zeros_like(outcome.dropped)
            return after, Fined(still, still, never, outcome.latency_s)

        def reward(self, outcome):
            return outcome.penalty - 20.0

        def bound(self, trace):
            return np.zeros(len(trace.work))

    class Fines(PaysForLateness):
        def reward(self, outcome):
            return -outcome.penalty

    small = InferenceScenario(devices=2, servers=1, blocks=3, tasks=2)
    for paying in (PaysForPenalties(small), PaysForLateness()):
        with pytest.raises(AssertionError, match="nor in accuracy and penalties, where there are"):
            check_problem(paying)
    # Less of it may earn more, and what costs more latency may all the same.
    check_problem(Fines())
    check_problem(DistributedInference(small))


@dataclass(frozen=True, slots=True)
class Fined:
    latency_s: np.ndarray
    energy_j: np.ndarray
    dropped: np.ndarray
    penalty: np.ndarray
