"""Predictions of an execution, with numbers computed by hand."""

import pytest

from mec_gym.execution.prediction import STAGES, Cost, predict
from mec_gym.network.tandem import RateCurve

# Device 3 ms, 8 kbit, edge 5 ms, 0.5 ms per message and 2 ms of round trip.
SPLIT = Cost(device_s=3e-3, bits=8e3, edge_s=5e-3, beside_s=0.5e-3, round_trip_s=2e-3)
ALONE = Cost(device_s=11e-3, bits=0, edge_s=0.0, beside_s=0.0, round_trip_s=0.0)
RAW = Cost(device_s=1e-3, bits=4e3, edge_s=7e-3, beside_s=0.5e-3, round_trip_s=2e-3, is_raw=True)
CURVE = RateCurve.of([0.0], [2e6])  # 8 kbit take 4 ms


def milliseconds(stages):
    return [pytest.approx(1e3 * stages[name]) for name in (*STAGES, "total")]


def test_frames_one_after_the_other():
    found, ends = predict([SPLIT, ALONE, RAW], None, CURVE, pipeline=False)
    assert milliseconds(found[0]) == [0, 3, 4.5, 2, 5, 14.5]
    assert milliseconds(found[1]) == [0, 11, 0, 0, 0, 11]
    assert milliseconds(found[2]) == [0, 1, 2.5, 2, 7, 12.5]
    assert ends == pytest.approx([14.5e-3, 25.5e-3, 38e-3])


def test_frames_that_arrive_while_another_one_is_under_way_wait():
    found, ends = predict([SPLIT, SPLIT, ALONE], [0.0, 0.01, 0.1], CURVE, pipeline=False)
    assert milliseconds(found[0]) == [0, 3, 4.5, 2, 5, 14.5]
    assert milliseconds(found[1]) == [4.5, 3, 4.5, 2, 5, 19]
    assert milliseconds(found[2]) == [0, 11, 0, 0, 0, 11]
    assert ends == pytest.approx([14.5e-3, 29e-3, 0.111])


def test_a_pipeline_overlaps():
    """Of three at once, each waits 3 ms more for the device, 1 for the link and 1 for the edge."""
    found, ends = predict([SPLIT] * 3, None, CURVE, pipeline=True)
    for k, stages in enumerate(found):
        assert milliseconds(stages) == [5 * k, 3, 4.5, 2, 5, 14.5 + 5 * k]
    assert ends == pytest.approx([14.5e-3, 19.5e-3, 24.5e-3])


def test_a_raw_frame_overtakes_one_that_is_on_the_device():
    """Made at 2 ms, the second frame's message is sent from 2 to 4 ms; the other's from 4 to 8."""
    found, ends = predict([SPLIT, RAW], [0.0, 0.001], CURVE, pipeline=True)
    assert milliseconds(found[1]) == [0, 1, 2.5, 2, 7, 12.5]
    # Ready at 3 ms, sent 4 to 8, at the edge 10.5, which is busy from 6.5 to 13.5.
    assert milliseconds(found[0]) == [1 + 3, 3, 4.5, 2, 5, 18.5]
    assert ends == pytest.approx([18.5e-3, 13.5e-3])


def test_a_transfer_integrates_the_rate():
    curve = RateCurve.of([0.0, 5e-3, 6e-3], [2e6, 0.0, 8e6])  # 4 kbit, an outage, then the rest
    found, _ = predict([SPLIT], None, curve, pipeline=False)
    assert milliseconds(found[0]) == [0, 3, 3.5 + 0.5, 2, 5, 14]


def test_what_a_partition_costs_alone():
    assert SPLIT.total_s(2e6) == pytest.approx(14.5e-3) and SPLIT.slowest_s(2e6) == 5e-3
    assert SPLIT.slowest_s(1e6) == 8e-3
    assert ALONE.total_s(2e6) == ALONE.slowest_s(2e6) == 11e-3
