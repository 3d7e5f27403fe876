"""Fits of layer times: known coefficients, held-out errors by hand, what is never seen."""

import dataclasses
import json
import math

import numpy as np
import pytest

from mec_gym.dnn import fit as fits
from mec_gym.dnn.fit import Cost, Fit, fit_cost, fit_layer_times, is_fit, load_fit, save_fit
from mec_gym.dnn.graph import Exit, Layer, LayerGraph

# conv2d: 20 us + FLOP at 5 GFLOP/s + bytes at 0.25 GB/s; relu: 3 us + bytes at 2 GB/s.
CONV = Cost("conv2d", 20e-6, 0.2e-9, 4e-9)
RELU = Cost("relu", 3e-6, 0.0, 0.5e-9)
TRUE = Fit((CONV, RELU), Cost("any", 1e-6, 1e-9, 1e-9))


def chain(name, *layers):
    """A chain of layers (operation, FLOP, bytes, seconds)."""
    made = (
        Layer("input", "input", 0.0, 0.0, 64.0, 0.0),
        *(Layer(f"{k}", op, fl, by, 64.0, s) for k, (op, fl, by, s) in enumerate(layers)),
    )
    links = tuple((v, v + 1) for v in range(len(layers)))
    return LayerGraph(name, made, links, (Exit("final", len(layers)),))


def timed(name, shapes):
    """The same with the times of ``TRUE``."""
    graph = chain(name, *((*shape, 1.0) for shape in shapes))
    seconds = TRUE.layer_seconds(graph)
    layers = (
        dataclasses.replace(layer, seconds=float(s))
        for layer, s in zip(graph.layers, seconds, strict=True)
    )
    return dataclasses.replace(graph, layers=tuple(layers))


SHAPES = [
    ("conv2d", 1e6, 2e4), ("relu", 0.0, 5e3), ("conv2d", 7e7, 3e5), ("relu", 0.0, 9e5),
    ("conv2d", 2e4, 8e5), ("conv2d", 4e8, 1e6),
]  # fmt: skip


def test_times_by_hand():
    graph = chain("net", ("conv2d", 1e6, 2e4, 1.0), ("relu", 0.0, 6e3, 1.0), ("fft", 7e3, 2e3, 1.0))
    # 20 + 200 + 80 us; 3 + 3 us; the fallback: 1 + 7 + 2 us.
    expected = [0.0, 300e-6, 6e-6, 10e-6]
    np.testing.assert_allclose(TRUE.layer_seconds(graph), expected, rtol=1e-12)
    assert TRUE.unseen(graph) == ("fft",)


def test_known_coefficients_are_found():
    found = fit_layer_times({"a": [timed("one", SHAPES[:3])], "b": [timed("two", SHAPES[3:])]})
    assert [cost.operation for cost in found.costs] == ["conv2d", "relu"]
    for cost, true in zip(found.costs, TRUE.costs, strict=True):
        for name in ("start_s", "s_per_flop", "s_per_byte"):
            assert getattr(cost, name) == pytest.approx(getattr(true, name), rel=1e-6), name
    assert [cost.layers for cost in found.costs] == [4, 2] and found.fallback.layers == 6


def test_the_loss_is_that_of_relative_errors():
    # Without a slope there is one number: sum (c / t - 1)^2 is least at sum 1/t / sum 1/t^2.
    work, seconds = np.array([[1.0, 0, 0]] * 3), np.array([1.0, 2.0, 8.0])
    cost = fit_cost("op", work, seconds)
    assert cost.start_s == pytest.approx((1 + 0.5 + 0.125) / (1 + 0.25 + 1 / 64))
    assert (cost.s_per_flop, cost.s_per_byte, cost.layers) == (0.0, 0.0, 3)


def test_more_work_never_takes_less_time():
    rng = np.random.default_rng(3)
    work = np.stack([np.ones(40), rng.uniform(0, 1e9, 40), rng.uniform(0, 1e6, 40)], axis=-1)
    for _ in range(20):
        cost = fit_cost("op", work, rng.uniform(1e-6, 1e-2, 40))  # no rhyme or reason
        assert min(cost.start_s, cost.s_per_flop, cost.s_per_byte) >= 0


def test_the_error_of_what_is_held_out():
    # Relus take 2 us in a and 5 us in b, whatever they move; only b has a tanh, of 8 us.
    a = chain("a1", ("relu", 0.0, 16.0, 2e-6), ("relu", 0.0, 16.0, 2e-6))
    b = chain("b1", ("relu", 0.0, 16.0, 5e-6), ("tanh", 0.0, 16.0, 8e-6))
    b2 = chain("b2", ("relu", 0.0, 16.0, 5e-6))
    found = fit_layer_times({"a": [a], "b": [b, b2]}, {"machine": "here"})
    first, second = found.held_out
    # a is predicted by b's relus: 5 us for each 2 us.
    assert first.family == "a" and first.networks == ("a1",) and first.unseen == ()
    assert first.errors == pytest.approx((1.5,)) and first.layer_error == pytest.approx(1.5)
    # b is predicted by a's relus, and its tanh by all layers of a: 2 us each.
    assert second.networks == ("b1", "b2") and second.unseen == ("tanh",)
    assert second.errors == pytest.approx((4 / 13 - 1, 2 / 5 - 1))
    assert second.layer_error == pytest.approx(0.6)  # of 0.6, 0.75 and 0.6
    assert found.median_error == pytest.approx(9 / 13)  # of 1.5, 9 / 13 and 0.6
    assert found.worst == ("a1", pytest.approx(1.5)) and found.provenance == {"machine": "here"}


@pytest.mark.parametrize(
    ("operation", "flops", "moved", "kind"),
    [
        ("batchnorm2d", 0.0, 8.0, "batchnorm"),
        ("batch_norm", 0.0, 8.0, "batchnorm"),
        ("layer_norm", 0.0, 8.0, "layernorm"),
        ("relu6", 0.0, 8.0, "hardtanh"),
        ("max_pool2d", 0.0, 8.0, "maxpool2d"),
        ("conv2d", 8.0, 8.0, "conv2d"),
        ("flatten", 0.0, 0.0, "view"),
        ("flatten", 0.0, 8.0, "flatten"),  # a copy
        ("fft", None, 0.0, "fft"),
    ],
)
def test_kinds_are_the_same_whichever_tracer_named_them(operation, flops, moved, kind):
    assert fits.kind_of(Layer("x", operation, flops, moved, 8.0)) == kind


def test_what_cannot_be_fitted_is_refused():
    graph = timed("one", SHAPES)
    with pytest.raises(ValueError, match=r"families .*a$"):
        fit_layer_times({"a": [graph]})
    unknown = chain("net", ("fft", None, 1.0, 1.0))
    with pytest.raises(ValueError, match="FLOPs of 0 "):
        fit_layer_times({"a": [graph], "b": [unknown]})
    with pytest.raises(ValueError, match="FLOPs of 0 "):
        TRUE.layer_seconds(unknown)
    untimed = chain("net", ("relu", 0.0, 1.0, None))
    with pytest.raises(ValueError, match="no measured time"):
        fit_layer_times({"a": [graph], "b": [untimed]})
    with pytest.raises(ValueError, match="'relu' stands twice"):
        Fit((RELU, RELU), RELU)
    for value in (-1e-9, math.nan, "1"):
        with pytest.raises(ValueError, match="s_per_flop of relu"):
            dataclasses.replace(RELU, s_per_flop=value)


def test_files(tmp_path):
    path = tmp_path / "deep" / "fit.json"
    found = fit_layer_times(
        {"a": [timed("one", SHAPES[:3])], "b": [timed("two", SHAPES[3:])]}, {"clock": "thread_time"}
    )
    save_fit(path, found)
    read = load_fit(path)
    assert read == found and hash(read) == hash(found)
    assert (read.held_out, read.provenance) == (found.held_out, found.provenance)
    content = json.loads(path.read_text())
    assert is_fit(content) and not is_fit({**content, "format": "other"}) and not is_fit([])
    for change, message in (
        ({"format": "mec_gym layer graph 1"}, "format .*got 'mec_gym layer graph 1'"),
        ({"costs": None}, "costs"),
        ({"more": 1}, "more"),
        ({"fallback": {"operation": "any"}}, "fallback lacks"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=message):
            load_fit(path)
    for text in (b"{", b"\xff", b""):
        path.write_bytes(text)
        with pytest.raises(ValueError, match="is not JSON"):
            load_fit(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"format .*got None"):
        load_fit(path)
    with pytest.raises(FileNotFoundError):
        load_fit(tmp_path / "none.json")
