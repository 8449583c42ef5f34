"""The populations of a classified pass: where events are born, and which module's output they are."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from picojoule.cells import Cell, Inside, Sent
from picojoule.cells.cell import reports_sent
from picojoule.graph.shapes import BatchAxis
from picojoule.metering.batch_rules import batch_of
from picojoule.metering.rules import declared
from picojoule.metering.run import Frame, Pass
from picojoule.metering.session import FUNCTIONAL, NAMED_ACTIVATIONS, Population, first_tensor, is_cell
from picojoule.metering.tag import Level, Tag
from picojoule.neurons.neuron import updates_of

BIRTHS = {
    *("gt", "ge", "lt", "le", "eq", "ne", "greater", "greater_equal", "less", "less_equal", "not_equal"),
    *("sign", "sgn", "heaviside", "round", "floor", "ceil", "trunc", "fix", "div", "floor_divide", "_to_copy"),
    *("poisson", "bernoulli", "logical_not", "logical_and", "argmax", "to"),
}


class Heard(NamedTuple):
    """A call of a module whose output is a population behind the site `layer`; `time` is its time axis, if not the
    one in front of the batch. `tag` is None for activations; `updates` is those of one neuron in one step.
    """

    module: nn.Module
    key: str
    layer: str
    tag: Tag | None
    batch: BatchAxis
    time: int | None = None
    updates: float = 1.0

    def arranged(self, y: Tensor) -> tuple[Tensor, Tag | None, BatchAxis]:
        """The output with time in front of the batch."""
        if self.time is None:
            return y, self.tag, self.batch
        return y.movedim((self.time, self.batch.dim), (0, 1)), self.tag, BatchAxis(1, 1)


def signals_of(module: nn.Module) -> list[Inside]:
    """The signals that a cell quantises, which it sends step by step; its output is one of them again."""
    return [p for p in module.populations() if p.source is not None] if isinstance(module, Cell) else []


class Populations:
    """Finds the populations of one pass. `heard` lists the modules whose output is one, call by call."""

    def __init__(self, run: Pass):
        self._run, self._session = run, run.session
        self.heard: list[Heard] = []
        self._shapes: dict[str, torch.Size] = {}
        self._at_rest: dict[str, int] = {}

    def place(self, args: Any) -> str:
        """The place of a birth: module, line of its forward, and the site that drives it."""
        driver = next(
            (t.driver for t in map(self._run.tag, (a for a in args if isinstance(a, Tensor))) if t.driver), ""
        )
        return f"{self._run.place}|{driver}"

    def born(self, where: str, y: Tensor, tag: Tag, args: Any, kwargs: Any) -> None:
        """Events were born here, outside a neuron module perhaps."""
        self._shapes[where] = y.shape
        for frame in self._run.frames:
            frame.origins.add(where)
        signal = self._signal(where)
        if not tag.trained or (signal is None and not self._is_functional(where)):
            return
        driver = where.rpartition("|")[2]
        axis = batch_of("gt", args, kwargs, y, self._run.batch)
        if axis is not None:
            name = f"spikes after {driver}" if driver else f"spikes in {where.rpartition('|')[0]}"
            key, name, neuron = (where, name, FUNCTIONAL) if signal is None else (signal[0], *signal)
            self._session.populations.setdefault(key, Population(name, neuron, driver, {where}))
            self._run.ledger.neurons(key, neuron, driver, y, tag, axis)
            self._run.functional = True

    def _signal(self, where: str) -> tuple[str, str] | None:
        """The name and neuron of the signal that the running cell quantised where events were born, if it is one."""
        frame, driver = self._run.frame, where.rpartition("|")[2]
        if frame is None:
            return None
        found = (s for s in signals_of(frame.module) if driver == f"{frame.path}.{s.synapse}")
        return next(((f"{frame.path}.{s.name}", s.neuron) for s in found), None)

    def _is_functional(self, where: str) -> bool:
        """Whether the module that runs has synapses too, so that its output is not the events."""
        frame = self._run.frame
        if frame is None or is_cell(frame.module):
            return frame is None
        return frame.sites > 0 or len(self._run.frames) == 1

    def activation(self, y: Tensor, x: Any) -> None:
        """A rectifier returned y."""
        if self._inside_reporting():
            return
        frame = self._run.frame
        axis = self._run.batch(x)
        if axis is None:
            return
        driver = self._run.tag(x).driver
        named = frame is not None and isinstance(frame.module, NAMED_ACTIVATIONS)
        key = frame.path if frame is not None and named else f"relu after {driver}"
        self._hear_activation(key, driver, y, axis)
        if frame is not None and named:
            self.heard.append(Heard(frame.module, key, driver, None, axis))
        else:
            self._run.functional = True

    def _hear_activation(self, key: str, driver: str, y: Tensor, axis: BatchAxis) -> None:
        self._session.populations.setdefault(key, Population(key, "ReLU", driver, analog=True))
        self._run.ledger.neurons(key, "ReLU", driver, y, None, axis)

    def leave(self, frame: Frame, output: Any) -> None:
        """A module returned: is its output a population's?"""
        session, module = self._session, frame.module
        y = first_tensor(output)
        if isinstance(module, Sent) and y is not None:
            self._hear_inside(module, y)
            return
        if y is not None and frame.x is not None:
            self._same_axis(frame.x, y)
        kind = session.declared_kind(module)
        if y is not None and kind is not None:
            self._run.tag(y)
            origin = f"{frame.path}|declared"
            made = declared(kind, trained=True, where=origin)
            entry = self._run.tags.get(y)
            self._run.tags.put(y, made, None if entry is None else entry.batch)
            axis = self._run.batch(y)
            if axis is not None and made.level is Level.EVENT and not signals_of(module):
                self._hear(frame, y, made, axis, {origin})
            elif axis is not None and isinstance(module, NAMED_ACTIVATIONS):
                self._hear_activation(frame.path, self._run.driver, y, axis)
                self.heard.append(Heard(module, frame.path, self._run.driver, None, axis))
            return
        if y is None or isinstance(module, nn.Sequential | nn.ModuleList) or not frame.path:
            return
        if reports_sent(module) or self._inside_reporting():
            return
        for tensor in (t for t in tree_leaves(output) if isinstance(t, Tensor)):
            tag, axis = self._run.tag(tensor), self._run.batch(tensor)
            if tag.level is Level.CONST and tag.levels:
                self._at_rest[frame.path] = self._at_rest.get(frame.path, 0) + 1
                return
            fits = tag.level is Level.EVENT and tag.origin in frame.origins and tag.trained
            own = tag.origin.partition(":")[0] == frame.path
            if fits and axis is not None and (not frame.sites or own or is_cell(module)):
                self._hear(frame, tensor, tag, axis, {tag.origin} | (tag.born & frame.origins))
                return

    def _same_axis(self, x: Tensor, y: Tensor) -> None:
        """A module keeps the batch where it was: if opaque code lost it, or axes of size 1 look alike."""
        axis, entry = self._run.batch(x), self._run.tags.get(y)
        if entry is not None and entry.batch is not None and self._run.ledger.samples > 1:
            return
        if axis is not None and entry is not None and x.dim() == y.dim() and x.shape[axis.dim] == y.shape[axis.dim]:
            entry.batch = axis

    def _hear(self, frame: Frame, y: Tensor, tag: Tag, axis: BatchAxis, origins: set[str]) -> None:
        module = frame.module
        neuron = type(getattr(module, "neuron", module) if is_cell(module) else module).__name__
        layer = tag.origin.rpartition("|")[2]
        layer = self._run.driver if layer == "declared" else layer
        heard = Heard(module, frame.path, layer, tag, axis, self._time_of(y, tag, axis), updates_of(module))
        self._add(heard, neuron, y, origins, self._at_rest.pop(frame.path, 0))

    def _inside_reporting(self) -> bool:
        """Whether a cell runs that says itself what its populations send."""
        return any(reports_sent(frame.module) for frame in self._run.frames)

    def _hear_inside(self, module: Sent, y: Tensor) -> None:
        """What a population inside the running cell sent, `[T, B, *N]`."""
        frame = self._run.frame
        assert frame is not None and isinstance(frame.module, Cell)
        inside = next(p for p in frame.module.populations() if p.name == module.name)
        key = f"{frame.path}.{inside.name}".removeprefix(".")
        followed, driver, axis = self._run.tag(y), self._run.driver, BatchAxis(1, 1)
        if inside.kind is None:
            self._hear_activation(key, driver, y, axis)
            self.heard.append(Heard(module, key, driver, None, axis))
            return
        tag = declared(inside.kind, trained=True, where=followed.origin)
        heard = Heard(module, key, driver, tag, axis, updates=inside.updates)
        self._add(heard, inside.neuron, y, {followed.origin, *followed.born})

    def _add(self, heard: Heard, neuron: str, y: Tensor, origins: set[str], at_rest: int = 0) -> None:
        """One call of a population that was heard; `at_rest` calls in which it sent nothing came before."""
        population = self._session.populations.setdefault(heard.key, Population(heard.key, neuron, heard.layer))
        population.origins |= origins
        self._run.ledger.neurons(heard.key, neuron, heard.layer, *heard.arranged(y), at_rest, heard.updates)
        self.heard.append(heard)

    def _time_of(self, y: Tensor, tag: Tag, axis: BatchAxis) -> int | None:
        """Where a module has put time, if not in front: the axis that its spikes, born step by step, do not have."""
        born = self._shapes.get(tag.origin)
        if born is None or axis.folds != 1 or y.dim() != len(born) + 1:
            return None
        added = [d for d in range(y.dim()) if d != axis.dim and (*y.shape[:d], *y.shape[d + 1 :]) == tuple(born)]
        return None if not added or (axis.dim == 1 and 0 in added) else added[0]
