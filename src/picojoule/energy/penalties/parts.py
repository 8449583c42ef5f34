"""What penalties are made of: the synapses and the populations that training can change."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from picojoule.errors import BadInput, check_number, unknown_name
from picojoule.graph import Activity
from picojoule.graph.records import NeuronRecord, Operand, SynapseRecord
from picojoule.graph.shapes import BatchAxis

Strengths = Mapping[str, float]
"""Factors by layer name; layers that are not named have 1."""


def penalised_synapses(activity: Activity) -> list[SynapseRecord]:
    """The records of synapses that hidden events enter. Raises BadInput if there are none."""
    _check_activity(activity)
    records = activity.penalisable()
    if not records:
        raise BadInput("nothing to penalise: no trained neuron's events enter a synapse of this model")
    return records


def penalised_populations(activity: Activity) -> dict[str, list[NeuronRecord]]:
    """The hidden populations, each with the records of its calls. Raises BadInput if there are none."""
    _check_activity(activity)
    found = {name: records for name, records in _populations(activity).items() if any(n.hidden for n in records)}
    if not found:
        raise BadInput("nothing to penalise: no spiking neurons of this model send events into a synapse")
    return found


def timesteps_of(activity: Activity) -> int:
    """Time steps of the longest-running population, those of a loop in the user's code included; 1 without neurons."""
    return max((sum(n.steps for n in records) for records in _populations(activity).values()), default=1)


def live_operand(record: SynapseRecord) -> Operand:
    """The events that entered, as autograd sees them. Raises BadInput outside training."""
    if record.operand is None and record.acs.requires_grad:
        raise BadInput(
            f"{record.site.name}: this penalty needs the events of single neurons, which a product of two activations "
            "and a tensor without a batch axis do not give; choose one of the neurons, or p=1 with exact fan-out"
        )
    if record.operand is None:
        raise BadInput("this penalty needs live events: run the observed model with gradients on")
    return record.operand


def without_rest(records: list[SynapseRecord]) -> list[SynapseRecord]:
    """The records without calls that no event entered and autograd does not see: a state at rest, before any input."""
    live = {r.site.name for r in records if r.operand is not None}
    return [r for r in records if r.operand is not None or r.site.name not in live or bool(r.active.any())]


class Entered(NamedTuple):
    """The events that entered a site, live, `[T, B, *N]`, and their fan-out, which broadcasts to `[B, *N]`."""

    name: str
    train: Tensor
    fan_out: Tensor


def entered_sites(records: list[SynapseRecord]) -> list[Entered]:
    """The trains that entered sites. Calls of one site are its steps, unless each has several steps of its own.

    Raises BadInput outside training.
    """
    found: dict[tuple[str, torch.Size], list[Entered]] = {}
    for record in without_rest(records):
        calls, synapses, batch = live_operand(record)
        train = _joined([batch.by_step(n) for n in calls])
        entered = Entered(record.site.name, train, fan_out_of_sample(synapses, batch))
        found.setdefault((entered.name, train.shape[1:]), []).append(entered)
    together: list[Entered] = []
    for calls in found.values():
        steps = {len(call.train) for call in calls}
        whole = len(steps) == 1 and steps != {1}
        together += calls if whole else [calls[0]._replace(train=_joined([call.train for call in calls]))]
    return together


def fan_out_of_sample(synapses: Tensor, batch: BatchAxis) -> Tensor:
    """The fan-out map of an operand `[T, B, ...]` (or with time folded) for one step: it broadcasts to `[B, *N]`."""
    return synapses[0] if batch == BatchAxis(1, 1) else synapses.movedim(batch.dim, 0)


def wide(x: Tensor) -> Tensor:
    """Event numbers in float32 at least, in which their squares are exact."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sent_by(records: list[NeuronRecord]) -> Tensor:
    """What each neuron of a population sent, live, `[B, *N]`. Raises BadInput outside training."""
    name = records[0].name
    parts = [n.sent for n in records if n.sent is not None]
    if len(parts) < len(records):
        if any(n.active is not None for n in records):
            raise BadInput(f"{name}: this penalty needs live events: run the observed model with gradients on")
        raise BadInput(
            f"{name}: its events are made outside a neuron module, or changed in place, and not kept; put the spikes "
            "into a module of their own, or penalise at the synapses (synaptic_penalty, weight='fan-out')"
        )
    return sum(parts[1:], parts[0])


def train_of(records: list[NeuronRecord]) -> Tensor:
    """What a population sent and when, live, `[T, B, *N]`. Raises BadInput where the events are not kept."""
    if all(n.steps == 1 for n in records):
        return torch.stack([sent_by([n]) for n in records])
    whole = sent_by(records)
    trains = [n.train for n in records if n.train is not None]
    if len(trains) < len(records):
        raise BadInput(
            f"{records[0].name}: this penalty needs the events of every step, which pooling in one kernel does not "
            "keep; fuse with fused(observed, pools=False)"
        )
    train = _joined(trains)
    if not torch.equal(train.detach().sum(0, dtype=whole.dtype), whole.detach()):
        raise BadInput(
            f"{records[0].name}: the events that it sent were changed in place after they were counted, so that no "
            "penalty can be made of them; replace the operation in place (inplace=False)"
        )
    return train


def factors(names: Iterable[str], strengths: Strengths | None) -> list[float]:
    """The factor of each layer. Raises BadInput for a strength of a layer that is not there, or below 0."""
    names = list(names)
    if not isinstance(strengths, Mapping | None):
        raise BadInput(f"expected strengths by layer name, such as {{{names[0]!r}: 0.5}}, got {strengths!r}")
    for name, factor in (strengths or {}).items():
        if name not in names:
            raise unknown_name("penalised layer", str(name), names)
        check_number(f"the strength of layer {name}", factor)
        if not 0 <= factor < float("inf"):
            raise BadInput(f"expected a strength of at least 0 for layer {name}, got {factor}")
    return [(strengths or {}).get(name, 1.0) for name in names]


def batch_mean(x: Tensor) -> Tensor:
    """Mean of `x` `[B, ...]` over the batch, of all processes together where there are several.

    Its gradient is that of this process's own mean: processes average gradients, which makes it that of the whole.
    """
    own = x.mean(0, dtype=torch.promote_types(x.dtype, torch.float32))
    if not (dist.is_available() and dist.is_initialized()):
        return own
    total = torch.cat([own.detach().flatten().double() * len(x), own.new_tensor([len(x)], dtype=torch.float64)])
    dist.all_reduce(total)
    whole = (total[:-1] / total[-1]).reshape(own.shape).to(own.dtype)
    return own + (whole - own).detach()


def _check_activity(activity: object) -> None:
    if not isinstance(activity, Activity):
        raise BadInput(
            f"expected the activity of pj.observe or pj.meter, got {type(activity).__name__}; pass what they return "
            "beside the output"
        )


def _populations(activity: Activity) -> dict[str, list[NeuronRecord]]:
    """The spiking populations by name, hidden or not, each with the records of its calls in order.

    Calls of one part behind different layers are populations of their own if there are equally many of each; if not,
    they are steps of one: a recurrent neuron may be driven by its input alone in the first step.
    """
    parts: dict[tuple[str, torch.Size], list[NeuronRecord]] = {}
    for n in activity.neurons:
        if n.updates:
            parts.setdefault((n.module or n.name, n.events.shape), []).append(n)
    named: dict[str, list[NeuronRecord]] = {}
    for calls in parts.values():
        layers: dict[str, list[NeuronRecord]] = {}
        for n in calls:
            layers.setdefault(n.layer, []).append(n)
        equal = len({sum(n.steps for n in records) for records in layers.values()}) == 1
        for records in layers.values() if equal else [calls]:
            named[_free(records[0].name, named)] = records
    return named


def _joined(trains: list[Tensor]) -> Tensor:
    """Trains one after the other; of a single one no copy is made."""
    return torch.cat(trains) if len(trains) > 1 else trains[0]


def _free(name: str, taken: Iterable[str]) -> str:
    """`name`, with a number if it is taken."""
    taken, free, number = set(taken), name, 1
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free
