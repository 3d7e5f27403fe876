"""From a torch module to a graph of what it does, with torch.fx or with torch.export."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from mec_gym.core.checks import reason_of
from mec_gym.dnn.profile.operations import IN_PLACE
from mec_gym.dnn.profile.tensors import Tensors

# Modules of torch.nn that are no layers but networks.
_NETWORKS = (
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


class _Proxy(fx.Proxy):
    """What stands for a tensor while ``forward`` is traced.

    Like a tensor it is written to by ``+=`` and the like, where fx would make a sum of it.
    """


def _writer(operation: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def write(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return write


for _operation in IN_PLACE:
    setattr(_Proxy, f"__{_operation.__name__}__", _writer(_operation))


class _Tracer(fx.Tracer):
    """Traces modules of torch.nn as one layer each, but for those that are whole networks.

    Args:
        inputs: How many inputs ``forward`` is given; its other parameters keep their defaults.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.proxy_buffer_attributes = True  # they may be written to
        self.inputs = inputs

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one layer."""
        leaf = super().is_leaf_module(m, module_qualified_name)
        return leaf and not isinstance(m, _NETWORKS)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for a tensor while ``forward`` is traced."""
        return _Proxy(node, self)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Return the arguments of ``forward``: proxies for inputs, defaults for the rest."""
        forward, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        for k in range(1 + self.inputs, len(args)):
            if isinstance(args[k], fx.Proxy) and args[k].node.args:
                args[k] = args[k].node.args[0]
        return forward, args


def _symbolic(module: nn.Module, inputs: Tensors) -> fx.GraphModule:
    return fx.GraphModule(module, _Tracer(len(inputs)).trace(module))


def _exported(module: nn.Module, inputs: Tensors) -> fx.GraphModule:
    before = logging.root.manager.disable
    try:
        # torch logs and prints what it raises anyway.
        logging.disable(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            exported = torch.export.export(module, inputs, strict=False).module()
        assert isinstance(exported, fx.GraphModule)
        for node in exported.graph.find_nodes(op="call_module", target="_guards_fn"):
            exported.graph.erase_node(node)  # it checks inputs
        return exported
    finally:
        logging.disable(before)


TRACERS: dict[str, Callable[[nn.Module, Tensors], fx.GraphModule]] = {
    "fx": _symbolic,
    "export": _exported,
}
"""The ways to trace a module with its inputs, the preferred one first."""


def reason_and_line(error: BaseException) -> str:
    """Return what an error says, and the line of the user's code that was last at work."""
    text = reason_of(error)
    home = (str(Path(torch.__file__).parent), f"{Path(__file__).parent}{os.sep}", "<")
    lines = [
        frame.line
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.line and not frame.filename.startswith(home)
    ]
    return f"{text} (at `{lines[-1]}`)" if lines else text
