"""``mec-gym compare`` and ``mec-gym evaluate``: they play, print and write files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from agents.protocol import Agent, Clairvoyant
from agents.registry import agents_for, make_agent, references_for, trained_on
from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.traces import load_trace, save_trace
from mec_gym.registration import make_problem, usual_episodes
from train.config import DEFAULT_ENV, CompareRun, EvaluateRun
from train.evaluation.evaluate import Result, compare, make_agents, results_of, with_best_known
from train.evaluation.online import computed_online_bound
from train.evaluation.pictures import comparison_figure
from train.evaluation.tables import flat_row, print_table
from train.files import refuse_used, write_csv, write_figure, write_json
from train.lock import locked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = "results.json"
FILES = (RESULTS, "results.csv", "comparison.png", "trace.npz")


def compare_command(run: CompareRun) -> list[Result]:
    """Carry out a comparison and write its files.

    Raises:
        ValueError: The environment, the scenario or an agent is unknown, the trace is unusable,
            or the folder already holds results or is in use.
    """
    with locked(run.out):
        if not run.overwrite:
            refuse_used(run.out, FILES, "choose another folder or give --overwrite")
        return _compare(run)


def _compare(run: CompareRun) -> list[Result]:
    env_id, problem = _played(run.env, run.scenario, run.agents)
    names = run.agents or (*agents_for(problem), *references_for(problem))
    players = make_agents({name: name for name in names}, problem, run.seed, env_id)
    trace = (
        sample_episodes(problem, run.seed, run.episodes or usual_episodes(problem))
        if run.trace is None
        else load_trace(run.trace, problem)
    )
    bound = problem.bound(trace)
    online = computed_online_bound(problem) if run.online_bound and run.trace is None else None
    playing = results_of(players, problem, trace, bound, online)
    played = tqdm(playing, desc="agents", unit="agent", total=len(players), leave=False)
    results = with_best_known(list(played))
    save_trace(run.out / "trace.npz", trace)
    write_csv(run.out / "results.csv", [flat_row(result) for result in results])
    write_figure(run.out / "comparison.png", comparison_figure(results, bound, env_id))
    write_json(run.out / RESULTS, [result.as_dict() for result in results])
    # Only now: whoever reads may stop at any line.
    print_table(results, problem, f"{env_id}, {results[0].episodes} episodes")
    print(f"wrote {run.out}/{RESULTS}, results.csv, comparison.png, trace.npz")
    return results


def evaluate_command(run: EvaluateRun) -> Result:
    """Let one agent play, print its line and, if asked, draw its first episode.

    Raises:
        ValueError: The environment, the scenario or the agent is unknown, or the picture is there
            already.
    """
    if run.picture is not None:
        import matplotlib  # noqa: F401 - before anything plays: an extra may lack it

        if not run.overwrite:
            refuse_used(run.picture.parent, [run.picture.name], "give --overwrite or another name")
    env_id, problem = _played(run.env, run.scenario, (run.agent,))
    agent = make_agent(run.agent, problem, run.seed, env_id)
    if run.online_bound and computed_online_bound(problem) is None:
        print(f"no online bound is known for this scenario of {env_id}")
    (result,) = compare(
        {run.agent: agent}, problem, run.episodes, run.seed, online_bound=run.online_bound
    )
    if run.picture is not None:
        write_figure(run.picture, episode_figure(problem, agent, run.seed))
    print_table([result], problem, f"{env_id}, {result.episodes} episodes")
    if run.picture is not None:
        print(f"wrote {run.picture}")
    return result


def _played(
    env_id: str | None, scenario: str | None, agents: Sequence[str]
) -> tuple[str, AnyProblem]:
    """Return id and problem that are asked for, else those of the first run among the agents."""
    if env_id is None:
        for name in agents:
            origin = trained_on(name)
            if origin is not None:
                env_id, own = origin
                scenario = scenario or own
                break
    env_id = env_id or DEFAULT_ENV
    return env_id, make_problem(env_id, scenario)


def episode_figure(problem: AnyProblem, agent: Agent, seed: int) -> Figure:
    """Draw what the agent does in the episode of a seed."""
    env = MecEnv(problem)
    observation, _ = env.reset(seed=seed)
    if isinstance(agent, Clairvoyant):
        agent.foresee(arrays.at(env.trace, None))
    ended = False
    memory: Any = None
    start = np.ones(1, dtype=np.bool_)
    while not ended:
        action, memory = agent.predict(observation, memory, episode_start=start, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        ended, start = terminated or truncated, np.zeros(1, dtype=np.bool_)
    figure: Figure = problem.draw(env.episode)
    return figure
