"""The pictures of a task and of a drive are legible and name what matters."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from slow import slow_off_diagonal
from training_offload.cases import paper_slot, split

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import new_figure
from mec_gym.core.problem import Episode
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.model import State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import PRESETS, VARIANTS, Scenario, Slot
from mec_gym.training_offload.timeline import History
from mec_gym.training_offload.viewer import draw_episode, draw_gantt, draw_road


def assert_legible(figure: Figure) -> None:
    """No text leaves the picture or covers another."""
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    texts = set(figure.findobj(Text))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # Ticks beyond the limits exist but are not drawn.
            texts -= set(axis.findobj(Text)) - {axis.label}
            low, high = sorted(axis.get_view_interval())
            texts |= {t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high}
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in texts
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip()
    ]
    for name, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{name!r} is cut off: {box}"
    for (name, box), (other_name, other) in combinations(boxes, 2):
        dx = min(box.x1, other.x1) - max(box.x0, other.x0)
        dy = min(box.y1, other.y1) - max(box.y0, other.y0)
        # Line boxes include room for accents; a pixel or two in common is no overlap.
        assert min(dx, dy) <= 3, f"{name!r} covers {other_name!r}"


def play(problem: TrainingOffload, trace: Slot, player: str, steps: int) -> History:
    """An episode of some steps; ``player`` is random or exact. Trace fields (T, ...)."""
    problem.action_space.seed(1)
    states, decisions, outcomes = [problem.start(arrays.at(trace, 0))], [], []
    for t in range(steps):
        slot = arrays.at(trace, t)
        best = SlotFrontier(slot, problem.scenario).best(states[-1].battery)[1]
        # Through the action space, float32, as an agent's decisions come.
        action = problem.encode(best) if player == "exact" else problem.action_space.sample()
        decisions.append(problem.decision(action))
        state, outcome = problem.step(slot, states[-1], decisions[-1])
        states.append(state)
        outcomes.append(outcome)
    return Episode(trace=trace, states=states, decisions=decisions, outcomes=outcomes)


# Among the fast ones is the literal variant with 180 Mbit, which forgets something.
@pytest.mark.parametrize(
    ("edge", "variant"), slow_off_diagonal([50.0, 103.0, 180.0, 260.0, 0.0], VARIANTS)
)
def test_paper_pictures_are_legible(variant: str, edge: float) -> None:
    scenario = Scenario(variant=variant)  # type: ignore[arg-type]
    problem = TrainingOffload(scenario)
    before = problem.start(paper_slot())
    after, outcome = problem.step(paper_slot(), before, split(edge))
    trace = arrays.map_arrays(lambda a: np.asarray(a)[None], paper_slot())
    episode = Episode(
        trace=trace, states=[before, after], decisions=[split(edge)], outcomes=[outcome]
    )
    figure = draw_episode(scenario, episode)
    assert_legible(figure)
    notes = [t.get_text() for t in figure.findobj(Text) if isinstance(t, Text)]
    forgotten = any("never trained" in note for note in notes)
    assert forgotten == (variant == "literal" and edge == 180.0)


@pytest.mark.parametrize(
    ("steps", "player"), slow_off_diagonal([0, 1, 12, 30], ["random", "exact"])
)
def test_drive_pictures_are_legible(player: str, steps: int) -> None:
    problem = TrainingOffload(PRESETS["drive"].make())
    trace = arrays.at(problem.sample(np.random.default_rng(3), 1), 0)
    assert_legible(draw_episode(problem.scenario, play(problem, trace, player, steps)))


def test_frames_of_a_film_have_one_size() -> None:
    problem = TrainingOffload(Scenario())
    assert_legible(problem.draw(play(problem, arrays.stack([paper_slot()]), "exact", 0)))
    env = MecEnv(problem, "rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(problem.encode(split(100.0)))
    after = env.render()
    assert before is not None and after is not None
    assert before.shape == after.shape == (700, 1100, 3)
    assert (before != after).any()


def test_dropped_tasks_are_named() -> None:
    scenario = Scenario(deadline=20.0, battery=30.0, horizon=1)
    for battery, words in ((1e3, "TOO LATE"), (30.0, "NOT STARTED")):
        state = State(battery=np.array(battery), tasks_left=np.array(1.0))
        axes = new_figure(11, 4).add_subplot()
        draw_gantt(axes, scenario, paper_slot(), state, split(180.0))
        assert words in axes.get_title(loc="left")


@pytest.mark.parametrize("place", [0.0, 10.0, 250.0, 495.0, 500.0])
def test_road_is_legible_wherever_the_vehicle_is(place: float) -> None:
    scenario = PRESETS["drive"].make()
    slot = arrays.at(scenario.sample(np.random.default_rng(0), 1), (0, 0))
    values = arrays.as_dict(slot) | {"position": np.array(place), "speed": np.array(35.0)}
    figure = new_figure(11, 2)
    axes = figure.add_subplot()
    draw_road(axes, scenario, Slot(**values))
    assert scenario.road is not None and axes.get_xlim() == (0.0, 2 * scenario.road.cell_m)
    assert_legible(figure)


def test_import_loads_no_matplotlib() -> None:
    code = "import sys, mec_gym.training_offload.viewer; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
