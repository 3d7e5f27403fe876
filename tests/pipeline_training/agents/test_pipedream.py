import itertools

import numpy as np
import pytest

from agents.pipeline_training.pipedream import Stage, pipedream
from mec_gym.dnn.zoo import load_profile
from train.reproduce.pipeline_training.vgg16_profile import STATES


def every_plan(blocks, devices, replicate):
    """Every way to cut a chain into stages and to replicate them on at most so many devices."""
    for count in range(1, min(blocks, devices) + 1):
        replicas = range(1, devices + 1 if replicate else 2)
        for cuts in itertools.combinations(range(1, blocks), count - 1):
            ends = [0, *cuts, blocks]
            for chosen in itertools.product(replicas, repeat=count):
                if sum(chosen) <= devices:
                    yield tuple(
                        Stage(first, after - 1, m)
                        for first, after, m in zip(ends[:-1], ends[1:], chosen, strict=True)
                    )


def period_of(stages, seconds, bits, weights, bandwidth):
    """The longest of all stages and cuts, in plain floats."""
    period = 0.0
    for first, last, m in stages:
        compute, size = sum(seconds[first : last + 1]), sum(weights[first : last + 1])
        agree = 4 * (m - 1) * size / (m * bandwidth)
        period = max(period, (compute + agree) / m)
        if first > 0:
            period = max(period, 2 * bits[first] / bandwidth)
    return period


def draw(rng):
    blocks, devices = int(rng.integers(1, 7)), int(rng.integers(1, 6))
    seconds = rng.uniform(1, 10, size=blocks)
    bits = rng.uniform(0.1, 10, size=blocks + 1)
    weights = rng.uniform(0, 10, size=blocks) * rng.choice([0.1, 1, 10], size=blocks)
    return seconds, bits, weights, devices, rng.uniform(1, 20)


def test_equals_trying_every_plan():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        seconds, bits, weights, devices, bandwidth = draw(rng)
        for replicate in (True, False):
            found = pipedream(seconds, bits, weights, devices, bandwidth, replicate=replicate)
            tried = {
                plan: period_of(plan, seconds, bits, weights, bandwidth)
                for plan in every_plan(len(seconds), devices, replicate)
            }
            assert found.period == pytest.approx(min(tried.values()), rel=1e-12)
            assert tried[found.stages] == pytest.approx(found.period, rel=1e-12)
            together = (Stage(0, len(seconds) - 1, devices),)
            assert found.data_parallel == pytest.approx(
                period_of(together, seconds, bits, weights, bandwidth), rel=1e-12
            )
            used = sum(stage.replicas for stage in found.stages)
            seen.add((replicate, len(found.stages) > 1, used < devices, used > len(found.stages)))
    # (True, one or several stages, idle devices or none, replicas or none): all but one stage
    # with replicas and idle devices, as one more replica of all is faster from the second one on.
    cases = set(itertools.product((True,), (False, True), (False, True), (False, True)))
    assert {case for case in seen if case[0]} == cases - {(True, False, True, True)}
    assert not any(replicas for replicate, _, _, replicas in seen if not replicate)


def test_by_hand():
    # 12 s, no weights: on 3 devices together 4 s. On two stages 8 + 4 s, the first one twice: 4 s
    # too, on as many devices. With weights of 6 bit in the second block at 2 bit/s, together
    # (12 + 4 * 2 * 6 / (3 * 2)) / 3 = 20 / 3 s; apart 4 s, if the cut (2 * 3 / 2 = 3 s) is quick.
    seconds, bits = np.array([8.0, 4.0]), np.array([100.0, 3.0, 100.0])
    none, some = np.array([0.0, 0.0]), np.array([0.0, 6.0])
    found = pipedream(seconds, bits, none, 3, 2.0)
    assert (found.period, found.data_parallel, found.configuration) == (4, 4, "3")
    found = pipedream(seconds, bits, some, 3, 2.0)
    assert found.stages == (Stage(0, 0, 2), Stage(1, 1, 1))
    assert (found.period, found.configuration) == (4, "2-1")
    assert found.data_parallel == pytest.approx(20 / 3)
    # Without replicas 8 s, and the third device is idle; the data-parallel time stands beside it.
    found = pipedream(seconds, bits, some, 3, 2.0, replicate=False)
    assert found.stages == (Stage(0, 0, 1), Stage(1, 1, 1))
    assert found.period == 8
    assert found.data_parallel == pytest.approx(20 / 3)


def test_the_profile_is_that_of_vgg16():
    assert len(STATES) == 40
    size = sum(state.parameter_bytes for state in STATES)
    assert size == 4 * 138_357_544  # the parameters of VGG16, of 4 bytes each
    # The same network in our zoo passes on as much after each layer, for 128 images.
    kinds = ("Conv2d", "MaxPool2d", "Linear")
    theirs = [state.activation_bytes for state in STATES if state.layer in kinds]
    kinds = ("conv2d", "maxpool2d", "linear")
    layers = load_profile("vgg16").layers
    ours = [128 * layer.output_bits / 8 for layer in layers if layer.operation in kinds]
    assert theirs == ours


@pytest.mark.parametrize(
    ("bandwidth", "period", "data_parallel"),
    [(1.25e9, 0.0559, 0.1458), (3.125e9, 0.0455, 0.0835)],
)
def test_vgg16_on_16_workers_as_published(bandwidth, period, data_parallel):
    """What PipeDream's authors run: 15 replicas, then one device with the linear layers."""
    found = pipedream(
        np.array([(state.forward_ms + state.backward_ms) / 1e3 for state in STATES]),
        np.array([0.0, *(8.0 * state.activation_bytes for state in STATES)]),
        np.array([8.0 * state.parameter_bytes for state in STATES]),
        16,
        8 * bandwidth,
    )
    assert found.configuration == "15-1"
    assert found.period == pytest.approx(period, abs=5e-5)
    assert found.data_parallel == pytest.approx(data_parallel, abs=5e-5)
    layers = [state.layer for state in STATES[found.stages[1].first :]]
    assert layers.count("Linear") == 3  # all there are


def test_what_does_not_fit_is_refused():
    fits = {"seconds": np.ones(2), "bits": np.ones(3), "weights": np.ones(2)}
    for name, value in (("bits", np.ones(2)), ("weights", np.ones(3))):
        with pytest.raises(ValueError, match=rf"{name} .*\({5 - len(value)},\).*\({len(value)},\)"):
            pipedream(**{**fits, name: value}, devices=2, bandwidth=1.0)
    with pytest.raises(ValueError, match=r"devices .*0"):
        pipedream(**fits, devices=0, bandwidth=1.0)
    with pytest.raises(ValueError, match=r"bandwidth .*0\.0"):
        pipedream(**fits, devices=2, bandwidth=0.0)
