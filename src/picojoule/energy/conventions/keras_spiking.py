"""`keras-spiking`: the energy model of KerasSpiking 0.3."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn
from torch.utils.hooks import RemovableHandle

from picojoule.energy.conventions.convention import Convention, first_tensor
from picojoule.energy.conventions.neurons import is_activation, is_neuron
from picojoule.energy.conventions.observed import Observed
from picojoule.energy.count import OpCounts


class Device(NamedTuple):
    """Joules per synaptic operation and per neuron update; a device that is not spiking computes every synapse."""

    per_synop: float
    per_neuron: float
    spiking: bool


DEVICES = {
    "cpu": Device(8.6e-9, 8.6e-9, False),
    "gpu": Device(0.3e-9, 0.3e-9, False),
    "arm": Device(0.9e-9, 0.9e-9, False),
    "loihi": Device((23.6 + 3.5) * 1e-12, 81e-12, True),
    "spinnaker": Device(13.3e-9, 26e-9, True),
    "spinnaker2": Device(450e-12, 2.19e-9, True),
}
"""Sources, as KerasSpiking names them: Degnan, Marr, Hasler, IEEE TVLSI 24(1) (cpu i7-4960X, gpu GTX Titan Black, arm
Cortex-A); Davies et al., IEEE Micro 38(1), 2018 (synaptic event 23.6 pJ plus mean hop 3.5 pJ; neuron update 81 pJ);
Höppner et al., IEEE TCAS I 66(8), 2019."""


class KerasSpiking(Convention):
    """Connections x mean |input| x steps, plus neurons x steps, priced by device.

    `connections` and `neurons` are per time step. On cpu, gpu and arm one step is computed, with every synapse
    (`joules` is then independent of the data); on the other devices `synops = connections * rate * steps`, as if all
    layers spiked. Connections of a convolution are outputs x kernel x input channels: no borders; those of a transposed
    one follow the same line of code, which takes the wrong axis (inferred). Neurons are the outputs of neuron and
    activation modules. A rate in Hz times dt is here the mean |input| of a step (our choice: torch models emit
    1 per spike and not 1/dt), taken over all calls of a layer.
    Source (read): keras_spiking/model_energy.py.
    """

    name = "keras-spiking"
    tool = "KerasSpiking 0.3.0"
    units = {"synops": "SynOps"}
    sums_values = "The mean |value| of the input is the rate, so that scale counts and not events"

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self._sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._steps = 1  # of the latest layer

    def hooks(self) -> Iterable[RemovableHandle]:
        """Hooks on neurons and activations."""
        for module in self.names:
            if is_neuron(module) or is_activation(module):
                yield module.register_forward_hook(self._neuron)

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        call, sums = seen.call, self._sums[seen.call.name]
        if call.weight is None:
            self.gap("Products of two activations are not counted", call.name, -seen.effective)
            return
        connections = seen.padded
        if call.window is not None and call.window.transposed:
            connections = seen.outputs * call.weight[0].numel()
        facts = {"magnitude": seen.magnitude, "active": seen.active, "elements": seen.elements, "dense": seen.dense}
        facts |= {"connections": connections, "effective": seen.effective, "steps": seen.steps * (self.samples == 0)}
        self._steps = seen.steps
        for key, value in facts.items():
            sums[key] += value

    def finish(self, exact: OpCounts) -> None:
        """Multiply layer averages, which need the whole run."""
        for name, s in self._sums.items():
            steps = max(1.0, min(s["steps"], exact.timesteps))
            if "updates" in s:
                self.rows[name] = {"neurons": s["updates"] / steps, "neuron_updates": s["updates"]}
                self.gap("Neuron updates are priced as well", name, always=True)
            elif s["elements"]:
                self._layer(name, s, steps)

    def joules(self, totals: dict[str, float], exact: OpCounts) -> dict[str, float]:
        """Energy per inference by device."""
        connections, synops = totals.get("connections", 0.0), totals.get("synops", 0.0)
        neurons, updates = totals.get("neurons", 0.0), totals.get("neuron_updates", 0.0)
        return {
            name: d.per_synop * (synops if d.spiking else connections)
            + d.per_neuron * (updates if d.spiking else neurons)
            for name, d in DEVICES.items()
        }

    def _layer(self, name: str, s: dict[str, float], steps: float) -> None:
        averaged = "The rate is averaged over the layer, not weighted by fan-out"
        rate, nonzero = s["magnitude"] / s["elements"], s["active"] / s["elements"]
        self.rows[name] = {"connections": s["connections"] / steps, "synops": s["connections"] * rate}
        self.gap(self.sums_values, name, s["connections"] * (rate - nonzero))
        self.gap(averaged, name, nonzero * s["dense"] - s["effective"])
        self.gap("On cpu, gpu and arm one step is priced with every synapse, whatever is active", name, always=True)
        self.gap("Connections outside the border are counted", name, nonzero * (s["connections"] - s["dense"]))

    def _neuron(self, module: nn.Module, args: Any, out: Any) -> None:
        y, sums = first_tensor(out), self._sums[self.names[module]]
        sums["updates"] += 0 if y is None else y.numel()
        if self.samples == 0:
            sums["steps"] += math.inf if is_neuron(module) else self._steps
