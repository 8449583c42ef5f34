"""Reading a price list: a TOML file with scope, source, widths, prices, memory and traffic (docs/hardware.md)."""

import math
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from picojoule.energy.memory import LAYER_DRIVERS, MOVEMENTS, NEURON_DRIVERS, RULE, Bits, Level, Memory, Rule
from picojoule.energy.units import POWER, TIME, Price, known_keys, read_price
from picojoule.errors import BadInput, unknown_name

TEXTS = ("name", "title", "scope", "covers", "node", "voltage", "basis", "mark", "source")
OWN = ("name", "title", "scope", "covers")
FLAGS = ("skips_zero_values", "activations_update")
SECTIONS = ("hops", "bits", "prices", "neurons", "memory", "traffic", "static")
PER = {
    "mac": "MAC",
    "ac": "AC",
    "shift_add": "shift-add",
    "synaptic_event": "AC",
    "synapse": "synapse",
    "bias_add": "bias add",
    "output": "output",
    "event": "event",
    "event_sent": "event sent",
    "routing": "event per hop",
}
MEMORY = ("model", "sized_by", "queue_bits", "price", "levels", "beyond", "base", "slope")
MODELS = ("none", "flat", "levels", "curve", "affine")
Table = dict[str, Any]

_SHIPPED = Path(str(files("picojoule.energy.hardware")))


def shipped_names() -> list[str]:
    """The names of the price lists that come with picojoule."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def shipped_path(name: str) -> Path:
    """The file of a price list that comes with picojoule."""
    return _SHIPPED / f"{name}.toml"


def read_list(path: Path) -> Table:
    """What the file says, as the fields of `Hardware`. Raises BadInput with one sentence that names file and entry."""
    where = path.name
    table = _extended(path, ())
    known_keys(where, "the price list", table, (*TEXTS, *FLAGS, *SECTIONS, "extends"))
    texts = {key: _text(where, table, key) for key in TEXTS}
    flags = {key: _flag(where, table, key) for key in FLAGS}
    bits = _bits(where, table.get("bits"))
    constants = {**_prices(where, table), **_static(where, table.get("static"))}
    memory = _memory(where, table.get("memory"), constants)
    if bits is None and (memory or " bit" in getattr(constants.get("routing"), "unit", "")):
        raise BadInput(f"{where}: a price per bit or of memory needs widths; write [bits] with {_listed(Bits._fields)}")
    rule, hops = _rule(where, table.get("traffic", {})), _amount(where, "hops", table.get("hops", 1))
    return {**texts, **flags, "constants": constants, "bits": bits, "memory": memory, "rule": rule, "hops": hops}


def _extended(path: Path, before: tuple[Path, ...]) -> Table:
    """The table of a file laid over those it extends."""
    if path in before:
        raise BadInput(f"{path.name}: a price list cannot extend itself; take {path.stem!r} out of extends")
    table = _load(path)
    parents = table.get("extends", [])
    result: Table = {}
    for parent in parents if isinstance(parents, list) else [parents]:
        result = _over(result, _extended(_parent(path, parent), (*before, path)))
    for key in OWN:
        result.pop(key, None)
    return _over(result, table)


def _load(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read the price list {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is not valid TOML: {error}") from None


def _parent(path: Path, parent: object) -> Path:
    if isinstance(parent, str) and parent.endswith(".toml"):
        return path.parent / parent
    if not isinstance(parent, str) or parent not in shipped_names():
        raise unknown_name(f"price list in extends of {path.name}:", str(parent), shipped_names())
    return shipped_path(parent)


def _over(below: Table, above: Table) -> Table:
    """Sections are merged entry by entry; an entry, and the memory, are replaced whole."""
    result = dict(below)
    for key, new in above.items():
        old = below.get(key)
        result[key] = {**old, **new} if isinstance(old, dict) and isinstance(new, dict) and key != "memory" else new
    return result


def _text(where: str, table: Table, key: str) -> str:
    text = table.get(key)
    if not isinstance(text, str) or not text:
        raise BadInput(f"{where}: expected a text for {key!r}, got {text!r} (write 'not stated' where no source says)")
    return text


def _flag(where: str, table: Table, key: str) -> bool:
    flag = table.get(key, False)
    if not isinstance(flag, bool):
        raise BadInput(f"{where}: expected {key} = true or false, got {flag!r}")
    return flag


def _amount(where: str, key: str, number: object) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise BadInput(f"{where}: expected {key} to be a number of at least 0, got {number!r}")
    return number


def _section(where: str, what: str, table: object) -> Table:
    if not isinstance(table, dict):
        raise BadInput(f"{where}: expected {what} to be a table, got {table!r}")
    return table


def _bits(where: str, table: object) -> Bits | None:
    if table is None:
        return None
    widths = _section(where, "[bits]", table)
    known_keys(where, "[bits]", widths, Bits._fields)
    widths = {"bias": widths.get("weight"), **widths}
    for kind in Bits._fields:
        if type(widths.get(kind)) is not int or widths[kind] < 0:
            raise BadInput(f"{where}: expected [bits] {kind} to be a whole number, got {widths.get(kind)!r}")
    return Bits(**widths)


def _prices(where: str, table: Table) -> dict[str, Price]:
    prices, neurons = (_section(where, f"[{s}]", table.get(s, {})) for s in ("prices", "neurons"))
    known_keys(where, "[prices]", prices, tuple(PER))
    if not prices:
        raise BadInput(f'{where}: no price; write at least [prices] ac = {{ value = ..., unit = "pJ per AC" }}')
    found = {}
    for key, price in prices.items():
        per = " per (?:event|bit) per hop" if key == "routing" else f" per {PER[key]}"
        found[key] = read_price(where, key, price, per, f"pJ per {PER[key]}")
    for kind, price in neurons.items():
        name = "neuron update" if kind == "default" else f"{kind} update"
        found[name] = read_price(where, f"neurons.{kind}", price, " per neuron update", "pJ per neuron update")
    return found


def _static(where: str, table: object) -> dict[str, Price]:
    if table is None:
        return {}
    static = _section(where, "[static]", table)
    known_keys(where, "[static]", static, ("power", "latency"))
    missing = [key for key in ("power", "latency") if key not in static]
    if missing:
        raise BadInput(f"{where}: static energy is power times latency; [static] lacks {missing[0]}")
    power = read_price(where, "static.power", static["power"], "", "W", POWER)
    per = " per (?:time step|inference)"
    return {
        "static power": power,
        "latency": read_price(where, "static.latency", static["latency"], per, "s per time step", TIME),
    }


def _memory(where: str, table: object, constants: dict[str, Price]) -> dict[str, Memory] | None:
    """The memory of each kind of thing stored; their prices are added to `constants`."""
    if table is None:
        return None
    section = _section(where, "[memory]", table)
    known_keys(where, "[memory]", section, MEMORY + Bits._fields)
    own = {kind: section[kind] for kind in Bits._fields if kind in section}
    rest = {key: value for key, value in section.items() if key not in own}
    common = _one_memory(where, "memory", rest, constants) if rest else Memory()
    made = {kind: _one_memory(where, f"{kind} memory", t, constants) for kind, t in own.items()}
    if "bias" not in made and "weight" in made:
        made["bias"] = made["weight"]
    return {kind: made.get(kind, common) for kind in Bits._fields}


def _one_memory(where: str, what: str, table: object, constants: dict[str, Price]) -> Memory:
    memory = _section(where, f"the {what}", table)
    known_keys(where, f"the {what}", memory, MEMORY)
    model, sized_by = memory.get("model"), memory.get("sized_by", "model")
    if model not in MODELS:
        raise unknown_name(f"model of the {what} in {where}:", str(model), list(MODELS))
    if sized_by not in ("model", "array"):
        raise unknown_name(f"sized_by of the {what} in {where}:", str(sized_by), ["model", "array"])
    levels = {"none": _no_levels, "flat": _flat, "levels": _levels, "curve": _curve, "affine": _affine}[model]
    queue = int(_amount(where, f"queue_bits of the {what}", memory.get("queue_bits", 0)))
    return Memory("levels" if model == "flat" else model, sized_by, levels(where, what, memory, constants), queue)


def _no_levels(where: str, what: str, memory: Table, constants: dict[str, Price]) -> tuple[Level, ...]:
    return ()


def _flat(where: str, what: str, memory: Table, constants: dict[str, Price]) -> tuple[Level, ...]:
    return (_level(where, what, what, memory.get("price"), math.inf, constants),)


def _levels(where: str, what: str, memory: Table, constants: dict[str, Price]) -> tuple[Level, ...]:
    return _steps(where, what, memory.get("levels"), constants)


def _curve(where: str, what: str, memory: Table, constants: dict[str, Price]) -> tuple[Level, ...]:
    points, beyond = memory.get("levels"), memory.get("beyond")
    if not isinstance(points, list) or len(points) < 2 or not isinstance(beyond, dict):
        raise BadInput(f"{where}: the curve of the {what} needs at least two levels, and beyond = a price after them")
    return _steps(where, what, [*points, {"name": "beyond", **beyond}], constants)


def _affine(where: str, what: str, memory: Table, constants: dict[str, Price]) -> tuple[Level, ...]:
    known = {}
    for key, per in (("base", " per access"), ("slope", " per access per bit")):
        known[key] = read_price(where, f"{what} {key}", memory.get(key), per, f"pJ{per}")
        constants[f"{what} {key}"] = known[key]
    return tuple(Level(key, math.inf, f"{what} {key}", None) for key in known)


def _steps(where: str, what: str, levels: object, constants: dict[str, Price]) -> tuple[Level, ...]:
    """Levels of growing capacity, of which only the last has none: it holds whatever the others cannot."""
    if not isinstance(levels, list) or not all(isinstance(level, dict) and "name" in level for level in levels):
        raise BadInput(f"{where}: expected levels of the {what} as a list of {{ name, bytes, value, unit }}")
    made = []
    for level in levels:
        own = dict(level)
        name = str(own.pop("name"))
        held = own.pop("bytes", None)
        capacity = math.inf if held is None else 8 * _amount(where, f"bytes of {name!r}", held)
        made.append(_level(where, name, f"{name} {what}", own, capacity, constants))
    sizes = [level.capacity for level in made]
    if not made or sizes[-1] != math.inf or any(a >= b for a, b in zip(sizes, sizes[1:], strict=False)):
        raise BadInput(f"{where}: the levels of the {what} must grow in bytes and end with one without (as DRAM)")
    return tuple(made)


def _level(where: str, name: str, constant: str, table: object, capacity: float, constants: dict[str, Price]) -> Level:
    price = read_price(where, constant, table, r" per (?:[1-9]\d* bits|bit|access)", "pJ per 64 bits")
    if constant in constants:
        raise BadInput(f"{where}: two levels are called {name!r}; give each a name of its own")
    constants[constant] = price
    per = price.unit.removeprefix("pJ per ")
    width = None if per == "access" else 1 if per == "bit" else int(per.split()[0])
    return Level(name, capacity, constant, width)


def _rule(where: str, table: object) -> Rule:
    """The default traffic, with the drivers that the file gives in place of the default ones."""
    rule = dict(RULE)
    drivers = _section(where, "[traffic]", table)
    known_keys(where, "[traffic]", drivers, LAYER_DRIVERS + NEURON_DRIVERS)
    for driver, moved in drivers.items():
        moved = _section(where, f"[traffic] {driver}", moved)
        known_keys(where, f"[traffic] {driver}", moved, MOVEMENTS)
        rule[driver] = {m: _amount(where, f"{m} of {driver}", n) for m, n in moved.items()}
    return rule


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"
