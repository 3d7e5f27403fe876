import pytest
import torch

from mec_gym.dnn.split.memory import View, covered


def view(tensor):
    return View(
        memory=0,
        bytes=tensor.untyped_storage().nbytes(),
        dtype=tensor.dtype,
        shape=tuple(tensor.shape),
        strides=tuple(tensor.stride()),
        offset=tensor.storage_offset(),
    )


WHOLE = torch.arange(24.0).reshape(4, 6)


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([WHOLE], range(24)),
        ([WHOLE.t()], range(24)),
        ([WHOLE[1:3]], range(6, 18)),
        ([WHOLE[1], WHOLE[2, :2]], range(6, 14)),
        ([WHOLE[0], WHOLE[2]], [*range(6), *range(12, 18)]),
        ([WHOLE[:, 1]], [1, 7, 13, 19]),
        ([WHOLE[:, 1], WHOLE[0]], [0, 1, 2, 3, 4, 5, 7, 13, 19]),
        ([WHOLE[1, 2].expand(5, 3)], [8]),
        ([WHOLE[:0]], []),
        ([torch.arange(3.0).expand(4, 3)], range(3)),
    ],
)
def test_what_views_look_at(views, expected):
    dtype, count, where = covered(map(view, views))
    assert dtype == torch.float32
    assert count == len(expected)
    places = torch.arange(views[0].untyped_storage().nbytes() // 4)
    assert places[where].tolist() == list(expected)
    assert isinstance(where, slice) == (list(expected) == list(range(*_ends(expected))))


def _ends(places):
    return (min(places), max(places) + 1) if places else (0, 0)


def test_views_of_different_types_look_at_all_bytes():
    dtype, count, where = covered([view(WHOLE[1]), view(WHOLE[1].view(torch.int32))])
    assert (dtype, count, where) == (torch.uint8, 96, slice(0, 96))
