"""Tables of torch's operations: which ones count, which only pass over their data."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

# Operations of aten that compute next to nothing for each element they pass over, beside
# those that torch itself marks as element by element. By convention they count 0 FLOP.
_PASSING = (
    "adaptive_", "affine_grid", "all", "amax", "amin", "any", "arange", "argmax", "argmin",
    "as_strided", "avg_pool", "batch_norm", "bernoulli", "bincount", "binomial", "bucketize",
    "cat", "cauchy", "channel_shuffle", "choose_qparams", "chunk_cat", "clone", "col2im",
    "constant_pad", "copy", "count_nonzero", "cudnn_batch_norm", "cummax", "cummin", "cumprod",
    "cumsum", "dequantize", "detach", "diag", "dist", "embedding", "empty", "expand",
    "exponential", "eye", "fill", "flip", "fractional_max_pool", "full", "gather", "geometric",
    "glu", "grid_sampler", "group_norm", "hardswish", "hist", "im2col", "index",
    "instance_norm", "int_repr", "kthvalue", "layer_norm", "lift", "linalg__powsum",
    "linalg_cross", "linalg_vector_norm", "linspace", "log_normal", "log_sigmoid",
    "log_softmax", "logcumsumexp", "logsumexp", "masked_", "max", "mean", "median", "min",
    "mkldnn_max_pool", "mode", "multinomial", "nan", "native_batch_norm", "native_dropout",
    "native_group_norm", "native_layer_norm", "new_", "nll_loss", "nonzero", "norm", "ones",
    "pad", "pixel_shuffle", "pixel_unshuffle", "poisson", "polar", "prelu_kernel", "prod",
    "put", "quantize_per", "rand", "reflection_pad", "renorm", "repeat", "replication_pad",
    "resize", "roll", "rot90", "rrelu", "safe_softmax", "sample_dirichlet", "scalar_tensor",
    "scatter", "searchsorted", "segment_reduce", "select_scatter", "set", "slice_scatter",
    "smooth_l1", "softmax", "sort", "stack", "standard_gamma", "std", "sum", "take", "to_copy",
    "topk", "trace", "tril", "triu", "unfold", "uniform", "unique", "unsafe_", "upsample_",
    "var", "weight_norm", "where", "zero",
)  # fmt: skip

_aten = torch.ops.aten


def _matrix_product(_: Any, a: Any, b: Any, *__: Any, **___: Any) -> Any:
    return 2 * math.prod(a) * b[-1]


def _vector_product(_: Any, a: Any, *__: Any, **___: Any) -> Any:
    return 2 * math.prod(a)


def _outer_product(_: Any, a: Any, b: Any, *__: Any, **___: Any) -> Any:
    return 2 * math.prod(a) * math.prod(b)


# Products that torch does not count, from the shapes of their arguments.
_MORE_FLOPS = {
    _aten.dot: lambda a, *_, **__: 2 * math.prod(a),
    _aten.vdot: lambda a, *_, **__: 2 * math.prod(a),
    _aten.mv: lambda a, *_, **__: 2 * math.prod(a),
    _aten.addmv: _vector_product,
    _aten.addmv_: _vector_product,
    _aten.addr: _outer_product,
    _aten.addr_: _outer_product,
    _aten.addbmm: _matrix_product,
    _aten.addbmm_: _matrix_product,
    _aten.addmm_: _matrix_product,
    _aten.baddbmm_: _matrix_product,
    _aten.conv_tbc: lambda _, w, *__, out_shape, **___: 2 * math.prod(out_shape) * w[0] * w[1],
    # Bilinear: the first input is taken into the weights, and the second one into the result.
    _aten._trilinear: lambda a, w, *_, **__: 2 * a[0] * w[0] * w[2] * (w[1] + 1),
}

IN_PLACE = (
    operator.iadd, operator.iand, operator.ifloordiv, operator.imod, operator.imul, operator.ior,
    operator.ipow, operator.isub, operator.itruediv, operator.ixor,
)  # fmt: skip
"""What ``+=`` and the like call."""


def flop_counter() -> FlopCounterMode:
    """Return torch's counter of FLOPs, which also counts the products that torch forgot."""
    return FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)


def passes_over(operation: Any) -> bool:
    """Whether an operation of torch by convention counts 0 FLOP."""
    if operation.namespace not in ("aten", "prims"):
        return False
    if torch.Tag.pointwise in operation.tags or is_view(operation):
        return True
    # Those in place end in an underscore, those that are not for users begin with one.
    return str(operation._schema.name).split("::")[1].strip("_").startswith(_PASSING)


def is_view(operation: Any) -> bool:
    """Whether an operation returns its input in another shape, without writing."""
    if torch.Tag.inplace_view in operation.tags:
        return True
    returns = operation._schema.returns
    return bool(returns) and all(
        one.alias_info is not None and not one.alias_info.is_write for one in returns
    )


def looks_up(operation: Any) -> bool:
    """Whether an operation reads no more of its table than it returns."""
    return bool(operation == torch.ops.aten.embedding.default)
