"""Event numbers: what a tensor of known provenance says, in units of one event."""

import math

import torch
from torch import Tensor

from picojoule.graph.counting import magnitudes
from picojoule.kinds import Events
from picojoule.metering.tag import Level, Tag


def numbers(x: Tensor, tag: Tag) -> Tensor:
    """|n| of events x = n * unit, differentiable; where the unit is no single number, whether there is an event.

    Where no n is negative the gradient is that of n itself, so that silent neurons are pressed too.
    """
    if tag.level is not Level.EVENT:
        return (x.detach() != 0).to(torch.float32)
    height = tag.unit.number
    if height is None:
        pattern = (x.detach() != 0).to(x.dtype)
        return pattern + (x - x.detach()) if x.requires_grad else pattern
    if x.dtype is torch.bool:
        return x
    n = magnitudes(x, Events(abs(height)), tag.inexact)
    unsigned = not tag.signed or (x.requires_grad and bool((n.detach() >= 0).all()))
    return n if unsigned else n.abs()


def are_events(x: Tensor, tag: Tag) -> bool:
    """Whether x holds what its provenance promises: a guard against a wrong rule, not a classification."""
    height = tag.unit.number
    if height is None or x.dtype is torch.bool:
        return True
    n = x.detach() / height
    bound = math.inf if tag.most is None else tag.most + 0.5
    least = -bound if tag.signed else -0.5
    whole = (n - n.round()).abs() <= 1e-3
    return bool((whole & (n >= least) & (n <= bound)).all())


def most_of(tag: Tag) -> int | None:
    if tag.unit.number is None:
        return 1
    return None if tag.most is None else round(tag.most)


def same_numbers(a: Tag, b: Tag) -> bool:
    """Whether two operands are counted in the same way."""
    if a is b:
        return True
    same = a.level == b.level and a.unit == b.unit and most_of(a) == most_of(b)
    return same and (a.signed, a.inexact) == (b.signed, b.inexact)
