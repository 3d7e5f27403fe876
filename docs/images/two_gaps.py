"""Draw two_gaps.png: what policies can expect on a drive, beside the two bounds.

mec-gym ppo --out runs/ppo
python docs/images/two_gaps.py runs/ppo
"""

import sys
from pathlib import Path

import numpy as np

import mec_gym
from mec_gym.core.pictures import BLACK, BLUE, GREEN, GREY, ORANGE, SMALL, new_figure

EPISODES = 2000


def main(run: str) -> None:
    """Measure and draw.

    Args:
        run: Folder of a run of PPO.
    """
    problem = mec_gym.make_problem("mec/TrainingOffload-v0")
    agents = {"price, a rule": "price", "PPO": f"ppo:{run}", "sdp": "sdp"}
    results = mec_gym.compare(agents, problem, EPISODES, online_bound=True)
    # The bounds of drives are independent of the episodes that were played.
    clairvoyant = problem.bound(problem.sample(np.random.default_rng((1, EPISODES)), 10_000))
    policies = [(result.agent, result.online.expected_return) for result in results]
    online = results[0].online.bound
    draw(policies, online, float(clairvoyant.mean()))


def draw(policies: list[tuple[str, float]], online: float, clairvoyant: float) -> None:
    """Draw the bounds and the policies on one line, the worst one first."""
    figure = new_figure(9.6, 2.2)
    axes = figure.add_subplot()
    worst, best = policies[0][1], policies[-1][1]
    low, high = worst - 0.045, clairvoyant + 0.1
    for begin, end, colour, text in (
        (worst, best, GREEN, "what better policies\nhave gained so far"),
        (best, online, ORANGE, "what may be\nleft to learn"),
        (online, clairvoyant, BLUE, "worth of knowing the future:\nout of reach for every policy"),
        (clairvoyant, high, GREY, "nobody can\nreach this"),
    ):
        axes.barh(0.0, end - begin, left=begin, height=0.5, color=colour, alpha=0.35, lw=0)
        axes.text((begin + end) / 2, 0.0, text, ha="center", va="center", fontsize=SMALL)
    bounds = [("online bound", online), ("clairvoyant bound", clairvoyant)]
    for name, value in (*policies, *bounds):
        weight = "bold" if (name, value) in bounds else "normal"
        axes.plot([value, value], [0.25, 0.5], color=BLACK)
        axes.text(value, 0.55, f"{name}\n{value:.3f}", ha="center", va="bottom", weight=weight)
    axes.set(xlim=(low, high), ylim=(-0.3, 1.05), yticks=[], xlabel="expected return of a drive")
    axes.spines[["left", "right", "top"]].set_visible(False)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main(sys.argv[1])
