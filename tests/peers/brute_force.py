"""Operation counts of any torch model from the operands of its linear operations. The oracle of the meter's tests.

A separate pass without a meter records what every linear operation was given. A person has declared which sites
events enter, and in which unit; everything else is values. The operation is then repeated on the pattern of its
operand with all weights one, in float64. Nothing here uses the package.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

WEIGHTED = ("linear", *(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3)))
PRODUCTS = ("matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "einsum")
LAYERS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
CELLS = ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")


class Product(NamedTuple):
    """A product of two activations: its name, and whether events are on its left and on its right."""

    name: str
    left: bool
    right: bool


@dataclass(frozen=True)
class Truth:
    """What a person says about a model.

    `events` are the units of the sites that events enter; a site is named by its parameter, without `.weight`.
    `products` are the products of activations in the order of their calls, over and over. `time_major` are the sites
    whose operand starts with `[T, B]` or `[T * B]`; all others start with the batch, or have one call per step.
    """

    events: dict[str, float] = field(default_factory=dict)
    products: tuple[Product, ...] = ()
    time_major: tuple[str, ...] = ()
    timesteps: int = 1


class Operations(NamedTuple):
    """Of one site, per sample over all steps: `[B]`, float64. `dense_macs` of sites that events enter are 0."""

    acs: Tensor
    graded_events: Tensor
    macs: Tensor
    dense_macs: Tensor
    synapses: Tensor

    def plus(self, other: "Operations") -> "Operations":
        """The sum of two calls of one site."""
        return Operations(*(a + b for a, b in zip(self, other, strict=True)))


class Counted(NamedTuple):
    """The operations of each site, and the share of non-zeros among what entered those that events enter."""

    sites: dict[str, Operations]
    rates: dict[str, float]

    def total(self, quantity: str) -> Tensor:
        """One quantity over all sites, `[B]`."""
        return torch.stack([getattr(o, quantity) for o in self.sites.values()]).sum(0)


def count_operations(model: nn.Module, x: Tensor, truth: Truth, samples: int) -> Counted:
    """Run `model(x)` once and count the operations of its linear operations, by site.

    Raises AssertionError where the declaration cannot be true: a site that was never called, an event that is no
    multiple of its unit, a product that is not declared.
    """
    recorder = _Recorder(model, truth, samples)
    with torch.no_grad(), recorder:
        model(x)
    missing = {*truth.events, *truth.time_major, *(p.name for p in truth.products)} - recorder.sites.keys()
    assert not missing, f"declared, but never called: {sorted(missing)}; called were {sorted(recorder.sites)}"
    return Counted(recorder.sites, {name: on / of for name, (on, of) in recorder.shares.items()})


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, truth: Truth, samples: int):
        super().__init__()
        self._names = {id(p): name.removesuffix(".weight") for name, p in model.named_parameters()}
        self._truth, self._samples = truth, samples
        self._products = 0
        self.sites: dict[str, Operations] = {}
        self.shares: dict[str, tuple[int, int]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in WEIGHTED:
            x, weight, _, *settings = (*args, None)[:3] + args[3:]
            rest = {k: v for k, v in kwargs.items() if k not in ("input", "weight", "bias")}
            x, weight = kwargs.get("input", x), kwargs.get("weight", weight)
            self._weighted(weight, x, lambda pattern, ones: func(pattern, ones, None, *settings, **rest))
        elif name in PRODUCTS:
            self._product(func, args)
        elif name in LAYERS:
            self._layer(args[0], args[1], args[2], out[0], batch_first=args[-1])
        elif name in CELLS:
            hidden = args[1][0] if name == "lstm_cell" else args[1]
            self._weighted(args[2], args[0], _linear)
            self._weighted(args[3], hidden, _linear)
        return out

    def _weighted(self, weight: Tensor, x: Tensor, repeat: Callable[[Tensor, Tensor], Tensor]) -> None:
        site = self._names[id(weight)]
        ones = torch.ones(weight.shape, dtype=torch.float64)
        synapses = repeat(torch.ones(x.shape, dtype=torch.float64), ones)
        unit = self._truth.events.get(site)
        there = repeat((x != 0).double(), ones)
        if unit is None:
            self._add(site, macs=there, dense_macs=synapses, synapses=synapses)
            return
        n = x.double() / unit
        assert (n - n.round()).abs().max() < 1e-4, f"what enters {site} is no multiple of {unit}"
        self._share(site, x)
        self._add(site, acs=repeat(n.round().abs(), ones), graded_events=there, synapses=synapses)

    def _product(self, func: Any, args: tuple[Any, ...]) -> None:
        *equation, left, right = args
        weights = [id(operand) in self._names for operand in (left, right)]
        if weights == [False, True]:
            return self._weighted(right, left, lambda pattern, ones: func(*equation, pattern, ones))
        if weights == [True, False]:
            return self._weighted(left, right, lambda pattern, ones: func(*equation, ones, pattern))
        assert self._truth.products, f"a product of activations that is not declared: {tuple(left.shape)}"
        site, *events = self._truth.products[self._products % len(self._truth.products)]
        self._products += 1
        ones = [torch.ones(operand.shape, dtype=torch.float64) for operand in (left, right)]
        patterns = [(operand != 0).double() for operand in (left, right)]
        synapses = func(*equation, *ones)
        if not any(events):
            return self._add(site, macs=func(*equation, *patterns), dense_macs=synapses, synapses=synapses)
        for operand, is_events in zip((left, right), events, strict=True):
            if is_events:
                self._share(site, operand)
        met = [p if e else o for p, o, e in zip(patterns, ones, events, strict=True)]
        pairs = func(*equation, *met)
        self._add(site, acs=pairs, graded_events=pairs, synapses=synapses)

    def _layer(self, x: Tensor, state: Any, weights: list[Tensor], y: Tensor, *, batch_first: bool) -> None:
        """One layer, one direction: what enters the recurrent weights is the output one step earlier."""
        first = (state[0] if isinstance(state, tuple | list) else state)[0]
        time = 1 if batch_first else 0
        before = torch.cat([first.unsqueeze(time), y.narrow(time, 0, y.shape[time] - 1)], time)
        self._weighted(weights[0], x, _linear)
        self._weighted(weights[1], before, _linear)

    def _add(self, site: str, **counts: Tensor) -> None:
        none = torch.zeros(self._samples, dtype=torch.float64)
        found = Operations(
            **{q: none for q in Operations._fields} | {q: self._by_sample(site, c) for q, c in counts.items()}
        )
        self.sites[site] = self.sites[site].plus(found) if site in self.sites else found

    def _by_sample(self, site: str, counts: Tensor) -> Tensor:
        if site in self._truth.time_major:
            return counts.reshape(self._truth.timesteps, self._samples, -1).sum((0, 2))
        return counts.reshape(self._samples, -1).sum(1)

    def _share(self, site: str, x: Tensor) -> None:
        on, of = self.shares.get(site, (0, 0))
        self.shares[site] = (on + int(x.count_nonzero()), of + x.numel())


def _linear(pattern: Tensor, ones: Tensor) -> Tensor:
    return torch.nn.functional.linear(pattern, ones)
