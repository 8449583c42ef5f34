"""The sites of a classified pass: every linear operation, by name, with what enters it."""

from typing import Any

import torch
from torch import Tensor, nn

from picojoule.cells import Cell
from picojoule.errors import BadInput
from picojoule.graph.linear import interior_of
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events
from picojoule.metering.algebra import BINARY, Unit, add, multiply
from picojoule.metering.call import SiteCall
from picojoule.metering.linear import Linear, Product, Uncounted, linear_parts
from picojoule.metering.numbers import are_events, same_numbers
from picojoule.metering.rules import Call
from picojoule.metering.run import Frame, Pass, pointer
from picojoule.metering.session import is_linear
from picojoule.metering.site_info import Reach, SiteInfo
from picojoule.metering.tag import Level, Tag, constant, event, graded


class Found:
    """A site as classification met it in one call: what quick counting needs to count it again."""

    __slots__ = ("info", "tag", "batch", "tail", "reach", "module")

    def __init__(self, info: SiteInfo, tag: Tag, batch: BatchAxis | None, x: Tensor, reach: Reach):
        self.info, self.tag, self.batch, self.tail, self.reach = info, tag, batch, tuple(x.shape[1:]), reach
        self.module: nn.Module | None = None

    def counts_like(self, other: "Found") -> bool:
        """Whether the other call is counted in the same way."""
        same = self.info is other.info and self.reach is other.reach and self.tail == other.tail
        return same and self.batch == other.batch and same_numbers(self.tag, other.tag)


class Sites:
    """Finds and counts the linear operations of one pass."""

    def __init__(self, run: Pass):
        self._run, self._session = run, run.session
        self.found: list[Found] = []
        self._calls: dict[str, int] = {}
        self._products: dict[str, list[Any]] = {}

    def follow(self, name: str, call: Call) -> tuple[Tag, ...]:
        """Count a linear operation; returns the tags of its results."""
        parts = linear_parts(name, call.args, call.kwargs, call.results, self._run.tag)
        operands = call.tags()
        trained = any(t.trained for t in operands)
        for part in parts:
            if isinstance(part, Uncounted):
                frame = self._run.frame
                self._session.miss(f"{(frame.path if frame else '') or 'model'} ({name})", part.reason)
            elif isinstance(part, Linear):
                self._site(part, call)
            else:
                self._product(part)
        if parts and all(isinstance(p, Uncounted) for p in parts):
            return (graded(f"{name} is not followed", lost=True, trained=trained),) * len(call.results)
        if not parts:
            sources = frozenset().union(*(t.sources for t in operands))
            return (self._added(name, call, constant(sources=sources, trained=trained)),) * len(call.results)
        if name == "embedding":
            return (graded(trained=trained),)
        levels = [self._run.tag(x).level for x in call.args if isinstance(x, Tensor)]
        if isinstance(parts[0], Product) and not parts[0].part and set(levels[-2:]) == {Level.EVENT}:
            a, b = self._run.tag(parts[0].left), self._run.tag(parts[0].right)
            unit = a.unit.times(b.unit)
            signed = a.signed or b.signed
            product = Tag(Level.EVENT, unit=unit, signed=signed, trained=trained, born=a.born | b.born)
            return (self._added(name, call, product),)
        return (graded(trained=True, driver=self._run.driver),) * len(call.results)

    def _added(self, name: str, call: Call, product: Tag) -> Tag:
        """`beta * input + alpha * product` of the operations that add."""
        if name not in ("addmm", "baddbmm", "addmv", "addbmm"):
            return product
        beta, alpha = (float(call.kwargs.get(k, 1)) for k in ("beta", "alpha"))
        before = multiply(constant(beta), self._run.tag(call.args[0]))
        return add(before, multiply(constant(alpha), product))

    def _site(self, part: Linear, call: Call) -> None:
        tag, batch = self._run.tag(part.x), self._run.batch(part.x)
        if call.name == "mkldnn_rnn_layer":
            own = graded(trained=True) if part.part else self._run.tag(call.args[0])
            tag, batch = own, self._run.batch(call.args[0])
        elif part.part == "out_proj":
            tag, batch = graded(trained=True), self._run.batch(call.args[0])
        elif call.name == "embedding":
            tag = event(BINARY, born=tag.born, trained=tag.trained)
        frame = self._run.frame
        name = self._site_name(frame, part)
        operation, biases, interior = part.operation, part.biases, None
        if frame is not None and is_linear(frame.module):  # whose bias may be added by an operation of its own
            operation, interior = type(frame.module).__name__, interior_of(frame.module)
            biases = sum(p.numel() for n, p in frame.module.named_parameters() if n.endswith("bias"))
        info = self._session.site(name, operation, part.weight.numel(), biases)
        info.interior = interior
        self._run.driver = name
        if tag.level is Level.CONST:
            tag = self._constant_operand(tag)
        x = torch.ones_like(part.x, dtype=torch.float32) if call.name == "embedding" else part.x
        if tag.level is Level.EVENT and tag.unit.number is None and frame is not None:
            tag = self._stated(frame.module, tag)
        tag = self._guarded(info, tag, x)
        info.meet(tag)
        if tag.level is Level.EVENT and tag.unit.number is None and tag.most != 1:
            self._session.miss(name, "its events have heights that are not one number: several at once count as one")
        self._session.reached |= tag.born
        reach = self._reach(name, part)
        found = Found(info, tag, batch, x, reach)
        self._run.ledger.synapses(info, tag, x, batch, reach)
        self._remember(found, frame, x, call.name)
        if self._session.probes:
            axis = BatchAxis(0, 1) if batch is None else batch
            module = frame.module if frame is not None and found.module is not None else None
            rest = (reach.fan_out.synapses, axis, part.output, part.window, module)
            seen = SiteCall(name, part.operation, x, part.weight, part.biases > 0, *rest)
            for probe in self._session.probes:
                probe.site(seen)

    def _site_name(self, frame: Frame | None, part: Linear) -> str:
        sources = self._run.tag(part.weight).sources
        if frame is not None and frame.path and (is_linear(frame.module) or isinstance(frame.module, nn.Embedding)):
            return frame.path
        if len(sources) == 1 and not next(iter(sources)).startswith("parameter "):
            return next(iter(sources))
        return f"{self._run.place}.{part.operation}{'.' + part.part if part.part else ''}"

    def _stated(self, layer: nn.Module, tag: Tag) -> Tag:
        """The height of events that a cell states for a layer inside it, where arithmetic hides it (a learned one)."""
        synapses = [s for f in self._run.frames if isinstance(f.module, Cell) for s in f.module.synapses()]
        for kind in (s.kind for s in synapses if s.layer is layer):
            if isinstance(kind, Events):
                return tag.but(unit=Unit.of(kind.quantum))
        return tag

    def _constant_operand(self, tag: Tag) -> Tag:
        """Something computed from constants, such as a spike at rest: not a class of its own."""
        known = Tag(Level.ZERO) if tag.value == 0 else tag
        return known.but(level=Level.CONST, trained=True)

    def _guarded(self, info: SiteInfo, tag: Tag, x: Tensor) -> Tag:
        """Check at some of the calls that the numbers are what their provenance says."""
        number = self._calls[info.name] = self._calls.get(info.name, 0) + 1
        if number & (number - 1):
            return tag
        if bool(torch.isnan(x.detach().sum())):
            raise BadInput(f"{info.name}: expected numbers, got NaN in what enters it; check the inputs and weights")
        if tag.level is Level.EVENT and not are_events(x, tag):
            reason = f"expected whole multiples of {tag.unit.number:g} by its provenance, found other values"
            return graded(reason, lost=True, trained=tag.trained, driver=tag.driver)
        return tag

    def _reach(self, name: str, part: Linear) -> Reach:
        spatial = part.weight.dim() - 2 if part.window else 1
        version = (id(part.weight), part.weight._version) if self._session.skip_zero_weights else None
        key = (name, part.operation, part.part, part.x.dim(), tuple(part.x.shape[-spatial:]), part.output[1:], version)
        if key not in self._session.reaches:
            self._session.reaches[key] = Reach.of(part.reach(not self._session.skip_zero_weights))
        return self._session.reaches[key]

    def _remember(self, found: Found, frame: Frame | None, x: Tensor, name: str) -> None:
        """Whether a hook on the module can count this call again: it sees the same numbers."""
        self.found.append(found)
        for f in self._run.frames:
            f.sites += 1
        if self._session.skip_zero_weights:  # the weights may change from call to call
            self._run.functional = True
        if frame is None or frame.x is None or not is_linear(frame.module) or frame.linear_calls:
            self._run.functional = True
            return
        frame.linear_calls += 1
        found.module = frame.module
        entered = frame.x
        same = pointer(entered) == pointer(x) != 0 and entered.numel() == x.numel()
        if not (same and entered.is_contiguous() and x.is_contiguous()) and entered is not x:
            self._run.functional = True

    def _product(self, part: Product) -> None:
        first, second = (graded() if x is None else self._run.tag(x) for x in part.sources)
        info = self._product_info(part, (first.level, second.level))
        self._run.driver = info.name
        self._session.reached |= first.born | second.born
        events = [t for t in (first, second) if t.level is Level.EVENT]
        info.meet(events[0] if events else graded(trained=first.trained or second.trained))
        batch = next((axis for axis in (self._run.batch(x) for x in part.sources if x is not None) if axis), None)
        self._run.ledger.product(info, (first, second), part.left, part.right, batch)
        for f in self._run.frames:
            f.sites += 1
        self._run.functional = True

    def _product_info(self, part: Product, levels: tuple[Level, Level]) -> SiteInfo:
        """Products of one line of code are one site if they are alike, else they are numbered."""
        name = f"{self._run.place}.{part.part or 'matmul'}"
        like = (levels, part.left.shape[-2:], part.right.shape[-2:])
        known = self._products.setdefault(name, [])
        if like not in known:
            known.append(like)
        number = known.index(like)
        return self._session.site(name if not number else f"{name}#{number + 1}", "matmul of activations", 0, 0)
