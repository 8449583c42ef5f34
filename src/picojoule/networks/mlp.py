"""Fully connected networks."""

from math import sqrt

from torch import nn

from picojoule.networks.definition import Definition, depth_and_width
from picojoule.networks.parts import Activation, dense, encoded, features_of, readout

_SPREAD = 0.7


def mlp(d: Definition, activation: Activation) -> list[nn.Module]:
    """FC256-FC256-FC(classes), each hidden layer with batch norm."""
    return [
        *encoded(d, [nn.Flatten(2), *dense(features_of(d), 256)]),
        activation(),
        *dense(256, 256),
        activation(),
        *readout(d, 256, activation),
    ]


def deep_mlp(d: Definition, activation: Activation) -> list[nn.Module]:
    """`mlp-DxW`: D hidden layers of W neurons, then FC(classes), for codes in which the time of an event counts.

    There is no norm and no bias, so that nothing flows where no event came. Weights are normal with standard
    deviation `0.7 / sqrt(fan_in)`, which keeps deep layers of `CubaLIF` active at the start; deep layers of `LIF`,
    which keep no current from step to step, start silent.

    Source: our choice, after the `7 * (1 - decay) / sqrt(fan_in)` of the SpyTorch tutorials
    (github.com/fzenke/spytorch), whose membranes decay by exp(-1/10) per step.
    """
    depth, width = depth_and_width(d.name)
    first, *others = [
        nn.Linear(inputs, width, bias=False) for inputs in (features_of(d), *(width for _ in range(depth - 1)))
    ]
    parts = [*encoded(d, [nn.Flatten(2), first]), activation()]
    for layer in others:
        parts += [layer, activation()]
    parts += readout(d, width, activation, bias=False)
    for part in parts:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=_SPREAD / sqrt(part.in_features))
    return parts
