"""Both halves of a network, what crosses between them, and whether the answer is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import fx

from mec_gym.dnn.profile import all_operations_visible
from mec_gym.dnn.profile.tensors import Tensors
from mec_gym.dnn.split.memory import is_aligned


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor that crosses from the device to the edge: a flat piece of memory.

    Attributes:
        shape: Its shape, (elements,).
        dtype: Type of its elements.
        layer: Name of the layer that wrote it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    layer: str

    @property
    def bits(self) -> int:
        """Its size, bit."""
        return 8 * self.dtype.itemsize * prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Both halves of a network.

    ``back(front(inputs))`` is the answer of the whole network, bit for bit, on machines of the
    same kind with the same number of threads.

    Attributes:
        sent: What crosses, in its order: flat pieces of memory. Tensors that share memory cross
            once and share it again on the edge. There is nothing if the device runs all.
        frame: Checks a frame.
        device_module: What the device runs.
        edge_module: What the edge runs; None if the device runs all.
    """

    sent: tuple[TensorSpec, ...]
    frame: Callable[[torch.Tensor | Tensors], Tensors]
    device_module: fx.GraphModule
    edge_module: fx.GraphModule | None

    @property
    def bits(self) -> int:
        """The size of what crosses, bit.

        It is what the LayerGraph charges, but for these. Memory that several tensors share crosses
        once. Only those elements of a tensor, tensors of a tuple and inputs cross that the edge
        reads, and nothing that it computes from constants alone. If the edge writes to a view, and
        the whole of its memory is read later, all of it crosses, of which the graph charges the
        view only.
        """
        return sum(one.bits for one in self.sent)

    def front(self, inputs: torch.Tensor | Tensors) -> Tensors:
        """Run the half of the device.

        Args:
            inputs: A frame; it is not written to.

        Returns:
            What ``sent`` describes. What the device overwrites after it crosses is copied; what
            it does not overwrite may still be memory of the inputs or the weights, so send it
            before the inputs change. If nothing is sent, it is the answer alone.

        Raises:
            ValueError: The frame has other shapes or types than the example.
        """
        frame = self.frame(inputs)
        with all_operations_visible():
            crossing: Tensors = self.device_module(*frame)
        return crossing

    def back(self, sent: Sequence[torch.Tensor]) -> torch.Tensor:
        """Run the half of the edge.

        Args:
            sent: What :meth:`front` returned, here or elsewhere; it is not written to.

        Returns:
            The answer.

        Raises:
            ValueError: The tensors are not those that ``sent`` describes.
        """
        if self.edge_module is None:
            return sent[0]
        found = [(tuple(one.shape), one.dtype) for one in sent]
        expected = [(one.shape, one.dtype) for one in self.sent]
        if found != expected:
            raise ValueError(f"sent must be tensors of {kinds(expected)}, got {kinds(found)}")
        with all_operations_visible():
            answer: torch.Tensor = self.edge_module(*(_aligned(one) for one in sent))
        return answer


def check_equal(split_answer: torch.Tensor, whole_answer: torch.Tensor) -> None:
    """Compare two answers bit for bit; NaN equals the same NaN, and 0 does not equal -0.

    Args:
        split_answer: The answer of two halves.
        whole_answer: The answer of the whole network.

    Raises:
        ValueError: They differ.
    """
    one, other = ((tuple(answer.shape), answer.dtype) for answer in (split_answer, whole_answer))
    if one != other:
        raise ValueError(f"answers must be equal: {kinds([one])} instead of {kinds([other])}")
    one_bits, other_bits = (
        answer.detach().cpu().contiguous().flatten().view(torch.uint8)
        for answer in (split_answer, whole_answer)
    )
    if not torch.equal(one_bits, other_bits):
        size = split_answer.dtype.itemsize
        differ = (one_bits != other_bits).reshape(-1, size).any(dim=1)
        raise ValueError(
            f"answers must be equal bit for bit: {int(differ.sum())} of {len(differ)} values differ"
        )


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    return (
        tensor
        if tensor.is_contiguous() and is_aligned(tensor)
        else tensor.clone(memory_format=torch.contiguous_format)
    )


def kinds(found: Sequence[tuple[Sequence[int], torch.dtype]]) -> str:
    """Return shapes and types as text."""
    return ", ".join(f"{tuple(shape)} {dtype}" for shape, dtype in found) or "nothing"
