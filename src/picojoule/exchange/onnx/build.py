"""From the nodes of an ONNX file to a network."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from torch import fx, nn

from picojoule.errors import BadInput
from picojoule.exchange.onnx.assembly import Assembly, readable
from picojoule.exchange.onnx.constants import fold
from picojoule.exchange.onnx.files import OnnxFile, printable, read_file, to_array, unexpected
from picojoule.exchange.onnx.operators import apply, is_constant
from picojoule.exchange.onnx.step import Activation, Step, Value
from picojoule.layers import Permute
from picojoule.networks import Network

_CHANNELS_FIRST = [0, 3, 1, 2]
_PASSED = ("Identity", "Cast", "Dropout", "Mul", "Div", "Sub", "Add")


def load_onnx(path: Path) -> Network:
    """The network in an `.onnx` file, in evaluation mode: images `[B, C, H, W]` in, scores `[B, classes]` out.

    Layers bear the names of the file's nodes. A model for images `[B, H, W, C]`, as converters from TensorFlow
    write it, takes `[B, C, H, W]` here. Raises BadInput for a file that is not intact, for operators that are not
    supported, by type and name, for several inputs or outputs, and for an image size that is left open.
    """
    file = read_file(path)
    try:
        return _build(file)
    except BadInput as error:
        raise BadInput(f"{path.name}: {printable(error)}") from None
    except Exception as error:  # a file from anywhere can be wrong in any way
        raise BadInput(f"{path.name} {unexpected(error)}") from error


def _build(file: OnnxFile) -> Network:
    values: dict[str, Value] = {t.name: to_array(t, file.path.parent) for t in file.graph.initializer}
    if file.graph.sparse_initializer:
        raise BadInput("its weights are sparse tensors; export it with dense weights")
    given, batch, sample = _input(file, values)
    net = Assembly(4 * file.size + 2**28, batch)
    nodes, output = _needed(file, {given, *values})
    reads = Counter(name for node in nodes for name in node.input)
    reads[output] += 1
    if len(sample) == 3 and _is_channels_last(nodes, given):
        shape = (sample[2], *sample[:2])
        x = _turned(net, net.input(shape))
    else:
        shape = tuple(sample)
        x = net.input(shape)
    values[given] = x
    net.reads[x.node] += reads[given]
    for number, node in enumerate(nodes):
        step = _step(node, number, file, values, net)
        made = _made(step, net)
        for name, value in zip(node.output, made if isinstance(made, list) else [made], strict=False):
            values[name] = value
            if isinstance(value, Activation):
                net.reads[value.node] += reads[name]
    return _network(net, shape, values[output])


def _made(step: Step, net: Assembly) -> Value | list[Value]:
    try:
        if not all(is_constant(v) for v in step.inputs):
            return apply(step, net)
        constant = fold(step)
    except BadInput:
        raise
    except Exception as error:  # a node can hold numbers that make no sense together
        raise step.bad(unexpected(error)) from error
    if not any(np.may_share_memory(constant, v) for v in step.inputs if isinstance(v, np.ndarray)):
        net.afford(step, constant.nbytes)
    return constant


def _step(node: Any, number: int, file: OnnxFile, values: dict[str, Value], net: Assembly) -> Step:
    name = readable(node.name, node.op_type) or f"{node.op_type.lower()}{number}"
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
    step = Step(op, name, file.opset, (), {a.name: a for a in node.attribute}, file.path.parent, len(node.output))
    for place in node.input:
        if place and place not in values:
            raise step.bad(f"reads {place!r}, which nothing before it makes; export the model again")
    inputs = tuple(values[place] if place else None for place in node.input)
    for value in inputs:
        if isinstance(value, Activation):
            net.reads[value.node] -= 1
    return step._replace(inputs=inputs)


def _input(file: OnnxFile, values: dict[str, Value]) -> tuple[str, int, list[int]]:
    """The name of the only input, its number of samples (1 if left open), and its shape behind the batch."""
    inputs = [i for i in file.graph.input if i.name not in values]
    if len(inputs) != 1:
        raise BadInput(f"it has {len(inputs)} inputs ({_names(inputs)}); expected one, the images")
    (given,) = inputs
    tensor = given.type.tensor_type
    if not given.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise BadInput(f"its input {given.name!r} has no shape; export it with a fixed image size")
    dims = list(tensor.shape.dim)
    for axis, dim in enumerate(dims[1:], 1):
        if not 0 < dim.dim_value <= 2**24:
            named = f"{dim.dim_param!r} " if dim.dim_param else ""
            raise BadInput(
                f"axis {axis} {named}of its input {given.name!r} has no fixed size; "
                "export it with a fixed image size, only the batch may be left open"
            )
    if not 2 <= len(dims) <= 5:
        raise BadInput(f"its input {given.name!r} has {len(dims)} axes; expected images [B, C, H, W]")
    return given.name, max(1, dims[0].dim_value), [dim.dim_value for dim in dims[1:]]


def _needed(file: OnnxFile, known: set[str]) -> tuple[list[Any], str]:
    """The nodes that the only output depends on, in the file's order."""
    if len(file.graph.output) != 1:
        raise BadInput(
            f"it has {len(file.graph.output)} outputs ({_names(file.graph.output)}); expected one, the scores"
        )
    output = file.graph.output[0].name
    made: set[str] = set()
    for node in file.graph.node:
        for name in node.output:
            if name and (name in made or name in known):
                raise BadInput(f"two of its nodes make {name!r}; export it again")
            made.add(name)
    needed, nodes = {output}, []
    for node in reversed(file.graph.node):
        wanted = needed.intersection(o for o in node.output if o)
        if wanted - set(node.output[:1]) and node.op_type != "Split":
            raise BadInput(
                f"{node.op_type} {node.name!r} has several outputs that are used; only its first is supported"
            )
        if wanted:
            nodes.append(node)
            needed.update(name for name in node.input if name)
    return nodes[::-1], output


def _is_channels_last(nodes: list[Any], given: str) -> bool:
    """Whether all that the file does with its input, up to scales and shifts, is to bring channels to the front."""
    name = given
    while True:
        readers = [node for node in nodes if name in node.input]
        turned = [r for r in readers if r.op_type == "Transpose" and _perm(r) == _CHANNELS_FIRST]
        if readers and len(turned) == len(readers):
            return True
        if len(readers) != 1 or readers[0].op_type not in _PASSED:
            return False
        name = readers[0].output[0]


def _perm(node: Any) -> list[int]:
    return [v for a in node.attribute if a.name == "perm" for v in a.ints]


def _turned(net: Assembly, x: Activation) -> Activation:
    """Images `[B, C, H, W]` as `[B, H, W, C]`, which the file's own transposition will undo."""
    return net.layer(Step("Transpose", "channels_last", 0, (), {}, Path()), Permute(1, 2, 0), x)


def _network(net: Assembly, shape: tuple[int, ...], scores: Value) -> Network:
    if not isinstance(scores, Activation):
        raise BadInput("its output does not depend on its input")
    step = Step("output", "scores", 0, (), {}, Path())
    if len(scores.shape) > 2 and scores.shape[2:] == (1,) * (len(scores.shape) - 2):
        scores = net.layer(step, nn.Flatten(), scores)
    if len(scores.shape) != 2:
        raise BadInput(f"its output has shape {list(scores.sample)} behind the batch; expected one score per class")
    net.graph.output(scores.node)
    graph = fx.GraphModule(net.root, net.graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return Network(graph, shape, scores.shape[1]).eval()


def _names(values: Any) -> str:
    names = [v.name for v in values[:5]]
    return ", ".join(names) + (", ..." if len(values) > 5 else "") if names else "none"
