"""`spkeras`: the synaptic operations that the evaluation notebook of SpKeras plots for a conversion."""

from typing import Any

from torch import nn

from picojoule.energy.conventions.convention import Convention
from picojoule.energy.conventions.observed import Observed
from picojoule.energy.count import OpCounts

_SUMMED = ("magnitude", "active", "elements", "dense", "effective")


class SpKeras(Convention):
    """Mean spikes per neuron x number of weights behind, over all layers with weights; `metrics` has them in MOps.

    A kernel counts once, not at every place it is used at: a convolution is counted too low by about the area of its
    output. Spikes per neuron are the mean |input| x time steps, so that a constant image x stands for x T spikes (the
    notebook takes floor(x T)); all on the data that are measured (the notebook takes training images).

    Two slips of the notebook are not reproduced: its list of layer sizes leaves out pools and its list of spikes does
    not, so that from the first pool on the spikes of one layer are divided by the neurons of another; and the input's
    term is added to every layer's before they are summed up, so that it counts once for each.
    Source (read): the evaluation notebook of SpKeras; the slips are inferred from it.
    """

    name = "spkeras"
    tool = "SpKeras, evaluation notebook"
    units = {"ops": "OPs"}
    sums_values = "The mean |value| of the input is the number of spikes, so that scale counts and not events"

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self._sums: dict[str, dict[str, float]] = {}

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        name, weight = seen.call.name, seen.call.weight
        if weight is None:
            self.gap("Products of two activations are not counted", name, -seen.effective)
            return
        sums = self._sums.setdefault(name, dict.fromkeys(_SUMMED, 0.0) | {"weights": weight.numel()})
        for key in _SUMMED:
            sums[key] += getattr(seen, key)

    def finish(self, exact: OpCounts) -> None:
        """Multiply layer averages, which need the whole run."""
        for name, s in self._sums.items():
            if not s["elements"]:
                continue
            mean, nonzero = s["magnitude"] / s["elements"], s["active"] / s["elements"]
            counted = mean * exact.timesteps * s["weights"] * self.samples
            self.rows[name] = {"ops": counted}
            self.gap(
                "The rate is averaged over the layer, not weighted by fan-out",
                name,
                nonzero * s["dense"] - s["effective"],
            )
            self.gap(self.sums_values, name, (mean - nonzero) * s["dense"])
            self.gap(
                "A weight counts once for a layer's mean neuron, not wherever it is used",
                name,
                counted - mean * s["dense"],
            )

    def metrics(self) -> dict[str, Any]:
        """Millions of operations per sample."""
        return {"mops": sum(row["ops"] for row in self.rows.values()) / self.samples / 1e6}
