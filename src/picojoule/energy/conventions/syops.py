"""`syops`: syops-counter 0.0.5."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from picojoule.energy.conventions.convention import Convention, first_tensor, times_found
from picojoule.energy.conventions.observed import Observed, two_levels
from picojoule.energy.conventions.prices import HOROWITZ_45NM
from picojoule.energy.conventions.syops_totals import attention, recurrent
from picojoule.energy.count import OpCounts

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ACTIVATIONS = (nn.ReLU, nn.PReLU, nn.ELU, nn.LeakyReLU, nn.ReLU6, nn.GELU)
_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
_TOTAL_ONLY = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell, nn.MultiheadAttention)
_NEURONS = ("IFNode", "LIFNode", "ParametricLIFNode")


class Syops(Convention):
    """Dense operations: as AC times the mean of an input with at most two values in [0, 1], else all as MAC.

    Dense operations include padding taps, and the bias: of a convolution once per output, of a Linear once per call,
    so that results depend on the batch size. Modules count by exact type: Linear and convolutions (a transposed one
    by its outputs, which overstates by the stride), batch and other norms (2 x elements), pools (inputs),
    activations (outputs) and SpikingJelly's IF, LIF and parametric LIF (elements, as AC). Recurrent layers and
    attention enter `total` alone.
    Here everything is divided by the samples; syops itself divides by the first axis of each input of the model, and
    `metrics` has that divisor. `joules` is its README's 0.9 and 4.6 pJ.
    Source (read): syops 0.0.5, ops.py and engine.py.
    """

    name = "syops"
    tool = "syops-counter 0.0.5"
    units = {"acs": "AC", "macs": "MAC"}
    ac_term, mac_term = "acs", "macs"
    rule = "the tool takes an input for spikes only if a batch has at most two distinct values, all in [0, 1]"

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self._times = times_found(model, _is_supported)
        self._divisor = 0

    def hooks(self) -> Iterable[RemovableHandle]:
        """Hooks on all that is no linear layer, and on the model for the divisor."""
        yield self.model.register_forward_hook(self._called)
        for module in self._times:
            if type(module) is not nn.Linear and type(module) not in _CONVOLUTIONS:
                yield module.register_forward_hook(self._module)

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        name, module = seen.call.name, seen.call.module
        if module is None or module not in self._times or type(module) in _TOTAL_ONLY:
            self.gap("Only modules of the tool's exact types are counted", name, -seen.effective)
            return
        times = self._times[module]
        operations, bias = _dense(seen, module)
        rate = seen.total / seen.elements if seen.elements else 0.0
        spikes = seen.elements > 0 and seen.two_levels
        self._count(name, (operations + bias) * times, rate if spikes else None)
        share = rate if spikes else 1.0
        self.gap("Biases are counted (of a Linear once per call, whatever the batch)", name, bias * share * times)
        self.gap("A module found at several places is counted for each", name, operations * share * (times - 1))
        if not spikes:
            self.gap("Zero inputs of a layer that counts as dense are not skipped", name, seen.dense - seen.effective)
            self.gap("Padding taps are counted", name, operations - seen.dense)
            return
        nonzero = seen.active / seen.elements
        self.gap("The mean of the values is taken for the rate of spikes", name, operations * (rate - nonzero))
        averaged = "The rate is averaged over the layer, not weighted by fan-out"
        self.gap(averaged, name, nonzero * seen.dense - seen.effective)
        self.gap("Padding taps are counted, at the layer's rate", name, nonzero * (operations - seen.dense))

    def joules(self, totals: dict[str, float], exact: OpCounts) -> dict[str, float]:
        """The README's formula."""
        return {"readme": HOROWITZ_45NM["fp32"].joules(totals["acs"], totals["macs"])}

    def finish(self, exact: OpCounts) -> None:
        """Say it where the tool's own average is not per sample."""
        if self._divisor and self._divisor != self.samples:
            factor = self.samples / self._divisor
            why = (
                f"The tool divides by the first axis of the model's inputs: it prints {factor:.4g} times these numbers"
            )
            self.gap(why, "", always=True)

    def metrics(self) -> dict[str, Any]:
        """The number that the tool divides by (None if the model was not called as a whole)."""
        return {"divisor": self._divisor or None}

    def _called(self, module: nn.Module, args: Any, out: Any) -> None:
        self._divisor += len(args[0]) if args else 1

    def _module(self, module: nn.Module, args: Any, out: Any) -> None:
        x, y = first_tensor(args), first_tensor(out)
        if x is None or y is None or not x.numel():
            return
        kind, times, name = type(module), self._times[module], self.names[module]
        if kind in _TOTAL_ONLY:
            operations = attention(module, args) if kind is nn.MultiheadAttention else recurrent(module, x)
            self.add(name, total=operations * times)
            return
        if kind in _POOLS:
            counted = self._elements(name, x.numel() * times, x)
            self.gap("Pooling is counted", name, counted)
        elif kind in _NORMS:
            affine = 2 if getattr(module, "affine", False) else 1
            counted = self._elements(name, x.numel() * affine * times, x)
            self.gap("Normalisation is counted", name, counted)
        elif kind is nn.Upsample:
            self.gap("Upsampling is counted", name, self._elements(name, y[0].numel() * times, y[0]))
        elif kind in _ACTIVATIONS:
            self.gap("Activations are counted", name, self._elements(name, y.numel() * times, y[0]))
        else:
            self.add(name, total=x.numel() * times, acs=x.numel() * times)
            self.gap("Neuron updates are counted", name, x.numel() * times)

    def _elements(self, name: str, operations: float, judged: Tensor) -> float:
        """Count operations at the mean of what they are judged by; return how many were."""
        rate = float(judged.double().mean()) if two_levels(judged) else None
        self._count(name, operations, rate)
        return operations if rate is None else operations * rate

    def _count(self, name: str, operations: float, rate: float | None) -> None:
        if rate is None:
            self.add(name, total=operations, acs=0.0, macs=operations)
        else:
            self.add(name, total=operations, acs=operations * rate, macs=0.0)


def _dense(seen: Observed, module: nn.Module) -> tuple[float, float]:
    """Dense operations as the tool counts them, and the bias additions."""
    if isinstance(module, nn.Linear):
        return float(seen.elements * module.out_features), float(module.out_features * (module.bias is not None))
    layer: Any = module
    positions = seen.outputs / layer.out_channels
    return positions * layer.weight.numel(), float(seen.outputs * (layer.bias is not None))


def _is_supported(module: nn.Module) -> bool:
    kind = type(module)
    types = (nn.Linear, nn.Upsample, *_CONVOLUTIONS, *_ACTIVATIONS, *_POOLS, *_NORMS, *_TOTAL_ONLY)
    library = kind.__module__.partition(".")[0]
    return kind in types or (library == "spikingjelly" and kind.__name__.removeprefix("MultiStep") in _NEURONS)
