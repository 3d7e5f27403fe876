"""From any torch module to a LayerGraph: what each layer computes, moves and sends.

``tracing`` turns a module into a graph of operations, ``counting`` runs this graph on tensors
without content and notes what each operation does (``operations`` says which ones count),
``layers`` makes the LayerGraph of it, and ``timing`` measures how long each operation takes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile.counting import count_module
from mec_gym.dnn.profile.layers import layer_graph
from mec_gym.dnn.profile.tensors import Tensors
from mec_gym.dnn.profile.timing import median_seconds


def profile(
    module: nn.Module,
    example_input: torch.Tensor | Tensors,
    device: str | None = None,
    name: str | None = None,
) -> LayerGraph:
    """Count a network: FLOPs, bytes and output of each layer, and who reads it.

    The module is traced with ``torch.fx``, and every module of ``torch.nn`` becomes one layer.
    If its control flow depends on shapes, as in ``nn.Transformer``, it is traced with
    ``torch.export`` instead, and the layers are operations of aten. Shapes are found on meta
    tensors: nothing is computed, and the module is not changed, not even its training flag. It
    is counted as it runs in evaluation.

    * FLOPs are those of ``torch.utils.flop_counter``: two per multiply-accumulate of
      convolutions, matrix products and attention, none for what passes over its data.
    * A layer that holds an operation of neither kind is not counted: its ``flops`` are None,
      and a warning names it.
    * A layer that only returns its input, or looks at it in another shape, moves no bytes.
    * In-place operations are followed: a layer reads a tensor from its last writer.
    * An embedding reads as many bytes of its table as it returns.
    * Arithmetic on shapes, constants and items of tuples are no layers.

    Args:
        module: The network, any module. Its outputs, one tensor or a tuple, list or dict of
            tensors, are the exits, from the earliest to the deepest. Outputs that are None
            are left out.
        example_input: One frame, batch axis included, or a tuple of inputs.
        device: If given (``cpu``, ``cuda``), the module also runs there, with as many threads
            as torch is set to use, and each layer is timed.
        name: Name of the graph; by default the module's class.

    Raises:
        ValueError: An input is no tensor or does not fit, the module cannot be traced, or an
            output is no tensor.
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    _check_arguments(module, inputs)
    title = name or type(module).__name__
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused kernels hide what they compute
    try:
        count, tracer = count_module(module, inputs, title)
        provenance: dict[str, Any] = {
            "module": f"{type(module).__module__}.{type(module).__qualname__}",
            "input": [list(one.shape) for one in inputs],
            "parameters": sum(p.numel() for p in module.parameters()),
            "tracer": tracer,
            "torch": torch.__version__,
        }
        seconds: Mapping[fx.Node, float] = {}
        if device is not None:
            seconds = median_seconds(module, count.graph, tracer, inputs, device, title)
            provenance |= {"timed_on": device, "threads": torch.get_num_threads()}
        graph = layer_graph(count, title, seconds, provenance)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    if graph.uncounted:
        warnings.warn(
            f"{title}: the FLOPs of {', '.join(graph.uncounted)} could not be counted",
            stacklevel=2,
        )
    return graph


def _check_arguments(module: Any, inputs: tuple[Any, ...]) -> None:
    for one in inputs:
        if not isinstance(one, torch.Tensor):
            raise ValueError(f"example_input must hold tensors, got {type(one).__name__}")
    if not inputs:
        raise ValueError("example_input must hold at least one tensor, got none")
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("module must be given as it was before torch.jit scripted it")
