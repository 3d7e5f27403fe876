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
    return str(operation._schema.name).split("::")[1].startswith(_PASSING)


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
