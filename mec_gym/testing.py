"""Conformance suite: does a problem, or an agent, keep its promises?

    from mec_gym.testing import check_agent, check_problem
    check_problem("mec/TrainingOffload-v0")
    check_problem(MyProblem())              # a problem of your own
    check_agent(my_agent, "mec/TrainingOffload-v0")

Every check raises an AssertionError that says what was promised.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import Predictor, rollout, sample_episodes
from mec_gym.core.traces import load_trace, save_trace
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.registration import make_problem

COMMON_PARTS = ("latency_s", "energy_j", "dropped")
"""Fields that every problem's Outcome has: agents are compared by them."""
GAINS = ("accuracy",)
"""Fields that an Outcome may have, of which more is better."""
COSTS = ("penalty",)
"""Fields that an Outcome may have, of which less is better."""


class _Uniform:
    """Draws from the action space; the policy that the checks play."""

    def __init__(self, space: spaces.Space[Any], seed: int) -> None:
        self.space = space
        self.space.seed(seed)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        return np.stack([self.space.sample() for _ in range(len(observation))]), state


def check_problem(problem: str | AnyProblem, scenario: Any = None, seed: int = 0) -> None:
    """Check everything that adapters, agents and users rely on.

    Args:
        problem: An environment id, or a Problem.
        scenario: Of the id; see ``gymnasium.make``.
        seed: Where the checks begin.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    if isinstance(problem, str):
        problem = make_problem(problem, scenario)
    check_env(MecEnv(problem), skip_render_check=True)
    _check_records(problem, seed)
    _check_seeding(problem, seed)
    _check_vector_equals_single(problem, seed)
    _check_inverses(problem, seed)
    _check_broadcasting(problem, seed)
    _check_no_reward_for_worse(problem, seed)
    _check_bad_actions(problem, seed)
    _check_traces(problem, seed)
    check_agent(_Uniform(problem.action_space, seed), problem, single=False)


def check_agent(
    agent: Predictor,
    problem: str | AnyProblem,
    scenario: Any = None,
    episodes: int = 64,
    seed: int = 0,
    single: bool = True,
) -> None:
    """Check that an agent plays: valid actions, and no return above the bound.

    Args:
        agent: Anything with SB3's ``predict``.
        problem: An environment id, or a Problem.
        scenario: Of the id; see ``gymnasium.make``.
        episodes: How many are played.
        seed: Of the first episode.
        single: Also ask for the action of one unbatched observation.

    Raises:
        AssertionError: A promise is broken; the message says which.
        ValueError: An action outside the space.
    """
    if isinstance(problem, str):
        problem = make_problem(problem, scenario)
    if single:
        env = MecEnv(problem)
        observation, _ = env.reset(seed=seed)
        action, _ = agent.predict(observation, deterministic=True)
        assert np.shape(action) == problem.action_space.shape, (
            f"one observation needs an action of shape {problem.action_space.shape}, "
            f"got {np.shape(action)}"
        )
        env.step(action)
    trace = sample_episodes(problem, seed, episodes)
    returns = rollout(problem, agent, trace).returns
    bound = problem.bound(trace)
    assert bound.shape == returns.shape, f"bound must have shape {returns.shape}"
    beaten = returns > bound + 1e-9 * np.abs(bound)
    assert not beaten.any(), (
        f"the bound is beaten on seed {seed + int(beaten.argmax())}: "
        f"{returns[beaten][0]} > {bound[beaten][0]}"
    )


def _batch(problem: AnyProblem, seed: int, n: int = 16) -> tuple[Any, Any, npt.NDArray[Any]]:
    """First slots of n episodes, their states and random actions."""
    slot = arrays.at(problem.sample(np.random.default_rng(seed), n), (slice(None), 0))
    actions, _ = _Uniform(problem.action_space, seed).predict(np.empty(n))
    return slot, problem.start(slot), actions


def _identical(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(arrays.as_dict(one).values(), arrays.as_dict(other).values(), strict=True)
    )


def _check_records(problem: AnyProblem, seed: int) -> None:
    n = 3
    trace = problem.sample(np.random.default_rng(seed), n)
    for name, field in arrays.as_dict(trace).items():
        assert field.shape[:2] == (n, problem.horizon), (
            f"trace.{name} must have the leading axes {(n, problem.horizon)}, got {field.shape}"
        )
    slot, state, actions = _batch(problem, seed, n)
    after, outcome = problem.step(slot, state, problem.decision(actions))
    parts = arrays.as_dict(outcome)
    for name in COMMON_PARTS:
        assert name in parts, f"the Outcome must have a field {name}"
    for name, field in parts.items():
        assert field.shape == (n,), f"outcome.{name} must have shape {(n,)}, got {field.shape}"
    assert type(after) is type(state), "step must return a state like the one it was given"
    assert problem.reward(outcome).shape == (n,), "reward must be one number an instance"
    assert np.isfinite(problem.reward(outcome)).all(), "reward must be finite"
    assert problem.done(after).shape == (n,), "done must be one flag an instance"


def _play(env: MecEnv, seed: int | None, actions: npt.NDArray[Any]) -> list[Any]:
    """Observations, rewards and infos of a walk through as many episodes as it takes."""
    log: list[Any] = [env.reset(seed=seed)[0]]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        log += [observation, reward, terminated, truncated, sorted(info.items())]
        if terminated or truncated:
            log.append(env.reset()[0])
    return log


def _same_log(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(one, other, strict=True)
    )


def _check_seeding(problem: AnyProblem, seed: int) -> None:
    steps = 3 * problem.horizon
    actions, _ = _Uniform(problem.action_space, seed).predict(np.empty(steps))
    env = MecEnv(problem)
    first = _play(env, seed, actions)
    assert _same_log(first, _play(env, seed, actions)), "the same seed must give the same episodes"
    assert _same_log(first, _play(MecEnv(problem), seed, actions)), (
        "the same seed must give the same episodes in a new environment"
    )
    assert not np.array_equal(first[0], _play(env, seed + 1, actions)[0]), (
        "different seeds must give different episodes"
    )
    env.reset(seed=seed)
    before = env.np_random.bit_generator.state
    env.step(actions[0])
    assert env.np_random.bit_generator.state == before, "no random number is drawn in step"


def _check_vector_equals_single(problem: AnyProblem, seed: int, num_envs: int = 3) -> None:
    # Long enough to use up what is drawn ahead, and to draw anew.
    steps = problem.horizon * (problem.episodes_ahead + 1) + 2
    actions, _ = _Uniform(problem.action_space, seed).predict(np.empty(steps * num_envs))
    actions = actions.reshape(steps, num_envs, *actions.shape[1:])
    vector = MecVectorEnv(problem, num_envs)
    singles = [MecEnv(problem) for _ in range(num_envs)]
    together, _ = vector.reset(seed=seed)
    alone = [env.reset(seed=seed + i)[0] for i, env in enumerate(singles)]
    message = "a vector environment must equal single ones seeded seed + i, bit for bit"
    assert np.array_equal(together, np.stack(alone)), message
    for t in range(steps):
        observation, reward, terminated, truncated, infos = vector.step(actions[t])
        for i, env in enumerate(singles):
            seen, earned, ended, cut, info = env.step(actions[t][i])
            assert (earned, ended, cut) == (reward[i], terminated[i], truncated[i]), message
            if ended or cut:
                assert np.array_equal(infos["final_obs"][i], seen), message
                parts = infos["final_info"]
                seen, _ = env.reset()
            else:
                parts = infos
            for name, value in info.items():
                assert parts[f"_{name}"][i] and parts[name][i] == value, f"{message}: {name}"
            assert np.array_equal(observation[i], seen), message


def _check_inverses(problem: AnyProblem, seed: int) -> None:
    slot, state, actions = _batch(problem, seed)
    observation = problem.observe(slot, state)
    again = problem.observe(*problem.decode(observation))
    np.testing.assert_allclose(
        again, observation, rtol=1e-6, atol=1e-7, err_msg="decode must be observe's inverse"
    )
    decision = problem.decision(actions)
    returned = problem.encode(decision)
    assert returned.dtype == problem.action_space.dtype, "encode must return the space's type"
    for name, field in arrays.as_dict(problem.decision(returned)).items():
        np.testing.assert_allclose(
            field,
            getattr(decision, name),
            rtol=1e-6,
            atol=1e-7,
            err_msg=f"encode must be decision's inverse: {name}",
        )


def _check_broadcasting(problem: AnyProblem, seed: int) -> None:
    slot, state, actions = _batch(problem, seed, 4)
    swarm = np.stack([actions, np.roll(actions, 1, axis=0), np.roll(actions, 2, axis=0)])
    states, outcomes = problem.step(slot, state, problem.decision(swarm))
    for p, single in enumerate(swarm):
        after, outcome = problem.step(slot, state, problem.decision(single))
        for together, alone in ((outcomes, outcome), (states, after)):
            # What no decision touches may keep the slots' axes.
            wide = arrays.map_arrays(
                lambda a, b: np.broadcast_to(a, (len(swarm), *b.shape)), together, alone
            )
            assert _identical(arrays.at(wide, p), alone), (
                "decisions (P, B) on slots (B,) must give what each of the P gives alone"
            )


def _check_no_reward_for_worse(problem: AnyProblem, seed: int, n: int = 256) -> None:
    trace = problem.sample(np.random.default_rng(seed), n)
    policy = _Uniform(problem.action_space, seed)
    slot = arrays.at(trace, (slice(None), 0))
    state = problem.start(slot)
    for t in range(problem.horizon):
        slot = arrays.at(trace, (slice(None), t))
        _, other = problem.step(slot, state, problem.decision(policy.predict(range(n))[0]))
        state, one = problem.step(slot, state, problem.decision(policy.predict(range(n))[0]))
        for worse, better in ((one, other), (other, one)):
            no_better = np.ones(n, dtype=np.bool_)
            parts = arrays.field_names(type(worse))
            for name in (*COMMON_PARTS, *(set(COSTS) & set(parts))):
                no_better &= getattr(worse, name) >= getattr(better, name)
            for name in set(GAINS) & set(parts):
                no_better &= getattr(worse, name) <= getattr(better, name)
            paid = problem.reward(worse) > problem.reward(better)
            assert not (no_better & paid).any(), (
                "a decision that is no better in latency, energy and drops must not earn more "
                "(nor in accuracy and penalties, where there are any)"
            )


def _check_bad_actions(problem: AnyProblem, seed: int) -> None:
    env = MecEnv(problem)
    env.reset(seed=seed)
    space = problem.action_space
    good = np.asarray(space.sample())
    bad = [np.concatenate([good.ravel(), good.ravel()])]
    if isinstance(space, spaces.Box):
        bad.append(np.full_like(good, np.nan))
        if np.isfinite(space.high).all():
            bad.append(space.high + 1)
    elif isinstance(space, spaces.MultiDiscrete):
        bad.append(space.start + space.nvec)
    elif isinstance(space, spaces.Discrete):
        bad.append(np.asarray(space.start + space.n))
    for action in bad:
        try:
            env.step(action)
        except ValueError:
            continue
        raise AssertionError(f"an action outside the space must be a ValueError: {action}")


def _check_traces(problem: AnyProblem, seed: int) -> None:
    trace = sample_episodes(problem, seed, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.npz"
        save_trace(path, trace)
        loaded = load_trace(path, problem)
    assert _identical(trace, loaded), "a trace must survive being saved and loaded"
    actions, _ = _Uniform(problem.action_space, seed).predict(np.empty(problem.horizon))

    def rewards(reset_seed: int, options: dict[str, Any] | None) -> list[float]:
        env = MecEnv(problem)
        env.reset(seed=reset_seed, options=options)
        earned = []
        for action in actions:
            _, reward, terminated, truncated, _ = env.step(action)
            earned.append(reward)
            if terminated or truncated:
                break
        return earned

    replayed = rewards(seed + 7, {"trace": arrays.at(loaded, slice(0, 1))})
    assert rewards(seed, None) == replayed, (
        "a replayed trace must give the rewards of the drawn episode"
    )
