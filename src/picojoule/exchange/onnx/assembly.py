"""The network under construction: layers of torch under the names of the file, and their wiring."""

import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from keyword import iskeyword
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from picojoule.exchange.onnx.files import one_line
from picojoule.exchange.onnx.shapes import joined, shape_after
from picojoule.exchange.onnx.step import Activation, Step

BATCH = 7919
"""Stands for the number of samples while shapes are worked out; a prime, so that no size of a layer looks like it."""

MOST_NUMBERS = 2**28
"""The most numbers that one sample may have in one tensor."""


class Assembly:
    """Collects layers, and works out the shapes between them.

    `budget` is how many bytes layers and folded constants may take: a small file must not unpack into a large model.
    `batch` is the number of samples that the file has been written for.
    """

    def __init__(self, budget: int, batch: int):
        self.batch = batch
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.reads: Counter[fx.Node] = Counter()  # how often the rest of the file reads what a node makes
        self._made: dict[fx.Node, Activation] = {}
        self._budget = budget

    def input(self, sample: Sequence[int]) -> Activation:
        return self._keep(Activation(self.graph.placeholder("x"), (BATCH, *sample)))

    def layer(
        self, step: Step, layer: nn.Module, x: Activation, state: Mapping[str, np.ndarray] | None = None, part: str = ""
    ) -> Activation:
        """Call `layer` on `x`, under the step's name and `part`. `state` holds its parameters and buffers."""
        shape = self._shape(step, lambda: shape_after(layer, x.shape), [x])
        for key, values in (state or {}).items():
            self.fill(step, layer, key, values)
        name = identifier(f"{step.name}_{part}" if part else step.name, self.root)
        self.root.add_module(name, layer)
        return self._keep(Activation(self.graph.call_module(name, (x.node,)), shape))

    def joined(self, step: Step, function: Any, inputs: Sequence[Activation], axis: int | None = None) -> Activation:
        """A function of several tensors of equal rank: a sum, a product, or their concatenation along `axis`."""
        if len({len(x.shape) for x in inputs}) > 1:
            raise step.bad(f"joins tensors of unequal rank, {[x.sample for x in inputs]} behind the batch")
        nodes = [x.node for x in inputs]
        shape = self._shape(step, lambda: joined([x.shape for x in inputs], axis), inputs)
        arguments = tuple(nodes) if axis is None else (nodes, axis)
        return self._keep(Activation(self.graph.call_function(function, arguments), shape))

    def added(self, step: Step, inputs: Sequence[Activation]) -> Activation:
        """The sum of two or more tensors."""
        total = inputs[0]
        for x in inputs[1:]:
            total = self.joined(step, operator.add, [total, x])
        return total

    def maker(self, x: Activation) -> nn.Module | None:
        """The layer that made `x`, or None."""
        return self.root.get_submodule(str(x.node.target)) if x.node.op == "call_module" else None

    def before(self, x: Activation) -> Activation:
        """What the layer that made `x` was given."""
        return self._made[x.node.all_input_nodes[0]]

    def is_read_once(self, x: Activation) -> bool:
        """Whether the step at hand is the only one that reads `x`."""
        return not self.reads[x.node] and not x.node.users

    def fill(self, step: Step, layer: nn.Module, key: str, values: np.ndarray) -> None:
        """Set a parameter or buffer of `layer`, as float32; refuses another shape, NaN and infinity."""
        own = getattr(layer, key)
        if tuple(own.shape) != values.shape:
            raise step.bad(f"has a {key} of shape {values.shape}, expected {tuple(own.shape)}")
        self.afford(step, 4 * values.size)
        tensor = torch.from_numpy(np.array(values, np.float32, order="C"))
        if not bool(tensor.isfinite().all()):
            raise step.bad(f"has a {key} with NaN or infinite numbers; the model was not trained well, or is damaged")
        setattr(layer, key, nn.Parameter(tensor) if isinstance(own, nn.Parameter) else tensor)

    def afford(self, step: Step, size: int) -> None:
        """Raise BadInput once all that was unpacked takes more than the budget. `size` in bytes."""
        self._budget -= size
        if self._budget < 0:
            raise step.bad("unpacks into far more memory than the file takes; expected weights that the file holds")

    def _keep(self, made: Activation) -> Activation:
        self._made[made.node] = made
        return made

    def _shape(self, step: Step, call: Callable[[], tuple[int, ...]], inputs: Sequence[Activation]) -> tuple[int, ...]:
        try:
            shape = call()
        except ValueError as error:
            shapes = " and ".join(str(list(x.sample)) for x in inputs)
            raise step.bad(f"does not fit its input of shape {shapes} behind the batch: {one_line(error)}") from None
        if shape[0] != BATCH:
            raise step.bad("mixes samples of a batch; expected the first axis to stay the batch")
        if not 0 < math.prod(shape[1:]) <= MOST_NUMBERS:
            raise step.bad(f"makes a tensor of shape {list(shape[1:])} for each sample; expected 1 to 2**28 numbers")
        return shape


def identifier(name: str, root: nn.Module) -> str:
    """`name` as an attribute that `root` does not have yet."""
    short = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:100] or "layer"
    if short[0].isdigit() or iskeyword(short):
        short = f"layer_{short}"
    free, count = short, 0
    while hasattr(root, free) or hasattr(fx.GraphModule, free):
        count += 1
        free = f"{short}_{count}"
    return free


def readable(name: str, op: str) -> str:
    """The name of a layer from a node's path: `/layer1/layer1.0/conv1/Conv` becomes `layer1.0.conv1`, no name none."""
    parts = [part for part in name.split("/") if part]
    if len(parts) > 1 and parts[-1] == op:
        parts.pop()
    kept = [a for a, b in zip(parts, [*parts, ""][1:], strict=True) if not b.startswith(a + ".")]
    return ".".join(kept)
