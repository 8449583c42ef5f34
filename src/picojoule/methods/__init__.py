"""The published methods and their baselines, one file each. A new method is a new file and a line here."""

from dataclasses import replace
from typing import Any

from picojoule.errors import BadInput, check_choice, unknown_name
from picojoule.experiment.method import Method
from picojoule.experiment.penalised import Penalised
from picojoule.methods.ann import ANN
from picojoule.methods.ann_int8 import Int8ANN
from picojoule.methods.ann_sparse import SparseANN
from picojoule.methods.bits_penalty import BitsPenalty
from picojoule.methods.combined import Combined
from picojoule.methods.ecc import ECC
from picojoule.methods.energy_penalty import EnergyPenalty
from picojoule.methods.first_spike import FirstSpike
from picojoule.methods.hybrid import Hybrid
from picojoule.methods.layer_mean import LayerMean
from picojoule.methods.one_step import OneStep
from picojoule.methods.plain import Plain
from picojoule.methods.rate_bounds import RateBounds
from picojoule.methods.synaptic_penalty import SynapticPenalty
from picojoule.methods.synops_conversion import SynOpsConversion
from picojoule.methods.synops_target import SynOpsTarget
from picojoule.methods.total_spikes import TotalSpikes

METHODS: dict[str, type[Any]] = {
    m.name: m
    for m in (
        *(ANN, SparseANN, Int8ANN, Plain, SynapticPenalty, EnergyPenalty, FirstSpike),
        *(TotalSpikes, LayerMean, SynOpsTarget, SynOpsConversion, RateBounds, ECC, Hybrid, BitsPenalty, OneStep),
    )
}
SWITCHES = {"on": True, "off": False, "true": True, "false": False}


def make(name: str, strength: float | None = None, options: dict[str, str] | None = None) -> Method:
    """The method called `name`, with options given as text (`{"p": "2"}`). Raises BadInput.

    Penalties are added up as in `synaptic-penalty+first-spike`, and in front of `hybrid`. An option `METHOD:NAME` is
    for that method alone, whether by itself or in a sum; `SUM:NAME` for the parts of that sum, unless they have one of
    their own. Options are ignored by methods that do not have them, so check with `check_options` that somebody has
    them.
    """
    classes = method_classes(name)
    plain = tuple(method() for method in classes)
    made = []
    for method in plain:
        others = tuple(other for other in plain if other is not method)
        made.append(_with_options(method.beside(others), name, strength, options or {}))
    own = (key.rpartition(":")[0] for key in options or {} if key.endswith(":strength"))
    return made[0] if len(made) == 1 else Combined(tuple(made), frozenset(own) - {name})


def alternatives(name: str, options: dict[str, str]) -> list[dict[str, str]]:
    """The options of each run of an ablation: an option that a method lets list may hold several values.

    The first of each list are the base; every other value is tried alone, with the first of all other lists.
    """
    listed = {field for method in method_classes(name) for field in method.listed}
    values = {key: text.split(",") for key, text in options.items() if key.rpartition(":")[2] in listed}
    base = options | {key: first for key, (first, *_) in values.items()}
    return [base, *(base | {key: other} for key, (_, *others) in values.items() for other in others)]


def method_classes(name: str) -> list[type[Method]]:
    """The class of a method, or those of penalties that are added up. Raises BadInput, with the nearest name."""
    names = name.split("+")
    for part in names:
        if not part:
            raise BadInput(
                f"expected a method before and after every +, such as synaptic-penalty+first-spike, got {name!r}"
            )
        if part not in METHODS:
            raise unknown_name("method", part, list(METHODS))
    classes = [METHODS[part] for part in names]
    *before, last = classes
    if before and not (all(issubclass(m, Penalised) for m in before) and issubclass(last, Penalised | Hybrid)):
        wrong = next((m for m in before if not issubclass(m, Penalised)), None)
        why = f"{last.name} takes no penalty" if wrong is None else f"{wrong.name} is no penalty"
        raise BadInput(
            f"{why}: expected penalties to add up, such as synaptic-penalty+first-spike, or in front of hybrid, such "
            f"as bits-penalty+hybrid, got {name}"
        )
    if len(set(names)) < len(names):
        raise BadInput(f"expected different penalties to add up, got {name}")
    return classes


def has_strength(name: str) -> bool:
    """Whether `--strength` means something to a method."""
    return any(f.name == "strength" for method in method_classes(name) for f in method.known_options())


def check_options(names: list[str], options: dict[str, str]) -> None:
    """Raise BadInput for an option that none of the methods `names` has."""
    known = {part.name: _fields_of([part]) for name in names for part in method_classes(name)}
    known |= {name: _fields_of(method_classes(name)) for name in names}
    every = sorted(set().union(*known.values()))
    for key in options:
        owner, _, field = key.rpartition(":")
        if owner and owner not in known:
            raise unknown_name("method", owner, list(known))
        if field not in (known[owner] if owner else every):
            raise unknown_name("option", key, every)


def _fields_of(classes: list[type[Method]]) -> set[str]:
    return {f.name for method in classes for f in method.known_options()}


def _with_options(method: Method, whole: str, strength: float | None, options: dict[str, str]) -> Method:
    known = {f.name: f.type for f in method.known_options()}
    chosen: dict[str, Any] = {}
    if strength is not None and "strength" in known:
        chosen["strength"] = strength
    for reached in ("", whole, method.name):  # what is named closest counts
        for key, text in options.items():
            owner, _, field = key.rpartition(":")
            if owner == reached and field in known:
                chosen[field] = _parsed(field, text, known[field])
    return replace(method, **chosen)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _parsed(field: str, text: str, kind: Any) -> Any:
    name = getattr(kind, "__name__", str(kind)).removesuffix(" | None")
    if name == "bool":
        check_choice(f"option {field}", text.lower(), SWITCHES)
        return SWITCHES[text.lower()]
    try:
        return {"int": int, "float": float}.get(name, str)(text)
    except ValueError:
        wanted = "whole number" if name == "int" else "number"
        raise BadInput(f"expected a {wanted} for option {field}, got {text!r}") from None
