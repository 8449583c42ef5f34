"""The rule of every torch operation: the provenance of its result from that of its operands."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from picojoule.kinds import Events, Kind
from picojoule.metering import algebra
from picojoule.metering.algebra import BINARY
from picojoule.metering.tag import Level, Tag, constant, event, graded, zero


class Call(NamedTuple):
    """One operation: its name, arguments, results, and how to look up the tag of an argument."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Tensor, ...]
    tag: Callable[[Any], Tag]
    where: str

    def operand(self, position: int, name: str = "", default: Any = None) -> Any:
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def tags(self) -> list[Tag]:
        """Of all tensors among the arguments."""
        tag = self.tag
        found = [tag(x) for x in tensors_in(self.args)]
        return [*found, *(tag(x) for x in tensors_in(self.kwargs.values()))] if self.kwargs else found


def tensors_in(arguments: Iterable[Any]) -> tuple[Tensor, ...]:
    """The tensors among arguments or results of an operation, which nest at most lists."""
    found: list[Tensor] = []
    for x in arguments:
        if isinstance(x, Tensor):
            found.append(x)
        elif isinstance(x, list | tuple):
            found.extend(tensors_in(x))
    return tuple(found)


Rule = Callable[[Call], "Tag | tuple[Tag, ...]"]
RULES: dict[str, Rule] = {}
OPAQUE: dict[str, Kind] = {}
"""Kinds of the results of operations outside torch that a user declared, by qualified name."""


def follow(call: Call, namespace: str) -> tuple[Tag, ...]:
    """The tags of the results of an operation that makes new tensors."""
    if namespace != "aten" and f"{namespace}::{call.name}" in OPAQUE:
        found: Any = _declared(OPAQUE[f"{namespace}::{call.name}"], call)
    else:
        rule = RULES.get(call.name) if namespace in ("aten", "prims") else None
        found = rule(call) if rule else _unlisted(call, namespace)
    tags = found if isinstance(found, tuple) else (found,) * len(call.results)
    return tuple(
        _boolean(tag, call) if result.dtype is torch.bool else tag
        for tag, result in zip(tags, call.results, strict=False)
    )


def declared(kind: Kind, *, trained: bool = False, where: str = "") -> Tag:
    """The tag of a tensor whose kind somebody states."""
    if isinstance(kind, Events):
        levels = None
        if kind.most is not None and kind.most <= 3:
            least = -kind.most if kind.signed else 0
            levels = frozenset(float(n) for n in range(least, kind.most + 1))
        unit = algebra.Unit.of(kind.quantum)
        born = frozenset({where}) if where else frozenset()
        return event(levels, unit, signed=kind.signed, trained=trained, born=born, origin=where)
    return graded(kind.reason, trained=trained)


def _declared(kind: Kind, call: Call) -> Tag:
    trained = any(t.trained for t in call.tags())
    return declared(kind, trained=trained, where=call.where)


def _unlisted(call: Call, namespace: str) -> Tag:
    tags = call.tags()
    trained = any(t.trained for t in tags)
    if all(t.is_constant for t in tags):
        return constant(sources=algebra.union(t.sources for t in tags), trained=trained)
    grown = [t for t in tags if t.level is Level.GRADED]
    name = call.name if namespace == "aten" else f"{namespace}::{call.name}"
    if namespace not in ("aten", "prims"):
        return graded(f"{name} is opaque", lost=True, trained=trained)
    if grown:
        lost = all(t.lost for t in grown)
        return graded(grown[0].reason if lost else "", lost=lost, trained=trained)
    return graded(f"no rule follows events through {name}", lost=True, trained=trained)


def _boolean(tag: Tag, call: Call) -> Tag:
    """A boolean result is a birth, whatever made it."""
    if tag.level is Level.GRADED:
        return algebra.birth([tag], BINARY, where=call.where)
    if tag.level is Level.EVENT and (tag.levels != BINARY or tag.unit != algebra.Unit.of(1.0)):
        return tag.but(levels=BINARY, unit=algebra.Unit.of(1.0), signed=False, form=None)
    return tag


def _names(text: str, rule: Rule) -> None:
    for name in text.split():
        RULES[name] = rule


def _birth(levels: frozenset[float] | None, signed: bool) -> Rule:
    return lambda call: algebra.birth(call.tags(), levels, signed, call.where)


def _sign(call: Call) -> Tag:
    tag = call.tag(call.args[0])
    unsigned = tag.level is Level.EVENT and not tag.signed
    return algebra.birth([tag], BINARY if unsigned else frozenset({-1.0, 0.0, 1.0}), where=call.where)


def _scalars(call: Call) -> list[Tag]:
    return [call.tag(a) for a in call.args if isinstance(a, Tensor | float | int | bool)]


def _compare(call: Call) -> Tag:
    return algebra.birth(call.tags(), BINARY, where=call.where)


def _round(call: Call) -> Tag:
    (tag, *_) = call.tags()
    if call.kwargs.get("decimals"):
        return algebra.derived(f"round to {call.kwargs['decimals']} decimals", tag)
    if tag.level is Level.EVENT:
        return algebra.map_levels(tag, {"floor": math.floor, "ceil": math.ceil}.get(call.name, round), call.name)
    return algebra.birth([tag], signed=True, where=call.where)


def _same(call: Call) -> Tag:
    return call.tag(call.args[0])


def _cast(call: Call) -> Tag:
    tag, dtype = call.tag(call.args[0]), call.results[0].dtype
    if tag.level is Level.GRADED and dtype is torch.uint8:
        return graded("values in 8 bits", trained=tag.trained, driver=tag.driver)
    if tag.level is Level.GRADED and not dtype.is_floating_point and not dtype.is_complex:
        return algebra.birth([tag], BINARY if dtype is torch.bool else None, True, call.where)
    return tag


def _arranged(call: Call) -> Tag:
    """The same elements in another order, some of them twice or not at all."""
    return call.tag(call.args[0]).but(form=None, identity=Tag(Level.ZERO).identity)


def _pooled(call: Call) -> Tag:
    return _arranged(call).but(origin="")


def _with_indices(call: Call) -> tuple[Tag, ...]:
    tag = call.tag(call.args[0])
    return _pooled(call), algebra.birth([tag], signed=False, where="")


def _padded(call: Call) -> Tag:
    value = call.operand(2, "value", 0)
    return _arranged(call) if not value else algebra.join([call.tag(call.args[0]), constant(float(value))])


def _indexed(call: Call) -> Tag:
    source = call.tag(call.args[0])
    indices = call.operand(1) if call.name in ("index", "_unsafe_index", "take") else call.operand(2)
    leaves = [i for i in tree_leaves(indices) if isinstance(i, Tensor)]
    if source.level is Level.CONST and any(not call.tag(i).is_constant for i in leaves):
        return graded("a table of constants is read where data says", trained=source.trained)
    return _arranged(call).but(origin="")


def _sum(call: Call) -> Tag:
    return algebra.total(call.tag(call.args[0]), terms=_reduced(call))


def _mean(call: Call) -> Tag:
    return algebra.total(call.tag(call.args[0]), _reduced(call), _reduced(call))


def _reduced(call: Call) -> float:
    """How many elements go into one."""
    return call.args[0].numel() / max(1, call.results[0].numel())


def _avg_pool(call: Call) -> Tag:
    kernel, padding = call.args[1], call.operand(3, "padding", 0)
    ceil, include = call.operand(4, "ceil_mode", False), call.operand(5, "count_include_pad", True)
    dims = int(call.name[len("avg_pool")])
    area = math.prod(kernel) if len(kernel) > 1 else kernel[0] ** dims
    divisor = call.operand(6, "divisor_override", None)
    padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
    even = divisor is not None or (not ceil and (include or not padded))
    return algebra.total(call.tag(call.args[0]), float(divisor or area) if even else None, area)


def _adaptive_pool(call: Call) -> Tag:
    x, y = call.args[0], call.results[0]
    windows = [(a, b) for a, b in zip(x.shape, y.shape, strict=True) if a != b]
    even = all(a % b == 0 for a, b in windows)
    area = math.prod(a // b for a, b in windows)
    return algebra.total(call.tag(x), area if even else None, area)


def _join(call: Call) -> Tag:
    return algebra.join(call.tags())


def _ends(call: Call) -> Tag:
    """Of operations between whose two tensors an index or a mask stands."""
    given = [a for a in call.args if isinstance(a, Tensor)]
    return algebra.join([call.tag(given[0]), call.tag(given[-1])])


def _scattered(call: Call) -> Tag:
    """Sums at places that data says."""
    tag, how = _ends(call), call.operand(4, "reduce", "sum")
    if how in ("amax", "amin"):
        return tag.but(origin="")
    if how != "sum" or tag.level is Level.EVENT and call.kwargs.get("alpha", 1) not in (1, -1):
        return algebra.derived(call.name, tag)
    return algebra.total(tag).but(signed=tag.signed or call.kwargs.get("alpha", 1) < 0)


def _heaviside(call: Call) -> Tag:
    """A step; at 0 it is what the second argument says."""
    if call.tag(call.args[1]).value in (0.0, 1.0):
        return algebra.birth(call.tags(), BINARY, where=call.where)
    return graded("a step with a level of its own at zero", trained=any(t.trained for t in call.tags()))


def _mul(call: Call) -> Tag:
    return algebra.multiply(*_scalars(call)[:2])


def _div(call: Call) -> Tag:
    a, b = _scalars(call)[:2]
    if call.kwargs.get("rounding_mode") is not None:
        return algebra.birth([algebra.divide(a, b)], signed=True, where=call.where)
    return algebra.divide(a, b)


def _floor_div(call: Call) -> Tag:
    return algebra.birth([algebra.divide(*_scalars(call)[:2])], signed=True, where=call.where)


def _alpha(call: Call) -> float:
    return float(call.kwargs.get("alpha", call.operand(2, default=1) or 1))


def _add(call: Call) -> Tag:
    a, b = _scalars(call)[:2]
    return algebra.add(a, b, _alpha(call))


def _sub(call: Call) -> Tag:
    a, b = _scalars(call)[:2]
    return algebra.add(a, b, -_alpha(call))


def _rsub(call: Call) -> Tag:
    a, b = _scalars(call)[:2]
    return algebra.add(b, a, -_alpha(call))


def _addcmul(call: Call) -> Tag:
    a, b, c = (call.tag(x) for x in call.args[:3])
    combine = algebra.divide if call.name == "addcdiv" else algebra.multiply
    return algebra.add(a, combine(b, c), float(call.kwargs.get("value", 1)))


def _lerp(call: Call) -> Tag:
    a, b, w = (call.tag(x) for x in call.args[:3])
    return algebra.add(a, algebra.multiply(algebra.add(b, a, -1.0), w))


def _choose(call: Call) -> Tag:
    if len(call.args) < 3:  # where(condition) gives indices
        return algebra.birth(call.tags(), where="")
    return algebra.choose(*(call.tag(x) for x in call.args[:3]))


def _masked_fill(call: Call) -> Tag:
    x, mask, value = (call.tag(a) for a in call.args[:3])
    return algebra.choose(mask, value, x)


def _put(call: Call) -> Tag:
    """index_put(x, indices, values), scatter(x, dim, index, src or value)."""
    x = call.tag(call.args[0])
    if call.name == "index_put":
        where, what = call.args[1], call.args[2]
    else:
        where, what = call.args[2], call.operand(3, "src", call.kwargs.get("value", 0.0))
    if call.kwargs.get("reduce") is not None:
        return algebra.derived(call.name, algebra.join([x, call.tag(what)]))
    leaves = [call.tag(i) for i in tree_leaves(where) if isinstance(i, Tensor)]
    moving = next((t for t in leaves if not t.is_constant), None)
    written = call.tag(what)
    if call.operand(3, "accumulate", False) is True:
        return algebra.total(algebra.join([x, written]))
    return algebra.choose(moving or constant(1.0), written, x)


def _neg(call: Call) -> Tag:
    tag = call.tag(call.args[0])
    return algebra.multiply(constant(-1.0), tag)


def _relu(call: Call) -> Tag:
    return algebra.rectify(call.tag(call.args[0]))


def _clamp(call: Call) -> Tag:
    tag = call.tag(call.args[0])
    low, high = call.operand(1, "min"), call.operand(2, "max")
    if call.name == "clamp_max":
        low, high = None, call.operand(1, "max")
    if any(isinstance(bound, Tensor) for bound in (low, high)):
        return algebra.derived("clamp", tag)
    if tag.level is not Level.EVENT:
        return algebra.derived(f"clamp {low} {high}", tag)
    if tag.levels is None or tag.unit.number is None:
        above = high is None or (tag.unit.number is not None and float(high / tag.unit.number).is_integer())
        if (low is None or low == 0) and above:
            return algebra.rectify(tag) if low == 0 else tag
        return graded("events clipped between their levels", trained=tag.trained)
    bottom, top = -math.inf if low is None else low, math.inf if high is None else high
    return algebra.map_levels(tag, lambda v: min(max(v, bottom), top), "clamp")


def _elementwise(function: Callable[[float], float] | None = None) -> Rule:
    def rule(call: Call) -> Tag:
        tag = call.tag(call.args[0])
        if tag.level is Level.EVENT and function is not None:
            return algebra.map_levels(tag, function, call.name)
        numbers = [a for a in call.args[1:] if isinstance(a, int | float)]
        return algebra.derived(" ".join(map(str, (call.name, *numbers))), tag)

    return rule


def _power(call: Call) -> Tag:
    exponent = call.operand(1)
    if isinstance(exponent, Tensor):
        tags = call.tags()
        if all(t.is_constant for t in tags):
            return constant(sources=algebra.union(t.sources for t in tags))
        return graded(trained=any(t.trained for t in tags))
    tag = call.tag(call.args[0])
    if isinstance(exponent, int | float) and exponent == 1:
        return tag
    if tag.level is Level.EVENT and isinstance(exponent, int | float):
        return algebra.map_levels(tag, lambda v: v**exponent, "pow")
    return algebra.derived(f"pow {exponent if isinstance(exponent, int | float) else id(exponent)}", tag)


def _leaky_relu(call: Call) -> Tag | tuple[Tag, ...]:
    slope = call.operand(1, "negative_slope", 0.01)
    return _elementwise(lambda v: v if v > 0 else v * slope)(call)


def _threshold(call: Call) -> Tag | tuple[Tag, ...]:
    above, otherwise = call.args[1:3]
    return _elementwise(lambda v: v if v > above else otherwise)(call)


def _extreme(call: Call) -> Tag:
    """maximum, minimum of two tensors; max, min, amax, amin of one."""
    operands = _scalars(call)
    tensors = [a for a in call.args if isinstance(a, Tensor)]
    return algebra.join(operands[:2]) if len(tensors) > 1 else _pooled(call)


def _extreme_or_indices(call: Call) -> Tag | tuple[Tag, ...]:
    return _with_indices(call) if len(call.results) > 1 else _extreme(call)


def _normed(call: Call) -> Tag | tuple[Tag, ...]:
    tag = call.tag(call.args[0])
    reason = "a norm shifts events" if tag.level is Level.EVENT else tag.reason
    if tag.level is Level.ZERO and call.name.startswith("native_layer"):
        return graded(trained=True)
    found = graded(reason, lost=tag.lost, trained=True, driver=tag.driver)
    return (found, *(graded() for _ in call.results[1:]))


def _dropout(call: Call) -> tuple[Tag, ...]:
    tag = call.tag(call.args[0])
    p = call.operand(1, "p", 0.5)
    scaled = algebra.multiply(constant(1 / (1 - p) if p < 1 else 0.0), tag)
    return scaled, event(BINARY)


def _full(call: Call) -> Tag:
    value = call.args[0] if call.name == "scalar_tensor" else call.operand(1, "fill_value")
    value = call.operand(2, "fill_value") if call.name == "new_full" else value
    return constant(float(value)) if isinstance(value, int | float) else call.tag(value)


def _noise(call: Call) -> Tag:
    return graded()


def _bernoulli(call: Call) -> Tag:
    return event(BINARY, trained=any(t.trained for t in call.tags()))


def _quantised(call: Call) -> Tag | tuple[Tag, ...]:
    tag = call.tag(call.args[0])
    found = graded("a quantised activation", trained=tag.trained, driver=tag.driver)
    return (found, event(BINARY)) if len(call.results) > 1 else found


_names(
    "gt ge lt le eq ne greater greater_equal less less_equal not_equal isnan isinf isfinite signbit any all", _compare
)
_names(
    "logical_and logical_or logical_not logical_xor bitwise_not bitwise_and bitwise_or bitwise_xor isclose", _compare
)
_names("sign sgn", _sign)
_names("heaviside", _heaviside)
_names("round floor ceil trunc fix", _round)
_names("argmax argmin argsort multinomial searchsorted bucketize count_nonzero histc", _birth(None, False))
_names("poisson", _birth(None, False))
_names("clone contiguous alias detach lift lift_fresh lift_fresh_copy positive _conj resolve_conj resolve_neg", _same)
_names("expand_copy view_copy detach_copy _reshape_copy _unsafe_view", _same)
_names("_to_copy to type_as _autocast_to_reduced_precision _autocast_to_full_precision", _cast)
_names(
    "flip roll rot90 repeat tile repeat_interleave tril triu permute_copy transpose_copy t_copy select_copy", _arranged
)
_names(
    "slice_copy unfold_copy as_strided_copy diagonal_copy unbind_copy split_copy index_select masked_select", _arranged
)
_names("im2col pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle", _arranged)
_names("reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d", _arranged)
_names("replication_pad3d upsample_nearest1d upsample_nearest2d upsample_nearest3d", _arranged)
_names("_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d", _arranged)
_names("constant_pad_nd", _padded)
_names("index _unsafe_index take gather", _indexed)
_names("sort topk kthvalue mode median cummax cummin max_pool2d_with_indices max_pool3d_with_indices", _with_indices)
_names("adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d max_pool1d_with_indices", _with_indices)
_names("adaptive_max_pool1d", _with_indices)
_names("max_pool1d max_pool2d max_pool3d mkldnn_max_pool2d amax amin quantized_max_pool2d", _pooled)
_names("max min", _extreme_or_indices)
_names("aminmax", _pooled)
_names("maximum minimum fmax fmin", _extreme)
_names("sum nansum", _sum)
_names("cumsum col2im trace", lambda call: algebra.total(call.tag(call.args[0])))
_names("mean", _mean)
_names("avg_pool1d avg_pool2d avg_pool3d", _avg_pool)
_names("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d", _adaptive_pool)
_names("cat stack concatenate hstack vstack slice_scatter select_scatter diagonal_scatter", _join)
_names("as_strided_scatter _assert_async", _join)
_names("upsample_bilinear2d upsample_linear1d upsample_trilinear3d upsample_bicubic2d", _elementwise())
_names("_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d grid_sampler_3d", _elementwise())
_names("linalg_vector_norm norm var std logsumexp", _elementwise())
_names("scatter_add index_add scatter_reduce", _scattered)
_names("index_copy masked_scatter", lambda call: _ends(call))
_names("copy", lambda call: call.tag(call.args[1]))
_names("index_fill", _put)
_names("mul multiply", _mul)
_names("div divide true_divide", _div)
_names("floor_divide", _floor_div)
_names("add", _add)
_names("sub subtract", _sub)
_names("rsub", _rsub)
_names("addcmul addcdiv", _addcmul)
_names("lerp", _lerp)
_names("where", _choose)
_names("masked_fill", _masked_fill)
_names("index_put _index_put_impl scatter", _put)
_names("neg negative", _neg)
_names("relu", _relu)
_names("clamp clamp_min clamp_max hardtanh clip", _clamp)
_names("relu6", _elementwise(lambda v: min(max(v, 0.0), 6.0)))
_names("abs absolute", lambda call: algebra.magnitude(call.tag(call.args[0])))
_names("square", _elementwise(lambda v: v * v))
_names("sqrt", _elementwise(math.sqrt))
_names("tanh", _elementwise(math.tanh))
_names("sin", _elementwise(math.sin))
_names("leaky_relu", _leaky_relu)
_names("threshold", _threshold)
_names("pow", _power)
_names(
    "sigmoid exp log log1p expm1 cos softplus gelu silu elu selu celu hardswish hardsigmoid mish erf rsqrt",
    _elementwise(),
)
_names(
    "reciprocal atan log_sigmoid logit erfinv fmod remainder _softmax _log_softmax softmax log_softmax", _elementwise()
)
_names("native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm", _normed)
_names("batch_norm_with_update _batch_norm_with_update miopen_batch_norm native_layer_norm native_group_norm", _normed)
_names("_batch_norm_no_update _fused_rms_norm rms_norm batch_norm instance_norm layer_norm group_norm", _normed)
_names("native_dropout", _dropout)
_names(
    "zeros zeros_like new_zeros empty empty_like new_empty empty_strided new_empty_strided zero", lambda call: zero()
)
_names("_efficientzerotensor empty_permuted", lambda call: zero())
_names("ones ones_like new_ones", lambda call: constant(1.0))
_names("full full_like new_full fill scalar_tensor", _full)
_names("arange eye linspace logspace tril_indices triu_indices range hann_window", lambda call: constant())
_names("rand rand_like randn randn_like uniform normal randint randint_like randperm exponential cauchy", _noise)
_names("normal_functional rrelu_with_noise log_normal", _noise)
_names("bernoulli", _bernoulli)
_names("fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask", _quantised)
_names("fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask", _quantised)
_names(
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fake_quantize_learnable_per_tensor_affine", _quantised
)
