"""What is no problem, or no agent, is refused where it is handed over."""

import gymnasium as gym
import pytest
from tiny_problem import TinyProblem

import mec_gym
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.problem import check_is_problem, missing_parts

ID = "mec/EarlyExitPartition-v2"


class Half(TinyProblem):
    observe = None

    def __init__(self):
        super().__init__()
        del self.observation_space


@pytest.mark.parametrize("problem", [ID, None, 5, gym.make(ID)], ids=["id", "None", "5", "env"])
@pytest.mark.parametrize(
    "use",
    [
        lambda problem: mec_gym.sample_episodes(problem, 0, 2),
        lambda problem: mec_gym.rollout(problem, None, None),
        lambda problem: mec_gym.load_trace("nothing.npz", problem),
    ],
    ids=["sample_episodes", "rollout", "load_trace"],
)
def test_what_is_no_problem(use, problem):
    with pytest.raises(ValueError, match=r"problem must be a Problem.*make_problem\(id\)"):
        use(problem)


@pytest.mark.parametrize("use", ["evaluate", "make_agent"])
def test_an_environment_is_no_problem(use):
    with pytest.raises(ValueError, match="problem must be a Problem, got <"):
        getattr(mec_gym, use)("price", gym.make(ID))


def test_what_a_problem_lacks():
    check_is_problem(TinyProblem())
    assert missing_parts(Half()) == ["observe", "observation_space"]
    with pytest.raises(ValueError, match="problem Half lacks observe, observation_space"):
        check_is_problem(Half())
    with pytest.raises(AssertionError, match="Half lacks observe, observation_space"):
        mec_gym.check_problem(Half())


@pytest.mark.parametrize("agent", [object(), None])
def test_what_is_no_agent(agent):
    problem = TinyProblem()
    trace = mec_gym.sample_episodes(problem, 0, 2)
    for use in (
        lambda: mec_gym.rollout(problem, agent, trace),
        lambda: mec_gym.check_agent(agent, problem),
        lambda: mec_gym.evaluate(agent, problem, episodes=2),
        lambda: mec_gym.compare({"one": UniformPolicy(problem, 0), "two": agent}, problem),
    ):
        with pytest.raises(ValueError, match=r"agent must have the method predict.*got"):
            use()


@pytest.mark.parametrize("seed", [-1, 0.5, 1 << 31])
def test_what_is_no_seed(seed):
    for use in (
        lambda: mec_gym.sample_episodes(TinyProblem(), seed, 2),
        lambda: mec_gym.evaluate("random", TinyProblem(), seed=seed),
    ):
        with pytest.raises(ValueError, match=f"seed .*got {seed}"):
            use()
