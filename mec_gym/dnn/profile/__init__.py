"""From any torch module to a LayerGraph: what each layer computes, moves and sends.

``tracing`` turns a module into a graph of operations, ``recording`` notes what really runs when
the module is called, ``counting`` runs the graph on tensors without content, compares the two
and notes what each operation does (``operations`` says which ones count),
``layers`` makes the LayerGraph of it, and ``timing`` measures how long each operation takes.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mec_gym.core.checks import positive_int
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile.counting import AS_IT_RAN, count_module
from mec_gym.dnn.profile.layers import find_layers, layer_name
from mec_gym.dnn.profile.tensors import Tensors, unchanged
from mec_gym.dnn.profile.timing import REPEATS, SCATTER, WARM_UP, NodeTimer, scattered

ROUND = 4
"""So many repeats follow one another if something else is done between them."""
LEAST_ROUNDS = 5
"""Rounds of :func:`profile_in_turn`, however long they take."""


def profile(
    module: nn.Module,
    example_input: torch.Tensor | Tensors,
    device: str | None = None,
    name: str | None = None,
    repeats: int = REPEATS,
    between: Callable[[], object] | None = None,
) -> LayerGraph:
    """Count a network: FLOPs, bytes and output of each layer, and who reads it.

    The module is traced with ``torch.fx``, and every module of ``torch.nn`` becomes one layer.
    If its control flow depends on shapes, as in ``nn.Transformer``, it is traced with
    ``torch.export`` instead, and the layers are operations of aten. Either is believed only if
    it finds, operation by operation, what runs when the module is called. Otherwise the layers
    are the operations that ran; such a graph has the tracer ``run``. A module that looks at the
    content of its tensors is refused. Shapes are found on meta tensors, which to the module look
    like those that it is given: nothing is computed, and the module is not changed, not even its
    training flag or what its hooks write to. It is counted as it runs in evaluation.

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
            tensors, are the exits, from the earliest to the deepest; if the deepest does not
            come last, they are put in order. Outputs that are None are left out.
        example_input: One frame, batch axis included, or a tuple of inputs.
        device: If given (``cpu``, ``cuda``), the module also runs there, with as many threads
            as torch is set to use, and each layer is timed: by the CPU time of the thread on one
            thread of the processor, else by wall time. A layer's time is the median of its
            repeats. The provenance holds the clock, what the interpreter that runs the layers
            takes per call (``overhead_s``, no part of the layers' times), by how much the very
            first run was slower (``cold_start_s``), the time of the module called as a whole
            (``whole_s``) and the layers whose repeats scatter, of which a warning tells.
        name: Name of the graph; by default the module's class.
        repeats: How often each layer is timed.
        between: If given, it is called before every ``ROUND`` repeats, so that they are spread
            over the time that it takes. The first run after it does not count.

    Raises:
        ValueError: An input is no tensor or does not fit, what the module does depends on the
            content of its tensors, an output is no tensor, or the layers cannot be timed.
    """
    positive_int("repeats", repeats)
    with all_operations_visible():
        network = _Network(module, example_input, device, name)
        for turn in range(WARM_UP + repeats if device is not None else 0):
            if between is not None and turn >= WARM_UP and (turn - WARM_UP) % ROUND == 0:
                between()
                network.run(counts=False)
            network.run(counts=turn >= WARM_UP)
        graph = network.graph()
    _warn_of_uncounted(graph)
    if graph.provenance.get("scattered"):
        warnings.warn(
            f"{graph.name}: repeats scatter (the third quartile is more than {SCATTER} times the "
            f"first) of {', '.join(graph.provenance['scattered'])}; measure again when nothing "
            "else runs",
            stacklevel=2,
        )
    return graph


def examine(
    module: nn.Module, example_input: torch.Tensor | Tensors, name: str | None = None
) -> tuple[LayerGraph, bool]:
    """Profile a network, and say whether it can be run without harm.

    Args:
        module: See :func:`profile`, as for the others.
        example_input: One frame.
        name: Name of the graph.

    Returns:
        The profile, and whether the module writes to tensors that neither it holds nor is given,
        but a hook or closure of it.

    Raises:
        ValueError: As :func:`profile` does.
    """
    with all_operations_visible():
        network = _Network(module, example_input, None, name)
        graph = network.graph()
    _warn_of_uncounted(graph)
    return graph, network.writes_outside


def _warn_of_uncounted(graph: LayerGraph) -> None:
    if graph.uncounted:
        warnings.warn(
            f"{graph.name}: the FLOPs of {', '.join(graph.uncounted)} could not be counted",
            stacklevel=3,
        )


def profile_in_turn(
    networks: Mapping[str, tuple[nn.Module, torch.Tensor | Tensors]],
    device: str,
    seconds: float,
    tell: Callable[[float], object] = lambda share: None,
) -> dict[str, LayerGraph]:
    """Count and time several networks, with the repeats of all of them spread over the time.

    In every round each network runs three times, of which the last two count: the first finds
    what it needs where another network left it. A slow spell of the machine hits all networks.

    Args:
        networks: Modules and example inputs by name.
        device: Where they run, as torch names it.
        seconds: Wall time for the rounds, s; five rounds take place however long they take.
        tell: It is called with the share that is done, [0, 1].

    Raises:
        ValueError: See :func:`profile`.
    """
    with all_operations_visible():
        prepared = {}
        for name, (module, example) in networks.items():
            prepared[name] = _Network(module, example, device, name)
            tell(0.25 * len(prepared) / len(networks))
        begin, rounds = time.perf_counter(), 0
        while rounds < LEAST_ROUNDS or time.perf_counter() < begin + seconds:
            for network in prepared.values():
                for turn in range(3):
                    network.run(counts=turn > 0)
            rounds += 1
            spent = (time.perf_counter() - begin) / seconds
            tell(0.25 + 0.75 * min(rounds / LEAST_ROUNDS, spent, 1.0))
        return {name: network.graph() for name, network in prepared.items()}


class _Network:
    """One network while it is counted and, on a device, timed; see :func:`profile`."""

    def __init__(
        self,
        module: nn.Module,
        example_input: torch.Tensor | Tensors,
        device: str | None,
        name: str | None,
    ) -> None:
        inputs = example_input if isinstance(example_input, tuple) else (example_input,)
        _check_arguments(module, inputs, device)
        self._title = name or type(module).__name__
        self._module, self._device = module, device
        self._count, tracer, ran = count_module(module, inputs, self._title)
        self._provenance: dict[str, Any] = {
            "module": f"{type(module).__module__}.{type(module).__qualname__}",
            "input": [list(one.shape) for one in inputs],
            "parameters": sum(p.numel() for p in module.parameters()),
            "tracer": tracer,
            "torch": torch.__version__,
        }
        self.writes_outside = ran.writes_outside
        if device is None:
            return
        if tracer == AS_IT_RAN:
            raise ValueError(
                f"device must be None for {self._title}: neither torch.fx nor torch.export "
                "follows what it does, so that its layers cannot be timed one by one"
            )
        if self.writes_outside:
            raise ValueError(
                f"device must be None for {self._title}: to run it would change tensors that a "
                "hook or closure of it holds"
            )
        with unchanged(module):
            layers = find_layers(self._count, self._title, {}, self._provenance)
            self._timer = NodeTimer(module, layers, tracer, inputs, device, self._title)

    def run(self, counts: bool) -> None:
        """Run the network once on its device."""
        with unchanged(self._module):
            self._timer.run(counts)

    def graph(self) -> LayerGraph:
        """Return the layers, with their times if they were measured."""
        if self._device is None:
            return find_layers(self._count, self._title, {}, self._provenance).graph
        times = self._timer.times()
        measured = {
            "timed_on": self._device,
            "machine": f"{platform.system()} {platform.machine()}",
            "threads": torch.get_num_threads(),
            "repeats": times.repeats,
            "clock": times.clock,
            "overhead_s": times.overhead_s,
            "cold_start_s": times.cold_start_s,
            "whole_s": times.whole_s,
            "scattered": [layer_name(node) for node in scattered(times)],
        }
        provenance = self._provenance | measured
        return find_layers(self._count, self._title, times.seconds, provenance).graph


@contextmanager
def all_operations_visible() -> Iterator[None]:
    """Run a module operation by operation, without gradients, as it is profiled.

    Fused kernels of attention compute the same, but round differently.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused kernels hide what they compute
    try:
        # In inference mode, products are not taken apart into what can be counted.
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _check_arguments(module: Any, inputs: tuple[Any, ...], device: str | None) -> None:
    for one in inputs:
        if not isinstance(one, torch.Tensor):
            raise ValueError(f"example_input must hold tensors, got {type(one).__name__}")
    if not inputs:
        raise ValueError("example_input must hold at least one tensor, got none")
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("module must be given as it was before torch.jit scripted it")
    for name, part in module.named_modules():
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        held = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        if ".quantized." in kind or any(one.is_quantized for one in held):
            raise ValueError(
                f"module must not be quantised, layer {name or 'itself'!r} is a {kind}: profile it "
                "as it was before; torch does not say what quantised layers compute"
            )
    if device is not None and any(one.is_meta for one in (*inputs, *module.state_dict().values())):
        raise ValueError(f"device must be None for tensors on the meta device, got {device!r}")
