"""The linear operations of a graph, each with what the exact fan-out needs: itself with all weights one."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from picojoule.graph.trace import module_of
from picojoule.layers import Timewise

LINEAR_MODULES = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
LINEAR_FUNCTIONS = (
    F.linear,
    F.conv1d,
    F.conv2d,
    F.conv3d,
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)
MULTIPLICATIONS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
PRODUCTS = (operator.matmul, torch.matmul, torch.mm, torch.bmm, "matmul", "mm", "bmm")

_BY_NAME = ("addmm", "addbmm", "baddbmm", "addmv", "addr", "mv", "dot", "vdot", "inner", "outer")
UNCOUNTED_FUNCTIONS: tuple[Any, ...] = (
    *(call for name in _BY_NAME for call in (getattr(torch, name), name)),
    *(torch.einsum, torch.tensordot, torch.linalg.multi_dot, torch.chain_matmul),
    *(F.bilinear, F.embedding, F.embedding_bag, F.scaled_dot_product_attention, F.multi_head_attention_forward),
    *LINEAR_FUNCTIONS,
)
"""Products that no rule counts; a linear function is one of them where its weight is an activation."""


class Linear(NamedTuple):
    """A linear operation on one activation: its name, what it is, its operand, and itself with all weights one.

    `windows` is the number of trailing axes over which windows slide: there the fan-out depends on the size.
    `weights` and `biases` are the numbers of parameters, `interior` is the fan-out far from any border (None where it
    is the same everywhere).
    """

    name: str
    operation: str
    operand: fx.Node
    with_ones: Callable[[Tensor], Tensor]
    windows: int
    weights: int
    biases: int
    interior: float | None = None


def linear_at(graph: fx.GraphModule, node: fx.Node) -> Linear | None:
    """The linear operation with constant weights that a node performs, or None. Kinds must be known."""
    module = module_of(graph, node)
    if module is not None and linear_class(module) is not None:
        whole, windows = graph.get_submodule(str(node.target)), windows_of(module)
        ones = with_ones(whole)
        if len(node.args) + len(node.kwargs) > 1:  # a transposed convolution that was told its output's size
            ones = partial(ones, output_size=list(node.meta["shape"][-windows:]))
        sizes = (*parameters_of(whole), interior_of(whole))
        return Linear(str(node.target), type(module).__name__, node.all_input_nodes[0], ones, windows, *sizes)
    if node.target in LINEAR_FUNCTIONS:
        return _function(node)
    if node.target in PRODUCTS and not is_product_of_activations(node):
        return _product(node)
    return None


def is_product_of_activations(node: fx.Node) -> bool:
    """Whether a node multiplies two activations as matrices (attention)."""
    return node.target in PRODUCTS and all(n.meta["kind"] is not None for n in node.all_input_nodes)


def linear_class(module: nn.Module) -> type[nn.Module] | None:
    """Which of torch's linear layers a module is, or None; a sub-class with its own forward is none."""
    kinds = (k for k in LINEAR_MODULES if isinstance(module, k) and type(module).forward is k.forward)
    return next(kinds, None)


def windows_of(layer: nn.Module) -> int:
    """Over how many trailing axes the windows of a linear layer slide: 2 for a `Conv2d`, 0 for a `Linear`."""
    layer = layer.layer if isinstance(layer, Timewise) else layer
    return len(getattr(layer, "kernel_size", ()))


def parameters_of(layer: nn.Module) -> tuple[int, int]:
    """The numbers of weights and of biases of a linear layer."""
    inner: Any = layer.layer if isinstance(layer, Timewise) else layer
    return inner.weight.numel(), 0 if inner.bias is None else inner.bias.numel()


def interior_of(layer: nn.Module) -> float | None:
    """The fan-out of an input far from any border, the mean over one stride; None where there are no borders."""
    inner: Any = layer.layer if isinstance(layer, Timewise) else layer
    if not windows_of(inner):
        return None
    return interior_fan_out(inner.weight.shape, inner.stride, inner.groups, inner.transposed)


def interior_fan_out(weight: torch.Size, stride: int | Sequence[int], groups: int, transposed: bool) -> float:
    """`kernel size * output channels / groups / stride`: of a convolution's input far from any border."""
    strides = [stride] * (len(weight) - 2) if isinstance(stride, int) else stride
    if transposed:
        return float(weight[1] * prod(weight[2:]))
    return weight[0] * prod(weight[2:]) / groups / prod(strides)


def with_ones(layer: nn.Module) -> Callable[..., Tensor]:
    """A linear layer, or one folded over time, with all weights one and no bias, in float64.

    It is built anew from the layer's settings: parametrisations, masks and hooks do not act on it, and a
    synapse whose weight is zero is a synapse.
    """
    if isinstance(layer, Timewise):
        return Timewise(_plain(layer.layer))
    return _plain(layer)


def _plain(layer: nn.Module) -> nn.Module:
    plain = plain_layer(layer)
    plain.weight = nn.Parameter(torch.ones(plain.weight.shape, dtype=torch.float64), requires_grad=False)
    return plain


def plain_layer(layer: nn.Module) -> Any:
    """A layer of torch with the settings of a linear `layer`, without a bias; its weight holds no numbers yet."""
    kind: Any = linear_class(layer)
    settings = {k: getattr(layer, k) for k in signature(kind).parameters if k != "bias" and hasattr(layer, k)}
    return kind(**settings, bias=False, device="meta").train(layer.training)


def _function(node: fx.Node) -> Linear | None:
    function: Any = node.target
    names = ("input", "weight", "bias")
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    if given["weight"].meta["kind"] is not None:
        return None
    rest = node.args[3:]
    settings = {k: v for k, v in node.kwargs.items() if k not in names}
    ones = torch.ones(given["weight"].meta["shape"], dtype=torch.float64)
    operand = given["input"]
    name = _name(node, given["weight"])
    windows = 0 if function is F.linear else ones.dim() - 2
    bias = given.get("bias")
    biases = 0 if bias is None else bias.meta["shape"].numel()
    whole = partial(_with_weight, function, ones, rest, settings)
    interior = None
    if windows:
        transposed = "transpose" in function.__name__
        order = ("stride", "padding", "output_padding" if transposed else "dilation", "groups")
        told: dict[str, Any] = dict(zip(order, rest, strict=False)) | settings
        interior = interior_fan_out(ones.shape, told.get("stride", 1), told.get("groups", 1), transposed)
    return Linear(name, function.__name__, operand, whole, windows, ones.numel(), biases, interior)


def _with_weight(function: Any, ones: Tensor, rest: Any, settings: dict[str, Any], x: Tensor) -> Tensor:
    return function(x, ones, None, *rest, **settings)


def _product(node: fx.Node) -> Linear:
    left, right = node.all_input_nodes
    if right.meta["kind"] is None:
        ones = torch.ones(right.meta["shape"], dtype=torch.float64)
        return Linear(_name(node, right), "matmul", left, lambda x: torch.matmul(x, ones), 0, ones.numel(), 0)
    ones = torch.ones(left.meta["shape"], dtype=torch.float64)
    return Linear(_name(node, left), "matmul", right, lambda x: torch.matmul(ones, x), 0, ones.numel(), 0)


def _name(node: fx.Node, weight: fx.Node) -> str:
    """The parameter's name where the weight is one, so that calls that share it are one layer."""
    while weight.op != "get_attr" and len(weight.all_input_nodes) == 1:
        weight = weight.all_input_nodes[0]
    return str(weight.target) if weight.op == "get_attr" else node.name
