"""The linear operations among torch's: what enters them, and how far it reaches."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from picojoule.graph.fan_out import FanOut, squeezed
from picojoule.metering.call import Window
from picojoule.metering.tag import Tag

CONVOLUTIONS = {"convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution"}
PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1, "addbmm": 1}
ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_fused_attention_overrideable",
)
FUSED = {
    *("_trilinear", "_transformer_encoder_layer_fwd", "_embedding_bag"),
    *("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "_cudnn_rnn", "miopen_rnn", "_cdist_forward", "_sparse_mm"),
    *("_sparse_addmm", "_embedding_bag_forward_only", "_int_mm", "_weight_int8pack_mm", "_addmm_activation"),
    *("linalg_lu_solve", "_fft_r2c", "_fft_c2c", "_fft_c2r", "_linalg_solve_ex", "_scaled_mm", "addr", "ger"),
}
"""Operations that multiply and that no rule counts: they are listed."""
NAMES = {*CONVOLUTIONS, *PRODUCTS, *ATTENTION, *FUSED, "mkldnn_rnn_layer", "embedding", "_native_multi_head_attention"}


class Linear(NamedTuple):
    """Weights act on `x`. `reach(weight)` is the fan-out for the given weights: all, or the non-zero ones.

    `part` tells the operations of one fused call apart.
    """

    operation: str
    x: Tensor
    weight: Tensor
    biases: int
    reach: Callable[[bool], FanOut]
    output: torch.Size
    window: Window | None = None
    part: str = ""


class Product(NamedTuple):
    """Two activations are multiplied: `left [..., M, K] @ right [..., K, N]`.

    `sources` are the tensors whose provenance they have, None for what cannot be seen, which is taken for values.
    """

    left: Tensor
    right: Tensor
    sources: tuple[Tensor | None, Tensor | None]
    part: str = ""


class Uncounted(NamedTuple):
    """Something multiplies here that no rule counts."""

    operation: str
    reason: str


def linear_parts(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], results: tuple[Tensor, ...], tag: Callable[[Any], Tag]
) -> list[Linear | Product | Uncounted]:
    """What a torch operation computes, as linear operations; empty if it only works on weights."""
    if any(isinstance(a, Tensor) and a.layout is not torch.strided for a in args):
        return [Uncounted(name, "sparse tensors are not followed")]
    if name in CONVOLUTIONS:
        return [_convolution(args, results[0])]
    if name in PRODUCTS:
        return _product(name, args, kwargs, results[0], tag)
    if name in ATTENTION:
        q, k, v = args[:3]
        weights = q.new_ones(()).expand(*q.shape[:-1], k.shape[-2])
        return [
            Product(q, k.transpose(-1, -2), (q, k), "query @ key"),
            Product(weights, v, (None, v), "weights @ value"),
        ]
    if name == "embedding":
        weight, indices = args[:2]
        return [_dense("Embedding", indices, weight, 0, weight.shape[1], results[0].shape, per_element=True)]
    if name == "mkldnn_rnn_layer":
        return _recurrent_layer(args, results)
    if name == "_native_multi_head_attention" and args[0] is args[1] is args[2]:
        return _fused_attention(args)
    return [Uncounted(name, "no rule counts its operations")]


def _convolution(args: tuple[Any, ...], result: Tensor) -> Linear:
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args[:9]
    spatial = weight.dim() - 2
    sizes = [_full(v, spatial) for v in (stride, padding, dilation)]
    window = Window(sizes[0], sizes[1], sizes[2], groups, transposed)
    biases = 0 if bias is None else bias.numel()
    shape, out = tuple(x.shape[-spatial:]), tuple(result.shape[-spatial:])
    extra = _full(output_padding, spatial)
    channels = (weight.shape[1] if transposed else weight.shape[0] // groups, x.shape[-spatial - 1])

    def reach(every: bool) -> FanOut:
        """The vector-Jacobian product of the convolution with ones; if all weights count, of one channel."""
        many = (1, 1) if every else (result.shape[-spatial - 1], channels[1])
        pattern = torch.ones(1, 1, *weight.shape[2:]) if every else (weight.detach() != 0).cpu()
        zeros = torch.zeros(1, many[1], *shape, dtype=torch.float64)
        ones = torch.ones(1, many[0], *out, dtype=torch.float64)
        settings = (*window[:3], transposed, extra, 1 if every else groups, (True, False, False))
        backward = torch.ops.aten.convolution_backward
        (synapses, _, _) = backward(ones, zeros, pattern.double(), None, *settings)
        synapses = squeezed(synapses) * (channels[0] if every else 1)
        return FanOut(synapses.to(x.device), result.numel() / x.numel())

    operation = f"conv{'_transpose' if transposed else ''}{spatial}d"
    return Linear(operation, x, weight, biases, reach, result.shape, window)


def _full(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(value) * (dims if len(value) == 1 else 1)


def _product(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor, tag: Callable[[Any], Tag]
) -> list[Linear | Product | Uncounted]:
    first = PRODUCTS[name]
    left, right = args[first : first + 2]
    tags = tag(left), tag(right)
    constants = [t.is_constant for t in tags]
    if all(constants):
        made = [bool(t.sources) for t in tags]
        if made[0] == made[1]:
            return []  # arithmetic of weights alone, or of constants alone
        constants = made
    biases = args[0].numel() if first and args[0].dim() == 1 and kwargs.get("beta", 1) != 0 else 0
    if not any(constants):
        if left.dim() < 2 or right.dim() < 2 or name == "addbmm":
            return [Uncounted(name, "a product of two activations that are not matrices")]
        return [Product(left, right, (left, right))]
    if constants[1]:
        columns = right.shape[-1] if right.dim() > 1 else 1
        return [_dense("linear", left, right, biases, columns, result.shape)]
    rows = left.shape[-2] if left.dim() > 1 else 1
    return [_dense("linear", right, left, biases, rows, result.shape, from_left=True)]


def _dense(
    operation: str,
    x: Tensor,
    weight: Tensor,
    biases: int,
    outputs: int,
    shape: torch.Size,
    *,
    from_left: bool = False,
    per_element: bool = False,
    part: str = "",
) -> Linear:
    """A matrix of weights acts on x from the right, from the left, or is looked up for each element."""

    def reach(every: bool) -> FanOut:
        ratio = math.prod(shape) / max(1, x.numel())
        if every or per_element:
            return FanOut(torch.full((1,) * x.dim(), float(outputs), dtype=torch.float64, device=x.device), ratio)
        kept = (weight.detach() != 0).double().sum(-2 if from_left else -1)
        kept = kept.unsqueeze(-1) if from_left else kept
        return FanOut(kept.reshape((1,) * (x.dim() - kept.dim()) + kept.shape), ratio)

    return Linear(operation, x, weight, biases, reach, shape, part=part)


def _recurrent_layer(args: tuple[Any, ...], results: tuple[Tensor, ...]) -> list[Linear | Product | Uncounted]:
    """One layer of an LSTM, one direction: its input, and what it hands to itself from step to step."""
    x, from_input, from_state, bias, _, hidden, _, reverse = args[:8]
    y = results[0]
    gates = from_input.shape[0]
    first = hidden.reshape(1, *y.shape[1:]).to(y.dtype)
    handed = torch.cat([y[1:], first]) if reverse else torch.cat([first, y[:-1]])
    biases = bias.numel()
    shape = torch.Size((*y.shape[:-1], gates))
    return [
        _dense("lstm", x, from_input, biases, gates, shape),
        _dense("lstm", handed, from_state, biases, gates, shape, part="recurrent"),
    ]


def _fused_attention(args: tuple[Any, ...]) -> list[Linear | Product | Uncounted]:
    """Self-attention in one call. What is inside cannot be seen: it is taken for values, none of them zero."""
    x, _, _, size, heads, in_weight, in_bias, out_weight, out_bias = args[:9]
    batch, length, _ = x.shape
    inside = x.new_ones(()).expand(batch, heads, length, size // heads)
    weights = x.new_ones(()).expand(batch, heads, length, length)
    shape = torch.Size((batch, length, 3 * size))
    return [
        _dense("attention", x, in_weight, in_bias.numel(), 3 * size, shape, part="in_proj"),
        Product(inside, inside.transpose(-1, -2), (None, None), "query @ key"),
        Product(weights, inside, (None, None), "weights @ value"),
        _dense("attention", x.new_ones(x.shape), out_weight, out_bias.numel(), size, x.shape, part="out_proj"),
    ]
