"""Classify: run a model with every operation watched, follow where events come from, and count exactly.

A dispatch mode sees the operations below autograd, whoever calls them: modules, functions, custom autograd
functions, scripted code. It changes none of them.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from picojoule.errors import BadInput
from picojoule.graph.shapes import BatchAxis
from picojoule.metering.algebra import BINARY, join
from picojoule.metering.batch_rules import batch_of
from picojoule.metering.call import SiteCall
from picojoule.metering.ledger import Ledger, Reach, SiteInfo, are_events
from picojoule.metering.linear import NAMES, Linear, Product, Uncounted, linear_parts
from picojoule.metering.rules import Call, declared, follow
from picojoule.metering.session import NAMED_ACTIVATIONS, Population, Session, first_tensor, is_cell, is_linear
from picojoule.metering.tag import Level, Tag, Tags, constant, event, graded

_READS_NOTHING = {"_local_scalar_dense", "item", "is_nonzero", "equal", "_assert_async", "is_same_size"}


class Frame:
    """A module that is running: what entered it, and what happened inside so far."""

    __slots__ = ("module", "path", "x", "sites", "origins", "linear_calls", "code")

    def __init__(self, module: nn.Module, path: str, x: Tensor | None):
        self.module, self.path, self.x = module, path, x
        self.sites = 0
        self.origins: set[str] = set()
        self.linear_calls = 0
        self.code = getattr(type(module).forward, "__code__", None)


class Found:
    """A site as classification met it in one call: what quick counting needs to count it again."""

    __slots__ = ("info", "tag", "batch", "tail", "reach", "module", "call")

    def __init__(self, info: SiteInfo, tag: Tag, batch: BatchAxis | None, x: Tensor, reach: Reach):
        self.info, self.tag, self.batch, self.tail, self.reach = info, tag, batch, tuple(x.shape[1:]), reach
        self.module: nn.Module | None = None
        self.call: SiteCall | None = None


class Classifier(TorchDispatchMode):
    """One classified pass. Enter it around the model's call; `frames` is kept by the hooks of the meter."""

    def __init__(self, session: Session, tags: Tags, ledger: Ledger):
        super().__init__()
        self.session, self.tags, self.ledger = session, tags, ledger
        self.frames: list[Frame] = []
        self.found: list[Found] = []
        self.heard: list[tuple[nn.Module, str, Tag | None, BatchAxis]] = []
        self.functional = False
        self._inner = _Inner(self)
        self._parameters = {id(p): (name, p) for name, p in session.root.named_parameters(remove_duplicate=True)}
        self._buffers = {id(b) for b in session.model.buffers()}
        self._calls: dict[str, int] = {}
        self._touched: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        if torch._C._current_graph_task_id() != -1:  # backward, and recomputation in it
            return func(*args, **kwargs)
        namespace, _, name = func._schema.name.partition("::")
        if torch.is_inference_mode_enabled() and name not in NAMES and func._can_decompose():
            with self._inner:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        try:
            self._follow(func, namespace, name, args, kwargs, result)
        except BadInput:
            raise
        except Exception as error:  # a TypeError here would read as one of the model's own
            raise RuntimeError(f"the meter failed at {func._schema.name}: {type(error).__name__}: {error}") from error
        return result

    # tags

    def declare(self, tensor: Tensor, tag: Tag, batch: BatchAxis | None) -> None:
        self.tags.put(tensor, tag, batch)

    def tag(self, x: Any) -> Tag:
        """The tag of a tensor or a number."""
        if not isinstance(x, Tensor):
            return constant(float(x)) if isinstance(x, int | float) else constant()
        entry = self.tags.get(x)
        if entry is not None:
            return entry.tag
        tag = self._outside(x)
        self.tags.put(x, tag, None)
        return tag

    def batch(self, x: Tensor) -> BatchAxis | None:
        entry = self.tags.get(x)
        return None if entry is None else entry.batch

    def _outside(self, x: Tensor) -> Tag:
        """A tensor that no watched operation made."""
        own = self._parameters.get(id(x))
        if own is not None and own[1] is x:
            value = _number(x)
            return constant(value, frozenset({own[0]}), True)
        if isinstance(x, nn.Parameter) or id(x) in self._buffers or x.dim() == 0 or x.numel() == 1:
            sources = frozenset({f"parameter {tuple(x.shape)}"}) if isinstance(x, nn.Parameter) else frozenset()
            return constant(_number(x), sources)
        return graded("from outside the model's call", lost=True)

    # one operation

    def _follow(self, func: Any, namespace: str, name: str, args: Any, kwargs: Any, result: Any) -> None:
        base = name.removesuffix("_") if not name.startswith("__") else name
        results = tuple(r for r in tree_leaves(result) if isinstance(r, Tensor))
        self._touch(args)
        if not results or base in _READS_NOTHING:
            return
        returns = func._schema.returns
        info = returns[0].alias_info if returns else None
        if info is not None and not info.is_write and isinstance(args[0], Tensor):
            self._alias(base, args, kwargs, results)
            return
        where = self._where(base, args)
        call = Call(base, args, kwargs, results, self.tag, where)
        if namespace == "aten" and base in NAMES:
            tags = self._linear(base, call)
        else:
            tags = follow(call, namespace)
            if base == "relu" and tags[0].level is Level.GRADED:
                self._activation(results[0], args[0])
            elif where and tags[0].origin == where and all(where not in t.born for t in call.tags()):
                self._birth(where, results[0], tags[0], args, kwargs)
        if info is not None and info.is_write:
            self._overwrite(results[0], tags[0])
            return
        for tensor, tag in zip(results, tags, strict=False):
            if not any(tensor is a for a in args):
                self.tags.put(tensor, tag, batch_of(base, args, kwargs, tensor, self.batch))

    def _alias(self, name: str, args: Any, kwargs: Any, results: tuple[Tensor, ...]) -> None:
        source = args[0]
        tag = self.tag(source)
        entry = self.tags.get(source)
        assert entry is not None
        for tensor in results:
            if tensor is not source:
                self.tags.put(tensor, tag, batch_of(name, args, kwargs, tensor, self.batch), entry.owned)

    def _overwrite(self, target: Tensor, tag: Tag) -> None:
        entry = self.tags.get(target)
        if entry is None:
            self.tags.put(target, tag, None)
        elif target.numel() >= entry.owned:
            entry.tag.become(tag.copy())
        else:
            entry.tag.become(join([entry.tag, tag]))

    def _touch(self, args: Any) -> None:
        for x in args:
            if isinstance(x, Tensor):
                own = self._parameters.get(id(x))
                if own is not None:
                    self._touched.add(own[0])
            elif isinstance(x, list | tuple):
                self._touch(x)

    # births

    def _where(self, name: str, args: Any) -> str:
        """The place of a birth: module, line of its forward, and the site that drives it."""
        if name not in _BIRTHS:
            return ""
        driver = next((t.driver for t in map(self.tag, (a for a in args if isinstance(a, Tensor))) if t.driver), "")
        frame = self.frames[-1] if self.frames else None
        path = frame.path if frame else ""
        return f"{path}:{_line(frame)}|{driver}"

    def _birth(self, where: str, y: Tensor, tag: Tag, args: Any, kwargs: Any) -> None:
        for frame in self.frames:
            frame.origins.add(where)
        if not tag.trained or not self._is_functional(where):
            return
        driver = where.rpartition("|")[2]
        axis = batch_of("gt", args, kwargs, y, self.batch)
        if axis is not None:
            name = f"spikes after {driver}" if driver else f"spikes in {where.rpartition('|')[0]}"
            self.session.populations.setdefault(where, Population(name, "spike", driver, {where}))
            self.ledger.neurons(where, "spike", driver, y, tag, axis)
            self.functional = True

    def _is_functional(self, where: str) -> bool:
        """Whether the module that runs has synapses too, so that its output is not the events."""
        frame = self.frames[-1] if self.frames else None
        if frame is None or is_cell(frame.module):
            return frame is None
        return frame.sites > 0 or len(self.frames) == 1

    def _activation(self, y: Tensor, x: Any) -> None:
        frame = self.frames[-1] if self.frames else None
        axis = self.batch(x)
        if axis is None:
            return
        driver = self.tag(x).driver
        named = frame is not None and isinstance(frame.module, NAMED_ACTIVATIONS)
        key = frame.path if frame is not None and named else f"relu after {driver}"
        self._hear_activation(key, driver, y, axis)
        if frame is not None and named:
            self.heard.append((frame.module, key, None, axis))
        else:
            self.functional = True

    def _hear_activation(self, key: str, driver: str, y: Tensor, axis: BatchAxis) -> None:
        self.session.populations.setdefault(key, Population(key, "ReLU", driver, analog=True))
        self.ledger.neurons(key, "ReLU", driver, y, None, axis)

    # sites

    def _linear(self, name: str, call: Call) -> tuple[Tag, ...]:
        parts = linear_parts(name, call.args, call.kwargs, call.results, self.tag)
        operands = call.tags()
        trained = any(t.trained for t in operands)
        for part in parts:
            if isinstance(part, Uncounted):
                frame = self.frames[-1] if self.frames else None
                self.session.miss(f"{(frame.path if frame else '') or 'model'} ({name})", part.reason)
            elif isinstance(part, Linear):
                self._site(part, call)
            else:
                self._product(part)
        if parts and all(isinstance(p, Uncounted) for p in parts):
            return (graded(f"{name} is not followed", lost=True, trained=trained),) * len(call.results)
        if not parts:
            sources = frozenset().union(*(t.sources for t in operands))
            return (constant(sources=sources, trained=trained),) * len(call.results)
        if name == "embedding":
            return (graded(trained=trained),)
        levels = [self.tag(x).level for x in call.args if isinstance(x, Tensor)]
        if isinstance(parts[0], Product) and set(levels[-2:]) == {Level.EVENT}:
            a, b = self.tag(parts[0].left), self.tag(parts[0].right)
            unit = a.unit.times(b.unit)
            signed = a.signed or b.signed
            product = Tag(Level.EVENT, unit=unit, signed=signed, trained=trained, born=a.born | b.born)
            return (product,)
        return (graded(trained=True, driver=self._last),) * len(call.results)

    _last = ""

    def _site(self, part: Linear, call: Call) -> None:
        tag, batch = self.tag(part.x), self.batch(part.x)
        if call.name == "mkldnn_rnn_layer":
            own = graded(trained=True) if part.part else self.tag(call.args[0])
            tag, batch = own, self.batch(call.args[0])
        elif call.name == "embedding":
            tag = event(BINARY, born=tag.born, trained=tag.trained)
        frame = self.frames[-1] if self.frames else None
        name = self._site_name(frame, part)
        biases = part.biases
        if frame is not None and is_linear(frame.module):  # whose bias may be added by an operation of its own
            biases = sum(p.numel() for n, p in frame.module.named_parameters() if n.endswith("bias"))
        info = self.session.site(name, part.operation, part.weight.numel(), biases)
        self._last = name
        if tag.level is Level.CONST:
            tag = self._constant_operand(tag)
        x = torch.ones_like(part.x, dtype=torch.float32) if call.name == "embedding" else part.x
        tag = self._guarded(info, tag, x)
        info.meet(tag)
        self.session.reached |= tag.born
        reach = self._reach(name, part)
        found = Found(info, tag, batch, x, reach)
        self.ledger.synapses(info, tag, x, batch, reach)
        self._remember(found, frame, x, call.name)
        if self.session.probes:
            axis = BatchAxis(0, 1) if batch is None else batch
            module = frame.module if frame is not None and found.module is not None else None
            rest = (reach.fan_out.synapses, axis, part.output, part.window, module)
            seen = SiteCall(name, part.operation, x, part.weight, part.biases > 0, *rest)
            found.call = seen._replace(x=x[:0].detach())
            for probe in self.session.probes:
                probe.site(seen)

    def _site_name(self, frame: Frame | None, part: Linear) -> str:
        sources = self.tag(part.weight).sources
        if frame is not None and is_linear(frame.module) and frame.path:
            return frame.path
        if len(sources) == 1 and not next(iter(sources)).startswith("parameter "):
            return next(iter(sources))
        path = (frame.path if frame else "") or type(self.session.root).__name__
        return f"{path}.{part.operation}{'.' + part.part if part.part else ''}@{_line(frame)}"

    def _constant_operand(self, tag: Tag) -> Tag:
        """Something computed from constants, such as a spike at rest: not a class of its own."""
        known = Tag(Level.ZERO) if tag.value == 0 else tag
        return known.copy(level=Level.CONST, trained=True)

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
        version = (id(part.weight), part.weight._version) if self.session.skip_zero_weights else None
        key = (name, part.operation, part.part, part.x.dim(), tuple(part.x.shape[-spatial:]), part.output[1:], version)
        if key not in self.session.reaches:
            self.session.reaches[key] = Reach.of(part.reach(not self.session.skip_zero_weights))
        return self.session.reaches[key]

    def _remember(self, found: Found, frame: Frame | None, x: Tensor, name: str) -> None:
        """Whether a hook on the module can count this call again: it sees the same numbers."""
        self.found.append(found)
        for f in self.frames:
            f.sites += 1
        if frame is None or frame.x is None or not is_linear(frame.module) or frame.linear_calls:
            self.functional = True
            return
        frame.linear_calls += 1
        found.module = frame.module
        entered = frame.x
        same = entered.data_ptr() == x.data_ptr() and entered.numel() == x.numel()
        if not (same and entered.is_contiguous() and x.is_contiguous()) and entered is not x:
            self.functional = True

    def _product(self, part: Product) -> None:
        tags = self.tag(part.left), self.tag(part.right)
        if part.part:  # inside fused attention: the keys are a view that no operation made
            tags = tuple(graded() if t.lost else t for t in tags)
        frame = self.frames[-1] if self.frames else None
        path = (frame.path if frame else "") or type(self.session.root).__name__
        name = f"{path}.{part.part or 'matmul'}@{_line(frame)}"
        info = self.session.site(name, "matmul of activations", 0, 0)
        self._last = name
        for tag in tags:
            self.session.reached |= tag.born
        events = [t for t in tags if t.level is Level.EVENT]
        info.meet(events[0] if events else graded(trained=any(t.trained for t in tags)))
        batch = self.batch(part.left) or self.batch(part.right)
        self.ledger.product(info, (tags[0], tags[1]), part.left, part.right, batch)
        for f in self.frames:
            f.sites += 1
        self.functional = True

    # modules

    def leave(self, frame: Frame, output: Any) -> None:
        """A module returned: is its output a population's?"""
        session, module = self.session, frame.module
        y = first_tensor(output)
        if self.ledger.samples == 1 and y is not None and frame.x is not None:
            self._same_axis(frame.x, y)
        kind = session.declared_kind(module)
        if y is not None and kind is not None:
            self.tag(y)
            origin = f"{frame.path}|declared"
            made = declared(kind, trained=True, where=origin)
            entry = self.tags.get(y)
            self.tags.put(y, made, None if entry is None else entry.batch)
            axis = self.batch(y)
            if axis is not None and made.level is Level.EVENT:
                self._hear(frame, y, made, axis, {origin})
            elif axis is not None and isinstance(module, NAMED_ACTIVATIONS):
                self._hear_activation(frame.path, self._last, y, axis)
                self.heard.append((module, frame.path, None, axis))
            return
        if y is None or isinstance(module, nn.Sequential | nn.ModuleList) or not frame.path or not frame.origins:
            return
        for tensor in (t for t in tree_leaves(output) if isinstance(t, Tensor)):
            tag, axis = self.tag(tensor), self.batch(tensor)
            fits = tag.level is Level.EVENT and tag.origin in frame.origins and tag.trained
            if fits and axis is not None and (not frame.sites or is_cell(module)):
                self._hear(frame, tensor, tag, axis, {tag.origin})
                return

    def _same_axis(self, x: Tensor, y: Tensor) -> None:
        """Of a batch of one the axes of size 1 look alike; a module keeps the batch where it was."""
        axis, entry = self.batch(x), self.tags.get(y)
        if axis is not None and entry is not None and x.dim() == y.dim() and x.shape[axis.dim] == y.shape[axis.dim]:
            entry.batch = axis

    def _hear(self, frame: Frame, y: Tensor, tag: Tag, axis: BatchAxis, origins: set[str]) -> None:
        module = frame.module
        neuron = type(getattr(module, "neuron", module) if is_cell(module) else module).__name__
        layer = next(iter(origins)).rpartition("|")[2]
        layer = self._last if layer == "declared" else layer
        population = self.session.populations.setdefault(frame.path, Population(frame.path, neuron, layer))
        population.origins |= origins
        self.ledger.neurons(frame.path, neuron, population.layer, y, tag, axis)
        self.heard.append((module, frame.path, tag, axis))

    def unseen(self, parameters_of_called: dict[str, list[str]]) -> dict[str, str]:
        """The audit: layers that were called and none of whose parameters took part in a visible operation."""
        return {
            path: "it was called, but no operation with its parameters could be seen (another thread, or opaque code)"
            for path, names in parameters_of_called.items()
            if names and not any(n in self._touched for n in names)
        }


class _Inner(TorchDispatchMode):
    """Hands the parts of a decomposed operation to the classifier."""

    def __init__(self, outer: Classifier):
        super().__init__()
        self._outer = outer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._outer.run(func, args, kwargs or {})


_BIRTHS = {
    *("gt", "ge", "lt", "le", "eq", "ne", "greater", "greater_equal", "less", "less_equal", "not_equal"),
    *("sign", "sgn", "heaviside", "round", "floor", "ceil", "trunc", "fix", "div", "floor_divide", "_to_copy"),
    *("poisson", "bernoulli", "logical_not", "logical_and", "argmax", "to"),
}


def _line(frame: Frame | None) -> int:
    """The line at which the running module's forward stands, 0 if it cannot be told."""
    if frame is None or frame.code is None:
        return 0
    f = sys._getframe(2)
    while f is not None:
        if f.f_code is frame.code:
            return f.f_lineno
        f = f.f_back
    return 0


def _number(x: Tensor) -> float | None:
    """The value of a tensor of one element, read once."""
    if x.numel() != 1 or x.dtype.is_complex or x.is_meta:
        return None
    with _disable_current_modes():
        return float(x.detach())
