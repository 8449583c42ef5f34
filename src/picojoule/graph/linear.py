"""The linear operations of a graph, each with what the exact fan-out needs: itself with all weights one."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.func import functional_call

from picojoule.graph.trace import module_of

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
PRODUCTS = (operator.matmul, torch.matmul, torch.mm, torch.bmm, "matmul", "mm", "bmm")


UNCOUNTED_FUNCTIONS = (torch.einsum, torch.addmm, torch.baddbmm, torch.tensordot, F.bilinear, F.embedding)
UNCOUNTED_FUNCTIONS += (F.scaled_dot_product_attention, F.multi_head_attention_forward)


class Linear(NamedTuple):
    """A linear operation on one activation: its name, what it is, its operand, and itself with all weights one."""

    name: str
    operation: str
    operand: fx.Node
    with_ones: Callable[[Tensor], Tensor]


def linear_at(graph: fx.GraphModule, node: fx.Node) -> Linear | None:
    """The linear operation with constant weights that a node performs, or None. Kinds must be known."""
    module = module_of(graph, node)
    if isinstance(module, LINEAR_MODULES):
        whole = graph.get_submodule(str(node.target))
        return Linear(str(node.target), type(module).__name__, node.all_input_nodes[0], with_ones(whole))
    if node.target in LINEAR_FUNCTIONS:
        return _function(node)
    if node.target in PRODUCTS and not is_product_of_activations(node):
        return _product(node)
    return None


def is_product_of_activations(node: fx.Node) -> bool:
    """Whether a node multiplies two activations as matrices (attention)."""
    return node.target in PRODUCTS and all(n.meta["kind"] is not None for n in node.all_input_nodes)


def with_ones(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """A linear layer with all weights one and no bias, in float64."""
    ones = {
        name: torch.full(p.shape, float(not name.endswith("bias")), dtype=torch.float64)
        for name, p in layer.named_parameters()
    }
    return lambda x: functional_call(layer, ones, (x,))


def _function(node: fx.Node) -> Linear:
    function: Any = node.target
    names = ("input", "weight", "bias")
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    rest = node.args[3:]
    settings = {k: v for k, v in node.kwargs.items() if k not in names}
    ones = torch.ones(given["weight"].meta["shape"], dtype=torch.float64)
    operand = given["input"]
    name = _name(node, given["weight"])
    return Linear(name, function.__name__, operand, lambda x: function(x, ones, None, *rest, **settings))


def _product(node: fx.Node) -> Linear:
    left, right = node.all_input_nodes
    if right.meta["kind"] is None:
        ones = torch.ones(right.meta["shape"], dtype=torch.float64)
        return Linear(_name(node, right), "matmul", left, lambda x: torch.matmul(x, ones))
    ones = torch.ones(left.meta["shape"], dtype=torch.float64)
    return Linear(_name(node, left), "matmul", right, lambda x: torch.matmul(ones, x))


def _name(node: fx.Node, weight: fx.Node) -> str:
    """The parameter's name where the weight is one, so that calls that share it are one layer."""
    while weight.op != "get_attr" and len(weight.all_input_nodes) == 1:
        weight = weight.all_input_nodes[0]
    return str(weight.target) if weight.op == "get_attr" else node.name
