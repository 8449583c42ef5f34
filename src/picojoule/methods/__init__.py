"""The published methods and their baselines, one file each. A new method is a new file and a line here."""

from dataclasses import fields
from typing import Any

from picojoule.errors import BadInput, unknown_name
from picojoule.experiment.method import Method
from picojoule.methods.ann import ANN
from picojoule.methods.ann_int8 import Int8ANN
from picojoule.methods.ann_sparse import SparseANN
from picojoule.methods.ecc import ECC
from picojoule.methods.plain import Plain
from picojoule.methods.synaptic_penalty import SynapticPenalty

METHODS: dict[str, type[Any]] = {m.name: m for m in (ANN, SparseANN, Int8ANN, Plain, SynapticPenalty, ECC)}


def make(name: str, strength: float | None = None, options: dict[str, str] | None = None) -> Method:
    """The method called `name`, with options given as text (`{"p": "2"}`). Raises BadInput.

    An option `METHOD:NAME` is for that method alone; others are ignored by methods that do not have them, so
    check with `check_options` that somebody has them.
    """
    method = method_class(name)
    known = {f.name: f.type for f in fields(method)}
    chosen: dict[str, Any] = {}
    if strength is not None and "strength" in known:
        chosen["strength"] = strength
    for key, text in (options or {}).items():
        owner, _, field = key.rpartition(":")
        if owner in ("", name) and field in known:
            chosen[field] = _parsed(field, text, known[field])
    return method(**chosen)


def method_class(name: str) -> type[Any]:
    """The class of a method. Raises BadInput with the nearest name."""
    if name not in METHODS:
        raise unknown_name("method", name, list(METHODS))
    return METHODS[name]


def check_options(names: list[str], options: dict[str, str]) -> None:
    """Raise BadInput for an option that none of the methods `names` has."""
    known = sorted({f.name for name in names for f in fields(method_class(name))})
    for key in options:
        owner, _, field = key.rpartition(":")
        has = {f.name for f in fields(method_class(owner))} if owner else set(known)
        if field not in has:
            raise unknown_name("option", key, known)


def _parsed(field: str, text: str, kind: Any) -> Any:
    name = getattr(kind, "__name__", str(kind)).removesuffix(" | None")
    try:
        return {"int": int, "float": float}.get(name, str)(text)
    except ValueError:
        raise BadInput(f"expected a number for option {field}, got {text!r}") from None
