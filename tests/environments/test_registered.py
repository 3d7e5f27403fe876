"""Every registered environment through everything that users put around it."""

import functools
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers.vector import DictInfoToList
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorStatistics
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env

import mec_gym
from agents.registry import agents_for, make_agent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.dnn.graph import save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.testing import check_agent, check_problem

PAPER, DRIVE = "mec/TrainingOffloadPaper-v0", "mec/TrainingOffload-v0"
EXIT = "mec/EarlyExitPartition-v0"
PLACE = "mec/DistributedInference-v0"
OFFLOAD = [PAPER, DRIVE]
IDS = list(mec_gym.ENVIRONMENTS)
WITH_PRESETS = [
    (i, preset) for i, entry in mec_gym.ENVIRONMENTS.items() for preset in entry.presets
]

# SB3 would have Box actions in [-1, 1], where a new Gaussian policy begins in the middle.
# Training offload's are shares in [0, 1] by design; agents/heads rescales for learners.
SYMMETRIC = "We recommend you to use a symmetric and normalized Box action space (range=[-1, 1])"
EXPECTED_WARNINGS = {("stable_baselines3", env_id): [SYMMETRIC] for env_id in OFFLOAD}
# A number of the observation that nature draws anew for each slot: work, bandwidth, a load.
DRAWN = {PAPER: 2, DRIVE: 2, EXIT: 2, PLACE: 5 * 29}
# How much is left to do.
LEFT = {PAPER: 1, DRIVE: 1, EXIT: 10, PLACE: -1}
OWN = {
    PAPER: {"horizon": 4, "handover_s": 7.0},
    DRIVE: {"horizon": 4, "handover_s": 7.0},
    EXIT: {"horizon": 4, "radio_power": 2.0},
    PLACE: {"blocks": 2, "tasks": 2, "harvest": 0.3},
}


def some_actions(space, seed, *batch):
    shape = (*batch, *space.shape)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return np.random.default_rng(seed).integers(space.nvec, size=shape)
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def test_the_table():
    assert IDS == [PAPER, DRIVE, EXIT, PLACE]
    assert {env_id: entry.default for env_id, entry in mec_gym.ENVIRONMENTS.items()} == {
        PAPER: "paper",
        DRIVE: "drive",
        EXIT: "mixed",
        PLACE: "small",
    }
    assert mec_gym.make_problem(PAPER).horizon == 1
    assert mec_gym.make_problem(DRIVE).horizon == 30
    assert mec_gym.make_problem(EXIT).horizon == 100
    assert mec_gym.make_problem(PLACE).horizon == 32
    for env_id, preset in WITH_PRESETS:
        entry = mec_gym.ENVIRONMENTS[env_id]
        assert isinstance(entry.presets[preset].make(), entry.scenario_type)
        assert "\n" not in entry.about and "\n" not in entry.presets[preset].about
    for env_id in IDS:
        assert env_id in gym.registry
        # No time limit around it: the adapters have their own.
        assert gym.spec(env_id).max_episode_steps is None


@pytest.mark.parametrize(("env_id", "preset"), WITH_PRESETS)
def test_conformance(env_id, preset):
    check_problem(env_id, preset)


@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
@pytest.mark.parametrize("env_id", IDS)
def test_checkers_of_gymnasium_and_sb3(env_id, render_mode):
    checkers = {"gymnasium": gymnasium_check_env, "stable_baselines3": sb3_check_env}
    for name, check in checkers.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            env = gym.make(env_id, render_mode=render_mode)
            check(env.unwrapped if name == "gymnasium" else env)
        messages = [str(w.message) for w in caught]
        wanted = EXPECTED_WARNINGS.get((name, env_id), [])
        assert len(messages) == len(wanted), messages
        for message, expected in zip(messages, wanted, strict=True):
            assert expected in message


@pytest.mark.parametrize("env_id", IDS)
def test_same_seed_same_episode(env_id):
    env, other = gym.make(env_id), gym.make(env_id)
    first = env.reset(seed=3)[0]
    assert np.array_equal(first, other.reset(seed=3)[0])
    action = some_actions(env.action_space, 0)
    one, two = env.step(action), other.step(action)
    assert np.array_equal(one[0], two[0]) and one[1:] == two[1:]
    assert np.array_equal(env.reset()[0], other.reset()[0])
    assert np.array_equal(env.reset(seed=3)[0], first)
    seen = [env.reset(seed=seed)[0][DRAWN[env_id]] for seed in range(50)]
    assert len(set(seen)) == 50
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
    name = list(presets)[1]
    other = gym.make_vec(env_id, num_envs=2, scenario=name)
    assert other.problem.scenario == presets[name].make() != vector.problem.scenario
    assert other.problem.horizon == vector.problem.horizon


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
        for actions in some_actions(native.single_action_space, 0, 35, 2):
            one, two = native.step(actions), other.step(actions)
            for a, b in zip(one[:4], two[:4], strict=True):
                assert np.array_equal(a, b)
            assert ("final_info" in one[4]) == ("final_info" in two[4])
            if "final_info" in one[4]:
                assert (
                    one[4]["final_info"]["latency_s"].tolist()
                    == two[4]["final_info"]["latency_s"].tolist()
                )
                for a, b in zip(one[4]["final_obs"], two[4]["final_obs"], strict=True):
                    assert np.array_equal(a, b)
    finally:
        other.close()


@pytest.mark.parametrize("env_id", IDS)
def test_sb3s_workers_differ(env_id):
    workers = make_vec_env(env_id, n_envs=8)
    assert len(np.unique(workers.reset()[:, DRAWN[env_id]])) == 8
    seeded = make_vec_env(env_id, n_envs=4, seed=20)
    alone = [gym.make(env_id).reset(seed=20 + i)[0] for i in range(4)]
    assert np.array_equal(seeded.reset(), np.stack(alone))


@pytest.mark.parametrize("make", [gym.make, functools.partial(gym.make_vec, num_envs=2)])
@pytest.mark.parametrize("env_id", IDS)
def test_unknown_scenarios_and_arguments(env_id, make):
    presets = ", ".join(mec_gym.ENVIRONMENTS[env_id].presets)
    with pytest.raises(ValueError, match=f"scenario must be one of {presets}.*got 'nowhere'"):
        make(env_id, scenario="nowhere")
    for wrong in (5, ["paper"], object()):
        with pytest.raises(ValueError, match=f"scenario must be one of {presets}.*Scenario, got"):
            make(env_id, scenario=wrong)
    with pytest.raises(TypeError, match="colour"):
        make(env_id, colour="red")


@pytest.mark.parametrize("mode", ["human", "ansi"])
@pytest.mark.parametrize("env_id", IDS)
def test_unknown_render_mode(env_id, mode):
    with pytest.raises(ValueError, match=f"render_mode must be one of rgb_array, got '{mode}'"):
        gym.make(env_id, render_mode=mode)


def test_unknown_ids():
    with pytest.raises(
        ValueError, match=f"env_id must be one of {', '.join(IDS)}, got 'mec/No-v0'"
    ):
        mec_gym.make_problem("mec/No-v0")
    with pytest.raises(gym.error.NameNotFound):
        gym.make("mec/No-v0")


@pytest.mark.parametrize("env_id", IDS)
def test_a_scenario_of_ones_own(env_id):
    scenario_type = mec_gym.ENVIRONMENTS[env_id].scenario_type
    mine = scenario_type(battery=321.0, **OWN[env_id])
    env = gym.make(env_id, scenario=mine)
    assert env.unwrapped.problem.scenario == mine
    env.reset(seed=0)
    ends = [env.step(some_actions(env.action_space, k))[2] for k in range(4)]
    assert ends == [False, False, False, True]
    vector = gym.make_vec(env_id, num_envs=2, scenario=mine)
    assert vector.problem.scenario == mine
    assert mec_gym.make_problem(env_id, mine).scenario == mine
    check_problem(env_id, mine)


# Seed 77; actions of default_rng(2024), most of the work to the edge. Generated once; a change
# of any digit is a change of the physics, of the sampling or of what an action means.
GOLDEN = {
    PAPER: (
        [
            -0.1451866752,
            -0.1111222009,
            -0.08196179741,
            -0.0803082385,
            -0.09657903261,
            -0.09668553847,
            -0.1696002374,
            -0.04153096258,
            -0.07694395337,
            -0.1458440619,
            -0.1330407626,
            -0.1492753165,
        ],
        [2, 4, 4, 4, 4, 1, 1, 4, 2, 1, 2, 4],
    ),
    DRIVE: (
        [
            -0.1508654293,
            -0.1195876043,
            -0.08950650746,
            -0.07456625031,
            -0.1234088339,
            -0.09518980142,
            -0.172778822,
            -0.06235698299,
            -0.07694395337,
            -0.1420958355,
            -0.1820798648,
            -0.2045165073,
        ],
        [4, 2, 1, 4, 1, 4, 1, 3, 4, 1, 1, 1],
    ),
}


@pytest.mark.parametrize("env_id", OFFLOAD)
def test_golden_rollout(env_id):
    env = gym.make(env_id)
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    rewards, cases = [], []
    for _ in range(12):
        action = rng.uniform(0, 1, env.action_space.shape).astype(np.float32)
        action[:2] = 0.6 + 0.4 * action[:2]
        _, reward, terminated, _, info = env.step(action)
        rewards.append(reward)
        cases.append(info["case"])
        if terminated:
            env.reset()
    assert rewards == pytest.approx(GOLDEN[env_id][0], rel=1e-9, abs=0)
    assert cases == GOLDEN[env_id][1]
    assert set(cases) >= {1, 2, 4}


@pytest.mark.parametrize("env_id", IDS)
def test_statistics_of_single_environments(env_id):
    env = RecordEpisodeStatistics(gym.make(env_id))
    for seed in range(2):
        env.reset(seed=seed)
        rewards, ended = [], False
        while not ended:
            _, reward, terminated, truncated, info = env.step(some_actions(env.action_space, 4))
            rewards.append(reward)
            ended = terminated or truncated
            assert ("episode" in info) == ended
        assert info["episode"]["r"] == pytest.approx(sum(rewards), rel=1e-12)
        assert info["episode"]["l"] == len(rewards) == env.unwrapped.problem.horizon


@pytest.mark.parametrize("env_id", IDS)
def test_statistics_and_lists_of_vectors(env_id):
    problem = mec_gym.make_problem(env_id)
    env = DictInfoToList(RecordVectorStatistics(gym.make_vec(env_id, num_envs=3)))
    observation, infos = env.reset(seed=0)
    assert infos == [{}, {}, {}]
    total = np.zeros(3)
    for t, actions in enumerate(some_actions(problem.action_space, 0, 2 * problem.horizon, 3)):
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
                assert info["final_obs"][LEFT[env_id]] == 0.0  # nothing is left to do
                shown = DRAWN[env_id]
                assert info["final_obs"][shown] == before[i][shown]  # it shows the last one
                total[i] = 0.0
            else:
                parts = info
                assert "episode" not in info
            if env_id == EXIT:
                costs = [
                    parts[f"{part}_cost"] for part in ("accuracy", "latency", "miss", "energy")
                ]
                assert reward[i] == pytest.approx(-sum(costs), rel=1e-12)
            elif env_id == PLACE:
                cost = parts["latency_s"] + parts["penalty"]
                assert reward[i] == pytest.approx(-cost, rel=1e-12)
            else:
                assert parts["latency_s"] == pytest.approx(-180.0 * reward[i], rel=1e-12)


@pytest.fixture(scope="module")
def many():
    """500 episodes of each id, and their bounds."""
    found = {}
    for env_id in IDS:
        problem = mec_gym.make_problem(env_id)
        trace = sample_episodes(problem, 0, 500)
        found[env_id] = (problem, trace, problem.bound(trace))
    return found


@pytest.mark.parametrize(
    ("env_id", "name"), [(i, n) for i in IDS for n in agents_for(mec_gym.make_problem(i))]
)
def test_no_agent_beats_the_bound(env_id, name, many):
    problem, trace, bound = many[env_id]
    # Sparrow search takes a while on drives, planning together everywhere.
    slow = {("sparrow", DRIVE), ("deadline-descent", PLACE), ("coordinate-descent", PLACE)}
    count = 60 if (name, env_id) in slow else 500
    agent = make_agent(name, problem)
    returns = rollout(problem, agent, arrays.at(trace, slice(0, count))).returns
    assert (returns <= bound[:count] + 1e-9 * np.abs(bound[:count])).all()
    if env_id in OFFLOAD:
        assert (returns >= -problem.horizon).all()
    check_agent(agent, problem, episodes=2)


def test_the_order_of_agents_on_the_drive(many):
    problem, trace, bound = many[DRIVE]
    trace = arrays.at(trace, slice(0, 200))
    delay = {"bound": -bound[:200].mean() * problem.scenario.deadline}
    drops = {}
    for name in ("price", "budget", "exact", "random-split"):
        result = rollout(problem, make_agent(name, problem), trace)
        delay[name] = result.outcomes.latency_s.sum(axis=1).mean()
        drops[name] = result.outcomes.dropped.sum(axis=1).mean()
    assert delay["bound"] * 1.05 < delay["price"] < 1.25 * delay["bound"]
    assert delay["price"] * 1.05 < delay["budget"]
    assert delay["budget"] * 1.5 < delay["exact"]
    assert delay["exact"] > 1.5 * delay["price"]
    assert delay["random-split"] > 1.1 * delay["exact"]
    assert drops["price"] < 1.0 < 4.0 < drops["exact"]


def test_on_the_paper_the_exact_agent_is_the_bound(many):
    problem, trace, bound = many[PAPER]
    for name in ("exact", "budget", "price"):
        returns = rollout(problem, make_agent(name, problem), trace).returns
        np.testing.assert_allclose(returns, bound, rtol=1e-5)


def test_the_order_of_agents_on_early_exits(many):
    problem, trace, bound = many[EXIT]
    cost = {"bound": -bound.mean()}
    for name in ("price", "exact", "dapdee", "dads", "device-only"):
        result = rollout(problem, make_agent(name, problem), trace)
        cost[name] = -result.returns.mean()
    assert cost["bound"] * 1.05 < cost["price"] < 1.3 * cost["bound"]
    assert cost["price"] * 1.2 < cost["exact"]
    assert cost["exact"] * 1.2 < cost["dapdee"] < cost["dads"] < cost["device-only"]


def test_scenarios_from_files(tmp_path):
    measured = tmp_path / "uplink.csv"
    measured.write_text("time,bit/s\n" + "".join(f"{t},{1e6 * (1 + t % 3)}\n" for t in range(30)))
    env = gym.make(EXIT, scenario=f"csv:{measured}")
    env.reset(seed=0)
    assert set(np.unique(env.unwrapped.trace.bandwidth)) <= {1e6, 2e6, 3e6}
    check_problem(EXIT, f"csv:{measured}")
    save_graph(tmp_path / "mine.json", load_profile("alexnet-digits"))
    problem = mec_gym.make_problem(EXIT, f"profile:{tmp_path / 'mine.json'}")
    assert problem.scenario.graph == load_profile("alexnet-digits")
    save_graph(tmp_path / "bare.json", load_profile("alexnet-exits"))
    for name, message in (
        (f"profile:{tmp_path / 'bare.json'}", "exit 'exit 1' has no measured accuracy"),
        ("csv:", "scenario must be one of"),
        ("photo:x.png", "scenario must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            mec_gym.make_problem(EXIT, name)
    with pytest.raises(FileNotFoundError):
        mec_gym.make_problem(EXIT, "csv:nowhere.csv")
    with pytest.raises(ValueError, match="scenario must be one of"):
        mec_gym.make_problem(DRIVE, f"csv:{measured}")


# Seed 77; actions of default_rng(2024). See GOLDEN.
GOLDEN_EXIT = (
    [
        -1.283772976,
        -2.791575574,
        -11.02998141,
        -0.7657495612,
        -0.1278644617,
        -12.95664111,
        -10.90329015,
        -11.83065795,
        -0.902739252,
        -10.92660367,
        -11.63951064,
        -11.17160505,
    ],
    [
        0.8825347697,
        0.8305912274,
        1.0,
        0.4762004276,
        0.03283349182,
        1.0,
        1.0,
        1.0,
        0.335203254,
        1.0,
        1.0,
        1.0,
    ],
)


def test_golden_rollout_of_early_exits():
    env = gym.make(EXIT)
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    rewards, latencies = [], []
    for _ in range(12):
        _, reward, _, _, info = env.step(rng.integers(env.action_space.nvec))
        rewards.append(reward)
        latencies.append(info["latency_s"])
    assert rewards == pytest.approx(GOLDEN_EXIT[0], rel=1e-9, abs=0)
    assert latencies == pytest.approx(GOLDEN_EXIT[1], rel=1e-9, abs=0)


def test_the_order_of_agents_on_distributed_inference(many):
    problem, trace, bound = many[PLACE]
    trace = arrays.at(trace, slice(0, 60))
    cost = {"bound": -bound[:60].mean()}
    names = ("deadline-descent", "coordinate-descent", "viterbi", "edge-only", "device-only")
    for name in names:
        cost[name] = -rollout(problem, make_agent(name, problem), trace).returns.mean()
    foresees = make_agent("clairvoyant", problem)
    foresees.foresee(trace)
    returns = rollout(problem, foresees, trace).returns
    assert (returns <= bound[:60]).all()
    cost["clairvoyant"] = -returns.mean()
    assert cost["bound"] * 1.2 < cost["clairvoyant"] * 1.05 < cost["deadline-descent"]
    assert cost["deadline-descent"] * 1.05 < cost["coordinate-descent"]
    assert cost["coordinate-descent"] * 1.3 < cost["viterbi"]
    assert cost["viterbi"] * 1.2 < cost["edge-only"]
    assert cost["edge-only"] * 1.2 < cost["device-only"]


# One of a deadline missed by far among them: a reward far below minus the latency.
GOLDEN_PLACE = (
    [
        -0.347855642, -2.328286991, -0.2482205374, -0.6217067629, -0.1190736895, -0.07535497449,
        -0.03610740738, -5.694779778, -0.4905777307, -0.1445091231, -0.06735802059, -0.275985942,
    ],
    [
        0.347855642, 2.328286991, 0.2482205374, 0.6217067629, 0.1190736895, 0.07535497449,
        0.03610740738, 0.01562415812, 0.4905777307, 0.1445091231, 0.06735802059, 0.275985942,
    ],
)  # fmt: skip


def test_golden_rollout_of_distributed_inference():
    env = gym.make(PLACE)
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    rewards, latencies, finished = [], [], []
    for _ in range(12):
        _, reward, _, _, info = env.step(rng.integers(env.action_space.nvec))
        rewards.append(reward)
        latencies.append(info["latency_s"])
        finished.append(int(info["finished"]))
    # Rates are drawn in single precision, whose exponentials differ between machines.
    assert rewards == pytest.approx(GOLDEN_PLACE[0], rel=1e-5, abs=0)
    assert latencies == pytest.approx(GOLDEN_PLACE[1], rel=1e-5, abs=0)
    assert finished == [0] * 7 + [4] + [0] * 4  # one was idle
