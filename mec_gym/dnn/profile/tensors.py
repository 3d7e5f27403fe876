"""The tensors that a value or a module holds, and what they take."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Tensors = tuple[torch.Tensor, ...]


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield all tensors in a value: a tensor itself, or those in tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from tensors_in(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors_in(one)


def kinds_of(value: Any) -> list[tuple[torch.Size, torch.dtype]]:
    """Return shape and type of every tensor in a value."""
    return [(tensor.shape, tensor.dtype) for tensor in tensors_in(value)]


def bits_of(value: Any) -> float:
    """Return the size of all tensors in a value, bit."""
    return float(sum(8 * t.numel() * t.element_size() for t in tensors_in(value)))


def storage_of(tensor: torch.Tensor) -> int:
    """Return a number that all tensors share that look at the same memory."""
    return int(tensor.untyped_storage()._cdata)


def copy_module(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """Copy a module, in evaluation, with every tensor it holds replaced.

    Args:
        module: The module; it is not changed.
        change: Returns what stands in the copy for a tensor, of the same shape.

    Raises:
        ValueError: The module has parameters whose shapes are not known yet.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        # Not all are parameters or buffers: there are plain attributes, and lists of tensors.
        for tensor in tensors_in(vars(part)):
            if nn.parameter.is_lazy(tensor):
                raise ValueError(f"module must be initialised, {type(part).__name__} is lazy")
            other = change(tensor.detach())
            if isinstance(tensor, nn.Parameter):
                other = nn.Parameter(other, requires_grad=False)
            memo[id(tensor)] = other
    return copy.deepcopy(module, memo).eval()
