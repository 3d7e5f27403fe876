"""A network that can be cut in two by any valid partition of its layers."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
import torch
from torch import nn

from mec_gym.core.types import BoolArray
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile import all_operations_visible, examine
from mec_gym.dnn.profile.again import layers_again
from mec_gym.dnn.profile.counting import AS_IT_RAN
from mec_gym.dnn.profile.tensors import (
    Tensors,
    copy_module,
    tensors_in,
    unchanged,
)
from mec_gym.dnn.profile.tracing import TRACERS, reason_and_line
from mec_gym.dnn.split.building import back_half, front_half
from mec_gym.dnn.split.halves import Halves, TensorSpec, check_equal, kinds
from mec_gym.dnn.split.memory import Watch, covered, is_aligned, tensor_in, views_in
from mec_gym.dnn.split.plan import Nodes, make_plan


class SplitNetwork:
    """A network that can be cut into a half for the device and one for the edge.

    The module is copied, with its weights, and traced as :func:`mec_gym.dnn.profile.profile`
    does it; the module itself is not changed. Both halves compute in evaluation, without
    gradients, and attention without its fused kernels, which round differently. Every frame
    finds the buffers of the module as they were when it was given.

    Args:
        module: The network, any module that can be profiled.
        example_input: One frame, batch axis included, or a tuple of inputs. All frames have its
            shapes and types, and it is run once.
        name: Name of the network; by default the module's class.

    Attributes:
        graph: The network's layers, the same as its profile.

    Raises:
        ValueError: The module cannot be profiled, neither torch.fx nor torch.export follows what
            it does, it writes to tensors of others, its layers write to what they hold, or what
            was traced does not give the module's own answers, as with random numbers.
    """

    def __init__(
        self, module: nn.Module, example_input: torch.Tensor | Tensors, name: str | None = None
    ) -> None:
        inputs = example_input if isinstance(example_input, tuple) else (example_input,)
        self.graph, writes_outside = examine(module, inputs, name)
        title, tracer = self.graph.name, str(self.graph.provenance["tracer"])
        if any(one.is_meta for one in inputs):
            raise ValueError("example_input must have content, got tensors on the meta device")
        if tracer == AS_IT_RAN:
            raise ValueError(
                f"{title} cannot be split: neither torch.fx nor torch.export follows what it does"
            )
        if writes_outside:
            raise ValueError(
                f"{title} cannot be split: it writes to tensors that a hook or closure of it holds"
            )
        self._module = copy_module(module, torch.clone)
        self._layouts = tuple((one.shape, one.dtype, _strides(one)) for one in inputs)
        self._device = inputs[0].device
        try:
            with all_operations_visible():
                with unchanged(self._module):
                    self._root = TRACERS[tracer](self._module, inputs)
                layers, written = layers_again(self._root, inputs, self.graph)
                watch = Watch(self._root, written)
                watch.run(*(one.clone() for one in self._frame(inputs)))
        except Exception as error:
            raise ValueError(f"{title} cannot be split: {reason_and_line(error)}") from error
        self._ran = watch.ran
        self._layer, self._items, self._constants = layers.index, layers.items, layers.constants
        self._exits = layers.exits
        self._outputs = layers.outputs
        self._writes_to_inputs = self._writes_to("placeholder")
        self._writes_to_held = self._writes_to("get_attr")
        for index, (node, number) in enumerate(self._exits):
            try:
                check_equal(tensor_in(watch.values[node], number), self.whole(inputs, index))
            except ValueError as error:
                raise ValueError(
                    f"{title} cannot be split: as it was traced it gives another answer, {error}"
                ) from error

    @cached_property
    def digest(self) -> str:
        """What the network is, as 64 hexadecimal digits: equal for equal halves.

        It is the SHA-256 of the traced operations, of how their results lie in memory, and of the
        weights. Names do not count. Both sides of a link compare it.
        """
        found = hashlib.sha256(str(self._root.graph).encode())
        for node, ran in self._ran.items():
            found.update(repr((node.name, views_in(ran.value), sorted(ran.writes))).encode())
        for part in self._root.modules():
            for tensor in tensors_in(vars(part)):
                flat = tensor.detach().cpu().contiguous().flatten()
                found.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
                found.update(flat.view(torch.uint8).numpy().data)
        return found.hexdigest()

    def whole(self, inputs: torch.Tensor | Tensors, exit: int = -1) -> torch.Tensor:
        """Return the answer of the module itself, in one piece.

        Args:
            inputs: A frame.
            exit: Index of the exit in ``graph.exits``; -1 is the deepest one.

        Raises:
            ValueError: The frame has other shapes or types than the example, or there is no
                such exit.
        """
        output = self._outputs[self._index(exit)]
        frame = self._frame(inputs)
        if self._writes_to_inputs:
            frame = tuple(one.clone() for one in frame)
        module = copy_module(self._module, torch.clone) if self._writes_to_held else self._module
        with all_operations_visible(), unchanged(module):
            return tensor_in(module(*frame), output)

    def split(self, on_edge: BoolArray, exit: int = -1) -> Halves:
        """Cut the network.

        Args:
            on_edge: Whether each layer runs on the edge, (V,), for the V layers that the exit
                needs: those of ``graph.at_exit(exit)``, in their order there. The input is on
                the device, and nothing comes back from the edge.
            exit: Index of the exit; -1 is the deepest one.

        Raises:
            ValueError: There is no such exit, ``on_edge`` has another shape or type, or the
                partition is not valid.
        """
        index = self._index(exit)
        graph = self.graph.at_exit(index)
        _check_partition(graph, on_edge)
        nodes = self._nodes_at[index]
        plan = make_plan(nodes, on_edge.tolist())
        sent = []
        for one in plan.crossings:
            dtype, count, _ = covered(one.views)
            sent.append(TensorSpec(shape=(count,), dtype=dtype, layer=graph.layers[one.layer].name))
        return Halves(
            sent=tuple(sent),
            frame=self._frame,
            device_module=front_half(self._root, nodes, plan),
            edge_module=back_half(self._root, nodes, plan, self._device) if sent else None,
        )

    @cached_property
    def _nodes_at(self) -> tuple[Nodes, ...]:
        """The nodes that each exit needs."""
        (output,) = self._root.graph.find_nodes(op="output")
        found = []
        for index, answer in enumerate(self._exits):
            names = [layer.name for layer in self.graph.at_exit(index).layers]
            place = {name: k for k, name in enumerate(names)}
            layer = {
                node: place[self.graph.layers[k].name]
                for node, k in self._layer.items()
                if self.graph.layers[k].name in place
            }
            found.append(
                Nodes(
                    ran=self._ran,
                    layer=layer,
                    items=self._items,
                    constants=self._constants,
                    answer=answer,
                    answer_view=views_in(self._ran[output].reads[answer[0]])[answer[1]],
                )
            )
        return tuple(found)

    def _index(self, exit: int) -> int:
        count = len(self.graph.exits)
        if isinstance(exit, bool) or not isinstance(exit, (int, np.integer)):
            raise ValueError(f"exit must be an integer, got {exit!r}")
        if not -1 <= exit < count:
            raise ValueError(f"exit must be in [-1, {count}), got {exit!r}")
        return int(exit) % count

    def _writes_to(self, kind: str) -> bool:
        """Whether the module writes to its inputs (``placeholder``) or to what it holds."""
        memory = {
            view.memory
            for node, ran in self._ran.items()
            if node.op == kind
            for view in views_in(ran.value)
        }
        return any(ran.writes & memory for ran in self._ran.values())

    def _frame(self, inputs: torch.Tensor | Tensors) -> Tensors:
        """A frame whose tensors lie in memory as those of the example."""
        frame = inputs if isinstance(inputs, tuple) else (inputs,)
        found = [(one.shape, one.dtype) for one in frame]
        expected = [(shape, dtype) for shape, dtype, _ in self._layouts]
        if found != expected:
            raise ValueError(
                f"inputs must be tensors of {kinds(expected)}, as the example, got {kinds(found)}"
            )
        return tuple(
            one
            if _lies_as(one, strides)
            else torch.empty_strided(one.shape, strides, dtype=one.dtype, device=one.device).copy_(
                one
            )
            for one, (_, _, strides) in zip(frame, self._layouts, strict=True)
        )


def _check_partition(graph: LayerGraph, on_edge: BoolArray) -> None:
    if not isinstance(on_edge, np.ndarray) or on_edge.dtype != np.bool_:
        raise ValueError(f"on_edge must be an array of booleans, got {on_edge!r}")
    if on_edge.shape != (len(graph),):
        raise ValueError(
            f"on_edge must have the shape ({len(graph)},), one for each layer that exit "
            f"{graph.exits[0].name!r} of {graph.name} needs, got {on_edge.shape}"
        )
    if on_edge[0]:
        raise ValueError("on_edge must keep the input on the device, got it on the edge")
    for u, v in graph.links:
        if on_edge[u] and not on_edge[v]:
            raise ValueError(
                f"on_edge must not come back from the edge, but {graph.layers[v].name!r} (layer "
                f"{v}) on the device reads {graph.layers[u].name!r} (layer {u}) on the edge"
            )


def _strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Strides that a copy of a tensor has."""
    return tuple(torch.empty_like(tensor, device="meta").stride())


def _lies_as(tensor: torch.Tensor, strides: tuple[int, ...]) -> bool:
    """Whether a tensor has some strides and fills its memory, which is aligned."""
    size = tensor.numel() * tensor.element_size()
    return (
        tuple(tensor.stride()) == strides
        and tensor.untyped_storage().nbytes() == size
        and is_aligned(tensor)
    )
