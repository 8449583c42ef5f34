"""From records to operation counts: the one place where operations are added up."""

from dataclasses import dataclass

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.graph import Activity
from picojoule.kinds import Events

QUANTITIES = ("acs", "graded_events", "macs", "dense_macs", "dense_acs")
"""What is counted, per layer and sample:

acs: accumulates, sum of |n| * fan-out over event inputs; graded_events: non-zero events * fan-out;
macs: multiply-accumulates with a non-zero value; dense_macs: all but padding taps; dense_acs: accumulates if
every input sent all the events it can at every step.
"""


@dataclass(frozen=True)
class OpCounts:
    """Operation counts of some samples; two of them add up. Float64; differentiable if the activity was live.

    `sums` and `squares` are `[quantity, layer]`: the sum over samples of the count and of its square;
    `total_squares` `[quantity]` is the sum over samples of the squared count of all layers. `updates` is the
    number of neuron updates by kind of neuron, summed over samples.
    """

    layers: tuple[str, ...]
    sums: Tensor
    squares: Tensor
    total_squares: Tensor
    updates: dict[str, float]
    samples: int

    def __add__(self, other: "OpCounts") -> "OpCounts":
        if self.layers != other.layers:
            raise BadInput(f"cannot add counts of different layers: {self.layers} and {other.layers}")
        kinds = {**self.updates, **other.updates}
        return OpCounts(
            self.layers,
            self.sums + other.sums,
            self.squares + other.squares,
            self.total_squares + other.total_squares,
            {k: self.updates.get(k, 0.0) + other.updates.get(k, 0.0) for k in kinds},
            self.samples + other.samples,
        )

    def detach(self) -> "OpCounts":
        """The numbers alone."""
        sums, squares, totals = self.sums.detach(), self.squares.detach(), self.total_squares.detach()
        return OpCounts(self.layers, sums, squares, totals, self.updates, self.samples)

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

    def updates_per_sample(self) -> dict[str, float]:
        """Neuron updates per sample, by kind of neuron."""
        return {kind: n / self.samples for kind, n in self.updates.items()}


def count(activity: Activity) -> OpCounts:
    """The operation counts of one forward pass, layer by layer in wiring order.

    Calls of one shared layer are added up. Sums are float64, exact to 2**53 events.
    """
    layers: dict[str, Tensor] = {}
    for record in activity.synapses:
        dense = torch.full_like(record.macs, record.dense)
        none = torch.zeros_like(dense)
        if isinstance(record.site.kind, Events):
            rows = [record.acs, record.graded_events, none, none, dense * (record.site.kind.most or 1)]
        else:
            rows = [none, none, record.macs, dense, none]
        name = record.site.name
        layers[name] = layers[name] + torch.stack(rows) if name in layers else torch.stack(rows)
    if not layers:
        raise BadInput("nothing to count: the model performed no linear operation that could be observed")
    per_sample = torch.stack(list(layers.values()), 1)  # [quantity, layer, B]
    updates: dict[str, float] = {}
    for neuron in activity.neurons:
        if neuron.updates:
            updates[neuron.neuron] = updates.get(neuron.neuron, 0.0) + neuron.updates * activity.samples
    return OpCounts(
        tuple(layers),
        per_sample.sum(2),
        (per_sample**2).sum(2),
        (per_sample.sum(1) ** 2).sum(1),
        updates,
        activity.samples,
    )
