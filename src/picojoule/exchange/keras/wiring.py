"""Which layer feeds which: the configs of Keras 2 and Keras 3 as one list of calls."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from picojoule.errors import BadInput

Ref = tuple[str, int]
"""The output of a layer's n-th call."""
MODELS = ("Sequential", "Functional", "Model")
START = "<input>"


class Entry(NamedTuple):
    """A layer of the file: its name, its type, its settings, and its layers if it is a model itself."""

    name: str
    kind: str
    config: dict[str, Any]
    model: "Model | None"


class Call(NamedTuple):
    """A layer applied to outputs of other calls; `keywords` are what it was told beside them."""

    name: str
    index: int
    inputs: tuple[Ref, ...]
    keywords: dict[str, Any]


class Model(NamedTuple):
    """Layers by name, in the file's order, and their calls, each behind the calls that feed it."""

    entries: dict[str, Entry]
    calls: tuple[Call, ...]
    inputs: tuple[str, ...]
    output: Ref

    @property
    def input_shape(self) -> Any:
        """The shape that the file declares for the first input, with the batch; None if it does not."""
        config = self.entries[self.inputs[0]].config
        return config.get("batch_shape", config.get("batch_input_shape"))


def model_of(described: dict[str, Any]) -> Model:
    """The model of a `{"class_name", "config"}`. Raises BadInput."""
    kind, config = described.get("class_name"), described.get("config")
    if kind == "Sequential":
        return _sequential(described, config)
    if kind not in MODELS or not isinstance(config, dict) or "layers" not in config:
        raise BadInput(
            f"the model is of the class {kind!r}, whose wiring is code and not in the file; "
            "build it as Sequential or from keras.Input, keep its weights, and save it again"
        )
    return _functional(config)


def entries_below(model: Model) -> Iterator[Entry]:
    """All layers, those of nested models included."""
    for entry in model.entries.values():
        yield entry
        if entry.model is not None:
            yield from entries_below(entry.model)


def _entry(described: Any) -> Entry:
    config = described.get("config") if isinstance(described, dict) else None
    if not isinstance(config, dict | list):
        raise BadInput("a layer has no settings; the description of the model is not intact")
    kind, module = str(described.get("class_name")), described.get("module") or "keras"
    settings: dict[str, Any] = config if isinstance(config, dict) else {}
    name = str(settings.get("name") or described.get("name") or kind)
    if not str(module).startswith("keras"):
        kind = f"{module}.{kind}"
    elif str(module).startswith("keras.src.ops"):
        kind = f"ops.{kind}"
    return Entry(name, kind, settings, model_of(described) if kind in MODELS else None)


def _by_name(entries: list[Entry]) -> dict[str, Entry]:
    found = {entry.name: entry for entry in entries}
    if len(found) < len(entries):
        raise BadInput("two layers of the model have the same name; name them apart and save the model again")
    return found


def _sequential(described: dict[str, Any], config: Any) -> Model:
    layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
    if not isinstance(layers, list) or not layers:
        raise BadInput("a Sequential model has no layers")
    entries = [_entry(layer) for layer in layers]
    if entries[0].kind != "InputLayer":
        shape = _declared(described, config if isinstance(config, dict) else {}, entries[0])
        entries.insert(0, Entry(START, "InputLayer", {"batch_shape": shape}, None))
    chain = zip(entries[1:], entries, strict=False)
    calls = tuple(Call(entry.name, 0, ((before.name, 0),), {}) for entry, before in chain)
    return Model(_by_name(entries), calls, (entries[0].name,), (entries[-1].name, 0))


def _declared(described: dict[str, Any], config: dict[str, Any], first: Entry) -> Any:
    """The shape of a Sequential's inputs, which files state in one of four places."""
    if first.model is not None:
        return first.model.input_shape
    built = described.get("build_config")
    places = (
        first.config.get("batch_input_shape"),
        first.config.get("batch_shape"),
        config.get("build_input_shape"),
        built.get("input_shape") if isinstance(built, dict) else None,
    )
    return next((shape for shape in places if shape), None)


def _functional(config: dict[str, Any]) -> Model:
    layers = config["layers"]
    if not isinstance(layers, list) or not layers:
        raise BadInput("a functional model has no layers")
    entries = _by_name([_entry(layer) for layer in layers])
    told = zip(entries, layers, strict=True)
    calls = [Call(name, i, *_fed(node)) for name, layer in told for i, node in enumerate(_nodes(layer))]
    inputs, outputs = (list(_refs(config.get(key))) for key in ("input_layers", "output_layers"))
    if len(outputs) != 1 or not inputs:
        raise BadInput(f"expected a model with one input and one output, got {len(inputs)} and {len(outputs)}")
    calls, outputs = _renumbered(entries, calls, outputs)
    return Model(entries, tuple(_in_order(calls)), tuple(name for name, _ in inputs), outputs[0])


def _nodes(layer: dict[str, Any]) -> list[Any]:
    nodes = layer.get("inbound_nodes") or []
    if not isinstance(nodes, list):
        raise BadInput("the wiring of the model is not intact")
    return nodes


def _fed(node: Any) -> tuple[tuple[Ref, ...], dict[str, Any]]:
    """The inputs of one call and its keywords: a dict in Keras 3, nested lists in Keras 2."""
    if isinstance(node, dict) and isinstance(node.get("kwargs"), dict):
        keywords = {k: v for k, v in node["kwargs"].items() if k != "mask"}
        return (*_refs(node.get("args")), *_refs(list(keywords.values()))), keywords
    tensors = node if isinstance(node, list) else []
    keywords = {}
    for tensor in [tensors] if tensors and isinstance(tensors[0], str) else tensors:
        if isinstance(tensor, list) and len(tensor) == 4 and isinstance(tensor[3], dict):
            keywords |= {k: v for k, v in tensor[3].items() if k != "mask"}
    return (*_refs(node), *_refs(list(keywords.values()))), keywords


def _refs(value: Any) -> Iterator[Ref]:
    """The tensors that are named anywhere in a value."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__" and isinstance(value.get("config"), dict):
            yield from _refs(value["config"].get("keras_history"))
        elif "class_name" not in value:
            yield from _refs(list(value.values()))
    elif isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and type(value[1]) is type(value[2]) is int:
            if value[2] != 0:
                raise BadInput(f"layer {value[0]!r} has several outputs, which is not read")
            yield value[0], value[1]
        else:
            for item in value:
                yield from () if isinstance(item, dict) and "class_name" not in item else _refs(item)


def _renumbered(entries: dict[str, Entry], calls: list[Call], outputs: list[Ref]) -> tuple[list[Call], list[Ref]]:
    """Number the calls of every layer from 0: files number those of a nested model from 1."""
    made = {name: 1 for name in entries} | {call.name: call.index + 1 for call in calls}
    last: dict[str, int] = {}
    for name, index in [ref for call in calls for ref in call.inputs] + outputs:
        if name not in made:
            raise BadInput(f"the wiring names a layer {name!r} that the model does not have")
        last[name] = max(last.get(name, 0), index)
    first = {name: max(0, index + 1 - made[name]) for name, index in last.items()}

    def renumbered(ref: Ref) -> Ref:
        name, index = ref[0], ref[1] - first[ref[0]]
        if index < 0:
            raise BadInput(f"the wiring names a call of layer {name!r} that the model does not have")
        return name, index

    return [call._replace(inputs=tuple(map(renumbered, call.inputs))) for call in calls], list(map(renumbered, outputs))


def _in_order(calls: list[Call]) -> list[Call]:
    by_ref = {(call.name, call.index): call for call in calls}
    try:
        order = TopologicalSorter({ref: call.inputs for ref, call in by_ref.items()}).static_order()
        return [by_ref[ref] for ref in order if ref in by_ref]
    except CycleError:
        raise BadInput("the layers of the model feed each other in a circle") from None
