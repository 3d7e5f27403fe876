"""Every registered environment through everything that users put around it."""

import copy
import dataclasses
import functools
import importlib.util
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import HumanRendering, RecordEpisodeStatistics, RenderCollection
from gymnasium.wrappers.vector import DictInfoToList
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorStatistics
from registered import REGISTERED
from slow import slow_except, slow_off_diagonal
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env

import mec_gym
from agents.registry import agents_of, make_agent
from mec_gym.core import arrays
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.registration import rooms
from mec_gym.testing import check_agent, check_problem

IDS = list(mec_gym.ENVIRONMENTS)
PRESETS = [
    pytest.param(
        env_id, name, marks=[pytest.mark.slow] if name in REGISTERED[env_id].slow_presets else []
    )
    for env_id, entry in mec_gym.ENVIRONMENTS.items()
    for name in entry.presets
    if name not in REGISTERED[env_id].large_presets
]
PLAYED = [
    pytest.param(
        env_id, name, marks=[pytest.mark.slow] if name in REGISTERED[env_id].slow_agents else []
    )
    for room in rooms()
    for env_id in room.environments
    for name in agents_of(room)
]

# SB3 would have Box actions in [-1, 1], where a new Gaussian policy begins in the middle.
# Shares in [0, 1] are so by design; agents/heads rescales for learners.
SYMMETRIC = "We recommend you to use a symmetric and normalized Box action space (range=[-1, 1])"


def some_actions(problem, seed, *batch):
    return UniformPolicy(problem, seed).draw(*batch)


def to_the_end(env_id):
    """A scenario whose episodes have as many steps as they can have."""
    known, entry = REGISTERED[env_id], mec_gym.ENVIRONMENTS[env_id]
    if known.to_the_end is None:
        return entry.presets[entry.default].make()
    return entry.scenario_type(**known.to_the_end)


def drawn(env_id, observations):
    """What nature has drawn of each observation (..., observation), as bytes that compare."""
    places = np.atleast_1d(REGISTERED[env_id].drawn)
    return [one.tobytes() for one in np.atleast_2d(observations)[:, places]]


def test_the_table():
    assert list(REGISTERED) == IDS
    for env_id, entry in mec_gym.ENVIRONMENTS.items():
        assert entry.default == REGISTERED[env_id].default
        assert mec_gym.make_problem(env_id).horizon == REGISTERED[env_id].horizon
        known = REGISTERED[env_id]
        assert known.slow_presets | known.large_presets <= set(entry.presets)
        assert "\n" not in entry.about
        for preset in entry.presets.values():
            assert isinstance(preset.make(), entry.scenario_type) and "\n" not in preset.about
        assert env_id in gym.registry
        # An id has no limit, since every scenario has its own.
        assert gym.spec(env_id).max_episode_steps is None


@pytest.mark.parametrize(("env_id", "preset"), PRESETS)
def test_conformance(env_id, preset):
    check_problem(env_id, preset)


@pytest.mark.parametrize(("env_id", "render_mode"), slow_off_diagonal(IDS, [None, "rgb_array"]))
def test_checkers_of_gymnasium_and_sb3(env_id, render_mode):
    checkers = {"gymnasium": gymnasium_check_env, "stable_baselines3": sb3_check_env}
    for name, check in checkers.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            env = gym.make(env_id, render_mode=render_mode)
            check(env.unwrapped if name == "gymnasium" else env)
        messages = [str(w.message) for w in caught]
        space = env.action_space
        shares = isinstance(space, gym.spaces.Box) and not (space.low == -space.high).all()
        expected = name == "stable_baselines3" and shares
        assert len(messages) == expected, messages
        assert all(SYMMETRIC in message for message in messages)


@pytest.mark.parametrize("env_id", IDS)
def test_same_seed_same_episode(env_id):
    env, other = gym.make(env_id), gym.make(env_id)
    first = env.reset(seed=3)[0]
    assert np.array_equal(first, other.reset(seed=3)[0])
    action = some_actions(env.unwrapped.problem, 0)
    one, two = env.step(action), other.step(action)
    assert np.array_equal(one[0], two[0]) and one[1:] == two[1:]
    assert np.array_equal(env.reset()[0], other.reset()[0])
    assert np.array_equal(env.reset(seed=3)[0], first)
    seen = [env.reset(seed=seed)[0] for seed in range(50)]
    assert len(set(drawn(env_id, seen))) == 50
    assert not np.array_equal(gym.make(env_id).reset()[0], gym.make(env_id).reset()[0])


@pytest.mark.parametrize("env_id", IDS)
def test_native_vector_is_the_default(env_id):
    vector = gym.make_vec(env_id, num_envs=3)
    assert type(vector) is mec_gym.MecVectorEnv
    assert vector.num_envs == 3
    assert vector.spec.id == env_id
    alone = [gym.make(env_id).reset(seed=5 + i)[0] for i in range(3)]
    assert np.array_equal(vector.reset(seed=5)[0], np.stack(alone))
    presets = mec_gym.ENVIRONMENTS[env_id].presets
    name = next(name for name in presets if name != REGISTERED[env_id].default)
    other = gym.make_vec(env_id, num_envs=2, scenario=name)
    assert other.problem.scenario == presets[name].make() != vector.problem.scenario
    assert other.problem.horizon == mec_gym.make_problem(env_id, name).horizon


@pytest.mark.parametrize("env_id", IDS)
def test_the_spec_of_an_environment_names_its_horizon(env_id):
    """So does the spec of one with another horizon, which nothing may cut."""
    entry = mec_gym.ENVIRONMENTS[env_id]
    assert gym.make(env_id).spec.max_episode_steps == REGISTERED[env_id].horizon
    assert gym.make_vec(env_id, num_envs=2).spec.max_episode_steps == REGISTERED[env_id].horizon
    mine = entry.scenario_type(**REGISTERED[env_id].own)
    default = entry.presets[entry.default].make()
    longer = dataclasses.replace(default, **REGISTERED[env_id].longer)
    for scenario in (mine, longer):
        env, vector = gym.make(env_id, scenario=scenario), gym.make_vec(env_id, scenario=scenario)
        horizon = env.unwrapped.problem.horizon
        assert env.spec.max_episode_steps == vector.spec.max_episode_steps == horizon
        assert horizon != REGISTERED[env_id].horizon
        # The spec makes it again, with Gymnasium's own limit around it.
        for made in (env, gym.make(env.spec)):
            made.reset(seed=0)
            length = 0
            ended = False
            while not ended:
                _, _, terminated, truncated, _ = made.step(some_actions(vector.problem, length))
                ended = terminated or truncated
                length += 1
            assert length == horizon
        assert gym.make_vec(vector.spec).spec.max_episode_steps == horizon
    assert gym.make(env_id, max_episode_steps=2).spec.max_episode_steps == 2
    limited = gym.make_vec(env_id, num_envs=2, max_episode_steps=2)
    assert limited.spec.max_episode_steps == min(2, REGISTERED[env_id].horizon)
    assert gym.make_vec(env_id, num_envs=2, max_episode_steps=-1).max_episode_steps is None


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("env_id", IDS)
def test_step_limits_on_the_native_vector(env_id, mode):
    """As an argument, and as the limit of an id that a user registers; both as Gymnasium's."""
    mine = "mine/Short-v0"
    gym.register(
        mine,
        entry_point="mec_gym.registration:make_env",
        vector_entry_point="mec_gym.registration:make_vector_env",
        max_episode_steps=3,
        kwargs={"env_id": env_id},
    )
    try:
        natives = [
            gym.make_vec(env_id, num_envs=2, max_episode_steps=3, autoreset_mode=mode.value),
            gym.make_vec(mine, num_envs=2, autoreset_mode=mode),
        ]
        other = gym.make_vec(
            mine, num_envs=2, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
        )
    finally:
        del gym.registry[mine]
    for native in natives:
        assert type(native) is mec_gym.MecVectorEnv and native.autoreset_mode is mode
        assert np.array_equal(native.reset(seed=2)[0], other.reset(seed=2)[0])
        for actions in some_actions(native.problem, 0, 13, 2):
            one, two = native.step(actions), other.step(actions)
            for a, b in zip(one[:4], two[:4], strict=True):
                assert np.array_equal(a, b)
            ended = one[2] | one[3]
            if mode is AutoresetMode.DISABLED and ended.any():
                resets = [env.reset(options={"reset_mask": ended}) for env in (native, other)]
                assert np.array_equal(resets[0][0], resets[1][0])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("env_id", IDS)
def test_other_vector_modes_equal_the_native_one(env_id, mode):
    native = gym.make_vec(env_id, num_envs=2)
    other = gym.make_vec(
        env_id,
        num_envs=2,
        vectorization_mode=mode,
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    assert type(other) is not type(native)
    try:
        assert np.array_equal(native.reset(seed=8)[0], other.reset(seed=8)[0])
        for actions in some_actions(native.problem, 0, 35, 2):
            one, two = native.step(actions), other.step(actions)
            for a, b in zip(one[:4], two[:4], strict=True):
                assert np.array_equal(a, b)
            assert ("final_info" in one[4]) == ("final_info" in two[4])
            if "final_info" in one[4]:
                for name in native.problem.costs:
                    finals = [infos["final_info"] for infos in (one[4], two[4])]
                    # Of those that go on, the values are not told.
                    a, b = (np.where(final[f"_{name}"], final[name], 0.0) for final in finals)
                    assert np.array_equal(a, b)
                for a, b in zip(one[4]["final_obs"], two[4]["final_obs"], strict=True):
                    assert np.array_equal(a, b)
    finally:
        other.close()


@pytest.mark.parametrize("env_id", IDS)
def test_sb3s_workers_differ(env_id):
    workers = make_vec_env(env_id, n_envs=8)
    assert len(set(drawn(env_id, workers.reset()))) == 8
    seeded = make_vec_env(env_id, n_envs=4, seed=20)
    alone = [gym.make(env_id).reset(seed=20 + i)[0] for i in range(4)]
    assert np.array_equal(seeded.reset(), np.stack(alone))


@pytest.mark.parametrize("make", [gym.make, functools.partial(gym.make_vec, num_envs=2)])
@pytest.mark.parametrize("env_id", IDS)
def test_unknown_scenarios_and_arguments(env_id, make):
    presets = ", ".join(mec_gym.ENVIRONMENTS[env_id].presets)
    with pytest.raises(ValueError, match=f"scenario .*{presets}.*'nowhere'"):
        make(env_id, scenario="nowhere")
    for wrong in (5, ["paper"], object()):
        with pytest.raises(ValueError, match=f"scenario .*{presets}.*Scenario"):
            make(env_id, scenario=wrong)
    with pytest.raises(TypeError, match="colour"):
        make(env_id, colour="red")


@pytest.mark.parametrize("mode", ["ansi", "ansi_list"])
@pytest.mark.parametrize("env_id", IDS)
def test_unknown_render_mode(env_id, mode):
    with (
        pytest.warns(UserWarning, match=f"render_mode='{mode}'"),
        pytest.raises(ValueError, match=f"render_mode .*rgb_array.*'{mode}'"),
    ):
        gym.make(env_id, render_mode=mode)


@pytest.mark.parametrize("env_id", slow_except(IDS, "mec/DistributedInference-v1"))
def test_gymnasium_collects_pictures(env_id):
    env = gym.make(env_id, render_mode="rgb_array_list")
    assert isinstance(env, RenderCollection) and env.render_mode == "rgb_array_list"
    env.reset(seed=0)
    env.step(some_actions(env.unwrapped.problem, 0))
    one = gym.make(env_id, render_mode="rgb_array")
    one.reset(seed=0)
    first, second = env.render()
    assert np.array_equal(first, one.render()) and not np.array_equal(first, second)
    assert env.render() == []


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")
@pytest.mark.filterwarnings("ignore:.*avx2 capable:RuntimeWarning")
@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_shows_pictures_in_a_window(env_id, monkeypatch):
    """With pygame, or with Gymnasium's own word about it."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.warns(UserWarning, match="HumanRendering wrapper is being applied"):
        env = gym.make(env_id, render_mode="human")
    assert isinstance(env, HumanRendering) and env.render_mode == "human"
    if importlib.util.find_spec("pygame") is None:
        with pytest.raises(gym.error.DependencyNotInstalled, match="pygame"):
            env.reset(seed=0)
        return
    env.metadata = {**env.metadata, "render_fps": 1000}
    env.reset(seed=0)
    env.step(some_actions(env.unwrapped.problem, 0))
    height, width, _ = env.unwrapped.render().shape
    assert env.window.get_size() == (width, height)
    env.close()


def test_unknown_ids():
    with pytest.raises(ValueError, match=f"env_id .*{', '.join(IDS)}.*'mec/No-v0'"):
        mec_gym.make_problem("mec/No-v0")
    with pytest.raises(gym.error.NameNotFound):
        gym.make("mec/No-v0")


@pytest.mark.parametrize("env_id", IDS)
def test_a_scenario_of_ones_own(env_id):
    scenario_type = mec_gym.ENVIRONMENTS[env_id].scenario_type
    mine = scenario_type(**REGISTERED[env_id].own)
    env = gym.make(env_id, scenario=mine)
    assert env.unwrapped.problem.scenario == mine
    env.reset(seed=0)
    ends = [env.step(some_actions(env.unwrapped.problem, k))[2] for k in range(4)]
    assert ends == [False, False, False, True]
    vector = gym.make_vec(env_id, num_envs=2, scenario=mine)
    assert vector.problem.scenario == mine
    assert mec_gym.make_problem(env_id, mine).scenario == mine


@pytest.mark.parametrize("env_id", slow_except(IDS, "mec/TrainingOffload-v0"))
def test_conformance_of_a_scenario_of_ones_own(env_id):
    scenario_type = mec_gym.ENVIRONMENTS[env_id].scenario_type
    check_problem(env_id, scenario_type(**REGISTERED[env_id].own))


@pytest.mark.parametrize("asked", [(), (0, 2)], ids=str)
@pytest.mark.parametrize("env_id", IDS)
def test_past_states_are_computed_again(env_id, asked):
    """Whenever they are asked for, and although all actions are written into one array."""
    scenario = mec_gym.ENVIRONMENTS[env_id].scenario_type(**REGISTERED[env_id].own)
    env = gym.make(env_id, scenario=scenario).unwrapped
    env.reset(seed=2)
    seen = [env.now[1]]
    drawn = some_actions(env.problem, 0, 4)
    action = np.array(drawn[0])
    for t in range(4):
        if t in asked:
            assert len(env.episode.states) == t + 1
        action[...] = drawn[t]
        _, _, ended, cut, _ = env.step(action)
        seen.append(env.now[1])
        if ended or cut:
            break
    kept = env.episode.states
    assert len(kept) == len(seen) > 1
    for state, again in zip(seen, kept, strict=True):
        for name, field in arrays.as_dict(state).items():
            assert np.array_equal(field, getattr(again, name)), name


@pytest.mark.parametrize("env_id", IDS)
def test_scenarios_survive_json_and_pickle(env_id):
    """All presets, and one with everything that its own tests know."""
    entry = mec_gym.ENVIRONMENTS[env_id]
    scenarios = [preset.make() for preset in entry.presets.values()]
    scenarios.append(entry.scenario_type(**REGISTERED[env_id].own))
    for scenario in scenarios:
        for same in (copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))):
            assert same(scenario) == scenario
        # What is computed from the fields is no field.
        assert all(field.init for field in dataclasses.fields(scenario))
        assert mec_gym.make_problem(env_id, dataclasses.asdict(scenario)).scenario == scenario
        env, vector = (make(env_id, scenario=scenario) for make in (gym.make, gym.make_vec))
        text = env.spec.to_json()
        again = gym.make(EnvSpec.from_json(text))
        assert again.unwrapped.problem.scenario == scenario
        assert hash(again.unwrapped.problem.scenario) == hash(scenario)
        assert EnvSpec.from_json(again.spec.to_json()) == EnvSpec.from_json(text)
        wide = gym.make_vec(EnvSpec.from_json(vector.spec.to_json()))
        assert wide.problem.scenario == scenario
        assert pickle.loads(pickle.dumps(env.spec)) == env.spec
    assert np.array_equal(env.reset(seed=4)[0], again.reset(seed=4)[0])
    assert np.array_equal(vector.reset(seed=4)[0], wide.reset(seed=4)[0])
    assert np.array_equal(env.reset(seed=4)[0], pickle.loads(pickle.dumps(env)).reset(seed=4)[0])


@pytest.mark.parametrize("env_id", IDS)
def test_scenarios_as_dictionaries(env_id):
    own, positive = REGISTERED[env_id].own, REGISTERED[env_id].positive
    scenario = mec_gym.ENVIRONMENTS[env_id].scenario_type(**own)
    assert gym.make(env_id, scenario=dict(own)).unwrapped.problem.scenario == scenario
    with pytest.raises(ValueError, match=rf"scenario has no field 'colour'.*{positive}"):
        gym.make(env_id, scenario={**own, "colour": "red"})
    with pytest.raises(ValueError, match=rf"{positive} .*-1"):
        gym.make_vec(env_id, scenario={**own, positive: -1})


@pytest.mark.parametrize("env_id", IDS)
def test_statistics_of_single_environments(env_id):
    env = RecordEpisodeStatistics(gym.make(env_id, scenario=to_the_end(env_id)))
    action = some_actions(env.unwrapped.problem, 4)
    for seed in range(2):
        env.reset(seed=seed)
        rewards, ended = [], False
        while not ended:
            _, reward, terminated, truncated, info = env.step(action)
            rewards.append(reward)
            ended = terminated or truncated
            assert ("episode" in info) == ended
        assert info["episode"]["r"] == pytest.approx(sum(rewards), rel=1e-12)
        assert info["episode"]["l"] == len(rewards) == env.unwrapped.problem.horizon


@pytest.mark.parametrize("env_id", IDS)
def test_statistics_and_lists_of_vectors(env_id):
    scenario = to_the_end(env_id)
    problem = mec_gym.make_problem(env_id, scenario)
    env = DictInfoToList(
        RecordVectorStatistics(gym.make_vec(env_id, num_envs=3, scenario=scenario))
    )
    observation, infos = env.reset(seed=0)
    assert infos == [{}, {}, {}]
    total = np.zeros(3)
    for t, actions in enumerate(some_actions(problem, 0, 2 * problem.horizon, 3)):
        before = observation
        observation, reward, terminated, _, infos = env.step(actions)
        total += reward
        assert terminated.tolist() == [(t + 1) % problem.horizon == 0] * 3
        for i, info in enumerate(infos):
            if terminated[i]:
                assert set(info) == {"final_obs", "final_info", "episode"}
                parts = info["final_info"]
                assert info["episode"]["r"] == pytest.approx(total[i], rel=1e-12)
                assert info["episode"]["l"] == problem.horizon
                assert info["final_obs"][REGISTERED[env_id].left] == 0.0  # nothing is left to do
                # It shows the last one.
                assert drawn(env_id, info["final_obs"]) == drawn(env_id, before[i])
                total[i] = 0.0
            else:
                parts = info
                assert "episode" not in info
            assert reward[i] == pytest.approx(REGISTERED[env_id].reward(parts), rel=1e-12)


@pytest.fixture(scope="module", params=slow_except([40, 500], 40))
def many(request):
    """Many episodes of each id, and their bounds."""
    found = {}
    for env_id in IDS:
        problem = mec_gym.make_problem(env_id)
        trace = sample_episodes(problem, 0, request.param)
        found[env_id] = (problem, trace, problem.bound(trace))
    return found


@pytest.mark.parametrize(("env_id", "name"), PLAYED)
def test_no_agent_beats_the_bound(env_id, name, many):
    problem, trace, bound = many[env_id]
    if bound is None:  # nothing useful can be proved
        problem = mec_gym.make_problem(env_id, to_the_end(env_id))
        check_agent(make_agent(name, problem), problem, episodes=2)
        return
    agent = make_agent(name, problem)
    count = len(bound) // 8 if name in REGISTERED[env_id].slow_agents else len(bound)
    returns = rollout(problem, agent, arrays.at(trace, slice(0, count))).returns
    assert (returns <= bound[:count] + 1e-9 * np.abs(bound[:count])).all()
    check_agent(agent, problem, episodes=2)
