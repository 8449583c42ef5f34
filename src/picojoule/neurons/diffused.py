"""Any activation as events whose quantisation error is diffused over time."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.errors import BadInput, check_choice, unknown_name
from picojoule.kernels.diffused.reference import DiffusedState, diffused_step, nearest, poisson, sent, stochastic
from picojoule.kinds import Events
from picojoule.neurons.chance import generator_at_rest
from picojoule.neurons.neuron import Neuron, check_currents

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky-relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}
ROUNDINGS = ("diffused", "stochastic", "poisson", "nearest")
GRADIENTS = ("spiking", "rate")
_NEVER_NEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus)
_RANDOM: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"stochastic": stochastic, "poisson": poisson}


class NoiseState(NamedTuple):
    """The state of the random generator that the next steps draw from."""

    stream: Tensor


class Diffused(Neuron):
    """The temporally diffused quantiser: `activation` sent as events of height 1 / fineness (see `diffused_step`).

    Arguments:
        activation: one of ACTIVATIONS, or an elementwise module; events are signed unless it is never negative.
        fineness: w > 0, events per step and unit of activation. It can be set at any time, as a schedule does.
        rounding: "diffused" carries the error on. Baselines without memory: "nearest", "stochastic", "poisson".
        gradient: "spiking" trains on events with the derivative of the activation; "rate" trains on the activation
            itself, and sends events in evaluation alone.
        random_start: the first error is uniform in [0, 1) for each sample and neuron, which makes the output unbiased;
            in evaluation drawn from `seed`, so that it can be repeated (it belongs to a place in the batch). If not,
            it is `v_initial`.
        learn_fineness: train w, as its logarithm; its gradient is that of `diffused_step`.
        v_initial: the error at rest without a random start: 0.5 rounds the first step to nearest, 0 down.
        seed: of evaluation. Populations of one network should have different ones.
    """

    def __init__(
        self,
        activation: str | nn.Module = "relu",
        fineness: float = 1.0,
        *,
        rounding: str = "diffused",
        gradient: str = "spiking",
        random_start: bool = True,
        learn_fineness: bool = False,
        v_initial: float = 0.5,
        seed: int = 0,
    ):
        super().__init__()
        check_fineness(fineness)
        check_choice("rounding", rounding, ROUNDINGS)
        check_choice("gradient", gradient, GRADIENTS)
        if not 0 <= v_initial < 1:
            raise BadInput(f"expected v_initial in [0, 1), got {v_initial}")
        self.activation = _activation(activation)
        self.rounding, self.gradient, self.random_start = rounding, gradient, random_start
        self.v_initial, self.seed = v_initial, seed
        self._fineness = float(fineness)
        self.fineness_log = nn.Parameter(torch.tensor(math.log(fineness))) if learn_fineness else None

    @property
    def fineness(self) -> Tensor | float:
        """Events per step and unit of activation, w."""
        return self._fineness if self.fineness_log is None else torch.exp(self.fineness_log)

    @fineness.setter
    def fineness(self, fineness: float) -> None:
        check_fineness(fineness)
        self._fineness = float(fineness)
        if self.fineness_log is not None:
            with torch.no_grad():
                self.fineness_log.fill_(math.log(fineness))

    @property
    def emits(self) -> Events:  # pyright: ignore[reportIncompatibleVariableOverride]  (changes with the fineness)
        """Events of height 1 / fineness as it is now."""
        with torch.no_grad():
            return Events(1 / float(self.fineness), not isinstance(self.activation, _NEVER_NEGATIVE))

    def initial_state(self, x: Tensor) -> Any:
        check_currents(x)
        if self.rounding == "nearest":
            return ()
        if self.rounding == "diffused" and not self.random_start:
            return DiffusedState(_error_like(x[0]).fill_(self.v_initial))
        generator = generator_at_rest(self.training, self.seed, x.device)
        if self.rounding in _RANDOM:
            return NoiseState(generator.get_state())
        error = _error_like(x[0])
        drawn = torch.rand(error.shape, generator=generator, dtype=torch.float32, device=x.device)
        return DiffusedState(error.copy_(drawn))  # the same numbers in every dtype and memory layout

    def step_function(self) -> Callable[[Any, Tensor], tuple[Any, Tensor]]:
        if self.gradient == "rate" and self.training:
            return lambda state, current: (state, self.activation(current))
        fineness = self.fineness
        if self.rounding == "diffused":
            return lambda state, current: diffused_step(state, current, self.activation, fineness)
        return lambda state, current: self._forgetful_step(state, current, fineness)

    def _forgetful_step(self, state: Any, current: Tensor, fineness: Tensor | float) -> tuple[Any, Tensor]:
        wanted = self.activation(current.to(torch.promote_types(current.dtype, torch.float32)))
        with torch.no_grad():
            target = fineness * wanted
        if self.rounding == "nearest":
            n = nearest(target)
        else:
            generator = torch.Generator(current.device)
            generator.set_state(state.stream)
            n = _RANDOM[self.rounding](target, generator)
            state = NoiseState(generator.get_state())
        return state, sent(n, wanted, fineness).to(current.dtype)

    def extra_repr(self) -> str:
        with torch.no_grad():
            return f"fineness={float(self.fineness):.4g}, rounding={self.rounding}, gradient={self.gradient}"


def check_fineness(fineness: float) -> None:
    """Raise BadInput unless a fineness is a finite number above 0."""
    if not isinstance(fineness, Real) or not 0 < fineness < math.inf:
        raise BadInput(
            f"expected a finite fineness above 0, the events per step and unit of activation, got {fineness!r}; larger "
            "is finer"
        )


def _activation(given: str | nn.Module) -> nn.Module:
    if isinstance(given, nn.Module):
        return given
    if given not in ACTIVATIONS:
        raise unknown_name("activation", given, list(ACTIVATIONS))
    return ACTIVATIONS[given]()


def _error_like(step: Tensor) -> Tensor:
    return torch.empty_like(step, dtype=torch.promote_types(step.dtype, torch.float32), requires_grad=False)
