"""Classify: run a model with every operation watched, follow where events come from, and count exactly.

A dispatch mode sees the operations below autograd, whoever calls them: modules, functions, custom autograd
functions, scripted code. It changes none of them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from picojoule.errors import BadInput
from picojoule.kernels.native.library import using
from picojoule.metering.algebra import join
from picojoule.metering.batch_rules import axis_in_base, batch_of
from picojoule.metering.ledger import Ledger
from picojoule.metering.linear import NAMES
from picojoule.metering.populations import BIRTHS, Populations
from picojoule.metering.rules import OPAQUE, Call, follow, tensors_in
from picojoule.metering.run import Pass
from picojoule.metering.session import Session
from picojoule.metering.sites import Sites
from picojoule.metering.tag import Level, Tag, Tags, graded

_READS = {"_local_scalar_dense", "item", "is_nonzero", "equal"}
"""They hand data to Python, so that what a model computes may depend on it: hooks cannot count such a model."""
_FOLLOWED = {"aten", "prims", "prim", "profiler"}


class _About(NamedTuple):
    """What is fixed for a torch operation: its name without the mark of in-place writing, and how it returns."""

    namespace: str
    name: str
    aliases: bool
    writes: bool
    linear: bool
    decomposes: bool
    mutates: bool


_KNOWN: dict[Any, _About] = {}


def _about(func: Any) -> _About:
    namespace, _, name = func._schema.name.partition("::")
    returns = func._schema.returns
    info = returns[0].alias_info if returns else None
    base = name if name.startswith("__") else name.removesuffix("_")
    linear = namespace == "aten" and base in NAMES
    aliases, writes = info is not None and not info.is_write, info is not None and info.is_write
    mutates = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
    found = _About(namespace, base, aliases, writes, linear, not linear and func._can_decompose(), mutates)
    return _KNOWN.setdefault(func, found)


class Classifier(TorchDispatchMode):
    """One classified pass. Enter it around the model's call; the hooks of the meter keep `run.frames`.

    Our own neurons run their reference path meanwhile, in which every operation can be followed.
    """

    def __init__(self, session: Session, tags: Tags, ledger: Ledger):
        super().__init__()
        self.run = Pass(session, tags, ledger)
        self.sites, self.populations = Sites(self.run), Populations(self.run)
        self._inner = _Inner(self)
        self._compared: dict[str, int] = {}
        self._followable = using("reference")

    def __enter__(self) -> "Classifier":
        self._followable.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._followable.__exit__(None, None, None)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Compiled code runs eagerly under the meter anyhow; the default would load the compiler for nothing."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.watch(func, args, kwargs or {})

    def watch(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation, and follow it."""
        if torch._C._current_graph_task_id() != -1:  # backward, and recomputation in it
            return func(*args, **kwargs)
        about = _KNOWN.get(func) or _about(func)
        if torch.is_inference_mode_enabled() and about.decomposes:
            with self._inner:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        try:
            self._follow(about, args, kwargs, result)
        except BadInput:
            raise
        except Exception as error:  # a TypeError here would read as one of the model's own
            raise RuntimeError(f"the meter failed at {func._schema.name}: {type(error).__name__}: {error}") from error
        return result

    def _follow(self, about: _About, args: Any, kwargs: Any, result: Any) -> None:
        base = about.name
        results = (result,) if isinstance(result, Tensor) else tensors_in((result,))
        if base in _READS:
            self.run.functional |= any(not self.run.tag(t).is_constant for t in tensors_in(args))
            return
        if not results:
            self._changed(about, args)
            return
        if about.aliases and isinstance(args[0], Tensor):
            self._alias(base, args, kwargs, results)
            return
        born_here = base in BIRTHS or f"{about.namespace}::{base}" in OPAQUE
        where = self.populations.place(args) if born_here else ""
        if where:
            self._check_numbers(where, args[0])
        call = Call(base, args, kwargs, results, self.run.tag, where)
        if about.linear:
            tags = self.sites.follow(base, call)
        else:
            tags = follow(call, about.namespace)
            if about.namespace not in _FOLLOWED and any(t.lost for t in tags):
                name = f"{self.run.place} ({about.namespace}::{base})"
                self.run.session.miss(name, "an operation from outside torch, which may multiply; no rule counts it")
            if base == "mul" and self._is_product(call):
                name = f"{self.run.place} (mul)"
                self.run.session.miss(name, "a product that is written as a broadcast multiplication is not counted")
            if base == "relu" and tags[0].level is Level.GRADED:
                self.populations.activation(results[0], args[0])
            elif where and tags[0].origin == where and all(where not in t.born for t in call.tags()):
                self.populations.born(where, results[0], tags[0], args, kwargs)
        if about.writes:
            self._overwrite(results[0], tags[0])
            written = self.run.tags.get(results[0])
            if written is not None and written.batch is None:
                written.settle(batch_of("copy", args[1:], kwargs, results[0], self.run.batch))
            return
        for tensor, tag in zip(results, tags, strict=False):
            if all(tensor is not a for a in args):
                self.run.tags.put(tensor, tag, batch_of(base, args, kwargs, tensor, self.run.batch))

    def _changed(self, about: _About, args: Any) -> None:
        """An operation that returns nothing may have written into its arguments."""
        for tensor in tensors_in(args) if about.mutates else ():
            if not self.run.tag(tensor).sources:
                trained = self.run.tag(tensor).trained
                self._overwrite(tensor, graded(f"{about.name} wrote into it", lost=True, trained=trained))

    def _is_product(self, call: Call) -> bool:
        """Whether a multiplication spreads activations over weights, or over others, as matrix products do."""
        operands = [x for x in call.args[:2] if isinstance(x, Tensor)]
        tags = [self.run.tag(x) for x in operands]
        if len(tags) < 2 or all(t.is_constant for t in tags):
            return False
        weights = any(t.sources and x.dim() > 1 for t, x in zip(tags, operands, strict=True))
        activations = all(t.level > Level.CONST for t in tags)
        entered = max(x.numel() for x, t in zip(operands, tags, strict=True) if not t.is_constant)
        grown = call.results[0].numel() > entered
        return grown and (weights or activations)

    def _check_numbers(self, where: str, x: Any) -> None:
        """NaN would compare as silence."""
        number = self._compared[where] = self._compared.get(where, 0) + 1
        if not number & (number - 1) and isinstance(x, Tensor) and x.is_floating_point():
            with torch._C._DisableTorchDispatch():
                if bool(torch.isnan(x.detach().sum())):
                    raise BadInput(f"expected numbers at {where.partition('|')[0]}, got NaN; check inputs and weights")

    def _alias(self, name: str, args: Any, kwargs: Any, results: tuple[Tensor, ...]) -> None:
        source = args[0]
        self.run.tag(source)
        entry = self.run.tags.get(source)
        assert entry is not None
        for tensor in results:
            if tensor is not source:
                whole = name in ("detach", "alias")
                part = (
                    entry.part if whole else hash((entry.part, tensor.storage_offset(), tensor.shape, tensor.stride()))
                )
                axis = batch_of(name, args, kwargs, tensor, self.run.batch)
                view = self.run.tags.put(tensor, entry.memory, axis, part)
                if entry.batch is None:
                    view.base, view.axis_in_base = entry, axis_in_base(name, args, tensor.shape)

    def _overwrite(self, target: Tensor, tag: Tag) -> None:
        entry = self.run.tags.get(target)
        if entry is None:
            self.run.tags.put(target, tag, None)
        elif target.numel() >= entry.memory.elements:
            entry.memory.tag = tag
        else:
            entry.memory.tag = join([entry.memory.tag, tag])

    def unseen(self) -> dict[str, str]:
        """The audit below the first mechanism: weights of modules that ran, in no operation that was seen."""
        return {
            f"{path}.{name}" if path else name: "no operation with it was seen: unused, or used in opaque code"
            for module, path in self.run.session.paths.items()
            if module in self.run.called
            for name, p in module.named_parameters(recurse=False)
            if p.dim() > 1 and self.run.tags.get(p) is None
        }


class _Inner(TorchDispatchMode):
    """Hands the parts of a decomposed operation to the classifier."""

    def __init__(self, outer: Classifier):
        super().__init__()
        self._outer = outer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._outer.watch(func, args, kwargs or {})
