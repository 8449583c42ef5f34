"""A training step of a classifier, and what networks of different libraries need to be comparable."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .case import Step

WEIGHTED = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


class Images(NamedTuple):
    """Images `[B, C, H, W]`, or sequences, and labels `[B]`."""

    x: Tensor
    labels: Tensor


def training_step(scores: Callable[[], Tensor], model: nn.Module, labels: Tensor, *, bf16: bool = False) -> Step:
    """Forward and cross-entropy; then backward and one step of Adam on the weights of the layers."""
    weights = [p for layer in weighted(model) for p in layer.parameters()]
    optimiser = torch.optim.Adam(weights, 1e-4)
    model.train()

    def forward() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = scores()
        return nn.functional.cross_entropy(found.float(), labels)

    def backward(loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return Step(forward, backward)


def weighted(model: nn.Module) -> list[nn.Module]:
    """The layers with weights, in order."""
    return [m for m in model.modules() if isinstance(m, WEIGHTED)]


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The model with weights that depend on its layers alone, so that equal networks get equal weights."""
    model = make()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in weighted(model):
            for parameter in layer.parameters():
                if parameter.dim() > 1:
                    bound = (6 / parameter[0].numel()) ** 0.5
                    parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)
    return model


def spikes_before(readout: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What enters the layer `readout` while `run` runs, a row per call."""
    seen: list[Tensor] = []
    handle = readout.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().float()))
    try:
        with torch.no_grad():
            run()
    finally:
        handle.remove()
    return torch.stack(seen).flatten()
