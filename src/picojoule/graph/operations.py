"""From functions and methods on tensors to the layers of torch that do the same.

One table, from the name of an operation, which Python and ATen share, to the function that makes its layers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.layers import Crop2d, Permute, Reshape

Sample = tuple[int, ...]
Layers = list[nn.Module] | None


class Call(NamedTuple):
    """One operation on a tensor `[B, *before]` that gives `[B, *after]`, with its other arguments by name.

    `open` says that some of them depend on the input.
    """

    name: str
    before: Sample
    after: Sample
    given: Mapping[str, Any]
    open: bool = False

    def get(self, name: str, otherwise: Any = None) -> Any:
        value = self.given.get(name)
        return otherwise if value is None else value

    def tensor(self, name: str) -> Tensor | None:
        value = self.given.get(name)
        return value if isinstance(value, Tensor) else None


def layers_of(call: Call) -> Layers:
    """The layers, in a row, that do what `call` does: none if it changes nothing, None if it is not known."""
    function = _TABLE.get(call.name)
    return None if function is None or call.open and call.name not in (*RESHAPES, *SAME) else function(call)


def reshaped(call: Call) -> Layers:
    """Samples of another shape, whatever function made it."""
    return _reshape(call.before, call.after)


def _reshape(before: Sample, after: Sample) -> Layers:
    if math.prod(before) != math.prod(after):
        return None
    if before == after:
        return []
    return [nn.Flatten()] if len(after) == 1 and len(before) > 1 else [Reshape(*after)]


def _simple(kind: type[nn.Module], *names: str) -> Callable[[Call], Layers]:
    return lambda call: [kind(**{name: call.given[name] for name in names if call.given.get(name) is not None})]


def _between(call: Call) -> Layers:
    low, high = call.get("min", call.get("min_val")), call.get("max", call.get("max_val"))
    if call.name == "hardtanh":
        low, high = call.get("min_val", -1.0), call.get("max_val", 1.0)
    if not isinstance(low, int | float) or not isinstance(high, int | float | None) or high is not None and high <= low:
        return None
    if low == 0 and high in (None, 6):
        return [nn.ReLU() if high is None else nn.ReLU6()]
    return [nn.Threshold(low, low) if high is None else nn.Hardtanh(low, high)]


def _max_pool(call: Call) -> Layers:
    kind = _BY_RANK["max_pool"].get(len(call.before) - 1)
    if kind is None or call.get("return_indices", False):
        return None
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return [kind(**_settings(call, names))]


def _avg_pool(call: Call) -> Layers:
    kind = _BY_RANK["avg_pool"].get(len(call.before) - 1)
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    return None if kind is None else [kind(**_settings(call, names))]


def _adaptive(how: str) -> Callable[[Call], Layers]:
    def make(call: Call) -> Layers:
        kind = _BY_RANK[how].get(len(call.before) - 1)
        size = call.get("output_size")
        if kind is None or size is None or call.get("return_indices", False):
            return None
        return [kind(tuple(size) if isinstance(size, list | tuple) else size)]

    return make


def _reduced(how: str) -> Callable[[Call], Layers]:
    """A mean or maximum over rows and columns."""

    def make(call: Call) -> Layers:
        rank = len(call.before) + 1
        dims = call.get("dim")
        if dims is None or rank not in (3, 4, 5):
            return None
        axes = {d % rank for d in (dims if isinstance(dims, list | tuple) else [dims])}
        if not axes or min(axes) < 2:
            return None
        whole = len(axes) == rank - 2
        size = 1 if whole else tuple(1 if axis in axes else None for axis in range(2, rank))
        pooled = tuple(1 if axis in axes else n for axis, n in enumerate(call.before, 1))
        last = _reshape(pooled, call.after)
        return None if last is None else [_BY_RANK[how][rank - 2](size), *last]

    return make


def _dropout(call: Call) -> Layers:
    if call.given.get("training", call.given.get("train", True)) is not False:
        return None  # random at inference too
    return [nn.Dropout(call.get("p", 0.5))]


def _softmax(kind: type[nn.Module]) -> Callable[[Call], Layers]:
    def make(call: Call) -> Layers:
        dim = call.get("dim")
        if not isinstance(dim, int) or dim % (len(call.before) + 1) == 0:
            return None
        return [kind(dim % (len(call.before) + 1))]  # pyright: ignore[reportCallIssue]

    return make


def _pad(call: Call) -> Layers:
    pads = call.get("pad")
    if call.get("mode", "constant") != "constant" or call.get("value", 0) or not isinstance(pads, list | tuple):
        return None
    pads = [*pads, *[0] * max(0, 2 * (len(call.before) - 1) - len(pads))]
    around = [max(0, n) for n in pads]
    kind = {2: nn.ZeroPad1d, 4: nn.ZeroPad2d, 6: nn.ZeroPad3d}.get(len(pads))
    if kind is None or len(call.before) not in (2, 3):
        return None
    layers: list[nn.Module] = [kind(tuple(around))] if any(around) else []
    off = [max(0, -n) for n in pads]
    if any(off):
        if len(off) != 4:
            return None
        layers.append(Crop2d(*off))
    return layers


def _permute(call: Call) -> Layers:
    rank = len(call.before) + 1
    if call.name == "permute":
        order = [d % rank for d in call.get("dims", ())]
    else:
        a, b = call.get("dim0", 0) % rank, call.get("dim1", 0) % rank
        order = list(range(rank))
        order[a], order[b] = b, a
    if len(order) != rank or order[0] != 0:
        return None
    return [] if order == sorted(order) else [Permute(*(d - 1 for d in order[1:]))]


def _picked(call: Call) -> Layers:
    """Indexing: of everything, of one place that is all there is, of spans and places of axes behind the batch."""
    if math.prod(call.before) == math.prod(call.after):
        return reshaped(call)
    index = _index(call)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (len(call.before) + 2 - len(index)), *index[at + 1 :])
    if index[0] != slice(None) or not all(type(i) in (slice, int) for i in index):
        return None
    wanted = (*index[1:], *[slice(None)] * len(call.before))
    pairs = zip(map(range, call.before), wanted, strict=False)
    spans = [places[i] if isinstance(i, slice) else places[i:][:1] for places, i in pairs]
    last = _reshape(tuple(map(len, spans)), call.after)
    first = _spans(call, spans)
    return None if first is None or last is None else [*first, *last]


def _spans(call: Call, spans: list[range]) -> Layers:
    if len(spans) == 3 and len(spans[0]) == call.before[0]:
        return _cropped(call, spans[1], spans[2])
    kind = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}.get(len(spans))
    if kind is None or any(span.step != 1 for span in spans):
        return None
    off = [m for n, span in zip(call.before, spans, strict=True) for m in (span.stop - n, -span.start)]
    return [kind(tuple(reversed(off)))]  # padding by less than nothing


def _index(call: Call) -> tuple[Any, ...]:
    if call.name == "slice":
        span = slice(call.get("start"), call.get("end"), call.get("step"))
        return (*[slice(None)] * (call.get("dim", 0) % (len(call.before) + 1)), span)
    if call.name == "select":
        return (*[slice(None)] * (call.get("dim", 0) % (len(call.before) + 1)), call.get("index"))
    index = call.get("index")
    return index if isinstance(index, tuple) else (index,)


def _cropped(call: Call, rows: range, columns: range) -> Layers:
    _, height, width = call.before
    strided = rows.step > 1 or columns.step > 1
    bottom, right = (0, 0) if strided else (height - rows.stop, width - columns.stop)
    layers: list[nn.Module] = []
    if rows.start or columns.start or bottom or right:
        layers.append(Crop2d(columns.start, right, rows.start, bottom))
    if strided:
        if len(range(rows.start, height, rows.step)) != len(rows) or len(
            range(columns.start, width, columns.step)
        ) != len(columns):
            return None
        layers.append(nn.MaxPool2d(1, (rows.step, columns.step)))  # a window of one place picks it
    return layers


def _interpolated(call: Call) -> Layers:
    mode = call.get("mode", "nearest")
    if call.name != "interpolate":
        mode = "nearest" if "nearest" in call.name else {"upsample_bilinear2d": "bilinear"}.get(call.name, "linear")
    size, factor = call.get("size", call.get("output_size")), call.get("scale_factor", call.get("scale_factors"))
    if call.get("antialias", False) or call.get("recompute_scale_factor", False) or (size is None) == (factor is None):
        return None
    corners = call.given.get("align_corners")
    if mode == "nearest":
        corners = None
    elif mode not in ("linear", "bilinear", "trilinear", "bicubic"):
        return None
    size = tuple(size) if isinstance(size, list | tuple) else size
    factor = tuple(factor) if isinstance(factor, list | tuple) else factor
    return [nn.Upsample(size=size, scale_factor=factor, mode=mode, align_corners=corners)]


def _conv(call: Call) -> Layers:
    weight, bias = call.tensor("weight"), call.tensor("bias")
    rank = len(call.before) - 1
    kind: Any = _BY_RANK["conv"].get(rank)
    if kind is None or weight is None:
        return None
    groups = call.get("groups", 1)
    settings = _settings(call, ("stride", "padding", "dilation"))
    layer = kind(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        groups=groups,
        bias=bias is not None,
        device="meta",
        **settings,
    )
    return [_filled(layer, weight=weight, bias=bias)]


def _conv_transpose(call: Call) -> Layers:
    weight, bias = call.tensor("weight"), call.tensor("bias")
    kind: Any = _BY_RANK["conv_transpose"].get(len(call.before) - 1)
    if kind is None or weight is None:
        return None
    groups = call.get("groups", 1)
    settings = _settings(call, ("stride", "padding", "output_padding", "dilation"))
    layer = kind(
        weight.shape[0],
        weight.shape[1] * groups,
        tuple(weight.shape[2:]),
        groups=groups,
        bias=bias is not None,
        device="meta",
        **settings,
    )
    return [_filled(layer, weight=weight, bias=bias)]


def _linear(call: Call) -> Layers:
    weight, bias = call.tensor("weight"), call.tensor("bias")
    if weight is None or weight.dim() != 2:
        return None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    return [_filled(layer, weight=weight, bias=bias)]


def _product(call: Call) -> Layers:
    weight = call.tensor("other")
    if weight is None or weight.dim() != 2:
        return None
    return _linear(call._replace(given={"weight": weight.T.contiguous(), "bias": call.tensor("bias")}))


def _batch_norm(call: Call) -> Layers:
    mean, variance = call.tensor("running_mean"), call.tensor("running_var")
    if mean is None or variance is None or call.get("training", False):
        return None
    kind = _BY_RANK["norm"].get(len(call.before) - 1)
    return None if kind is None else [_norm(kind, mean, variance, call)]


def _norm(kind: Any, mean: Tensor, variance: Tensor, call: Call) -> nn.Module:
    weight, bias = call.tensor("weight"), call.tensor("bias")
    layer = kind(len(mean), call.get("eps", 1e-5), call.get("momentum", 0.1), device="meta")
    layer.running_mean, layer.running_var = mean, variance
    layer.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    weight = torch.ones_like(mean) if weight is None else weight
    return _filled(layer, weight=weight, bias=torch.zeros_like(mean) if bias is None else bias)


def _affine(call: Call) -> Layers:
    """A constant added, subtracted, multiplied or divided by: one number, or one for each channel."""
    kind = _BY_RANK["norm"].get(len(call.before) - 1)
    constant = call.given.get("other")
    if kind is None or call.before != call.after or call.get("alpha", 1) != 1 or call.get("rounding_mode"):
        return None
    values = _per_channel(constant, call.before)
    if values is None:
        return None
    one, zero = torch.ones_like(values), torch.zeros_like(values)
    scale, shift = {
        "add": (one, values),
        "iadd": (one, values),
        "sub": (one, -values),
        "isub": (one, -values),
        "rsub": (-one, values),
        "mul": (values, zero),
        "imul": (values, zero),
        "div": (1 / values, zero),
        "truediv": (1 / values, zero),
        "itruediv": (1 / values, zero),
        "neg": (-one, zero),
    }[call.name]
    given = {"weight": scale, "bias": shift, "eps": 0.0}
    return [_norm(kind, zero, one, Call("batch_norm", call.before, call.after, given))]


def _per_channel(constant: Any, sample: Sample) -> Tensor | None:
    if isinstance(constant, bool) or not isinstance(constant, int | float | Tensor):
        return None
    values = torch.as_tensor(constant, dtype=None if isinstance(constant, Tensor) else torch.float32).detach()
    if not values.is_floating_point():
        return None
    shape = (1,) * (len(sample) + 1 - values.dim()) + tuple(values.shape)
    if values.numel() != 1 and (len(shape) != len(sample) + 1 or shape[1] != values.numel() or shape[1] != sample[0]):
        return None
    return values.reshape(-1).expand(sample[0]).clone()


def _prelu(call: Call) -> Layers:
    weight = call.tensor("weight")
    if weight is None or weight.dim() > 1:
        return None
    return [_filled(nn.PReLU(weight.numel(), device="meta"), weight=weight)]


def _settings(call: Call, names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments that were given; lists as tuples, and an empty stride (which is the window's size) left out."""
    settings = {name: call.given[name] for name in names if call.given.get(name) is not None}
    settings = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in settings.items()}
    return {k: v[0] if isinstance(v, tuple) and len(v) == 1 else v for k, v in settings.items() if v != ()}


def _filled(layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """`layer` with these parameters, shared where they are parameters already."""
    for name, tensor in tensors.items():
        if tensor is not None:
            shared = isinstance(tensor, nn.Parameter)
            setattr(layer, name, tensor if shared else nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
    return layer


def _same(call: Call) -> Layers:
    return [] if call.before == call.after else None


_BY_RANK: dict[str, dict[int, Any]] = {
    "max_pool": {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d},
    "avg_pool": {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d},
    "avg": {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d},
    "max": {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d},
    "conv": {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d},
    "conv_transpose": {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d},
    "norm": {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
}
RESHAPES = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "expand", "select")
RESHAPES += ("_unsafe_view", "view_as", "reshape_as", "expand_as")
SAME = ("contiguous", "clone", "detach", "alias", "to", "float", "type_as", "_to_copy", "lift_fresh_copy")
"""Operations that change nothing in a tensor that has the right type already."""

AFFINE = ("add", "iadd", "sub", "isub", "rsub", "mul", "imul", "div", "truediv", "itruediv")
"""Operations with two operands, one of which may be a constant."""

_TABLE: dict[str, Callable[[Call], Layers]] = {
    "relu": _simple(nn.ReLU),
    "relu6": _simple(nn.ReLU6),
    "leaky_relu": _simple(nn.LeakyReLU, "negative_slope"),
    "prelu": _prelu,
    "elu": _simple(nn.ELU, "alpha"),
    "gelu": _simple(nn.GELU, "approximate"),
    "silu": _simple(nn.SiLU),
    "mish": _simple(nn.Mish),
    "sigmoid": _simple(nn.Sigmoid),
    "tanh": _simple(nn.Tanh),
    "hardswish": _simple(nn.Hardswish),
    "hardsigmoid": _simple(nn.Hardsigmoid),
    "softplus": _simple(nn.Softplus, "beta", "threshold"),
    "threshold": _simple(nn.Threshold, "threshold", "value"),
    "hardtanh": _between,
    "clamp": _between,
    "clamp_min": _between,
    "clip": _between,
    "amax": _reduced("max"),
    "mean": _reduced("avg"),
    "dropout": _dropout,
    "dropout2d": _dropout,
    "feature_dropout": _dropout,
    "softmax": _softmax(nn.Softmax),
    "log_softmax": _softmax(nn.LogSoftmax),
    "pad": _pad,
    "permute": _permute,
    "transpose": _permute,
    "getitem": _picked,
    "slice": _picked,
    "interpolate": _interpolated,
    "linear": _linear,
    "matmul": _product,
    "mm": _product,
    "addmm": _product,
    "batch_norm": _batch_norm,
    "neg": lambda call: _affine(call._replace(given={"other": 1.0})),
    **dict.fromkeys(RESHAPES, reshaped),
    "select": _picked,
    "pixel_shuffle": _simple(nn.PixelShuffle, "upscale_factor"),
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(AFFINE, _affine),
    **{f"max_pool{n}d": _max_pool for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _avg_pool for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _adaptive("avg") for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _adaptive("max") for n in (1, 2, 3)},
    **{f"conv{n}d": _conv for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _conv_transpose for n in (1, 2, 3)},
    **dict.fromkeys(["upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"], _interpolated),
    **dict.fromkeys(["upsample_linear1d", "upsample_bilinear2d"], _interpolated),
}

_POOL = ("kernel_size", "stride", "padding")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "leaky_relu": ("negative_slope", "inplace"),
    "prelu": ("weight",),
    "elu": ("alpha", "inplace"),
    "softplus": ("beta", "threshold"),
    "threshold": ("threshold", "value", "inplace"),
    "hardtanh": ("min_val", "max_val", "inplace"),
    "clamp": ("min", "max"),
    "clamp_min": ("min",),
    "clip": ("min", "max"),
    "mean": ("dim", "keepdim"),
    "amax": ("dim", "keepdim"),
    "dropout": ("p", "training", "inplace"),
    "dropout2d": ("p", "training", "inplace"),
    "softmax": ("dim",),
    "log_softmax": ("dim",),
    "pad": ("pad", "mode", "value"),
    "transpose": ("dim0", "dim1"),
    "getitem": ("index",),
    "select": ("dim", "index"),
    "pixel_shuffle": ("upscale_factor",),
    "interpolate": ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias"),
    "linear": ("weight", "bias"),
    "matmul": ("other",),
    "mm": ("other",),
    "batch_norm": ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    **dict.fromkeys(AFFINE, ("other", "alpha")),
    **dict.fromkeys(["relu", "relu6", "silu", "mish", "hardswish", "hardsigmoid"], ("inplace",)),
    **{f"max_pool{n}d": (*_POOL, "dilation", "ceil_mode", "return_indices") for n in (1, 2, 3)},
    **{f"avg_pool{n}d": (*_POOL, "ceil_mode", "count_include_pad", "divisor_override") for n in (1, 2, 3)},
    **{f"adaptive_{how}_pool{n}d": ("output_size", "return_indices") for how in ("avg", "max") for n in (1, 2, 3)},
    **{f"conv{n}d": ("weight", "bias", "stride", "padding", "dilation", "groups") for n in (1, 2, 3)},
    **{
        f"conv_transpose{n}d": ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
        for n in (1, 2, 3)
    },
}
"""The names of Python's arguments behind the tensor, in order; ATen's come from its schemas."""
