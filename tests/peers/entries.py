"""What an entry of the zoo is, and the list of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from .brute_force import Product, Truth

T, BATCHES = 4, (5, 4)


@dataclass(frozen=True)
class Entry:
    """One network, how it is called, and what a person says about it.

    `packages` are what it needs; `shape` is that of one sample at one step. x is `[T, B, ...]`, or `[B, T, ...]`
    without `steps_first`, or `[B, ...]` without `has_steps`. `unit` is the unit of input events, None for analog input;
    `reset` is called with the model before each batch. `binary` tells that all events are 0 or 1 and that every site is
    a module called with the batch first, so that NeuroBench counts the same. `gain` and `shift` (in standard
    deviations) act on the weights, so that neurons fire.
    """

    name: str
    factory: Callable[[], nn.Module]
    packages: tuple[str, ...]
    truth: Truth
    shape: tuple[int, ...] = (2, 8, 8)
    has_steps: bool = True
    steps_first: bool = True
    unit: float | None = 1.0
    reset: Callable[[nn.Module], object] | None = None
    binary: bool = False
    gain: float = 2.5
    shift: float = 0.15

    @property
    def batch_dim(self) -> int:
        """The batch axis of x."""
        return int(self.has_steps and self.steps_first)

    def model(self, seed: int = 0) -> nn.Module:
        """The network in evaluation mode, its weights large enough that neurons fire."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.factory()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.dim() > 1:
                    p.mul_(self.gain).add_(self.shift * p.std())
                elif name.endswith("bias"):
                    p.abs_()
        return model.eval()

    def batches(self, model: nn.Module | None = None, seed: int = 0) -> Iterator[Tensor]:
        """Two batches, the last one short; a model that keeps state is reset before each."""
        generator = torch.Generator().manual_seed(seed + 100)
        for samples in BATCHES:
            lead = ((T, samples) if self.steps_first else (samples, T)) if self.has_steps else (samples,)
            x = torch.rand(*lead, *self.shape, generator=generator)
            if model is not None and self.reset is not None:
                self.reset(model)
            yield x if self.unit is None else (x < 0.35).float() * self.unit


ENTRIES: list[Entry] = []


def entry(
    name: str,
    *packages: str,
    events: dict[str, float],
    products: tuple[Product, ...] = (),
    time_major: tuple[str, ...] = (),
    **rest: Any,
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Add a factory to the zoo."""

    def add(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        ENTRIES.append(Entry(name, factory, packages, Truth(events, products, time_major, T), **rest))
        return factory

    return add


def lib(name: str) -> Any:
    """A peer's module, imported when it is needed."""
    return import_module(name)
