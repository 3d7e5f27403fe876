"""Floats as 8 bit numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mec_gym.execution.quantise import dequantise, quantise


def test_by_hand():
    scales, codes = quantise([torch.tensor([-1.0, 0.0, 0.003, 4.1])])
    assert scales.tolist() == [[pytest.approx(0.02), -1.0, 0.0]]
    assert codes.dtype == torch.uint8 and codes.tolist() == [0, 50, 50, 255]
    (again,) = dequantise([scales, codes])
    assert again.dtype == torch.float32
    assert again.tolist() == pytest.approx([-1.0, 0.0, 0.0, 4.1], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_types_come_back(dtype):
    tensor = torch.tensor([0.0, 1.0, 3.0], dtype=dtype)
    scales, codes = quantise([tensor])
    assert codes.dtype == torch.uint8
    (again,) = dequantise([scales, codes])
    assert again.dtype == dtype and again.tolist() == pytest.approx([0, 1, 3], abs=0.02)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1, 2, 3]),
        torch.tensor([True, False]),
        torch.zeros(0),
        torch.tensor([1.0, float("nan")]),
        torch.tensor([1.0, float("inf")]),
        torch.tensor([-3e38, 3e38]).double() * 1e280,
        torch.tensor([1 + 2j]),
    ],
    ids=lambda tensor: str(tensor.tolist()),
)
def test_what_cannot_be_quantised_stays(tensor):
    scales, same = quantise([tensor])
    assert scales.tolist() == [[-1.0] * 3]
    assert dequantise([scales, same])[0] is tensor


@given(
    st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=20
    )
)
def test_nothing_is_further_off_than_half_a_step(values):
    tensor = torch.tensor(values)
    step = (tensor.max().double() - tensor.min().double()) / 255
    (again,) = dequantise(quantise([tensor]))
    bound = 0.5 * step + 1e-5 * tensor.abs().max().double()
    assert ((again.double() - tensor.double()).abs() <= bound).all()


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="scales"):
        dequantise([torch.zeros(2, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.uint8)])
    with pytest.raises(ValueError, match="type must be below 4, got 9"):
        scales = torch.tensor([[1.0, 0.0, 9.0]], dtype=torch.float64)
        dequantise([scales, torch.zeros(1, dtype=torch.uint8)])
