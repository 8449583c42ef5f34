"""NeuroBench's metrics of activations and membranes while a model runs."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from picojoule.energy.conventions.convention import descends_from, first_tensor

NEURON_OPERATIONS = {
    "Leaky": {"subtract": 4, "zero": 4},
    "Synaptic": {"subtract": 6, "zero": 8},
    "Lapicque": {"subtract": 11, "zero": 11},
    "Alpha": {"subtract": 18, "zero": 24},
}
"""Operations per membrane update by snnTorch class and reset. Source (read): NeuroBench 2.3.0, neuron_operations.py."""


class Activations:
    """The layers NeuroBench takes for activations: `nn.ReLU`, `nn.Sigmoid` and snnTorch's neurons.

    ActivationSparsity is a mean over batches, weighted by their samples; the rest are sums over the run.
    MembraneUpdates are the values of `mem` that a call changed, and all of them in the first call of a batch.
    """

    def __init__(self, model: nn.Module):
        self._layers = [_Layer(name, module) for name, module in _found(model)]
        self._samples, self._sparsity = 0, 0.0

    def hooks(self) -> Iterable[RemovableHandle]:
        """A hook before and after each layer."""
        for layer in self._layers:
            yield layer.module.register_forward_pre_hook(layer.before)
            yield layer.module.register_forward_hook(layer.after)

    def end_batch(self, samples: int) -> None:
        """A batch is over."""
        found = [layer.end_batch() for layer in self._layers]
        zeros, elements = sum(z for z, _ in found), sum(n for _, n in found)
        self._sparsity += samples * (zeros / elements if elements else 0.0)
        self._samples += samples

    def failures(self) -> Iterable[str]:
        """What NeuroBench reports as 0 because it found nothing, or fails."""
        if not any(layer.elements for layer in self._layers):
            yield "The tool finds no activations, so that ActivationSparsity is 0 (it knows ReLU, Sigmoid and snnTorch)"
        unpriced = sorted({type(layer.module).__name__ for layer in self._layers if layer.price is None})
        if unpriced:
            yield f"NeuronOperations is 0, because the tool has no entry for {', '.join(unpriced)}"

    def results(self) -> dict[str, Any]:
        """The metrics, by NeuroBench's names; call after the last batch."""
        zeros: dict[str, int] = defaultdict(int)
        elements: dict[str, int] = defaultdict(int)
        for layer in self._layers:
            zeros[layer.name] += layer.zeros
            elements[layer.name] += layer.elements
        return {
            "ActivationSparsity": self._sparsity / self._samples,
            "ActivationSparsityByLayer": {name: zeros[name] / n for name, n in elements.items() if n},
            "MembraneUpdates": sum(layer.updates for layer in self._layers) / self._samples,
            "NeuronOperations": self._neuron_operations(),
        }

    def _neuron_operations(self) -> dict[str, float] | float:
        effective = dense = 0.0
        for layer in self._layers:
            if layer.price is None:
                return 0.0
            effective += layer.updates * layer.price
            dense += layer.membranes * layer.price
        return {"Effective Neuron Ops": effective / self._samples, "Neuron Dense Ops": dense / self._samples}


class _Layer:
    """The sums of one activation layer."""

    def __init__(self, name: str, module: nn.Module):
        self.name, self.module = name, module
        self.spiking = descends_from(module, "snntorch", "SpikingNeuron")
        self.zeros = self.elements = self.updates = self.membranes = 0
        self._batch_zeros = self._batch_elements = self._calls = 0
        self._first_membranes = 0
        self._before: Tensor | None = None

    @property
    def price(self) -> int | None:
        """Operations per membrane update; None where the tool has no entry."""
        by_reset = NEURON_OPERATIONS.get(type(self.module).__name__, {}) if self.spiking else {}
        return by_reset.get(getattr(self.module, "_reset_mechanism", ""))

    def before(self, module: nn.Module, args: Any) -> None:
        self._before = getattr(module, "mem", None) if self.spiking else None

    def after(self, module: Any, args: Any, out: Any) -> None:
        whole = not self.spiking or (module.init_hidden and not module.output and not isinstance(out, tuple))
        y = first_tensor(out if whole else out[0])
        if y is not None:
            self._batch_elements += y.numel()
            self._batch_zeros += y.numel() - int(torch.count_nonzero(y))
        after = getattr(module, "mem", None) if self.spiking else None
        if isinstance(after, Tensor):
            self._membrane(after)

    def end_batch(self) -> tuple[int, int]:
        """Zeros and elements of the batch that is over."""
        found = self._batch_zeros, self._batch_elements
        self.zeros += found[0]
        self.elements += found[1]
        self.membranes += self._first_membranes * self._calls
        self._batch_zeros = self._batch_elements = self._calls = self._first_membranes = 0
        self._before = None
        return found

    def _membrane(self, after: Tensor) -> None:
        first, before = self._calls == 0, self._before
        self._calls += 1
        if first or before is None:
            self._first_membranes = after.numel()
            self.updates += after.numel()
        else:
            self.updates += int(torch.count_nonzero(before.detach() - after.detach()))


def _found(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Activations by the name of the child, as often as a walk over children meets them."""
    for name, child in model.named_children():
        if isinstance(child, nn.ReLU | nn.Sigmoid) or descends_from(child, "snntorch", "SpikingNeuron"):
            yield name, child
        else:
            yield from _found(child)
