"""What the meter knows of a tensor: not its numbers, but where they come from."""

import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any

from torch import Tensor

from picojoule.graph.shapes import BatchAxis

_numbers = itertools.count(1)
NOTHING: frozenset[str] = frozenset()
MOST_LEVELS = 8


class Level(IntEnum):
    """From nothing to anything: zeros, constants of the model, events, values."""

    ZERO = 0
    CONST = 1
    EVENT = 2
    GRADED = 3


class Unit(tuple[float, tuple[int, ...]]):
    """The height of one event: a number times constants of which only the identity is known."""

    @staticmethod
    def of(number: float, *constants: int) -> "Unit":
        return Unit((number, tuple(sorted(constants))))

    @property
    def number(self) -> float | None:
        """The height as a number; None where it depends on a tensor of constants."""
        return None if self[1] else self[0]

    def times(self, other: "Unit") -> "Unit":
        return Unit.of(self[0] * other[0], *self[1], *other[1])


ONE = Unit.of(1.0)


@dataclass(slots=True)
class Tag:
    """The provenance of a tensor; never changed once it is in use.

    Of events, `levels` are the numbers n that may occur and `most` the largest |n| (None: not known), and
    value = n * `unit`. Of constants, `value` is the number if all elements have the same one, `sources` the parameters
    they come from. `form` writes a sum as {identity of a term: (factor, its tag)}, so that straight-through arithmetic
    cancels. `reason` says why something is not events; it was `lost` if a rule is missing. `born` names the neurons
    that the events come from, `origin` the one whose output this is, unchanged; `driver` the last site before it.
    """

    level: Level
    levels: frozenset[float] | None = None
    most: float | None = None
    unit: Unit = ONE
    signed: bool = False
    value: float | None = None
    identity: int = field(default_factory=_numbers.__next__)
    form: "dict[int, tuple[float, Tag]] | None" = None
    sources: frozenset[str] = NOTHING
    reason: str = ""
    lost: bool = False
    trained: bool = False
    driver: str = ""
    born: frozenset[str] = NOTHING
    origin: str = ""
    inexact: bool = False

    def but(self, **changes: Any) -> "Tag":
        """The same with some changes (its identity stays unless changed)."""
        new = object.__new__(Tag)
        for name in _FIELDS:
            setattr(new, name, changes[name] if name in changes else getattr(self, name))
        return new

    @property
    def is_constant(self) -> bool:
        return self.level <= Level.CONST

    @property
    def terms(self) -> "dict[int, tuple[float, Tag]]":
        """This tensor as a sum of terms."""
        return self.form if self.form is not None else {self.identity: (1.0, self)}


_FIELDS = tuple(f.name for f in fields(Tag))


def zero() -> Tag:
    return Tag(Level.ZERO, value=0.0)


def constant(value: float | None = None, sources: frozenset[str] = NOTHING, trained: bool = False) -> Tag:
    if value == 0 and not sources:
        return zero()
    return Tag(Level.CONST, value=value, sources=sources, trained=trained)


def graded(reason: str = "", *, lost: bool = False, trained: bool = False, driver: str = "") -> Tag:
    return Tag(Level.GRADED, reason=reason, lost=lost, trained=trained, driver=driver)


def event(levels: frozenset[float] | None, unit: Unit = ONE, **more: Any) -> Tag:
    """Events; no more levels are followed than are of use."""
    signed = more.pop("signed", False)
    if levels is not None:
        levels = levels | {0.0}
        signed = min(levels) < 0
        more["most"] = max(map(abs, levels))
        if levels == {0.0}:
            return zero()
        if len(levels) > MOST_LEVELS:
            levels = None
    return Tag(Level.EVENT, levels=levels, unit=unit, signed=signed, **more)


class Memory:
    """The memory of one or more tensors, `elements` large, and the tag of what it holds now."""

    __slots__ = ("tag", "elements")

    def __init__(self, tag: Tag, elements: int):
        self.tag, self.elements = tag, elements


@dataclass(slots=True)
class Entry:
    """One tensor: its memory, which its views share, and its batch axis.

    Of a view, `part` tells which elements of the memory it has, `base` is the tensor it was taken from, and
    `axis_in_base` finds the batch axis there from that of the view.
    """

    memory: Memory
    batch: BatchAxis | None
    alive: "weakref.ref[Tensor]"
    part: int = 0
    base: "Entry | None" = None
    axis_in_base: Callable[[BatchAxis], BatchAxis | None] | None = None

    def settle(self, batch: BatchAxis | None) -> None:
        """The batch axis, found when samples were written here; it holds for what this is a view of."""
        if batch is not None and self.batch is None:
            self.batch = batch
            if self.base is not None and self.axis_in_base is not None:
                self.base.settle(self.axis_in_base(batch))

    @property
    def tag(self) -> Tag:
        """The tag; other elements of the same memory are another thing."""
        tag = self.memory.tag
        if self.part and tag.level > Level.CONST:
            return tag.but(identity=hash((tag.identity, self.part)), form=None)
        return tag


class Tags:
    """The tags of living tensors; entries of dead ones are swept out now and then."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._room = 1024

    def get(self, tensor: Tensor) -> Entry | None:
        entry = self._entries.get(id(tensor))
        return entry if entry is not None and entry.alive() is tensor else None

    def put(self, tensor: Tensor, tag: Tag | Memory, batch: BatchAxis | None, part: int = 0) -> Entry:
        memory = tag if isinstance(tag, Memory) else Memory(tag, tensor.numel())
        entry = self._entries[id(tensor)] = Entry(memory, batch, weakref.ref(tensor), part)
        if len(self._entries) > self._room:
            self._entries = {k: e for k, e in self._entries.items() if e.alive() is not None}
            self._room = 1024 + 2 * len(self._entries)
        return entry

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
