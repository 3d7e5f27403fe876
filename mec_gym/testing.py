"""The conformance suite: does a problem, or an agent, keep its promises?

    from mec_gym.testing import check_agent, check_online_bound, check_problem
    check_problem("mec/TrainingOffload-v0")
    check_problem(MyProblem())              # a problem of your own
    check_agent(my_agent, "mec/TrainingOffload-v0")
    check_online_bound(my_agent, "mec/TrainingOffload-v0")

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
from mec_gym.core.online import OnlineBound, online_bound_of
from mec_gym.core.policies import Predictor, UniformPolicy, check_is_agent
from mec_gym.core.problem import AnyProblem, missing_parts
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.traces import load_trace, save_trace
from mec_gym.core.types import FloatArray
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.registration import make_problem


def check_problem(problem: str | AnyProblem, scenario: Any = None, seed: int = 0) -> None:
    """Check everything that adapters, agents and users rely on.

    Args:
        problem: An environment id, or a Problem.
        scenario: The scenario of an environment id, as for ``gymnasium.make``.
        seed: The first seed of the episodes and actions that are tried.

    Raises:
        AssertionError: The problem breaks a promise; the message says which.
    """
    if isinstance(problem, str):
        problem = make_problem(problem, scenario)
    missing = missing_parts(problem)
    assert not missing, f"{type(problem).__name__} lacks {', '.join(missing)}"
    check_env(MecEnv(problem), skip_render_check=True)
    _check_records(problem, seed)
    _check_seeding(problem, seed)
    _check_vector_equals_single(problem, seed)
    _check_inverses(problem, seed)
    _check_broadcasting(problem, seed)
    _check_no_reward_for_worse(problem, seed)
    _check_device_rewards(problem, seed)
    _check_bad_actions(problem, seed)
    _check_traces(problem, seed)
    check_agent(UniformPolicy(problem, seed), problem, single=False)
    check_online_bound(UniformPolicy(problem, seed), problem, seed=seed)


def check_agent(
    agent: Predictor,
    problem: str | AnyProblem,
    scenario: Any = None,
    episodes: int = 64,
    seed: int = 0,
    single: bool = True,
) -> None:
    """Check that an agent's actions are valid and that no return is above the bound.

    Returns are not checked if the problem knows no bound.

    Args:
        agent: Anything with the ``predict`` of Stable-Baselines3.
        problem: An environment id, or a Problem.
        scenario: The scenario of an environment id, as for ``gymnasium.make``.
        episodes: The number of episodes that the agent plays.
        seed: The seed of the first episode; the next has ``seed + 1``, and so on.
        single: Whether to ask for the action of a single, unbatched observation too.

    Raises:
        AssertionError: The agent or the bound breaks a promise; the message says which.
        ValueError: An action is outside the space, or the agent is none.
    """
    if isinstance(problem, str):
        problem = make_problem(problem, scenario)
    check_is_agent(agent)
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
    if bound is None:
        return
    assert bound.shape == returns.shape, f"bound must have shape {returns.shape}"
    beaten = returns > bound + 1e-9 * np.abs(bound)
    assert not beaten.any(), (
        f"the bound is beaten on seed {seed + int(beaten.argmax())}: "
        f"{returns[beaten][0]} > {bound[beaten][0]}"
    )


def check_online_bound(
    agent: Predictor,
    problem: str | AnyProblem,
    scenario: Any = None,
    episodes: int = 256,
    seed: int = 0,
) -> None:
    """Check the online bound of a problem, which need not offer one, against an agent.

    Args:
        agent: Anything with the ``predict`` of Stable-Baselines3 that does not know the future.
        problem: An environment id, or a Problem.
        scenario: The scenario of an environment id, as for ``gymnasium.make``.
        episodes: The number of fresh episodes that the agent plays.
        seed: The seed of these episodes.

    Raises:
        AssertionError: The online bound breaks a promise; the message says which.
    """
    if isinstance(problem, str):
        problem = make_problem(problem, scenario)
    online = online_bound_of(problem)
    if online is None:
        return
    assert isinstance(online, OnlineBound), (
        f"online_bound() must return an OnlineBound or None, got {online!r}"
    )
    assert np.isfinite(online.mean) and np.isfinite(online.se) and online.se >= 0, (
        f"the online bound must be finite, got {online.mean} with standard error {online.se}"
    )
    again = online_bound_of(problem)
    assert again is not None and (again.mean, again.se) == (online.mean, online.se), (
        "the online bound must be the same at every call"
    )
    trace = problem.sample(np.random.default_rng((seed, episodes)), episodes)
    played = rollout(problem, agent, trace)
    luck = online.luck(trace, played.outcomes)
    assert luck.shape == played.returns.shape and np.isfinite(luck).all(), (
        f"luck must be finite numbers of shape {played.returns.shape}, got shape {luck.shape}"
    )

    def four_errors(values: FloatArray) -> float:
        """Four standard errors of the difference between a mean and the online bound."""
        return 4.0 * float(np.hypot(values.std(ddof=1) / np.sqrt(episodes), online.se))

    assert abs(luck.mean()) <= four_errors(luck), (
        f"luck must be 0 in expectation, but its mean is {luck.mean():.6g} over {episodes} episodes"
    )
    fair = played.returns - luck
    assert fair.mean() <= online.mean + four_errors(fair), (
        f"the online bound is beaten: an agent expects {fair.mean():.6g} > {online.mean:.6g}"
    )
    bound = problem.bound(trace)
    if bound is not None:
        assert online.mean <= bound.mean() + four_errors(bound), (
            "the online bound must not be above what can be expected with the future known: "
            f"{online.mean:.6g} > {bound.mean():.6g}"
        )


def _batch(problem: AnyProblem, seed: int, n: int = 16) -> tuple[Any, Any, npt.NDArray[Any]]:
    """The first slots of n episodes, the states at the start, and random actions."""
    slot = arrays.slot_at(problem.sample(np.random.default_rng(seed), n), 0)
    return slot, problem.start(slot), UniformPolicy(problem, seed).draw(n)


def _identical(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(arrays.as_dict(one).values(), arrays.as_dict(other).values(), strict=True)
    )


def _check_records(problem: AnyProblem, seed: int) -> None:
    n = 3
    trace = problem.sample(np.random.default_rng(seed), n)
    for name, field in arrays.as_dict(trace).items():
        assert field.shape[:2] in ((n, problem.horizon), (n, 1)), (
            f"trace.{name} must have the leading axes {(n, problem.horizon)}, or {(n, 1)} if it "
            f"holds during a whole episode, got {field.shape}"
        )
    slot, state, actions = _batch(problem, seed, n)
    after, outcome = problem.step(slot, state, problem.decision(actions))
    parts = arrays.as_dict(outcome)
    for which, names in (("costs", problem.costs), ("gains", problem.gains)):
        for name in names:
            assert name in parts, (
                f"{which} must name fields of the Outcome ({', '.join(parts)}), got {name!r}"
            )
    for name, field in parts.items():
        assert field.shape == (n,), f"outcome.{name} must have shape {(n,)}, got {field.shape}"
    assert type(after) is type(state), "step must return a state like the one it was given"
    assert problem.reward(outcome).shape == (n,), "reward must be one number per instance"
    assert np.isfinite(problem.reward(outcome)).all(), "reward must be finite"
    assert problem.done(after).shape == (n,), "done must be one flag per instance"


def _play(env: MecEnv, seed: int | None, actions: npt.NDArray[Any]) -> list[Any]:
    """The observations, rewards and infos of a walk through as many episodes as it takes."""
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
    actions = UniformPolicy(problem, seed).draw(steps)
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
    actions = UniformPolicy(problem, seed).draw(steps, num_envs)
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
    parts = (*problem.costs, *problem.gains)
    if not parts:
        return
    trace = problem.sample(np.random.default_rng(seed), n)
    policy = UniformPolicy(problem, seed)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        _, other = problem.step(slot, state, problem.decision(policy.draw(n)))
        state, one = problem.step(slot, state, problem.decision(policy.draw(n)))
        for worse, better in ((one, other), (other, one)):
            no_better = np.ones(n, dtype=np.bool_)
            for name in problem.costs:
                no_better &= getattr(worse, name) >= getattr(better, name)
            for name in problem.gains:
                no_better &= getattr(worse, name) <= getattr(better, name)
            paid = problem.reward(worse) > problem.reward(better)
            assert not (no_better & paid).any(), (
                f"a decision that is no better in {', '.join(parts)} must not earn more"
            )


def _check_device_rewards(problem: AnyProblem, seed: int) -> None:
    if not hasattr(problem, "device_rewards"):
        return
    slot, state, actions = _batch(problem, seed)
    decision = problem.decision(actions)
    own = problem.device_rewards(slot, state, decision)
    assert own.shape == actions.shape, (
        f"device_rewards must have one number per choice, {actions.shape}, got {own.shape}"
    )
    np.testing.assert_allclose(
        own.sum(axis=-1),
        problem.reward(problem.step(slot, state, decision)[1]),
        rtol=1e-9,
        atol=1e-12,
        err_msg="device_rewards must add up to the reward",
    )


def _check_bad_actions(problem: AnyProblem, seed: int) -> None:
    env = MecEnv(problem)
    env.reset(seed=seed)
    space = problem.action_space
    good = UniformPolicy(problem, seed).draw()
    bad = [np.concatenate([good.ravel(), good.ravel()])]
    if isinstance(space, spaces.Box):
        bad += [np.full_like(good, np.nan), space.high + 1]
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
    actions = UniformPolicy(problem, seed).draw(problem.horizon)

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

    replayed = rewards(seed + 7, {"trace": arrays.at(loaded, 0)})
    assert rewards(seed, None) == replayed, (
        "a replayed trace must give the rewards of the drawn episode"
    )
