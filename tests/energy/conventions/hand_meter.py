"""A meter of linear modules built by hand, so that the conventions are tested apart from picojoule's meter."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from picojoule.energy.conventions import CONVENTIONS, ConventionReport, Conventions
from picojoule.energy.count import OpCounts, count
from picojoule.graph.fan_out import fan_out
from picojoule.graph.linear import with_ones
from picojoule.graph.records import Activity, NeuronRecord, Site, SynapseRecord
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Kind, Values
from picojoule.metering.call import SiteCall, Window

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class HandMeter:
    """Runs batches `[B, ...]` through a model, every linear module of which becomes a site.

    `kinds` says what enters which layer (Values where it does not); the batch is axis 0 of every layer's input, with
    `folds` steps in it.
    """

    def __init__(self, model: nn.Module, kinds: Mapping[str, Kind], folds: int = 1):
        self.model, self.kinds, self.folds = model, kinds, folds
        self.records: list[SynapseRecord] = []
        self.probe: Conventions | None = None

    def run(self, batches: Iterable[Tensor], names: Iterable[str] = CONVENTIONS, timesteps: int = 1) -> Any:
        """The reports by name, and the exact counts."""
        whole: OpCounts | None = None
        with ExitStack() as stack, torch.no_grad():
            self.probe = stack.enter_context(Conventions(names, self.model))
            for name, module in self.model.named_modules():
                if isinstance(module, LINEAR):
                    stack.callback(module.register_forward_hook(self._hook(name or "model")).remove)
            for batch in batches:
                samples, self.records = len(batch) // self.folds, []
                self.model(batch)
                records = self.records or [_nothing(samples)]
                counted = count(Activity(tuple(records), (_clock(timesteps),), samples))
                whole = counted if whole is None else whole + counted
                self.probe.end_batch(samples)
        assert whole is not None
        return self.probe.results(whole), whole

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            call = site_call(name, module, args[0], out, self.folds)
            assert self.probe is not None
            self.probe.site(call)
            self.records.append(exact_record(call, self.kinds.get(name, Values())))

        return hook


def measure(
    model: nn.Module, x: Tensor, kinds: Mapping[str, Kind], names: Iterable[str] = CONVENTIONS
) -> dict[str, ConventionReport]:
    """The reports for one batch."""
    return HandMeter(model, kinds).run([x], names)[0]


def site_call(name: str, module: Any, x: Tensor, out: Tensor, folds: int = 1) -> SiteCall:
    """What a meter would say of one call of a linear module."""
    window = None
    if not isinstance(module, nn.Linear):
        transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        window = Window(module.stride, module.padding, module.dilation, module.groups, transposed)
    synapses = fan_out(with_ones(module), (1, *x.shape[1:])).synapses
    biased = module.bias is not None
    kind, axis = type(module).__name__, BatchAxis(0, folds)
    return SiteCall(name, kind, x, module.weight, biased, synapses, axis, out.shape, window, module)


def exact_record(call: SiteCall, kind: Kind) -> SynapseRecord:
    """The exact record of a call whose batch is axis 0, from its definition."""
    x, folds = call.x.double(), call.batch.folds

    def per_sample(values: Tensor) -> Tensor:
        return values.flatten(1).sum(1).unflatten(0, (folds, -1)).sum(0)

    n = (x / kind.quantum).abs().round() if isinstance(kind, Events) else (x != 0).double()
    reached, nonzero = per_sample(n * call.synapses), per_sample((n != 0) * call.synapses)
    none = torch.zeros_like(reached)
    acs, graded, macs = (reached, nonzero, none) if isinstance(kind, Events) else (none, none, nonzero)
    samples = len(x) // folds
    dense = float(call.synapses.expand(x.shape).sum()) / samples
    assert call.weight is not None
    site = Site(call.name, call.operation, kind, True, call.weight.numel(), int(call.biased))
    sizes = (x.numel() / samples, call.output_shape.numel() / samples)
    return SynapseRecord(site, acs, graded, macs, per_sample(n), acs.sum()[None], dense, *sizes, None)


def _nothing(samples: int) -> SynapseRecord:
    """The record of a model without linear layers."""
    none = torch.zeros(samples, dtype=torch.float64)
    return SynapseRecord(Site("nothing", "nothing", Values(), False), none, none, none, none, none[:1], 0, 0, 0, None)


def _clock(timesteps: int) -> NeuronRecord:
    """A silent population whose only purpose is to say how many time steps there were."""
    silent = torch.zeros(1, dtype=torch.float64)
    return NeuronRecord("clock", "Clock", silent, silent, silent, silent, 0.0, timesteps)
