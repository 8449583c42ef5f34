"""Which arrays of a file belong to which layer."""

import re
from collections import Counter
from typing import NamedTuple

from picojoule.errors import BadInput
from picojoule.exchange.keras.files import Stored
from picojoule.exchange.keras.hdf5 import Node
from picojoule.exchange.keras.wiring import START, Entry, Model

Path = tuple[str, ...]
"""A layer's name, behind the names of the models that it is nested in."""
Arrays = dict[str, Node]


def arrays_of(stored: Stored, model: Model) -> dict[Path, Arrays]:
    """The arrays of every layer, by variable or by number. Raises BadInput for those of layers that are not there."""
    if stored.positional:
        return _positional(stored.weights, model, ())
    return _named(stored.weights, model)


def _positional(group: Node, model: Model, path: Path) -> dict[Path, Arrays]:
    """In a group `layers`, one group a layer: `conv2d`, `conv2d_1`, ... by type and count; newer files add the name."""
    layers = _subgroup(group, "layers")
    found: dict[Path, Arrays] = {}
    if layers is None:
        return found
    places = _places(layers, [e for e in model.entries.values() if e.name != START])
    for entry in model.entries.values():
        place = places.pop(entry.name, None)
        if place is None:
            continue
        if entry.model is not None:
            found |= _positional(place, entry.model, (*path, entry.name))
        else:
            found[(*path, entry.name)] = _numbered(place)
    surplus = [name for name, place in places.items() if _numbered(place)]
    if surplus:
        raise BadInput(f"the file has weights of a layer {surplus[0]!r} that the model does not have")
    return found


class _Place(NamedTuple):
    key: str
    group: Node
    name: str | None


def _places(layers: Node, entries: list[Entry]) -> dict[str, Node]:
    """The group of every layer by the layer's name, and surplus groups by their own."""
    places: list[_Place] = []
    for key in layers.children():
        group = _subgroup(layers, key)
        if group is not None:
            variables = _subgroup(group, "vars")
            places.append(_Place(key, group, None if variables is None else variables.text("name", 1 << 16)))
    known = {entry.name for entry in entries}
    if all(place.name in known for place in places) and len({place.name for place in places}) == len(places):
        return {str(place.name): place.group for place in places}
    counts: Counter[str] = Counter()
    name_of: dict[str, str] = {}
    for entry in entries:
        kind = snake_case("Functional" if entry.kind == "Model" else entry.kind)
        name_of[f"{kind}_{counts[kind]}" if counts[kind] else kind] = entry.name
        counts[kind] += 1
    return {name_of.get(place.key, place.key): place.group for place in places}


def snake_case(kind: str) -> str:
    """`conv2d`, `re_lu`, `max_pooling2d`: how Keras writes a type's name in weight files."""
    parted = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub("([a-z])([A-Z])", r"\1_\2", parted).lower()


def _numbered(group: Node) -> Arrays:
    variables = _subgroup(group, "vars")
    if variables is None:
        return {}
    found = {key: _array(variables, key) for key in variables.children()}
    return {key: found[key] for key in sorted(found, key=lambda k: (len(k), k))}


def _named(weights: Node, model: Model) -> dict[Path, Arrays]:
    """In a group of the layer's name, arrays whose names end in layer and variable: `conv/conv/kernel:0`."""
    found: dict[Path, Arrays] = {}
    for key in weights.children():
        group = _subgroup(weights, key)
        listed = [] if group is None else group.names("weight_names")
        if group is None or not listed:
            continue
        entry = model.entries.get(key)
        if entry is None:
            raise BadInput(f"the file has weights of a layer {key!r} that the model does not have")
        paths = {key: (key,)} if entry.model is None else _nested(entry.model, (key,))
        for name in listed:
            parts = name.split("/")
            owner = key if entry.model is None else parts[-2] if len(parts) > 1 else key
            if owner not in paths:
                raise BadInput(f"the file has a weight {name!r} that belongs to no layer of {key!r}")
            arrays = found.setdefault(paths[owner], {})
            variable = parts[-1].removesuffix(":0")
            if variable in arrays:
                raise BadInput(f"the file has two weights {variable!r} of one layer {owner!r}")
            arrays[variable] = _array(group, name)
    return found


def _nested(model: Model, path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in model.entries.values():
        below = _nested(entry.model, (*path, entry.name)) if entry.model else {entry.name: (*path, entry.name)}
        if below.keys() & found.keys():
            raise BadInput(f"two nested layers have the name {entry.name!r}; name them apart and save the model again")
        found |= below
    return found


def _subgroup(group: Node, name: str) -> Node | None:
    found = group.child(name)
    return None if found is None or found.is_array else found


def _array(group: Node, name: str) -> Node:
    found = group.child(name)
    if found is None or not found.is_array:
        raise BadInput(f"the file lists a weight {name!r} but does not hold it; save the model again")
    return found
