"""The meter: `with pj.meter(model) as m: ...` counts what the model computes, while it runs and whatever it is.

The first call is classified (every operation watched), calls like it are counted by hooks on the layers where
classification found the synapses. Both yield the same records as `observe`.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from picojoule.errors import BadInput, UncountedLayer
from picojoule.graph import Activity, Site
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Kind, Values
from picojoule.metering.call import Probe
from picojoule.metering.classify import Classifier
from picojoule.metering.ledger import ChangedPath, Ledger
from picojoule.metering.populations import Heard
from picojoule.metering.rules import declared
from picojoule.metering.run import Frame
from picojoule.metering.session import Session, clean, first_tensor
from picojoule.metering.sites import Found
from picojoule.metering.tag import Level, Tags
from picojoule.neurons import Diffused

_AUDIT_EVERY = 32


class _Plan:
    """What hooks count at calls like the one that was classified."""

    def __init__(self, classifier: Classifier, populations: dict[str, str]):
        self.sites: dict[nn.Module, list[Found]] = {}
        for found in classifier.sites.found:
            assert found.module is not None
            calls = self.sites.setdefault(found.module, [])
            calls.append(calls[-1] if calls and calls[-1].counts_like(found) else found)
        self.heard: dict[nn.Module, list[Heard]] = {}
        for heard in classifier.populations.heard:
            if heard.key in populations:
                self.heard.setdefault(heard.module, []).append(heard)


class _Hook:
    """A hook that does nothing on copies of the model."""

    def __init__(self, run: Callable[..., None]):
        self._run = run

    def __call__(self, *given: Any) -> None:
        self._run(*given)

    def __deepcopy__(self, memo: Any) -> "_Hook":
        return _Hook(lambda *given: None)


class Meter:
    """Counts the operations of a model while it runs; made by `meter`.

    One call of the model is one presentation of a batch, unless `steps_outside`: then all calls until `activity()`
    present time steps of the same samples.
    """

    def __init__(self, session: Session, steps_outside: bool, quick: bool):
        self._session, self._steps_outside, self._quick = session, steps_outside, quick
        self._tags = Tags()
        self._plans: dict[Any, _Plan] = {}
        self._ledger: Ledger | None = None
        self._classifier: Classifier | None = None
        self._plan: _Plan | None = None
        self._calls: dict[nn.Module, int] = {}
        self._depth = self._presented = self._dim = 0
        self._handles: list[Any] = []
        self._changed = ""
        self._heights: tuple[float, ...] = ()
        self._handled: list[Any] = []

    # what a user reads

    def activity(self) -> Activity:
        """The records of the last presentation; live in training, so that penalties can be made of it.

        Raises BadInput if the model was not called since, or did nothing that could be counted.
        """
        if self._ledger is None:
            raise BadInput("nothing was metered: call the model inside `with pj.meter(model)` before activity()")
        ledger, self._ledger = self._ledger, None
        try:
            found = ledger.activity(self._session.populations_named(), self._session.hidden())
        except ChangedPath:
            self._plans.clear()
            raise
        if not found.synapses:
            why = self.uncounted[0] if self.uncounted else "does it run in another process, or as an exported program?"
            raise BadInput(f"no linear operation of {type(self._session.root).__name__} could be counted: {why}")
        return found

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where synapses act, as far as seen."""
        return tuple(info.site() for info in self._session.sites.values())

    @property
    def uncounted(self) -> tuple[str, ...]:
        """What could not be counted, or was counted as values because its origin could not be followed."""
        found = [f"{name}: {reason}" for name, reason in self._session.uncounted.items()]
        for info in self._session.sites.values():
            if info.lost:
                found.append(f"{info.name}: counted as values, since {'; '.join(sorted(info.lost))}")
            if info.varies:
                found.append(
                    f"{info.name}: counted as values, since events enter at some of its calls, values at others"
                )
            if info.level is Level.CONST:
                found.append(
                    f"{info.name}: counted as values, since what enters is from outside the call (state that was kept?)"
                )
        return tuple(found)

    # hooks

    def _install(self) -> None:
        for module in self._session.model.modules():
            if isinstance(module, torch.jit.ScriptModule):  # it takes no hooks; its operations are seen all the same
                continue
            enter = module.register_forward_pre_hook(_Hook(self._enter), prepend=True, with_kwargs=True)
            leave = module.register_forward_hook(_Hook(self._leave), with_kwargs=True, always_call=True)
            self._handles += [enter, leave]

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._abandon()
        self._tags.clear()
        self._plans.clear()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if torch._C._current_graph_task_id() != -1:
            return
        if module is self._session.model:
            self._abandon()  # what an interrupt left behind
        if not self._depth:
            self._check_whole(module)
            self._begin(args, kwargs)
        self._depth += 1
        self._handled.append(sys.exc_info()[1])
        if self._classifier is not None:
            path = self._session.paths.get(module, "")
            self._classifier.run.called.add(module)
            self._classifier.run.frames.append(Frame(module, path, first_tensor((args, kwargs))))
        elif self._plan is not None and module in self._plan.sites:
            self._count(module, args, kwargs)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if torch._C._current_graph_task_id() != -1 or not self._depth:
            return
        self._depth -= 1
        failed = output is None and sys.exc_info()[1] is not self._handled.pop()
        try:
            if self._classifier is not None:
                frames = self._classifier.run.frames
                frame = frames.pop()
                if frames:
                    frames[-1].origins |= frame.origins
                if not failed:
                    with torch._C._DisableTorchDispatch():  # what the meter computes is not the model's
                        self._classifier.populations.leave(frame, output)
            elif self._plan is not None and module in self._plan.heard and not failed:
                self._listen_to(module, output)
        finally:
            if self._depth == 0:
                self._end(output, failed)

    def _check_whole(self, module: nn.Module) -> None:
        if module is not self._session.model and not self._steps_outside:
            name = self._session.paths.get(module) or type(module).__name__
            raise BadInput(
                f"expected calls of the whole model inside `with pj.meter(model)`, got one of its part {name}; call "
                "the model itself, meter the part, or give steps_outside=True if all calls until activity() belong "
                "together"
            )

    def _abandon(self) -> None:
        """Forget a call that never came to its end."""
        classifier, self._classifier = self._classifier, None
        if classifier is not None:
            classifier.__exit__(None, None, None)
        if self._depth:
            self._ledger = None
        self._depth, self._plan = 0, None
        self._handled.clear()

    def _begin(self, args: Any, kwargs: Any) -> None:
        session = self._session
        x = first_tensor((args, kwargs))
        dim = session.batch_dim
        if x is None:
            raise BadInput(f"expected a tensor among the inputs of {type(session.root).__name__}, got none")
        if not -x.dim() <= dim < x.dim():
            raise BadInput(f"expected inputs with a batch axis {dim}, got shape {tuple(x.shape)}; give batch_dim")
        dim = dim % x.dim()
        samples = x.shape[dim]
        if not samples:
            raise BadInput(f"expected at least one sample, got inputs of shape {tuple(x.shape)}")
        if self._ledger is None or not self._steps_outside:
            self._ledger = Ledger(samples, torch.is_grad_enabled())
        elif self._ledger.samples != samples:
            raise BadInput(
                f"expected {self._ledger.samples} samples at every step, got {samples}; call activity() between"
            )
        self._presented, self._dim = self._presented + 1, dim
        self._calls.clear()
        self._changed = ""
        key = self._signature(args, kwargs)
        self._plan = self._plans.get(key) if self._quick and self._presented % _AUDIT_EVERY else None
        if self._plan is not None:
            return
        self._classifier = Classifier(session, self._tags, self._ledger)
        kind = session.inputs
        if x.dtype is torch.bool and isinstance(kind, Values):
            kind = Events(most=1)
        self._tags.put(x, declared(kind), BatchAxis(dim, 1))
        self._classifier.__enter__()

    def _end(self, output: Any, failed: bool) -> None:
        classifier, self._classifier = self._classifier, None
        plan, self._plan = self._plan, None
        if classifier is not None:
            classifier.__exit__(None, None, None)
        if failed:
            self._ledger = None
            return
        if classifier is not None:
            self._learn(classifier, output)
        elif plan is not None:
            missing = [m for m, calls in plan.sites.items() if self._calls.get(m, 0) != len(calls)]
            if missing and not self._changed:
                name = self._session.paths.get(missing[0], "")
                expected, got = len(plan.sites[missing[0]]), self._calls.get(missing[0], 0)
                self._changed = f"{name} ran {got} times, {expected} times when it was classified"
            if self._changed:
                self._plans.clear()
                self._ledger = None
                raise ChangedPath(
                    f"{type(self._session.root).__name__} took another path than in an earlier batch "
                    f"({self._changed}); give quick=False, so that every batch is classified"
                )

    def _learn(self, classifier: Classifier, output: Any) -> None:
        session = self._session
        for tensor in (t for t in tree_leaves(output) if isinstance(t, Tensor)):
            session.left |= classifier.run.tag(tensor).born
        for name, reason in classifier.unseen().items():
            session.miss(clean(name), reason)
        if not classifier.run.functional and not self._steps_outside and classifier.run.ledger.samples > 1:
            self._plans[self._key] = _Plan(classifier, session.populations_named())

    def _signature(self, args: Any, kwargs: Any) -> Any:
        """Calls with the same signature are taken to compute the same; the batch may have any size."""
        dim = self._dim
        given = tuple(
            (*t.shape[:dim], *t.shape[dim + 1 :], t.dtype) if isinstance(t, Tensor) else repr(t)
            for t in tree_leaves((args, kwargs))
        )
        modes = tuple(m.training for m in self._session.paths)
        heights = tuple(m.emits.quantum for m in self._session.paths if isinstance(m, Diffused))
        if heights != self._heights:
            self._plans.clear()
            self._heights = heights
        self._key = (given, modes, torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        return self._key

    # counting by hooks

    def _count(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        assert self._plan is not None and self._ledger is not None
        calls = self._plan.sites[module]
        number = self._calls[module] = self._calls.get(module, 0) + 1
        found = calls[min(number, len(calls)) - 1]
        x = first_tensor((args, kwargs))
        if x is None or tuple(x.shape[x.dim() - len(found.tail) :]) != found.tail:
            shape = None if x is None else tuple(x.shape)
            self._changed = self._changed or f"{found.info.name} got an input of shape {shape}"
            return
        if x.dim() != len(found.tail) + 1:
            x = x.reshape(-1, *found.tail)
        self._ledger.synapses(found.info, found.tag, x, found.batch, found.reach)

    def _listen_to(self, module: nn.Module, output: Any) -> None:
        assert self._plan is not None and self._ledger is not None
        heard = self._plan.heard[module]
        number = self._calls[module] = self._calls.get(module, 0) + 1
        now = heard[min(number, len(heard)) - 1]
        y = first_tensor(output)
        if y is not None:
            neuron = self._session.populations[now.key].neuron
            self._ledger.neurons(now.key, neuron, now.layer, *now.arranged(y), of_one=now.updates)


def _types(name: str, given: Any) -> tuple[type[nn.Module], ...]:
    found = (given,) if isinstance(given, type) else tuple(given)
    for kind in found:
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            got = kind.__name__ if isinstance(kind, type) else f"an instance of {type(kind).__name__}"
            raise BadInput(f"expected types of modules after {name}, such as {name}=(MyNeuron,), got {got}")
    return found


@contextlib.contextmanager
def meter(
    model: nn.Module,
    inputs: Kind = Values(),  # noqa: B008  (frozen)
    batch_dim: int = 0,
    *,
    spiking: Sequence[type[nn.Module]] = (),
    values: Sequence[type[nn.Module]] = (),
    strict: bool = False,
    steps_outside: bool = False,
    skip_zero_weights: bool = False,
    quick: bool = True,
    probes: Sequence[Probe] = (),
) -> Any:
    """Count every synaptic operation of any torch model while it is called inside the context.

    `inputs` is the kind of the model's first tensor, `batch_dim` its batch axis. `spiking` and `values` name module
    types whose output is stated to be unit events, or values, rather than followed. `strict` raises
    UncountedLayer at the end of the context, or of a call, when something could not be counted. `steps_outside`
    says that one call is one time step. With `quick=False` every call is classified. Zero weights are synapses
    unless `skip_zero_weights`. With `probes` every call is classified, too.

    The model computes what it computes without the meter; hooks are gone afterwards. Outputs and gradients are the
    same bit by bit. Yields a `Meter`.
    """
    if not isinstance(model, nn.Module):
        raise BadInput(f"expected a torch module to meter, got {type(model).__name__}")
    if any(isinstance(m, nn.DataParallel) for m in model.modules()):
        raise BadInput("expected a model in one thread, got DataParallel; meter the model inside it (`.module`)")
    if isinstance(model, torch.jit.ScriptModule):
        raise BadInput("expected a module that takes hooks, got a scripted one; put it into nn.Sequential to meter it")
    if not isinstance(inputs, Values | Events):
        raise BadInput(f"expected inputs=pj.Values() or pj.Events(), the kind of the inputs, got {inputs!r}")
    spiking, values = _types("spiking", spiking), _types("values", values)
    if any(is_lazy(p) for p in model.parameters()):
        raise BadInput(f"expected initialised parameters, got a lazy {type(model).__name__}; call it once before")
    kinds = [(k, Events(most=1)) for k in spiking] + [(k, Values("declared as values")) for k in values]
    session = Session(model, inputs, batch_dim, kinds, skip_zero_weights, probes)
    found = Meter(session, steps_outside, quick and not probes)
    stance = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    with stance:
        found._install()
        try:
            yield found
        finally:
            found._remove()
    if strict and found.uncounted:
        raise UncountedLayer(f"cannot count every operation of {type(model).__name__}: {found.uncounted[0]}")
