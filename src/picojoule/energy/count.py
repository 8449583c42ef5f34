"""From records to operation counts: the one place where operations are added up."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.graph import Activity
from picojoule.kinds import Events

QUANTITIES = (
    *("acs", "graded_events", "macs", "dense_macs", "dense_acs", "synapses"),
    *("events", "active_values", "event_inputs", "value_inputs", "outputs", "bias_adds"),
    "shift_adds",
)
"""What is counted, per layer and sample:

acs: accumulates, sum of |n| * fan-out over event inputs; graded_events: non-zero events * fan-out;
macs: multiply-accumulates with a non-zero value; dense_macs: all but padding taps; dense_acs: accumulates if
every input sent all the events it can at every step; synapses: their number, times steps; events: unit events |n|
that entered; active_values: non-zero values that entered; event_inputs, value_inputs: the elements that entered, times
steps; outputs: elements computed, times steps; bias_adds: those of them to which a bias is added; shift_adds: in place
of acs where a weight is multiplied by shifts and adds, sum of the significant bits of |n| * fan-out.
"""


class NeuronCounts(NamedTuple):
    """The populations of one kind of neuron: how many neurons they have; updates and events summed over samples.

    Of activations (ReLU) `events` is the number of non-zeros, and nothing is updated.
    """

    number: int
    updates: float
    events: float


@dataclass(frozen=True)
class OpCounts:
    """Operation counts of some samples; two of them add up. Float64; differentiable if the activity was live.

    `sums` and `squares` are `[quantity, layer]`: the sum over samples of the count and of its square;
    `total_squares` `[quantity]` is the sum over samples of the squared count of all layers. `by_step` has for each
    layer `[S]`, ACs + MACs at each of its steps, summed over samples. `weights` and `biases` are the stored
    parameters of each layer; `neurons` the populations by kind; `timesteps` those of the longest-running one.
    `sent` may hold what all spiking neurons sent, summed over samples, as a scalar to differentiate by.
    """

    layers: tuple[str, ...]
    weights: tuple[int, ...]
    biases: tuple[int, ...]
    sums: Tensor
    squares: Tensor
    total_squares: Tensor
    by_step: tuple[Tensor, ...]
    neurons: dict[str, NeuronCounts]
    samples: int
    timesteps: int
    sent: Tensor | None = None

    def __add__(self, other: "OpCounts") -> "OpCounts":
        if self.layers != other.layers:
            raise BadInput(f"cannot add counts of different layers: {self.layers} and {other.layers}")
        return replace(
            self,
            sums=self.sums + other.sums,
            squares=self.squares + other.squares,
            total_squares=self.total_squares + other.total_squares,
            by_step=tuple(_longer_sum(a, b) for a, b in zip(self.by_step, other.by_step, strict=True)),
            neurons={
                kind: _together(self.neurons.get(kind), other.neurons.get(kind))
                for kind in {**self.neurons, **other.neurons}
            },
            samples=self.samples + other.samples,
            timesteps=max(self.timesteps, other.timesteps),
            sent=None,
        )

    def with_layers(self, layers: dict[str, tuple[int, int]]) -> "OpCounts":
        """The same counts with more layers (name: weights and biases), which did nothing."""
        rows = {name: i for i, name in enumerate(self.layers)}
        index = torch.tensor([rows.get(name, -1) for name in layers])
        here = (index >= 0).double()

        def spread(x: Tensor) -> Tensor:
            return x[:, index.clamp(min=0)] * here.to(x.device)

        return replace(
            self,
            layers=tuple(layers),
            weights=tuple(w for w, _ in layers.values()),
            biases=tuple(b for _, b in layers.values()),
            sums=spread(self.sums),
            squares=spread(self.squares),
            by_step=tuple(self.by_step[rows[n]] if n in rows else self.sums.new_zeros(1) for n in layers),
        )

    def detach(self) -> "OpCounts":
        """The numbers alone."""
        sums, squares, totals = self.sums.detach(), self.squares.detach(), self.total_squares.detach()
        return replace(self, sums=sums, squares=squares, total_squares=totals, sent=None)

    @property
    def model_steps(self) -> int:
        """Time steps of the model; without neurons those of the longest-running layer that events enter.

        Of values alone several steps are positions of a sequence, not time.
        """
        if self.updates:
            return self.timesteps
        entered = self.sums[QUANTITIES.index("event_inputs")].tolist()
        return max((len(s) for s, events in zip(self.by_step, entered, strict=True) if events), default=1)

    @property
    def steps(self) -> Tensor:
        """The time steps in which each layer ran, `[layer]`: it may run several times in one."""
        return self.sums.new_tensor([max(1, min(len(steps), self.model_steps)) for steps in self.by_step])

    @property
    def updates(self) -> dict[str, float]:
        """Neuron updates by kind of neuron, summed over samples."""
        return {kind: n.updates for kind, n in self.neurons.items() if n.updates}

    def per_layer(self, quantity: str) -> Tensor:
        """Mean per sample of one quantity, `[layer]`."""
        if self.samples == 0:
            raise BadInput("cannot average counts over 0 samples (was any batch counted?)")
        return self.sums[QUANTITIES.index(quantity)] / self.samples

    def total(self, quantity: str) -> Tensor:
        """Mean per sample of one quantity over all layers, a scalar."""
        return self.per_layer(quantity).sum()

    def total_sd(self, quantity: str) -> float:
        """Standard deviation over samples of one quantity over all layers."""
        mean = float(self.total(quantity))
        square = float(self.total_squares[QUANTITIES.index(quantity)]) / self.samples
        return max(0.0, square - mean**2) ** 0.5

    @property
    def events_sent(self) -> Tensor | float:
        """Events that spiking neurons sent, per sample; a scalar tensor if `sent` is given."""
        sent = sum(n.events for n in self.neurons.values() if n.updates) if self.sent is None else self.sent
        return sent / self.samples

    def updates_per_sample(self) -> dict[str, float]:
        """Neuron updates per sample, by kind of neuron."""
        return {kind: n / self.samples for kind, n in self.updates.items()}


def count(activity: Activity) -> OpCounts:
    """The operation counts of one forward pass, layer by layer in wiring order.

    Calls of one shared layer are added up. Sums are float64, exact to 2**53 events.
    """
    return summed(activity, per_sample(activity))


def per_sample(activity: Activity) -> dict[str, Tensor]:
    """The counts of every sample, by layer: `[quantity, B]`."""
    layers: dict[str, Tensor] = {}
    for record in activity.synapses:
        ones = torch.ones_like(record.macs)
        none, dense, outputs = torch.zeros_like(ones), ones * record.dense, ones * record.outputs
        biased = outputs if record.site.biases else none
        inputs, kind = ones * record.inputs, record.site.kind
        if isinstance(kind, Events):
            operations = [record.acs, record.graded_events, none, none, dense * (kind.most or 1), dense]
            rows = [*operations, record.active, none, inputs, none, outputs, biased, record.shift_adds]
        else:
            operations = [none, none, record.macs, dense, none, dense]
            rows = [*operations, none, record.active, none, inputs, outputs, biased, none]
        name = record.site.name
        layers[name] = layers[name] + torch.stack(rows) if name in layers else torch.stack(rows)
    if not layers:
        raise BadInput("nothing to count: the model performed no linear operation that could be observed")
    return layers


def summed(activity: Activity, table: dict[str, Tensor]) -> OpCounts:
    """The counts of one forward pass from what `per_sample` says of it."""
    whole = torch.stack(list(table.values()), 1)  # [quantity, layer, B]
    steps: dict[str, list[Tensor]] = {name: [] for name in table}
    sites = {}
    for record in activity.synapses:
        steps[record.site.name].append(record.by_step)
        sites[record.site.name] = record.site
    neurons: dict[str, NeuronCounts] = {}
    for n in activity.neurons:
        before = neurons.get(n.neuron, NeuronCounts(0, 0.0, 0.0))
        own = NeuronCounts(n.events.numel(), n.updates * activity.samples, float(n.events.sum()))
        number, updates, events = (a + b for a, b in zip(before, own, strict=True))
        neurons[n.neuron] = NeuronCounts(int(number), updates, events)
    return OpCounts(
        tuple(table),
        tuple(sites[name].weights for name in table),
        tuple(sites[name].biases for name in table),
        whole.sum(2),
        (whole**2).sum(2),
        (whole.sum(1) ** 2).sum(1),
        tuple(torch.cat(parts) for parts in steps.values()),
        neurons,
        activity.samples,
        activity.timesteps,
    )


def _together(a: NeuronCounts | None, b: NeuronCounts | None) -> NeuronCounts:
    if a is None or b is None:
        found = a or b
        assert found is not None
        return found
    return NeuronCounts(max(a.number, b.number), a.updates + b.updates, a.events + b.events)


def _longer_sum(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two series of steps, of which one may have gone on for longer."""
    short, long = sorted((a, b), key=len)
    return long + torch.nn.functional.pad(short, (0, len(long) - len(short)))
