"""From any torch module to a LayerGraph: traced, counted, and timed if asked.

A module is traced by torch.fx, and by torch.export where fx fails or would be wrong. Both give
a graph of operations, which is then run once on meta tensors: shapes without data. What every
operation dispatches there says what it costs and what it reads and writes:

* FLOPs are those of ``torch.utils.flop_counter`` (two a multiply-accumulate), summed over the
  matrix products, convolutions and attentions that the layer dispatches; a recurrent layer
  dispatches one product a time step. An operation that is neither in that registry nor known to
  only pass over its data leaves the layer uncounted.
* An operation that writes into a tensor takes the place of whatever made that tensor: who
  reads it later, by whatever name, reads from the writer. So activations in place are traced
  right even if their return value is thrown away.
"""

from __future__ import annotations

import copy
import inspect
import io
import logging
import math
import operator
import platform
import re
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch.export import export
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mec_gym.dnn.graph import Exit, Layer, LayerGraph

WARM_UP, RUNS = 2, 7
"""Runs before timing, and runs of which the median is taken."""

# Known to pass over their data only: 0 FLOPs by the usual convention. Besides these, all that
# torch itself marks as pointwise, and views.
_PASSING = """
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d all amax
    amin aminmax any arange argmax argmin argsort avg_pool2d avg_pool3d bernoulli bucketize cat
    clone col2im constant_pad_nd copy count_nonzero cummax cummin cumprod cumsum dropout embedding
    _embedding_bag _embedding_bag_forward_only empty empty_like empty_permuted empty_strided eye
    fill flip full full_like _fused_rms_norm gather glu grid_sampler_2d grid_sampler_3d hardtanh
    im2col index index_add index_copy index_fill index_put index_reduce index_select kthvalue
    linalg_vector_norm linspace _local_scalar_dense _log_softmax logcumsumexp logsumexp
    masked_fill masked_scatter max max_pool2d_with_indices max_pool3d_with_indices max_unpool2d
    max_unpool3d mean median min mode multinomial nanmedian nansum native_batch_norm
    _native_batch_norm_legit _native_batch_norm_legit_no_training native_channel_shuffle
    native_dropout native_group_norm native_layer_norm new_empty new_empty_strided new_full
    new_ones new_zeros norm normal one_hot ones ones_like pixel_shuffle pixel_unshuffle prod put
    rand rand_like randint randint_like randn randn_like randperm reflection_pad1d
    reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d
    replication_pad3d resize roll rot90 rrelu_with_noise _safe_softmax scalar_tensor scatter
    scatter_add scatter_reduce searchsorted select_scatter set slice_scatter softmax _softmax sort
    split_with_sizes_copy stack std std_mean sum take _to_copy topk tril tril_indices triu
    triu_indices unfold_copy uniform _unsafe_index _unsafe_index_put _unsafe_masked_index
    unsafe_split unsafe_split_with_sizes upsample_bicubic2d _upsample_bicubic2d_aa
    upsample_bilinear2d _upsample_bilinear2d_aa upsample_linear1d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d upsample_trilinear3d var var_mean _weight_norm_interface zero
    zeros zeros_like
"""
PASSING = frozenset(_PASSING.split())
# They look at the shape of their argument only.
_SHAPE_READERS = """
    empty_like full_like new_empty new_empty_strided new_full new_ones new_zeros ones_like
    rand_like randint_like randn_like zeros_like
"""
SHAPE_READERS = frozenset(_SHAPE_READERS.split())

View = tuple[int, int, tuple[int, ...], tuple[int, ...]]
Inputs = tuple[torch.Tensor, ...]


class _Failure(Exception):
    """One of the tracers could not do it; the text says where and why."""


def profile(
    module: nn.Module,
    example_input: torch.Tensor | Inputs,
    device: str | None = None,
    name: str | None = None,
) -> LayerGraph:
    """The layer graph of a module in evaluation mode.

    Nothing is computed unless times are asked for, and the module stays as it is. One layer is
    one operation or one ``torch.nn`` module without parts (also ``MultiheadAttention``).
    Shape arithmetic and the unpacking of tuples are no layers. What depends on parameters
    only is computed once, before the first frame, and is no layer either. Layers that no exit
    needs are dropped.

    Args:
        module: Any module. What it returns are the exits: a tensor is the one exit ``final``;
            of a tuple, list or dictionary of tensors each is one, which must be ordered from
            the shallowest to the deepest. Keys become names; without keys they are ``exit 1``,
            ``exit 2``, ..., ``final``.
        example_input: What the module is called with, batch size 1 unless costs of a batch
            are wanted; a tuple for several arguments, which become one input layer. Only
            shapes and types count, unless ``device`` is given.
        device: Also run the module there, ``cpu`` or ``cuda``, and time each layer (median of
            several runs, with torch's number of threads as it is).
        name: Of the network; by default the module's class.

    Raises:
        ValueError: The module cannot be traced, with the reason of both tracers; it does not
            take this input; an answer does not depend on the input; the device is not there.

    Warns:
        UserWarning: FLOPs of some layers could not be counted: their ``flops`` is None. Or the
            exits are not ordered from the shallowest to the deepest.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    inputs = _checked_inputs(example_input)
    _check_device(device)
    title = name or type(module).__name__
    shapes = ", ".join(str(tuple(t.shape)) for t in inputs)
    meta_inputs = tuple(t.detach().to("meta") for t in inputs)
    reasons = []
    with _quiet():
        truth = _eager(_bare(module, "meta"), meta_inputs)
        for tracer, (trace, where) in TRACERS.items():
            try:
                traced = trace(_bare(module, where), meta_inputs if where == "meta" else inputs)
                recorder = _Recorder(traced.graph_module)
                answers = traced.restore(recorder.record(meta_inputs, traced.defaults))
                if truth is not None:
                    recorder.check(truth, answers)
                break
            except _Failure as failure:
                # fx adds lines of its own.
                reasons.append(f"torch.{tracer}: {str(failure).splitlines()[0]}")
        else:
            raise ValueError(
                f"{title} cannot be traced with an input of shape {shapes}. " + "; ".join(reasons)
            )
        seconds = None
        if device is not None:
            seconds = _time(trace, module, inputs, device)
    provenance: dict[str, Any] = {
        "module": f"{type(module).__module__}.{type(module).__qualname__}",
        "parameters": sum(p.numel() for p in module.parameters()),
        "input": [list(t.shape) for t in inputs],
        "input_type": [str(t.dtype).removeprefix("torch.") for t in inputs],
        "tracer": tracer,
        "torch": torch.__version__,
    }
    if device is not None:
        provenance["timed_on"] = _machine(device)
    graph = recorder.layer_graph(title, answers, seconds, provenance)
    _warn(graph, recorder)
    return graph


def _checked_inputs(example_input: Any) -> Inputs:
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    for tensor in inputs:
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(
                "example_input must be a tensor or a tuple of tensors, got "
                f"{type(tensor).__name__}"
                + (" in the tuple" if isinstance(example_input, tuple) else "")
            )
    if not inputs:
        raise ValueError("example_input must hold at least one tensor, got ()")
    return inputs


def _check_device(device: str | None) -> None:
    if device is None:
        return
    try:
        kind = torch.device(device).type
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {device!r} is not there: {_first_line(error)}") from error
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {device!r}")


def _warn(graph: LayerGraph, recorder: _Recorder) -> None:
    if graph.uncounted:
        listed = ", ".join(
            f"{name} ({', '.join(sorted(recorder.unknown[name]))})" for name in graph.uncounted
        )
        warnings.warn(
            f"{graph.name}: the FLOPs of {listed} could not be counted; they are None",
            stacklevel=3,
        )
    depths = [len(graph.at_exit(n)) for n in range(len(graph.exits))]
    if depths != sorted(depths):
        warnings.warn(
            f"{graph.name}: exits should be ordered from the shallowest to the deepest, but "
            + ", ".join(f"{e.name!r} needs {d}" for e, d in zip(graph.exits, depths, strict=True))
            + " layers",
            stacklevel=3,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No gradients, no fused attention (it hides its products), no chatter of the tracers."""
    fast, disabled = torch.backends.mha.get_fastpath_enabled(), logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.CRITICAL)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        torch.backends.mha.set_fastpath_enabled(fast)


def _bare(module: nn.Module, device: str) -> nn.Module:
    """A copy in evaluation mode whose weights are never filled, so that they cost nothing."""
    memo: dict[int, Any] = {}
    try:
        for part in module.modules():
            for value in (*part._parameters.values(), *part._buffers.values()):
                if value is not None and id(value) not in memo:
                    empty = torch.empty_like(value.detach(), device=device)
                    if isinstance(value, nn.Parameter):
                        empty = nn.Parameter(empty, requires_grad=value.requires_grad)
                    memo[id(value)] = empty
            for value in vars(part).values():
                # Other tensors stay: their values may steer the computation. Not so what was
                # computed from parameters, which cannot be copied.
                if isinstance(value, torch.Tensor) and not value.is_leaf:
                    memo[id(value)] = torch.empty_like(value.detach(), device=device)
        return copy.deepcopy(module, memo).eval()
    except Exception as error:
        raise ValueError(
            f"{type(module).__name__} cannot be copied: {_first_line(error)}"
        ) from error


# --- Tracing ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Traced:
    """A graph of operations.

    Attributes:
        graph_module: Its placeholders take the inputs, then ``defaults``.
        defaults: Values of the arguments that were not given.
        restore: From what the graph returns to what the module returns.
    """

    graph_module: fx.GraphModule
    defaults: tuple[Any, ...]
    restore: Callable[[Any], Any]


class _Tracer(fx.Tracer):
    """Goes into everything but modules of torch.nn that have no parts."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.MultiheadAttention):
            return True
        return m.__module__.startswith("torch.nn.modules") and not any(True for _ in m.children())


def _trace_fx(module: nn.Module, inputs: Inputs) -> _Traced:
    if _Tracer().is_leaf_module(module, ""):
        # One layer: fx would look into it.
        graph = fx.Graph()
        arguments = tuple(graph.placeholder(f"input_{n}") for n in range(len(inputs)))
        graph.output(graph.call_module("layer", arguments))
        return _Traced(fx.GraphModule({"layer": module}, graph), (), lambda answers: answers)
    parameters = list(inspect.signature(module.forward).parameters.values())
    left = [
        p
        for p in parameters[len(inputs) :]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.default is not p.empty
    ]
    defaults = {p.name: p.default for p in left}
    try:
        tracer = _Tracer(autowrap_modules=(math,), param_shapes_constant=True)
        graph = tracer.trace(module, concrete_args=defaults or None)
        traced = fx.GraphModule(tracer.root, graph)
    except Exception as error:
        raise _Failure(_where(error)) from error
    return _Traced(traced, tuple(defaults.values()), lambda answers: answers)


def _trace_export(module: nn.Module, inputs: Inputs) -> _Traced:
    try:
        # It prints what it could not do.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            program = export(module, inputs, strict=False)
            traced = program.module()
    except Exception as error:
        raise _Failure(_where(error)) from error
    assert isinstance(traced, fx.GraphModule)
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            traced.graph.erase_node(node)
    structure = program.call_spec.out_spec
    assert structure is not None
    return _Traced(traced, (), lambda answers: pytree.tree_unflatten(list(answers), structure))


# Export works on fake tensors of its own; they keep the device that the module names.
TRACERS: dict[str, tuple[Callable[[nn.Module, Inputs], _Traced], str]] = {
    "fx": (_trace_fx, "meta"),
    "export": (_trace_export, "cpu"),
}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def _where(error: BaseException) -> str:
    """An error's first line and the line of the module's own code that caused it."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [
        f
        for f in frames
        if not re.search(r"[\\/]torch[\\/]|[\\/]mec_gym[\\/]dnn[\\/]profile", f.filename)
    ]
    if not outside or not outside[-1].line or outside[-1].filename.startswith("<"):
        return _first_line(error)
    return f"{_first_line(error)} at {outside[-1].line!r} in {outside[-1].name}"


# --- Counting -----------------------------------------------------------------------------


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _view(tensor: torch.Tensor) -> View:
    """Tells apart the ways to look at one storage."""
    return _storage(tensor), int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()


def _size(tensor: torch.Tensor) -> int:
    """Bytes."""
    return tensor.numel() * tensor.element_size()


def _tensors(values: Any) -> list[torch.Tensor]:
    found = []
    for value in pytree.tree_leaves(values):
        if isinstance(value, slice):
            found += _tensors((value.start, value.stop, value.step))
        elif isinstance(value, torch.Tensor):
            found.append(value)
    return found


class _Extent:
    """Parts of storages: what of them is read or written, nothing twice."""

    def __init__(self) -> None:
        self.tensors: dict[View, torch.Tensor] = {}
        self._bytes: dict[View, int] = {}
        self._limits: dict[int, int] = {}

    def add(self, tensor: torch.Tensor, size: int | None = None) -> None:
        """Take in a tensor, of which ``size`` bytes are touched, by default all."""
        view = _view(tensor)
        self.tensors[view] = tensor
        self._bytes[view] = _size(tensor) if size is None else size
        self._limits[view[0]] = tensor.untyped_storage().nbytes()

    @property
    def storages(self) -> set[int]:
        return set(self._limits)

    @property
    def total(self) -> float:
        """Bytes; views of one storage count up to its size."""
        sums = dict.fromkeys(self._limits, 0)
        for view, size in self._bytes.items():
            sums[view[0]] += size
        return float(sum(min(sums[key], limit) for key, limit in self._limits.items()))


# What torch's registry lacks: products with one vector, and sums of products.
MORE_FLOPS: dict[str, Callable[..., int]] = {
    "mv": lambda matrix, *_, **__: 2 * math.prod(matrix.shape),
    "dot": lambda a, *_, **__: 2 * math.prod(a.shape),
    "vdot": lambda a, *_, **__: 2 * math.prod(a.shape),
    "addmv": lambda _, matrix, *__, **___: 2 * math.prod(matrix.shape),
    "addbmm": lambda _, a, b, *__, **___: 2 * math.prod(a.shape) * int(b.shape[-1]),
}


class _Counter(TorchDispatchMode):
    """Adds up what one layer dispatches.

    Attributes:
        flops: FLOP of what could be counted.
        unknown: Operations that could not.
        reads: Of tensors that the layer did not make itself.
        writes: Likewise.
        fresh: Storages that the layer made.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0
        self.unknown: set[str] = set()
        self.reads, self.writes = _Extent(), _Extent()
        self.fresh: set[int] = set()
        # The address of a freed storage would be given to another one.
        self._alive: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken, written = _tensors((args, kwargs)), _targets(func, args, kwargs)
        answer = func(*args, **kwargs)
        made = _tensors(answer)
        self._alive += taken + made
        storages = {_storage(t) for t in taken}
        self.fresh |= {_storage(t) for t in made} - storages
        is_view = made and not written and all(_storage(t) in storages for t in made)
        if is_view or torch.Tag.inplace_view in func.tags:
            return answer
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        for position, tensor in enumerate(taken):
            if _storage(tensor) not in self.fresh and name not in SHAPE_READERS:
                looks_up = name == "embedding" and position == 0  # reads only some rows
                self.reads.add(tensor, _size(made[0]) if looks_up else None)
        for tensor in written:
            if _storage(tensor) not in self.fresh:
                self.writes.add(tensor)
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=answer)
        elif name in MORE_FLOPS:
            self.flops += MORE_FLOPS[name](*args, **kwargs)
        elif name not in PASSING and torch.Tag.pointwise not in func.tags:
            self.unknown.add(name)
        return answer


def _targets(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Arguments that an operation writes into."""
    names = [argument.name for argument in func._schema.arguments]
    values = dict(zip(names, args, strict=False)) | kwargs
    return _tensors(
        [
            values.get(argument.name)
            for argument in func._schema.arguments
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
    )


@dataclass(frozen=True)
class _Truth:
    """What the module itself does on meta tensors: FLOPs and what it returns."""

    flops: float
    shapes: list[torch.Size]


def _eager(module: nn.Module, inputs: Inputs) -> _Truth | None:
    """None if the module does not run there, for instance as it needs values."""
    counter = _Counter()
    try:
        with torch.device("meta"), counter:
            answers = module(*(t.clone() for t in inputs))
    except Exception:
        return None
    return _Truth(counter.flops, [t.shape for t in _tensors(answers)])


# --- From operations to layers ------------------------------------------------------------


class _Recorder(fx.Interpreter):
    """Runs a graph on meta tensors and keeps what its layers cost and read.

    Attributes:
        layers: Layer 0 is the input; output sizes are filled in at the end.
        unknown: By name of an uncounted layer, the operations that could not be counted.
    """

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        taken = {node.name for node in graph_module.graph.nodes if node.op != "placeholder"}
        self.layers = [Layer("input_0" if "input" in taken else "input", "input", 0, 0, 0)]
        self.unknown: dict[str, set[str]] = {}
        self.flops = 0.0
        self._links: set[tuple[int, int]] = set()
        # By id of a tensor: the layers that made what is in it; none for a constant.
        self._makers: dict[int, frozenset[int]] = {}
        self._known: dict[int, torch.Tensor] = {}
        self._by_storage: dict[int, list[torch.Tensor]] = {}
        # By id of a constant: itself, so that it stays, and its stand-in.
        self._constants: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        # By layer: what it makes, by tensor, and of that what somebody reads.
        self._made: list[dict[int, float]] = [{}]
        self._read: set[int] = set()
        self._written: dict[int, float] = {}

    def record(self, inputs: Inputs, defaults: tuple[Any, ...]) -> Any:
        """Run; returns the graph's answers."""
        own = [t.clone() for t in inputs]
        for tensor in own:
            self._learn(tensor, frozenset([0]))
            self._written[0] = self._written.get(0, 0.0) + 8.0 * _size(tensor)
        with torch.device("meta"):
            answers = self.run(*own, *defaults, enable_io_processing=False)
        for tensor in _tensors(answers):
            self._read.add(id(tensor))
        return answers

    def check(self, truth: _Truth, answers: Any) -> None:
        """Refuse a graph that does not do what the module does."""
        shapes = [t.shape for t in _tensors(answers)]
        if shapes != truth.shapes or self.flops != truth.flops:
            raise _Failure(
                f"traces another computation ({self.flops:g} FLOP, {len(shapes)} answers) than "
                f"the module does ({truth.flops:g} FLOP, {len(truth.shapes)} answers)"
            )

    def run_node(self, n: fx.Node) -> Any:
        """Run one operation, make a layer of it if it is one."""
        if n.op in ("placeholder", "output"):
            return super().run_node(n)
        if n.op == "get_attr":
            return self._constant(super().run_node(n))
        args, kwargs = pytree.tree_map(_on_meta, self.fetch_args_kwargs_from_env(n))
        counter = _Counter()
        try:
            with counter:
                answer = self._call(n, args, kwargs)
        except Exception as error:
            raise _Failure(f"{_first_line(error)} at {n.name!r} ({self._describe(n)})") from error
        self.flops += counter.flops
        made = _tensors(answer)
        unpacks = all(id(t) in self._known for t in made) and not (
            args and isinstance(args[0], torch.Tensor)
        )
        if counter.writes.tensors or (made and (n.op == "call_module" or not unpacks)):
            return self._layer(n, _tensors((args, kwargs)), answer, counter)
        return answer

    def _call(self, n: fx.Node, args: Any, kwargs: Any) -> Any:
        if n.op == "call_method" and n.target in ("cpu", "cuda"):
            return args[0]
        if n.op == "call_method" and n.target == "to":
            args = (args[0], *("meta" if _is_device(a) else a for a in args[1:]))
        if "device" in kwargs:
            kwargs = {**kwargs, "device": "meta"}
        return getattr(self, n.op)(n.target, args, kwargs)

    def _constant(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in self._constants:
            tensor = value.detach().to("meta")
            self._constants[id(value)] = (value, tensor)
            self._learn(tensor, frozenset())
        return self._constants[id(value)][1]

    def _learn(self, tensor: torch.Tensor, makers: frozenset[int]) -> None:
        if id(tensor) not in self._known:
            self._known[id(tensor)] = tensor
            self._by_storage.setdefault(_storage(tensor), []).append(tensor)
        self._makers[id(tensor)] = makers

    def _layer(self, n: fx.Node, taken: list[torch.Tensor], answer: Any, counter: _Counter) -> Any:
        index = len(self.layers)
        written = counter.writes.tensors
        outputs = {_view(t): t for t in _tensors(answer)}
        touched = counter.reads.storages | {view[0] for view in (*outputs, *written)}
        read = [t for t in taken if _storage(t) in touched]
        makers = frozenset().union(*(self._makers[id(t)] for t in read))
        me = frozenset([index]) if makers else frozenset()

        changed = counter.writes.storages

        def own(value: Any) -> Any:
            """What an operation hands through unchanged gets a name of its own."""
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) in self._known and _storage(value) not in changed:
                value = torch.ops.aten.alias(value)
            self._learn(value, me)
            return value

        answer = pytree.tree_map(own, answer)
        for view, target in written.items():
            for other in self._by_storage.get(view[0], []):
                whole = _view(other) == view or _size(target) == target.untyped_storage().nbytes()
                kept = frozenset() if whole else self._makers[id(other)]
                self._makers[id(other)] = kept | me
        if not makers:
            return answer

        self._read |= {id(t) for t in read}
        self._links |= {(maker, index) for maker in makers}
        moved = _Extent()
        for tensor in _tensors(answer):
            if _storage(tensor) in counter.fresh:
                moved.add(tensor)
        self._made.append({id(t): 8.0 * _size(t) for t in _tensors(answer)})
        if written:
            self._written[index] = 8.0 * counter.writes.total
        if counter.unknown:
            self.unknown[n.name] = counter.unknown
        self.layers.append(
            Layer(
                n.name,
                self._describe(n),
                None if counter.unknown else counter.flops,
                counter.reads.total + counter.writes.total + moved.total,
                0,
            )
        )
        return answer

    def _describe(self, n: fx.Node) -> str:
        """What an operation does, by the same word whichever tracer found it."""
        if n.op == "call_module":
            word = type(self.fetch_attr(str(n.target))).__name__
            word = re.sub(r"(?<=[a-z]{2})(?=[A-Z])", "_", word).lower()
            return re.sub(r"(batch|instance)_norm\dd$", r"\1_norm", word)
        if n.op == "call_method":
            return str(n.target).strip("_")
        target: Any = n.target
        if isinstance(target, torch._ops.OpOverload):
            return str(target._schema.name.split("::")[-1]).strip("_")
        word = str(getattr(target, "__name__", target)).strip("_")
        in_place = getattr(operator, f"__{word}__", None) is target and word.startswith("i")
        return word[1:] if in_place and hasattr(operator, word[1:]) else word

    def layer_graph(
        self,
        name: str,
        answers: Any,
        seconds: Mapping[str, float] | None,
        provenance: Mapping[str, Any],
    ) -> LayerGraph:
        """The layers that some answer needs."""
        exits = []
        for label, tensor in _named(name, answers):
            exits.append(Exit(label, self._exit_layer(name, label, tensor)))
        needed = {0} | {one.layer for one in exits}
        for u, v in sorted(self._links, key=lambda link: -link[1]):
            if v in needed:
                needed.add(u)
        place = {old: new for new, old in enumerate(sorted(needed))}
        layers = []
        for index in place:
            made, layer = self._made[index], self.layers[index]
            bits = sum(size for key, size in made.items() if key in self._read)
            bits = max(bits, self._written.get(index, 0.0))
            # The input and what joins parts are no operations.
            took = None if seconds is None else seconds.get(layer.name, 0.0) if index else 0.0
            layers.append(replace(layer, output_bits=bits, seconds=took))
        return LayerGraph(
            name,
            tuple(layers),
            tuple((place[u], place[v]) for u, v in self._links if v in place),
            tuple(Exit(one.name, place[one.layer]) for one in exits),
            provenance,
        )

    def _exit_layer(self, name: str, label: str, tensor: torch.Tensor) -> int:
        makers = self._makers.get(id(tensor), frozenset())
        if not makers:
            raise ValueError(f"{name}: the answer {label!r} does not depend on the input")
        if len(makers) == 1:
            return next(iter(makers))
        # Written by several layers, each a part.
        index = len(self.layers)
        self.layers.append(Layer(f"{label} joined", "join", 0, 0, 0))
        self._links |= {(maker, index) for maker in makers}
        self._made.append({id(tensor): 8.0 * _size(tensor)})
        return index


def _on_meta(value: Any) -> Any:
    return torch.device("meta") if isinstance(value, torch.device) else value


def _is_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))


def _named(name: str, answers: Any) -> list[tuple[str, torch.Tensor]]:
    """Tensors of what a module returns, with the names of their exits."""
    if hasattr(answers, "_asdict"):
        answers = answers._asdict()  # a named tuple
    if isinstance(answers, Mapping):
        parts = [(str(key), value) for key, value in answers.items()]
    elif isinstance(answers, (tuple, list)):
        parts = [(f"exit {n + 1}", value) for n, value in enumerate(answers)]
    else:
        parts = [("final", answers)]
    found = [
        (label if len(tensors) == 1 else f"{label}.{n + 1}", tensor)
        for label, value in parts
        for tensors in [_tensors(value)]
        for n, tensor in enumerate(tensors)
    ]
    if not found:
        raise ValueError(f"{name} must return tensors, got {type(answers).__name__}")
    if not isinstance(answers, Mapping):
        found[-1] = ("final", found[-1][1])
    return found


# --- Timing -------------------------------------------------------------------------------


class _Timer(fx.Interpreter):
    """Runs a graph and takes the time of each operation, by its name, s."""

    def __init__(self, graph_module: fx.GraphModule, device: torch.device) -> None:
        super().__init__(graph_module)
        self.seconds: dict[str, float] = {}
        self._device = device

    def run_node(self, n: fx.Node) -> Any:
        start = self._now()
        answer = super().run_node(n)
        self.seconds[n.name] = self._now() - start
        return answer

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _time(
    trace: Callable[[nn.Module, Inputs], _Traced], module: nn.Module, inputs: Inputs, device: str
) -> dict[str, float]:
    """Median time of each operation of the module with its own weights, s."""
    place = torch.device(device)
    try:
        real = copy.deepcopy(module).eval().to(place)
        own = tuple(t.detach().to(place) for t in inputs)
        traced = trace(real, own)
        timer = _Timer(traced.graph_module, place)
        runs: list[dict[str, float]] = []
        for _ in range(WARM_UP + RUNS):
            timer.seconds = {}
            given = [t.clone() for t in own]
            timer.run(*given, *traced.defaults, enable_io_processing=False)
            runs.append(timer.seconds)
    except Exception as error:
        raise ValueError(
            f"{type(module).__name__} cannot be timed on {device}: {_first_line(error)}"
        ) from error
    return {name: statistics.median(run[name] for run in runs[WARM_UP:]) for name in runs[-1]}


def _machine(device: str) -> dict[str, Any]:
    place = torch.device(device)
    if place.type == "cuda":
        return {"device": torch.cuda.get_device_name(place)}
    vectors = torch.backends.cpu.get_cpu_capability()
    return {
        "device": f"{platform.machine()} processor, {vectors}",
        "threads": torch.get_num_threads(),
    }
