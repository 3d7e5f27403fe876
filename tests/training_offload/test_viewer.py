"""The bars of a picture are the model's own numbers; the pictures are legible."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import new_figure
from mec_gym.core.problem import Episode
from mec_gym.training_offload import model
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import DRIVE_PRESETS, MEGA, VARIANTS, Scenario, Slot
from mec_gym.training_offload.viewer import (
    ROWS,
    Bar,
    Drive,
    draw_episode,
    draw_gantt,
    draw_road,
    never_trained,
    timeline,
)

EDGE = ("edge i", "backhaul", "edge j")


def scenario_of(variant: str) -> Scenario:
    """Every number different from every other, so that a swap shows."""
    return Scenario(
        variant=variant,  # type: ignore[arg-type]
        server_uplink=(15 * MEGA, 9 * MEGA),
        server_downlink=(3 * MEGA, 2 * MEGA),
        server_compute=(13.4 * MEGA, 11 * MEGA),
        link_spread=0.3,
        compute_spread=0.3,
        cloud_uplink=5 * MEGA,
        cloud_downlink=7 * MEGA,
        connection_time=(1.0, 60.0),
        backhaul=20 * MEGA,
        handover_s=1.7,
        result_ratio=0.4,
    )


def instances(scenario: Scenario, n: int, seed: int = 0) -> list[tuple[Slot, Decision]]:
    """Unbatched tasks with random splits."""
    rng = np.random.default_rng(seed)
    trace = scenario.sample(rng, n)
    shares = rng.dirichlet((2.0, 1.0, 1.0), size=n)
    pairs = rng.integers(scenario.servers, size=(n, 2))
    return [
        (
            arrays.at(trace, (k, 0)),
            Decision(*(np.array(v) for v in (*shares[k, :2], *pairs[k]))),
        )
        for k in range(n)
    ]


def paper_slot(work: float = 350.0, connection_time: float = 15.0) -> Slot:
    """The design's check instance; sizes in Mbit."""
    scenario = Scenario()
    rate = [np.array([r, r]) for r in (
        scenario.server_uplink, scenario.server_downlink, scenario.server_compute)]  # fmt: skip
    tau = np.array(connection_time)
    return Slot(np.array(work * MEGA), tau, tau, np.array(0.0), np.array(0.0), *rate)


def split(edge: float, cloud: float = 60.0, work: float = 350.0) -> Decision:
    """MEC1 -> MEC4; sizes in Mbit."""
    shares = np.array(edge / work), np.array(cloud / work)
    return Decision(*shares, np.array(0), np.array(0))


def end(bars: tuple[Bar, ...], *rows: str) -> float:
    return max((bar.end for bar in bars if bar.row in rows), default=0.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bars_end_when_the_model_says(variant: str) -> None:
    scenario = scenario_of(variant)
    full = State(np.array(1e9), np.array(1.0))
    seen = set()
    for slot, decision in instances(scenario, 600):
        outcome = model.evaluate(slot, full, decision, scenario)
        bars = timeline(slot, decision, scenario)
        seen.add(int(outcome.case))
        assert end(bars, *EDGE) == pytest.approx(float(outcome.edge_s), abs=1e-9)
        assert end(bars, "device") == pytest.approx(float(outcome.device_s), abs=1e-9)
        assert end(bars, "cloud") == pytest.approx(float(outcome.cloud_s), abs=1e-9)
    assert seen == {1, 2, 3, 4}


@pytest.mark.parametrize("variant", VARIANTS)
def test_bars_carry_the_whole_task(variant: str) -> None:
    """Bits sent, trained and returned in the bars add up to x_i: nothing is drawn twice."""
    scenario = scenario_of(variant)
    rho = scenario.result_ratio
    for slot, decision in instances(scenario, 300, seed=1):
        x_i = float(decision.edge_share * slot.work)
        r = model.route(slot, decision.server, decision.next_server)
        rates = {
            ("edge i", "send"): r.uplink_i,
            ("edge j", "send"): r.uplink_j,
            ("edge i", "train"): r.compute_i,
            ("edge j", "train"): r.compute_j,
            ("edge i", "return"): r.downlink_i,
            ("edge j", "return"): r.downlink_j,
        }
        bits = {"send": 0.0, "train": 0.0, "return": 0.0}
        for bar in timeline(slot, decision, scenario):
            assert 0.0 <= bar.start < bar.end
            if (bar.row, bar.kind) in rates:
                bits[bar.kind] += float(rates[bar.row, bar.kind]) * (bar.end - bar.start)
        assert bits["send"] == pytest.approx(x_i)
        assert bits["return"] == pytest.approx(rho * x_i)
        assert bits["train"] == pytest.approx(x_i - never_trained(slot, decision, scenario))


@pytest.mark.parametrize("variant", VARIANTS)
def test_bars_of_a_row_do_not_overlap(variant: str) -> None:
    scenario = scenario_of(variant)
    for slot, decision in instances(scenario, 200, seed=2):
        bars = timeline(slot, decision, scenario)
        for row in ROWS:
            of_row = sorted((b for b in bars if b.row == row), key=lambda b: b.start)
            for first, second in pairwise(of_row):
                assert first.end <= second.start + 1e-9


@pytest.mark.parametrize(
    ("variant", "edge", "seconds"),
    [
        ("literal", 50.0, 7.8980), ("finish", 50.0, 7.3980), ("split", 50.0, 7.3980),
        ("literal", 103.0, 15.7759), ("finish", 103.0, 15.7759), ("split", 103.0, 15.7759),
        ("literal", 180.0, 16.8800), ("finish", 180.0, 27.3128), ("split", 180.0, 28.5710),
        ("literal", 225.1, 36.0492), ("finish", 225.1, 36.0492), ("split", 225.1, 36.0492),
    ],
)  # fmt: skip
def test_check_values_of_the_design(variant: str, edge: float, seconds: float) -> None:
    bars = timeline(paper_slot(), split(edge), Scenario(variant=variant))  # type: ignore[arg-type]
    assert end(bars, *EDGE) == pytest.approx(seconds, abs=5e-5)


def test_case_2_by_hand() -> None:
    """x_i = 180 Mbit, T_ct = 15 s: recv 12 s, train 13.43 s, results 1.2 s."""
    trained = {
        "literal": (12.0, 15.0), "split": (12.0, 15.0), "finish": (12.0, 12.0 + 180 / 13.4),
    }  # fmt: skip
    for variant, (start, stop) in trained.items():
        scenario = Scenario(variant=variant)  # type: ignore[arg-type]
        bars = {(b.row, b.kind): b for b in timeline(paper_slot(), split(180.0), scenario)}
        train = bars["edge i", "train"]
        assert (train.start, train.end) == pytest.approx((start, stop))
        handover = bars["backhaul", "hand-over"]
        assert (handover.start, handover.end) == pytest.approx((stop, stop + 0.5))
        assert (("edge j", "train") in bars) == (variant == "split")
    literal = Scenario(variant="literal")
    assert never_trained(paper_slot(), split(180.0), literal) == pytest.approx(139.8e6)
    assert never_trained(paper_slot(), split(50.0), literal) == 0.0
    assert never_trained(paper_slot(), split(180.0), Scenario()) == 0.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_literal_charges_a_handover_to_who_stays(variant: str) -> None:
    scenario = Scenario(variant=variant)  # type: ignore[arg-type]
    kinds = [bar.kind for bar in timeline(paper_slot(), split(50.0), scenario)]
    assert ("hand-over" in kinds) == (variant == "literal")
    nothing = timeline(paper_slot(), split(0.0, 0.0), scenario)
    rows = {bar.row for bar in nothing}
    assert rows == ({"device", "backhaul"} if variant == "literal" else {"device"})


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


def play(problem: TrainingOffload, trace: Slot, player: str, steps: int) -> Drive:
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


@pytest.mark.parametrize("edge", [50.0, 103.0, 180.0, 260.0, 0.0])
@pytest.mark.parametrize("variant", VARIANTS)
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


@pytest.mark.parametrize("steps", [0, 1, 12, 30])
@pytest.mark.parametrize("player", ["random", "exact"])
def test_drive_pictures_are_legible(player: str, steps: int) -> None:
    problem = TrainingOffload(DRIVE_PRESETS["drive"].make())
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
    late, poor = State(np.array(1e3), np.array(1.0)), State(np.array(30.0), np.array(1.0))
    for state, words in ((late, "TOO LATE"), (poor, "NOT STARTED")):
        axes = new_figure(11, 4).add_subplot()
        draw_gantt(axes, paper_slot(), state, split(180.0), scenario)
        assert words in axes.get_title(loc="left")


@pytest.mark.parametrize("place", [0.0, 10.0, 250.0, 495.0, 500.0])
def test_road_is_legible_wherever_the_vehicle_is(place: float) -> None:
    scenario = DRIVE_PRESETS["drive"].make()
    slot = arrays.at(scenario.sample(np.random.default_rng(0), 1), (0, 0))
    values = arrays.as_dict(slot) | {"position": np.array(place), "speed": np.array(35.0)}
    figure = new_figure(11, 2)
    axes = figure.add_subplot()
    draw_road(axes, Slot(**values), scenario, true_position=place)
    assert scenario.road is not None and axes.get_xlim() == (0.0, 2 * scenario.road.cell_m)
    assert_legible(figure)


def test_import_loads_no_matplotlib() -> None:
    code = "import sys, mec_gym.training_offload.viewer; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
