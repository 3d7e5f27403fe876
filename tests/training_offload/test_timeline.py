"""The bars of a task are the model's own numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from training_offload.cases import paper_slot, rich, split

from mec_gym.core import arrays
from mec_gym.training_offload import model
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.scenario import MEGA, VARIANTS, Scenario, Slot
from mec_gym.training_offload.timeline import (
    ROWS,
    Bar,
    branch_ends,
    in_one_place,
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
            Decision(
                edge_share=np.array(shares[k, 0]),
                cloud_share=np.array(shares[k, 1]),
                server=np.array(pairs[k, 0]),
                next_server=np.array(pairs[k, 1]),
            ),
        )
        for k in range(n)
    ]


def end(bars: tuple[Bar, ...], *rows: str) -> float:
    return max((bar.end for bar in bars if bar.row in rows), default=0.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bars_end_when_the_model_says(variant: str) -> None:
    scenario = scenario_of(variant)
    seen = set()
    for slot, decision in instances(scenario, 600):
        _, outcome = model.evaluate(slot, rich(), decision, scenario)
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
    ("edge", "seconds"),
    [
        (50.0, {"literal": 7.8980, "finish": 7.3980, "split": 7.3980}),
        (103.0, dict.fromkeys(VARIANTS, 15.7759)),
        (180.0, {"literal": 16.8800, "finish": 27.3128, "split": 28.5710}),
        (225.1, dict.fromkeys(VARIANTS, 36.0492)),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_bars_end_at_the_edge_delays_of_the_paper(
    variant: str, edge: float, seconds: dict[str, float]
) -> None:
    bars = timeline(paper_slot(), split(edge), Scenario(variant=variant))  # type: ignore[arg-type]
    assert end(bars, *EDGE) == pytest.approx(seconds[variant], abs=5e-5)


def test_case_2_by_hand() -> None:
    """x_i = 180 Mbit, T_ct = 15 s: recv 12 s, train 13.43 s, results 1.2 s."""
    trained = {
        "literal": (12.0, 15.0),
        "split": (12.0, 15.0),
        "finish": (12.0, 12.0 + 180 / 13.4),
    }
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


def test_the_last_bar_of_each_branch() -> None:
    device, edge, cloud = branch_ends(timeline(paper_slot(), split(180.0), Scenario()))
    assert (device.row, edge.row, cloud.row) == ("device", "edge j", "cloud")
    # 110 of 350 Mbit stay on the device; 60 go to the cloud.
    assert device.end == pytest.approx(110 / 4.2105)
    assert edge.end == pytest.approx(27.3128, abs=5e-5)
    assert cloud.end == pytest.approx(60 / 4 + 60 / 42.105 + 6 / 4)
    (alone,) = branch_ends(timeline(paper_slot(), split(0.0, 350.0), Scenario()))
    assert (alone.row, alone.kind) == ("cloud", "return")


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_in_one_place(variant: str) -> None:
    """The true T_ct is not known; the battery may be short."""
    scenario = scenario_of(variant)
    known = instances(scenario, 1)[0][0]
    slot = replace(known, connection_time=np.array(1e-3))
    state = State(battery=np.array(60.0), tasks_left=np.array(1.0))
    found = in_one_place(slot, state, scenario)
    for k, (edge, cloud, server) in enumerate([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 1, 1)]):
        decision = Decision(
            edge_share=np.array(float(edge)),
            cloud_share=np.array(float(cloud)),
            server=np.array(server),
            next_server=np.array(server),
        )
        _, expected = model.evaluate(known, state, decision, scenario)
        for name, value in arrays.as_dict(arrays.at(found, k)).items():
            assert value == getattr(expected, name), name
    assert found.delay_s.shape == (4,)
    assert found.battery_short.tolist() == [True, False, False, False]
