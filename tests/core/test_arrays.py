"""Records of arrays."""

from dataclasses import dataclass

import numpy as np
import pytest

from mec_gym.core import arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    flat: np.ndarray  # (...)
    wide: np.ndarray  # (..., 3)


def pair(*shape, offset=0.0):
    size = int(np.prod(shape))
    return Pair(
        flat=offset + np.arange(size).reshape(shape),
        wide=offset + 100 + np.arange(3 * size).reshape(*shape, 3),
    )


def test_names_and_dictionaries():
    record = pair(2)
    assert arrays.field_names(Pair) == ("flat", "wide")
    fields = arrays.as_dict(record)
    assert list(fields) == ["flat", "wide"]
    assert fields["wide"] is record.wide
    again = arrays.from_dict(Pair, {"wide": 1, "flat": 2, "more": 3})
    assert again == Pair(flat=2, wide=1)
    with pytest.raises(KeyError):
        arrays.from_dict(Pair, {"wide": 1})


def test_map_arrays_pairs_the_same_fields():
    mapped = arrays.map_arrays(lambda a, b: a - 2 * b, pair(2, offset=5.0), pair(2))
    assert mapped.flat.tolist() == [5, 4]
    assert mapped.wide.tolist() == [[-95, -96, -97], [-98, -99, -100]]


def test_at():
    record = pair(2, 4)
    slot = arrays.at(record, (slice(None), 1))
    assert slot.flat.tolist() == [1, 5]
    assert slot.wide.tolist() == [[103, 104, 105], [115, 116, 117]]
    assert arrays.at(record, (1, 3)).flat == 7
    assert arrays.at(record, (np.array([0, 1]), np.array([3, 0]))).flat.tolist() == [3, 4]


def test_join_axes():
    joined = arrays.join_axes(pair(2, 4), 2)
    assert joined.flat.tolist() == list(range(8))
    assert joined.wide.shape == (8, 3) and joined.wide[5].tolist() == [115, 116, 117]
    alone = arrays.join_axes(arrays.at(pair(2, 4), (1, 3)), 0)
    assert alone.flat.tolist() == [7] and alone.wide.tolist() == [[121, 122, 123]]


def test_slot_at_takes_what_holds_during_a_whole_episode_into_every_slot():
    trace = Pair(flat=pair(2, 4).flat, wide=pair(2, 1).wide)
    for t in range(4):
        slot = arrays.slot_at(trace, t)
        assert slot.flat.tolist() == [t, 4 + t]
        assert slot.wide.tolist() == [[100, 101, 102], [103, 104, 105]]
    slot = arrays.slot_at(pair(2, 4), 1)
    assert slot.wide.tolist() == [[103, 104, 105], [115, 116, 117]]
    with pytest.raises(IndexError):
        arrays.slot_at(trace, 4)


def test_stack_and_concatenate():
    stacked = arrays.stack([pair(2), pair(2, offset=10)])
    assert stacked.flat.tolist() == [[0, 1], [10, 11]]
    assert stacked.wide.shape == (2, 2, 3)
    assert stacked.wide[1, 0].tolist() == [110, 111, 112]
    joined = arrays.concatenate([pair(2), pair(1, offset=10)])
    assert joined.flat.tolist() == [0, 1, 10]
    assert joined.wide.shape == (3, 3) and joined.wide[2].tolist() == [110, 111, 112]
    with pytest.raises(ValueError):
        arrays.stack([pair(2), pair(3)])


def test_where_covers_the_batch_axes():
    # Three instances and three trailing numbers: broadcasting from the wrong side would fit.
    chosen = arrays.where(np.array([True, False, True]), pair(3), pair(3, offset=1000))
    assert chosen.flat.tolist() == [0, 1001, 2]
    assert chosen.wide.tolist() == [[100, 101, 102], [1103, 1104, 1105], [106, 107, 108]]
    assert arrays.where(np.array(False), pair(2), pair(2, offset=50)).flat.tolist() == [50, 51]


@pytest.mark.parametrize(
    ("own", "batch"),
    [((), ()), ((), (3,)), ((3,), (3,)), ((2, 1), (2, 4)), ((0,), (4, 0))],
    ids=str,
)
def test_batch_axes_become_one_and_come_back(own, batch):
    record = pair(*own)
    flat = arrays.spread(record, len(own), batch)
    wide = np.broadcast_to(record.wide, (*batch, 3))
    assert flat.flat.tolist() == np.broadcast_to(record.flat, batch).ravel().tolist()
    assert np.array_equal(flat.wide, wide.reshape(flat.flat.size, 3))
    back = arrays.split_first(flat, batch)
    assert back.flat.shape == batch and np.array_equal(back.wide, wide)
