"""From the content of a file to a network."""

from typing import Any

from picojoule.errors import BadInput
from picojoule.exchange.keras.assembly import Assembly, Map, in_order
from picojoule.exchange.keras.files import Stored
from picojoule.exchange.keras.hdf5 import Node
from picojoule.exchange.keras.layer import Layer
from picojoule.exchange.keras.layers import apply
from picojoule.exchange.keras.weights import arrays_of
from picojoule.exchange.keras.wiring import Call, Model, Ref, entries_below, model_of
from picojoule.layers import Reshape
from picojoule.networks import Network

MOST_STEPS = 10_000
"""Layers and connections at most, counted at every call of a nested model (our choice)."""


def build(stored: Stored) -> Network:
    """The network of a file's content, in evaluation mode. Raises BadInput."""
    model = model_of(stored.config)
    if len(model.inputs) != 1:
        raise BadInput(f"expected a model with one input, got {len(model.inputs)}; save one that takes images alone")
    net = Assembly()
    given, shape = _start(model, net)
    output = _Builder(stored, net, arrays_of(stored, model)).run(model, [given], ())
    if len(output.shape) != 1:
        raise BadInput(
            f"expected scores [B, classes] as output, got shape {output.shape} without the batch; "
            "end the model with Flatten or GlobalAveragePooling2D"
        )
    return Network(net.finish(output), shape, output.shape[0]).eval()


def _start(model: Model, net: Assembly) -> tuple[Map, tuple[int, ...]]:
    """The input as the first layer of the file takes it, and the shape that we take.

    `[H, W]` in a model without layers for series is an image whose one channel the file leaves out.
    """
    shape, entries = _input_shape(model), list(entries_below(model))
    rank = len(shape)
    if rank == 2 and not any(entry.kind.endswith("1D") for entry in entries):
        image = net.start((1, *shape), in_order(3))
        return net.call(("input_reshape",), Reshape(*shape), image, in_order(2)), (1, *shape)
    formats = [e.config.get("data_format") for e in sorted(entries, key=lambda e: e.kind == "Flatten")]
    first = next((f for f in formats if f in ("channels_first", "channels_last")), "channels_last")
    axes = in_order(rank) if first == "channels_first" or rank == 1 else (rank - 1, *range(rank - 1))
    given = net.start(shape, axes)
    return given, given.ours


def _input_shape(model: Model) -> tuple[int, ...]:
    shape: Any = model.input_shape
    if isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], list):
        shape = shape[0]
    if not isinstance(shape, list) or len(shape) not in (2, 3, 4):
        raise BadInput(
            f"expected images, series or features as input, got the shape {shape!r:.80}; "
            "give the first layer an input shape such as keras.Input((32, 32, 3)) and save the model again"
        )
    if any(type(n) is not int or n < 1 for n in shape[1:]):
        raise BadInput(
            f"the input shape {tuple(shape[1:])!r:.80} is not fixed; build the model with keras.Input((32, 32, 3)), "
            "or the size of your images, load the weights into it and save it again"
        )
    return tuple(shape[1:])


class _Builder:
    def __init__(self, stored: Stored, net: Assembly, arrays: dict[tuple[str, ...], dict[str, Node]]):
        self._stored, self._net, self._arrays = stored, net, arrays
        self._steps = 0

    def run(self, model: Model, given: list[Map], path: tuple[str, ...]) -> Map:
        """The output of a model, which may be nested at `path`, for its inputs."""
        if len(given) != len(model.inputs):
            raise BadInput(f"the model {'/'.join(path)!r} needs {len(model.inputs)} inputs, got {len(given)}")
        known: dict[Ref, Map] = {(name, 0): x for name, x in zip(model.inputs, given, strict=True)}
        for call in model.calls:
            if (call.name, call.index) not in known:
                known[call.name, call.index] = self._call(model, call, known, path)
        if model.output not in known:
            raise BadInput(f"nothing feeds the output {model.output[0]!r} of the model")
        return known[model.output]

    def _call(self, model: Model, call: Call, known: dict[Ref, Map], path: tuple[str, ...]) -> Map:
        entry, where = model.entries[call.name], (*path, call.name)
        self._steps += 1 + len(call.inputs)
        if self._steps > MOST_STEPS:
            raise BadInput(f"the model has more than {MOST_STEPS} layers and connections, nested models included")
        stored = self._stored
        layer = Layer(
            where,
            entry.kind,
            entry.config,
            call.keywords,
            self._arrays.get(where, {}),
            stored.positional,
            stored.backend,
            stored.version,
        )
        if not call.inputs or any(ref not in known for ref in call.inputs):
            raise layer.refuse("is fed by nothing; the wiring of the model is not intact")
        inputs = [known[ref] for ref in call.inputs]
        if entry.model is not None and call.keywords.get("training") is not True:
            return self.run(entry.model, inputs, where)
        try:
            return apply(layer, inputs, self._net)
        except BadInput as error:
            raise error if str(error).startswith("layer ") else layer.refuse(f"cannot be built: {error}") from error
        except Exception as error:  # settings from anywhere can be wrong in any way
            shapes = ", ".join(str(x.shape) for x in inputs)
            reason = str(error).partition("\n")[0]
            raise layer.refuse(f"cannot be built on inputs of shape {shapes}: {reason:.200}") from error
