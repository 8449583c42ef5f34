"""What the tests of the meter share: one metered pass as plain rows, and brute force with weights of one."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.energy.count import QUANTITIES, per_sample
from picojoule.graph import Activity
from picojoule.kinds import Events
from picojoule.metering import Meter, meter


class Row(NamedTuple):
    """One layer of one pass: the quantum of its events (None: values), and the operations of each sample."""

    quantum: float | None
    acs: list[float]
    macs: list[float]
    dense: float
    reason: str = ""

    @property
    def operations(self) -> list[float]:
        return self.macs if self.quantum is None else self.acs


def rows(activity: Activity) -> dict[str, Row]:
    """The counts of an activity, layer by layer."""
    found = {}
    kinds = {r.site.name: r.site.kind for r in activity.synapses}
    for name, table in per_sample(activity).items():
        quantities = {q: table[i].detach().tolist() for i, q in enumerate(QUANTITIES)}
        kind = kinds[name]
        quantum, reason = (kind.quantum, "") if isinstance(kind, Events) else (None, kind.reason)
        found[name] = Row(quantum, quantities["acs"], quantities["macs"], quantities["synapses"][0], reason)
    return found


def metered(model: nn.Module, *args: Any, **options: Any) -> tuple[dict[str, Row], Meter]:
    """The rows of one call without gradients, and the meter."""
    with torch.no_grad(), meter(model, **options) as m:
        model(*args)
        return rows(m.activity()), m


def counted(model: nn.Module, *args: Any, **options: Any) -> dict[str, Row]:
    """The rows of one call without gradients."""
    return metered(model, *args, **options)[0]


def with_ones(layer: nn.Module) -> nn.Module:
    """The layer in float64, with weights one and no bias."""
    ones = deepcopy(layer, {id(layer._forward_hooks): {}, id(layer._forward_pre_hooks): {}}).double()
    for name, parameter in ones.named_parameters():
        nn.init.constant_(parameter, 0.0 if "bias" in name else 1.0)
    return ones


def reached(layer: nn.Module, n: Tensor) -> list[float]:
    """Synaptic operations of each sample of |n| `[B, ...]`: the layer with ones is the convolution with ones."""
    with torch.no_grad():
        return with_ones(layer)(n.detach().double().abs()).flatten(1).sum(1).tolist()


def entered(model: nn.Module, layer: nn.Module, *args: Any) -> list[Tensor]:
    """What enters a layer in an unmetered pass, call by call."""
    found: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: found.append(given[0].detach().clone()))
    with torch.no_grad():
        model(*args)
    handle.remove()
    return found


def expected(model: nn.Module, layer: nn.Module, quantum: float | None, *args: Any) -> list[float]:
    """Operations of each sample at a layer, from what enters it in an unmetered pass: all calls together."""
    total: Tensor | float = 0.0
    for x in entered(model, layer, *args):
        n = (x != 0) if quantum is None else (x / quantum).round()
        total = total + torch.tensor(reached(layer, n))
    assert isinstance(total, Tensor)
    return total.tolist()


class Through(nn.Module):
    """`layer(transform(x))`: what enters the layer is what the transform makes."""

    def __init__(self, transform: Callable[..., Tensor], layer: nn.Module | None = None, **parts: nn.Module):
        super().__init__()
        self.transform = transform
        self.layer = nn.Linear(6, 5) if layer is None else layer
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.transform(x))
