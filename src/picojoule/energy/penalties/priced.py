"""The energy penalty: what any price list says a forward pass costs, as a loss."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.energy.count import QUANTITIES, OpCounts, count
from picojoule.energy.penalties.parts import timesteps_of
from picojoule.energy.price import Hardware
from picojoule.energy.price import hardware as price_list
from picojoule.errors import BadInput
from picojoule.graph import Activity
from picojoule.graph.records import NeuronRecord, SynapseRecord
from picojoule.kinds import Events

_PAID_ANYWAY = {
    "macs": ("multiply-accumulates", "the number of non-zero values is a step function, which has no gradient"),
    "dense_macs": ("multiply-accumulates", "each costs the same whatever its value"),
    "synapses": ("synapses", "each costs the same with or without an event"),
    "bias_adds": ("outputs and biases", "their number is that of the network"),
    "outputs": ("outputs and biases", "their number is that of the network"),
    "value_inputs": ("outputs and biases", "their number is that of the network"),
    "event_inputs": ("outputs and biases", "their number is that of the network"),
}

_ROUNDING = 1e-9


class _Term(NamedTuple):
    """Energy of the events at one place, in picojoules per sample; `dense_pj` if all came that can in one step.

    `live` is the energy as autograd sees it, or None; `without` says then what it is and why it has no gradient.
    """

    pj: Tensor
    dense_pj: float
    live: Tensor | None
    place: str
    without: tuple[str, str]


class _Fixed(NamedTuple):
    """A share of the energy that has no gradient."""

    what: str
    why: str
    share: float
    places: tuple[str, ...]

    def __str__(self) -> str:
        where = f" ({', '.join(self.places)})" if self.places else ""
        return f"{100 * self.share:.3g} % of the energy, {self.what}{where}: {self.why}"


class _Prices(NamedTuple):
    """Picojoules per sample of one more count in a batch: `at[quantity][layer]`, and of an event sent."""

    chip: Hardware
    counts: OpCounts
    total_pj: float
    at: dict[str, dict[str, float]]
    sent: float


def energy_penalty(activity: Activity, hardware: Hardware | str) -> Tensor:
    """Batch mean of the energy that `hardware` says a sample costs: a scalar in picojoules, float64.

    The value is `hardware.energy_pj(count(activity)).value`, everything the list covers. Its gradient flows into the
    events: into accumulates, events that enter synapses (traffic, routing, prices per event) and events that neurons
    send, each at the price that the list gives it. `without_gradient` says what of the energy is out of its reach.

    Raises BadInput outside training, and if nothing that the list prices on this model has a gradient.
    """
    prices = _prices(activity, hardware)
    live, _ = _differentiable(_terms(activity, prices), prices)
    return live + (prices.total_pj - live.detach())


def dense_energy(activity: Activity, hardware: Hardware | str) -> float:
    """Energy of the part that has a gradient, in picojoules per sample, if all events came that can in one time step.

    The analogue of `dense_accumulates`: strengths are given in units of it, so that they depend neither on the size of
    the network nor on the scale of the prices. A neuron sends one event in a step.
    """
    prices = _prices(activity, hardware)
    return _differentiable(_terms(activity, prices), prices)[1]


def energy_share(activity: Activity, hardware: Hardware | str) -> Tensor:
    """The part of `energy_penalty` that has a gradient, as a share of `dense_energy`: a scalar, float64."""
    prices = _prices(activity, hardware)
    live, dense = _differentiable(_terms(activity, prices), prices)
    return live / dense


def without_gradient(activity: Activity, hardware: Hardware | str) -> tuple[str, ...]:
    """What of the energy that `hardware` prices on this model has no gradient: one sentence per part, with its share.

    The activity is one of training. Parts come in falling order; none if all of the energy has a gradient.
    """
    prices = _prices(activity, hardware)
    return tuple(str(part) for part in _fixed(_terms(activity, prices), prices))


def _prices(activity: Activity, hardware: Hardware | str) -> _Prices:
    """The derivative of the list's own total: it is linear in everything that events cause."""
    _check_live(activity)
    chip = hardware if isinstance(hardware, Hardware) else price_list(hardware)
    with torch.no_grad():
        counts = count(activity).detach()
    sums = counts.sums.cpu().clone().requires_grad_()
    sent = sums.new_tensor(float(counts.events_sent) * counts.samples).requires_grad_()
    with torch.enable_grad():
        total = chip.total_pj(replace(counts, sums=sums, sent=sent))
    by_sums, by_sent = torch.autograd.grad(total, (sums, sent), materialize_grads=True)
    rows = by_sums.tolist()
    at = {q: dict(zip(counts.layers, row, strict=True)) for q, row in zip(QUANTITIES, rows, strict=True)}
    return _Prices(chip, counts, float(total.detach()), at, float(by_sent))


def _check_live(activity: Activity) -> None:
    sent = [n.sent for n in activity.neurons if n.sent is not None]
    live = any(x.requires_grad for x in (*(r.acs for r in activity.synapses), *sent))
    if not live and any(n.updates for n in activity.neurons):
        raise BadInput("this penalty needs live events: run the observed model with gradients on")


def _terms(activity: Activity, prices: _Prices) -> list[_Term]:
    """What events cause and the list prices."""
    terms = []
    for r in activity.synapses:
        if isinstance(r.site.kind, Events):
            at_once, steps = r.site.kind.most or 1, activity.samples / timesteps_of(activity)
            most = at_once * steps
            ac, shift, event = (prices.at[quantity][r.site.name] for quantity in ("acs", "shift_adds", "events"))
            live = r.acs.sum() * ac if r.acs.requires_grad and ac else None
            terms.append(_term(r, "accumulates", r.acs, ac, r.dense * most, live))
            live = r.shift_adds.sum() * shift if r.shift_adds.requires_grad and shift else None
            terms.append(_term(r, "shift-adds", r.shift_adds, shift, r.dense * at_once.bit_length() * steps, live))
            entered = _entered(r) if event else None
            live = None if entered is None else entered * event
            terms.append(_term(r, "events that enter", r.active, event, r.inputs * most, live))
    spiking = (n for n in activity.neurons if n.updates)
    terms += [_sent(n, prices.sent, activity.samples / timesteps_of(activity)) for n in spiking]
    return [t for t in terms if t.dense_pj]


def _term(record: SynapseRecord, what: str, counted: Tensor, price: float, dense: float, live: Tensor | None) -> _Term:
    unseen = "autograd does not see these" if record.site.trained else "these events are data"
    return _Term(price * counted.detach().sum(), price * dense, live, record.site.name, (what, unseen))


def _entered(record: SynapseRecord) -> Tensor | None:
    """The events that entered, all together, as autograd sees them."""
    if record.operand is None or not any(n.requires_grad for n in record.operand.n):
        return None
    return torch.stack([_summed(n) for n in record.operand.n]).sum()


def _summed(n: Tensor) -> Tensor:
    """In float32, whose gradient costs less than that of float64; the value is taken from exact counts."""
    return n.sum(dtype=torch.promote_types(n.dtype, torch.float32)).double()


def _sent(record: NeuronRecord, price: float, samples_per_step: float) -> _Term:
    live = None if record.sent is None or not price else _summed(record.sent) * price
    pj, dense = price * record.events.sum(), price * record.updates * samples_per_step
    return _Term(pj, dense, live, record.name, ("events sent", "autograd does not see these"))


def _differentiable(terms: list[_Term], prices: _Prices) -> tuple[Tensor, float]:
    """The energy that has a gradient, and its dense value."""
    found = [(t.live, t.pj, t.dense_pj) for t in terms if t.live is not None]
    if not found:
        fixed = ", ".join(part.what for part in _fixed(terms, prices))
        raise BadInput(
            f"nothing that {prices.chip.name} prices on this model has a gradient{f' ({fixed})' if fixed else ''}; "
            "choose a list that prices accumulates or events, and a model with trained neurons"
        )
    live, exact, dense = zip(*found, strict=True)
    total = torch.stack(live).sum()
    return total + (torch.stack(exact).sum() - total.detach()), sum(dense)


def _fixed(terms: list[_Term], prices: _Prices) -> list[_Fixed]:
    """What has no gradient, the largest first."""
    static = prices.chip.breakdown_pj(prices.counts)["static"].value
    parts = _paid_anyway(prices)
    parts += [(t.without, t.place, float(t.pj)) for t in terms if t.live is None]
    parts += [(("static power", "it is that of the device, for its latency"), "", static)]
    updates = prices.total_pj - sum(float(t.pj) for t in terms if t.live is not None) - sum(pj for *_, pj in parts)
    parts += [(("neuron updates", "every neuron is updated at every step"), "", updates)]
    fixed: dict[tuple[str, str], _Fixed] = {}
    for key, place, pj in parts:
        known = fixed.get(key, _Fixed(*key, 0.0, ()))
        places = known.places if place in (*known.places, "") else (*known.places, place)
        fixed[key] = known._replace(share=known.share + pj / (prices.total_pj or 1.0), places=places)
    return sorted((part for part in fixed.values() if part.share > _ROUNDING), key=lambda part: -part.share)


def _paid_anyway(prices: _Prices) -> list[tuple[tuple[str, str], str, float]]:
    """What the list charges for layers however many events come."""
    found = []
    for quantity, part in _PAID_ANYWAY.items():
        sums = prices.counts.sums[QUANTITIES.index(quantity)].tolist()
        by_layer = zip(prices.at[quantity].items(), sums, strict=True)
        found += [(part, layer, price * n) for (layer, price), n in by_layer if price * n]
    return found
