"""The table of kinds: what each operation makes of events."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.graph import trace
from picojoule.graph.propagate import infer_kinds
from picojoule.graph.shapes import infer_shapes
from picojoule.kinds import Events, Kind, Values
from picojoule.layers import AddTime, MeanReadout, MembraneReadout, Repeat, SpikeCount, Timewise
from picojoule.neurons import IAF, LIF


class _Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]):
        super().__init__()
        self.function = function
        if isinstance(function, nn.Module):
            self.part = function

    def forward(self, x):
        return (self.part if hasattr(self, "part") else self.function)(x)


class _WithParameters(nn.Module):
    def __init__(self, function: Callable[[Tensor, Any], Tensor]):
        super().__init__()
        self.function = function
        self.weight, self.scale = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(()))
        self.fc, self.lif = nn.Linear(4, 4), LIF()
        self.register_buffer("mask", torch.ones(4))

    def forward(self, x):
        return self.function(x, self)


def _kind(model: nn.Module, inputs: Kind, shape: tuple[int, ...]) -> Kind:
    graph = trace(model)
    x = torch.ones(shape)
    infer_shapes(graph, x, 0)
    infer_kinds(graph, inputs, {})
    (result,) = [n for n in graph.graph.nodes if n.op == "output"]
    return result.args[0].meta["kind"]


UNIT = Events(most=1)
TERNARY = Events(1.0, signed=True, most=1)

ELEMENTWISE = [
    # scaling changes the quantum only
    (lambda x: x * 0.5, Events(0.5, most=1)),
    (lambda x: 3 * x, Events(3.0, most=1)),
    (lambda x: x / 4, Events(0.25, most=1)),
    (lambda x: x * -2.0, Events(2.0, signed=True, most=1)),
    (lambda x: -x, Events(1.0, signed=True, most=1)),
    (lambda x: torch.mul(x, 0.5), Events(0.5, most=1)),
    (lambda x: x.mul(0.5), Events(0.5, most=1)),
    (lambda x: x.div(2), Events(0.5, most=1)),
    (lambda x: x * 0.5 * 0.5, Events(0.25, most=1)),
    # sums of equal quanta
    (lambda x: x + x, Events(most=2)),
    (lambda x: torch.add(x, x), Events(most=2)),
    (lambda x: x + x + x, Events(most=3)),
    (lambda x: sum([x, x, x]), Events(most=3)),
    (lambda x: 0.5 * x + x / 2, Events(0.5, most=2)),
    (lambda x: x - x, Events(1.0, signed=True, most=2)),
    (lambda x: x + (x > 0), Events(most=2)),
    # gating
    (lambda x: x * (x > 0), Events(most=1)),
    (lambda x: x * (x * 0.5), Events(0.5, most=1)),
    (lambda x: (-x) * x, TERNARY),
    (lambda x: (x + x) * (x + x), Events(most=4)),
    # births
    (lambda x: x > 0.5, UNIT),
    (lambda x: (x >= 0.5).float(), UNIT),
    (lambda x: torch.lt(x, 1), UNIT),
    (lambda x: x.eq(1), UNIT),
    (lambda x: torch.bernoulli(x), UNIT),
    (lambda x: torch.sign(x - 0.5), TERNARY),
    (lambda x: x.sign(), TERNARY),
    (lambda x: torch.poisson(x), Events(most=None)),
    (lambda x: torch.round(x * 0.3), Events(1.0, signed=True, most=None)),
    # rectifiers of events
    (lambda x: torch.relu(-x), Events(most=1)),
    (lambda x: F.relu(x), UNIT),
    (lambda x: (-x).abs(), UNIT),
    (nn.ReLU(), UNIT),
    # shape
    (lambda x: x.reshape(-1, 4), UNIT),
    (lambda x: x.unsqueeze(1).squeeze(1).transpose(0, 1), UNIT),
    (lambda x: x[:, 1:], UNIT),
    (lambda x: x.chunk(2, 1)[1], UNIT),
    (lambda x: torch.split(x, [1, 3], 1)[0], UNIT),
    (lambda x: x.unbind(1)[2], UNIT),
    (lambda x: x.contiguous().detach(), UNIT),
    (lambda x: torch.flip(x, [1]), UNIT),
    (lambda x: F.pad(x, (1, 1)), UNIT),
    (lambda x: F.pad(x, (1, 1), value=0.0), UNIT),
    (nn.Identity(), UNIT),
    (nn.Dropout(0.3), UNIT),
    (AddTime(), UNIT),
    (nn.Sequential(AddTime(), Repeat(3)), UNIT),
    # join
    (lambda x: torch.cat([x, x], 1), UNIT),
    (lambda x: torch.stack([x, -x]), TERNARY),
    (lambda x: torch.cat([x + x, x], 1), Events(most=2)),
    # reductions
    (lambda x: x.sum(1), Events(most=4)),
    (lambda x: torch.sum(x, 1, keepdim=True), Events(most=4)),
    (lambda x: x.mean(1), Events(0.25, most=4)),
    (lambda x: x.amax(1), UNIT),
    # neurons forget what came in
    (nn.Sequential(AddTime(), LIF()), UNIT),
    (nn.Sequential(AddTime(), IAF(max_events=3)), Events(most=3)),
]

TO_VALUES = [
    (lambda x: x + 1, "add"),
    (lambda x: 1 - x, "sub"),
    (lambda x: x + 0.5 * x, "unequal quanta"),
    (lambda x: torch.cat([x, 0.5 * x], 1), "unequal quanta"),
    (lambda x: x * 0, "mul"),
    (lambda x: 1 / (x + x), "div"),
    (lambda x: x / x, "div"),
    (lambda x: torch.div(x, 2, rounding_mode="floor"), "div"),
    (lambda x: torch.add(x, x, alpha=0.3), "add"),
    (lambda x: x**2, "pow"),
    (lambda x: torch.exp(x), "exp"),
    (lambda x: torch.round(0.123 * x, decimals=1), "round"),
    (lambda x: F.pad(x, (1, 1), value=0.7), "pad"),
    (lambda x: x.clamp(0, 0.3), "clamp"),
    (lambda x: F.relu6(5 * (x + x)), "relu6"),
    (nn.Sequential(nn.ReLU6()), ""),
    (lambda x: torch.softmax(x, 1), ""),
    (nn.Sigmoid(), ""),
    (nn.Linear(4, 4), ""),
    (nn.BatchNorm1d(4), ""),
    (nn.LayerNorm(4), ""),
    (nn.Sequential(AddTime(), MeanReadout()), ""),
    (nn.Sequential(AddTime(), MembraneReadout()), ""),
    (nn.Sequential(AddTime(), SpikeCount()), ""),
]


@pytest.mark.parametrize("function, kind", ELEMENTWISE, ids=lambda v: "" if callable(v) else str(v))
def test_events_stay_events(function, kind):
    assert _kind(_Apply(function), UNIT, (2, 4)) == kind


@pytest.mark.parametrize("function, reason", TO_VALUES, ids=lambda v: v if isinstance(v, str) else "")
def test_events_become_values(function, reason):
    kind = _kind(_Apply(function), UNIT, (2, 4))
    assert isinstance(kind, Values), kind
    assert reason in kind.reason


@pytest.mark.parametrize(
    "function, kind",
    [
        (lambda x, m: x * m.weight, Values),
        (lambda x, m: x + m.weight, Values),
        (lambda x, m: x * m.scale, Values),
        (lambda x, m: x * m.mask, Values),
        (lambda x, m: x * m.fc(x), Values),
        (lambda x, m: x + m.fc(x), Values),
        (lambda x, m: torch.cat([x, m.fc(x)], 1), Values),
        (lambda x, m: m.fc(x) > m.weight, Events),
        (lambda x, m: m.lif(m.fc(x).unsqueeze(0)), Events),
        (lambda x, m: torch.where(x > 0, x, m.weight), Values),
    ],
)
def test_events_beside_parameters_and_currents(function, kind):
    assert isinstance(_kind(_WithParameters(function), UNIT, (2, 4)), kind)


@pytest.mark.parametrize(
    "pool, kind",
    [
        (nn.MaxPool2d(2), UNIT),
        (nn.MaxPool2d(3, 1, 1), UNIT),
        (nn.AdaptiveMaxPool2d(2), UNIT),
        (nn.AvgPool2d(2), Events(0.25, most=4)),
        (nn.AvgPool2d((1, 2)), Events(0.5, most=2)),
        (nn.AvgPool2d(3, 2, 1), Events(1 / 9, most=9)),
        (nn.AdaptiveAvgPool2d(2), Events(1 / 4, most=4)),
        (nn.AdaptiveAvgPool2d(1), Events(1 / 16, most=16)),
        (lambda x: F.avg_pool2d(x, 2), Events(0.25, most=4)),
        (lambda x: F.avg_pool2d(x, kernel_size=(2, 2)), Events(0.25, most=4)),
        (lambda x: F.adaptive_avg_pool2d(x, 1), Events(1 / 16, most=16)),
        (lambda x: x.mean((2, 3)), Events(1 / 16, most=16)),
        (lambda x: F.max_pool2d(x, 2), UNIT),
        (Timewise(nn.AvgPool2d(2)), Events(0.25, most=4)),
        (Timewise(nn.MaxPool2d(2)), UNIT),
        (nn.Upsample(scale_factor=2), UNIT),
        (lambda x: F.interpolate(x, scale_factor=2), UNIT),
        (nn.Flatten(), UNIT),
        (nn.PixelShuffle(2), UNIT),
        # windows of unequal size have no common quantum
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), Values),
        (nn.AvgPool2d(3, ceil_mode=True), Values),
        (nn.AvgPool2d(2, divisor_override=3), Values),
        (nn.AdaptiveAvgPool2d(3), Values),
        (nn.Upsample(scale_factor=2, mode="bilinear"), Values),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), Values),
        (nn.BatchNorm2d(4), Values),
        (nn.Conv2d(4, 2, 1), Values),
        (nn.ConvTranspose2d(4, 2, 2), Values),
    ],
    ids=lambda v: type(v).__name__,
)
def test_maps(pool, kind):
    shape = (3, 2, 4, 4, 4) if isinstance(pool, Timewise) else (2, 4, 4, 4)
    found = _kind(_Apply(pool), UNIT, shape)
    if isinstance(kind, Events):
        assert isinstance(found, Events) and found.quantum == pytest.approx(kind.quantum)
        assert (found.signed, found.most) == (kind.signed, kind.most)
    else:
        assert isinstance(found, Values)


@pytest.mark.parametrize("inputs", [Events(0.5, signed=True, most=3), Events(2.0), Values("because")])
@pytest.mark.parametrize("function", [nn.Identity(), nn.Flatten(1), lambda x: x.clone(), nn.MaxPool1d(2)])
def test_the_declared_kind_of_inputs_is_carried(inputs, function):
    assert _kind(_Apply(function), inputs, (2, 4, 4)) == inputs


def test_values_stay_values():
    for function, kind in ELEMENTWISE:
        if kind == UNIT or not isinstance(function, nn.Module):
            continue
        found = _kind(_Apply(function), Values(), (2, 4))
        assert isinstance(found, Values | Events)
    assert isinstance(_kind(_Apply(lambda x: x * 0.5 + x), Values(), (2, 4)), Values)


def test_kinds_do_not_depend_on_the_numbers():
    model = _Apply(lambda x: x * 1.0)
    assert isinstance(_kind(model, Values(), (2, 4)), Values)  # an example of ones is not taken for events


@pytest.mark.parametrize(
    "kind, factor, expected",
    [
        (Events(), 0.5, Events(0.5)),
        (Events(0.5, most=3), -4.0, Events(2.0, signed=True, most=3)),
    ],
)
def test_scaled(kind, factor, expected):
    assert kind.scaled(factor) == expected


def test_summed():
    assert Events(0.5, signed=True, most=3).summed(4) == Events(0.5, signed=True, most=12)
    assert Events().summed(4) == Events()
