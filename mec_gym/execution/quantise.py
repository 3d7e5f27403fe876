"""Tensors of floats as 8 bit numbers: a quarter of float32, and not the same answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

LEVELS = 255
"""The largest code."""


def quantise(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Replace every real float tensor by codes of 8 bit, affine per tensor.

    A value x becomes round((x - least) / step) with step = (largest - least) / 255. A
    tensor that is empty or holds a value that is not finite stays as it is.

    Returns:
        A float64 tensor of (step, least, number of the type) per tensor, (n, 3), with type -1
        for what stays as it is; then the tensors.
    """
    scales = torch.full((len(tensors), 3), -1.0, dtype=torch.float64)
    coded = []
    for index, tensor in enumerate(tensors):
        done = tensor
        if tensor.dtype in _FLOATS and tensor.numel():
            least, largest = (float(bound) for bound in tensor.aminmax())
            step = (largest - least) / LEVELS
            if step < float("inf") and step == step:
                wide = tensor if tensor.dtype == torch.float64 else tensor.float()
                done = ((wide - least) / (step or 1.0)).round_().clamp_(0, LEVELS).to(torch.uint8)
                kind = float(_FLOATS.index(tensor.dtype))
                scales[index] = torch.tensor([step, least, kind], dtype=torch.float64)
        coded.append(done)
    return (scales, *coded)


def dequantise(coded: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Undo :func:`quantise`, but for rounding.

    Raises:
        ValueError: The tensors are not what :func:`quantise` returns.
    """
    scales, *tensors = coded
    if scales.dtype != torch.float64 or scales.shape != (len(tensors), 3):
        raise ValueError(f"scales must be (n, 3) for {len(tensors)} tensors, got {scales.shape}")
    found = []
    for (step, least, kind), tensor in zip(scales.tolist(), tensors, strict=True):
        if kind not in range(-1, len(_FLOATS)):
            raise ValueError(f"type must be below {len(_FLOATS)}, got {kind}")
        if kind >= 0:
            wide = torch.float64 if _FLOATS[int(kind)] == torch.float64 else torch.float32
            tensor = tensor.to(wide).mul_(step).add_(least).to(_FLOATS[int(kind)])
        found.append(tensor)
    return tuple(found)


_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
