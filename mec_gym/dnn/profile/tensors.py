"""The tensors that a value or a module holds, and what they take."""

from __future__ import annotations

import contextlib
import copy
import operator
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def map_tensors(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Return a value with something else in the place of each of its tensors."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        kind = list if isinstance(value, list) else tuple
        return kind(map_tensors(one, change) for one in value)
    if isinstance(value, dict):
        return {key: map_tensors(one, change) for key, one in value.items()}
    return value


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
        ValueError: The module has parameters whose shapes are not known yet, or holds what
            cannot be copied.
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has some for itself
            copied = copy.deepcopy(module, memo)
    except Exception as error:
        raise ValueError(
            f"module must be one that copy.deepcopy can copy, {type(module).__name__} is not: "
            f"{str(error) or type(error).__name__}"
        ) from error
    with contextlib.suppress(NotImplementedError):  # exported programs are what they are
        copied.eval()
    return copied


def hollow(module: nn.Module) -> nn.Module:
    """Copy a module, in evaluation, without the content of its tensors."""
    return copy_module(module, _without_content)


def hollow_inputs(inputs: Tensors) -> Tensors:
    """Return tensors of the same shapes and types without content."""
    return tuple(_without_content(one) for one in inputs)


def _without_content(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device="meta")


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Give a module its attributes back at the end, whatever its hooks and closures do."""
    kept = []
    for part in module.modules():
        held = [vars(part), *(v for v in vars(part).values() if isinstance(v, (list, dict, set)))]
        kept += [(one, copy.copy(one)) for one in held]
    try:
        yield
    finally:
        for one, before in kept:
            if len(one) == len(before) and all(map(operator.is_, _items(one), _items(before))):
                continue
            one.clear()
            if isinstance(one, list):
                one.extend(before)
            else:
                one.update(before)


def _items(container: list[Any] | dict[Any, Any] | set[Any]) -> Iterator[Any]:
    """What a container holds, with the keys of a dictionary."""
    yield from container
    if isinstance(container, dict):
        yield from container.values()
