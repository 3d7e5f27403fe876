"""Any torch module -> LayerGraph: what each layer computes, moves and sends."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import operator
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mec_gym.dnn.graph import Exit, Layer, LayerGraph

Tensors = tuple[torch.Tensor, ...]

# Operations of aten that compute next to nothing for each element they pass over, beside
# those that torch itself marks as element by element. By convention they count 0 FLOP.
_PASSING = (
    "_adaptive_avg_pool", "_embedding_bag", "_log_softmax", "_native_batch_norm",
    "_prelu_kernel", "_safe_softmax", "_softmax", "_to_copy", "_unsafe_view",
    "_upsample_nearest_exact", "_weight_norm", "adaptive_", "affine_grid", "all", "amax", "amin",
    "any",
    "arange", "argmax", "argmin", "as_strided", "avg_pool", "batch_norm", "bernoulli",
    "bucketize", "cat", "channel_shuffle", "clone", "col2im", "constant_pad", "copy",
    "count_nonzero", "cudnn_batch_norm", "cummax", "cumprod", "cumsum", "detach", "diag",
    "embedding", "empty", "expand", "exponential", "eye", "fill", "flip", "fractional_max_pool",
    "full", "gather", "glu", "grid_sampler", "group_norm", "hardswish", "im2col", "index",
    "instance_norm", "kthvalue", "layer_norm", "lift_fresh", "linalg_vector_norm", "linspace",
    "log_sigmoid", "log_softmax", "logcumsumexp", "logsumexp", "masked_fill", "max", "mean",
    "median", "min", "mkldnn_max_pool", "mode", "native_batch_norm", "native_dropout",
    "native_group_norm", "native_layer_norm", "new_", "nll_loss", "norm", "normal", "ones",
    "pad", "pixel_shuffle", "pixel_unshuffle", "polar", "prod", "rand", "reflection_pad",
    "renorm", "repeat", "replication_pad", "roll", "rot90", "rrelu", "scalar_tensor", "scatter",
    "searchsorted", "select_scatter", "slice_scatter", "smooth_l1", "softmax", "sort", "stack",
    "std", "sum", "take", "topk", "trace", "tril", "triu", "unfold", "uniform", "unsafe_",
    "upsample_", "var", "where", "zeros",
)  # fmt: skip

# Products that torch does not count, from the shapes of their arguments.
_MORE_FLOPS = {
    torch.ops.aten.dot: lambda a, *_, **__: 2 * math.prod(a),
    torch.ops.aten.mv: lambda a, *_, **__: 2 * math.prod(a),
    torch.ops.aten.addmv: lambda _, a, *__, **___: 2 * math.prod(a),
    torch.ops.aten.addbmm: lambda _, a, b, *__, **___: 2 * math.prod(a) * b[-1],
}

# Modules of torch.nn that are no layers but networks.
_NETWORKS = (
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


def profile(
    module: nn.Module,
    example_input: torch.Tensor | Tensors,
    device: str | None = None,
    name: str | None = None,
) -> LayerGraph:
    """Count a network: FLOPs, bytes and output of each layer, and who reads it.

    The module is traced with ``torch.fx``, modules of ``torch.nn`` being one layer each; if
    its control flow depends on shapes, as in ``nn.Transformer``, with ``torch.export``, layers
    then being operations of aten. Shapes are found on meta tensors: nothing is computed, the
    module is not changed, not even its training flag. It is counted as in evaluation.

    * FLOPs are those of ``torch.utils.flop_counter``: two a multiply-accumulate of
      convolutions, matrix products and attention, none for what passes over its data.
    * A layer that holds an operation of neither kind is not counted: its ``flops`` are None,
      and a warning names it.
    * What only looks at its input in another shape, or hands it on, moves no bytes.
    * In-place operations are followed: who reads a tensor reads its last writer.
    * Of an embedding's table as many bytes are read as are returned.
    * Arithmetic on shapes, constants and items of tuples are no layers.

    Args:
        module: Any module; its outputs, one tensor or a tuple, list or dict of tensors, are
            the exits, from the earliest to the deepest. Outputs that are None are left out.
        example_input: One frame, batch axis included, or a tuple of inputs.
        device: Also run the module there (``cpu``, ``cuda``) and time each layer, with as
            many threads as torch is set to use.
        name: Of the graph; by default the module's class.

    Raises:
        ValueError: An input that is no tensor or does not fit, a module that cannot be
            traced, outputs that are not tensors.
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    for one in inputs:
        if not isinstance(one, torch.Tensor):
            raise ValueError(f"example_input must hold tensors, got {type(one).__name__}")
    if not inputs:
        raise ValueError("example_input must hold at least one tensor, got none")
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("module must be given as it was before torch.jit scripted it")
    title = name or type(module).__name__
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused kernels hide what they compute
    try:
        count, tracer = _count(module, inputs, title)
        seconds: Mapping[fx.Node, float] = {}
        if device is not None:
            seconds = _time(module, count.graph, tracer, inputs, device, title)
        provenance: dict[str, Any] = {
            "module": f"{type(module).__module__}.{type(module).__qualname__}",
            "input": [list(i.shape) for i in inputs],
            "parameters": sum(p.numel() for p in module.parameters()),
            "tracer": tracer,
            "torch": torch.__version__,
        }
        if device is not None:
            provenance |= {"timed_on": device, "threads": torch.get_num_threads()}
        return count.layer_graph(title, seconds, provenance)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _copy_of(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """The module in evaluation, every tensor it holds replaced by another of its shape."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        # Not all are parameters or buffers: there are plain attributes, and lists of tensors.
        for tensor in _tensors(vars(part)):
            if nn.parameter.is_lazy(tensor):
                raise ValueError(f"module must be initialised, {type(part).__name__} is lazy")
            other = change(tensor.detach())
            if isinstance(tensor, nn.Parameter):
                other = nn.Parameter(other, requires_grad=False)
            memo[id(tensor)] = other
    return copy.deepcopy(module, memo).eval()


_IN_PLACE = (
    operator.iadd, operator.iand, operator.ifloordiv, operator.imod, operator.imul, operator.ior,
    operator.ipow, operator.isub, operator.itruediv, operator.ixor,
)  # fmt: skip


def _in_place(operation: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def write(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return write


# Is written to by += and the like, as a tensor is; fx would make it +.
_Proxy = type("_Proxy", (fx.Proxy,), {f"__{op.__name__}__": _in_place(op) for op in _IN_PLACE})


class _Tracer(fx.Tracer):
    """Modules of torch.nn are one layer each, but for those that are whole networks.

    Args:
        inputs: How many inputs forward is given; its other parameters keep their defaults.
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
        """What stands for a tensor while forward is traced."""
        proxy: fx.Proxy = _Proxy(node, self)
        return proxy

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Arguments of forward: proxies for inputs, defaults for the rest."""
        forward, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        for k in range(1 + self.inputs, len(args)):
            if isinstance(args[k], fx.Proxy) and args[k].node.args:
                args[k] = args[k].node.args[0]
        return forward, args


def _count(module: nn.Module, inputs: Tensors, title: str) -> tuple[_Count, str]:
    """Trace and count with the first tracer that finds what the module really does."""

    def hollow() -> nn.Module:
        return _copy_of(module, lambda tensor: torch.empty_like(tensor, device="meta"))

    def frame() -> Tensors:
        return tuple(torch.empty_like(i, device="meta") for i in inputs)

    reasons = []
    # Constants that forward makes belong on the meta device as well.
    with torch.no_grad(), torch.device("meta"):
        expected = None
        try:
            with _flop_counter() as counter:
                returned = hollow()(*frame())
            expected = counter.get_total_flops(), _kinds(returned)
        except Exception as error:
            if "meta" not in str(error).lower():  # else it asks for values
                raise ValueError(
                    f"example_input of shapes {[tuple(i.shape) for i in inputs]} does not fit "
                    f"{title}: {_reason(error)}"
                ) from error
        for name, trace in _TRACERS.items():
            try:
                count = _Count(trace(hollow(), frame()).to("meta"))
                returned = count.run(*frame())
            except Exception as error:
                reasons.append(f"torch.{name}: {_reason(error)}")
                continue
            found = count.computed, _kinds(returned)
            if expected in (None, found):
                return count, name
            reasons.append(f"torch.{name}: finds another computation than the module does")
    raise ValueError(f"{title} cannot be traced. " + "; ".join(reasons))


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


_TRACERS: dict[str, Callable[[nn.Module, Tensors], fx.GraphModule]] = {
    "fx": _symbolic,
    "export": _exported,
}


def _reason(error: BaseException) -> str:
    """An error's first line, and the line of the user's code that was last at work."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    home = (str(Path(torch.__file__).parent), __file__, "<")
    lines = [
        frame.line
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.line and not frame.filename.startswith(home)
    ]
    return f"{text} (at `{lines[-1]}`)" if lines else text


def _flop_counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operations run, and which storages they write to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Any] = []
        self.written: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.operations.append(func)
        kwargs = kwargs or {}
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[place] if place < len(args) else kwargs.get(argument.name)
                self.written |= {_storage(t) for t in _tensors(value)}
        return func(*args, **kwargs)


class _Count(fx.Interpreter):
    """Runs a traced graph on meta tensors and counts every node."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.computed = 0
        self.values: dict[fx.Node, Any] = {}
        self.flops: dict[fx.Node, float | None] = {}
        self.moves: dict[fx.Node, bool] = {}
        self.looks_up: dict[fx.Node, bool] = {}
        self.writes: dict[fx.Node, set[int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and note what it did."""
        with _flop_counter() as counter, _Watch() as watch:
            value = super().run_node(n)
        known = counter.flop_registry
        strange = [
            op
            for op in watch.operations
            if op not in known and op._overloadpacket not in known and not _passes_over(op)
        ]
        self.flops[n] = None if strange else float(counter.get_total_flops())
        self.computed += counter.get_total_flops()
        self.moves[n] = any(not _is_view(op) for op in watch.operations)
        # Of a table no more is read than is returned.
        self.looks_up[n] = torch.ops.aten.embedding.default in watch.operations
        self.writes[n] = watch.written
        self.values[n] = value
        return value

    def layer_graph(
        self, title: str, seconds: Mapping[fx.Node, float], provenance: Mapping[str, Any]
    ) -> LayerGraph:
        """The layers, from the nodes that yield tensors computed from the input."""
        nodes = list(self.graph.nodes)
        order = {node: k for k, node in enumerate(nodes)}
        self.order = order
        exits = self._outputs(nodes[-1])
        inputs = [n for n in nodes if n.op == "placeholder"]
        # Last writer of each storage, as far as the walk has come.
        writers: dict[int, list[fx.Node]] = {}
        sources: dict[fx.Node, set[fx.Node]] = {}
        # Bits of the largest tensor that is read of a layer: it may have written but a part.
        largest: dict[fx.Node, float] = {}
        for node in nodes:
            read: set[fx.Node] = set()
            for argument in node.all_input_nodes:
                found = self._sources(argument, sources, writers)
                if found != sources[argument]:
                    for source in found:
                        size = _bits(self.values[argument])
                        largest[source] = max(largest.get(source, 0.0), size)
                read |= found
            if node.op == "placeholder":
                sources[node] = {node}
            elif node.op in ("get_attr", "output") or not read or not self._yields(node):
                # Constants, shapes and what comes of them alone.
                sources[node] = set()
            elif self._is_item(node):
                sources[node] = read
            else:
                sources[node] = {node}
            if node.op in ("call_module", "call_function", "call_method"):
                for storage in self.writes.get(node, ()):
                    writers.setdefault(storage, []).append(node)
            node.meta["read"] = read
        end_nodes: list[fx.Node] = []
        for label, node in exits.items():
            end = self._sources(node, sources, writers)
            if len(end) != 1:
                raise ValueError(f"output {label!r} of {title} must be computed from its input")
            end_nodes += end

        needed: set[fx.Node] = set()
        waiting = list(end_nodes)
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting += [n for n in node.meta["read"] if node.op != "placeholder"]
        kept = [n for n in nodes if n in needed and n.op != "placeholder"]
        index = {n: 0 for n in inputs} | {n: k for k, n in enumerate(kept, 1)}
        bits = sum(_bits(self.values[n]) for n in inputs if n in needed)
        layers = [Layer("input", "input", 0.0, 0.0, bits)]
        links = set()
        for node in kept:
            layers.append(
                Layer(
                    _name(node),
                    self._operation(node),
                    self.flops[node],
                    self._bytes(node) if self.moves[node] else 0.0,
                    max(self._output_bits(node), largest.get(node, 0.0)),
                    seconds.get(node),
                )
            )
            links |= {(index[source], index[node]) for source in node.meta["read"]}
        if seconds:
            layers[0] = Layer("input", "input", 0.0, 0.0, bits, 0.0)
        graph = LayerGraph(
            title,
            tuple(layers),
            tuple(links),
            tuple(Exit(label, index[n]) for label, n in zip(exits, end_nodes, strict=True)),
            provenance,
        )
        if graph.uncounted:
            warnings.warn(
                f"{title}: the FLOPs of {', '.join(graph.uncounted)} could not be counted",
                stacklevel=3,
            )
        return graph

    def _yields(self, node: fx.Node) -> bool:
        """Whether a node returns tensors or writes to some, as an assignment to items does."""
        return bool(list(_tensors(self.values[node])) or self.writes[node])

    def _sources(
        self,
        node: fx.Node,
        sources: Mapping[fx.Node, set[fx.Node]],
        writers: Mapping[int, list[fx.Node]],
    ) -> set[fx.Node]:
        """The layer that last wrote what ``node`` yields."""
        found = sources[node]
        for tensor in _tensors(self.values.get(node)):
            for writer in writers.get(_storage(tensor), ()):
                # What the module holds may have been written to before it is looked at.
                if node.op == "get_attr" or self.order[writer] > self.order[node]:
                    found = sources[writer]
        return found

    def _outputs(self, node: fx.Node) -> dict[str, fx.Node]:
        """The exits: their names, and the nodes that yield their tensors."""
        returned: Any = node.args[0]
        info = getattr(node.graph._codegen, "pytree_info", None)
        if info is not None and info.out_spec is not None:
            returned = pytree.tree_unflatten(list(returned), info.out_spec)  # as export found it
        named = dict(returned) if isinstance(returned, dict) else {"": returned}
        found: dict[str, fx.Node] = {}
        for key, value in named.items():
            nodes = list(self._tensor_nodes(value, str(key)))
            names = [f"{key} exit {k}".strip() for k in range(1, len(nodes))]
            found |= zip([*names, str(key) or "final"], nodes, strict=True) if nodes else []
        if not found:
            raise ValueError(f"the module must return tensors, got {returned!r}")
        return found

    def _tensor_nodes(self, returned: Any, label: str) -> Iterator[fx.Node]:
        """A node for each tensor that is returned; None is passed over."""
        if isinstance(returned, (tuple, list)):
            for one in returned:
                yield from self._tensor_nodes(one, label)
        elif returned is not None:
            node = isinstance(returned, fx.Node)
            tensors = list(_tensors(self.values[returned])) if node else []
            if not tensors:
                what = f"output {label!r}" if label else "what the module returns"
                raise ValueError(f"{what} must be a tensor, got {returned!r}")
            yield from [returned] * len(tensors)

    def _is_item(self, node: fx.Node) -> bool:
        """Whether a node takes something out of a tuple."""
        if node.op != "call_function" or node.target not in (operator.getitem, getattr):
            return False
        whole = node.args[0]
        return isinstance(whole, fx.Node) and not isinstance(self.values[whole], torch.Tensor)

    def _operation(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return type(self.fetch_attr(str(node.target))).__name__.lower()
        target = node.args[1] if node.target is getattr else node.target
        text = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        word = str(text).split(".")[0].strip("_")
        return word[1:] if target in _IN_PLACE else word

    def _bytes(self, node: fx.Node) -> float:
        read = node.all_input_nodes
        held: list[torch.Tensor] = []
        if node.op == "call_module":
            module = self.fetch_attr(str(node.target))
            held = [*module.parameters(), *module.buffers()]
        output = _bits(self.values[node])
        total = output
        if self.looks_up[node]:
            read = [n for n in read if n.op != "get_attr"]
            held, total = [], 2 * output
        total += _bits([self.values.get(n) for n in read]) + _bits(held)
        return total / 8.0

    def _output_bits(self, node: fx.Node) -> float:
        """Bits that readers use: of a tuple, the items that are taken."""
        return _bits(list({id(tensor): tensor for tensor in self._taken(node)}.values()))

    def _taken(self, node: fx.Node) -> Iterator[torch.Tensor]:
        value = self.values[node]
        items = [user for user in node.users if self._is_item(user)]
        if isinstance(value, torch.Tensor) or len(items) < len(node.users):
            yield from _tensors(value)
            return
        for item in items:
            if item.users:
                yield from self._taken(item)


def _name(node: fx.Node) -> str:
    if node.op != "call_module":
        return node.name
    same = [n for n in node.graph.nodes if n.op == "call_module" and n.target == node.target]
    # A module that is called several times is several layers.
    return str(node.target) if len(same) == 1 else f"{node.target} #{same.index(node) + 1}"


def _passes_over(op: Any) -> bool:
    if op.namespace not in ("aten", "prims"):
        return False
    if torch.Tag.pointwise in op.tags or _is_view(op):
        return True
    return str(op._schema.name).split("::")[1].startswith(_PASSING)


def _is_view(op: Any) -> bool:
    """Whether an operation returns its input in another shape, without writing."""
    if torch.Tag.inplace_view in op.tags:
        return True
    returns = op._schema.returns
    return bool(returns) and all(
        r.alias_info is not None and not r.alias_info.is_write for r in returns
    )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)


def _kinds(value: Any) -> list[tuple[torch.Size, torch.dtype]]:
    return [(t.shape, t.dtype) for t in _tensors(value)]


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bits(value: Any) -> float:
    return float(sum(8 * t.numel() * t.element_size() for t in _tensors(value)))


class _Clock(fx.Interpreter):
    """Runs a traced graph on real tensors and times every node."""

    def __init__(self, graph: fx.GraphModule, device: str) -> None:
        super().__init__(graph)
        self.cuda = torch.device(device).type == "cuda"
        self.times: dict[str, list[float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node between two looks at the clock."""
        begin = self._now()
        value = super().run_node(n)
        self.times.setdefault(n.name, []).append(self._now() - begin)
        return value

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def _time(
    module: nn.Module,
    graph: fx.Graph,
    tracer: str,
    inputs: Tensors,
    device: str,
    title: str,
    warm_up: int = 2,
    repeats: int = 7,
) -> dict[fx.Node, float]:
    """Median time of every node, s."""
    try:
        there = tuple(i.to(device) for i in inputs)
        real = _copy_of(module, lambda tensor: tensor.to(device, copy=True))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device must be usable by torch, got {device!r}: {error}") from error
    # The same nodes as those that were counted.
    with torch.device(device):
        runnable = _TRACERS[tracer](real, there)
    clock = _Clock(runnable, device)
    try:
        with torch.no_grad(), torch.device(device):
            for turn in range(warm_up + repeats):
                if turn == warm_up:
                    clock.times.clear()
                clock.run(*(i.clone() for i in there))
    except Exception as error:
        raise ValueError(f"{title} does not run on {device!r}: {_reason(error)}") from error
    return {
        node: statistics.median(clock.times[node.name])
        for node in graph.nodes
        if node.name in clock.times
    }
