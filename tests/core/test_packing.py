"""State as arrays and JSON: the same comes back, to the bit, and nothing else is read."""

import io
import json
import pickle

import numpy as np
import pytest
from harm import Harm

from mec_gym.core.packing import array_of, pack, unpack


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and np.array_equal(one, other)
    return type(one) is type(other) and one == other


def test_the_same_comes_back():
    state = {
        "numbers": {"a": np.array([[0.1, np.pi]]), "b": np.zeros((0, 3), np.float32)},
        "list": [np.arange(3, dtype=np.uint8), {"c": np.array(True)}, None, "ü", -1, 1 / 3],
        "large": 2**200 + 1,
        "generator": np.random.default_rng(3).bit_generator.state,
    }
    again = unpack(pack(state))
    assert same(state, again)
    # Scalars of numpy are plain numbers, tuples are lists.
    assert same(unpack(pack({"x": np.int64(3), "y": (1, 2)})), {"x": 3, "y": [1, 2]})
    generator = np.random.default_rng()
    generator.bit_generator.state = again["generator"]
    assert generator.random() == np.random.default_rng(3).random()


@pytest.mark.parametrize("value", [object(), np.array([None]), {1, 2}])
def test_what_is_no_data_is_refused(value):
    with pytest.raises(TypeError, match="state must hold arrays and plain values"):
        pack({"x": value})


def npz(**fields):
    content = io.BytesIO()
    np.savez(content, **fields)
    return content.getvalue()


def text(content):
    return npz(json=np.frombuffer(content.encode(), np.uint8))


def test_no_code_is_run(tmp_path):
    harm = Harm(tmp_path / "harm")
    objects = np.array([harm], dtype=object)
    whole = json.dumps({"x": {"__array__": "a"}})
    for content in (
        pickle.dumps(harm),
        npz(json=objects),
        npz(json=np.frombuffer(whole.encode(), np.uint8), a=objects),
    ):
        with pytest.raises(ValueError, match="damaged"):
            unpack(content)
    harm.check_that_it_works()


def test_whatever_is_damaged_is_a_value_error():
    whole = pack({"a": np.arange(100), "b": {"c": 1.5}})
    cuts = [whole[: len(whole) * k // 40] for k in range(40)]
    odd = [
        text("[" * 100_000), text("[1]"), text("{"), text('{"x": {"__array__": ["a"]}}'),
        text('{"x": {"__array__": "b"}}'), text('{"x": ' + "9" * 5000 + "}"), npz(a=np.zeros(2)),
    ]  # fmt: skip
    for content in (*cuts, *odd, b"hello"):
        with pytest.raises(ValueError, match="damaged") as told:
            unpack(content)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("value", [None, 3, np.zeros(3), np.zeros(2, np.float32)])
def test_an_array_of_another_kind_is_refused(value):
    state = {} if value is None else {"x": value}
    with pytest.raises(ValueError, match=r"x must be an array float64 \(2,\), got"):
        array_of(state, "x", np.ones(2))


def test_an_array_is_taken_as_a_copy():
    state = {"x": np.zeros(2)}
    array_of(state, "x", np.ones(2))[:] = 5
    assert state["x"].tolist() == [0, 0]
