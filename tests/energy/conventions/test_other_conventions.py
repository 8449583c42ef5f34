import pytest
import torch
from hand_meter import HandMeter, measure
from torch import nn

from picojoule.kinds import Events, Values

torch.manual_seed(0)
SPIKES = (torch.rand(4, 3, 8, 8) < 0.2).float()


def test_norse_ignores_stride_and_sinabs_does_not():
    conv = nn.Conv2d(3, 6, 2, stride=2, groups=3, bias=False)
    reports = measure(nn.Sequential(conv), SPIKES, {"0": Events()})
    spikes = float(SPIKES.sum()) / 4
    assert reports["norse"].operations == pytest.approx(spikes * 6 * 4 / 3)
    assert reports["sinabs"].operations == reports["picojoule"].operations == pytest.approx(spikes * 2)
    assert any("stride" in s for s in reports["norse"].differences)


def test_sinabs_multiplies_what_follows_an_average_pool():
    ones = nn.Conv2d(3, 2, 1, bias=False)
    nn.init.ones_(ones.weight)
    model = nn.Sequential(nn.AvgPool2d(2), ones, nn.Conv2d(2, 2, 1, bias=False))
    report = measure(model, SPIKES, {"1": Events(0.25, most=4)}, ["sinabs"])["sinabs"]
    assert report.layers["1"]["synops"] == pytest.approx(float(SPIKES.sum()) / 4 * 2)  # counts of spikes again
    assert report.layers["2"]["synops"] == pytest.approx(float(SPIKES.sum()) / 4 / 4 * 2 * 2)  # the next is not scaled
    assert any("kernel area" in s for s in report.differences)


@pytest.mark.parametrize("name", ["norse", "sinabs"])
def test_other_layers_are_left_out_and_that_is_told(name):
    report = measure(nn.Sequential(nn.ConvTranspose2d(3, 2, 2)), SPIKES, {"0": Events()}, [name])[name]
    assert report.operations == 0 and "fewer" in report.differences[0]


def _spikingjelly(model: nn.Module, x: torch.Tensor):
    return measure(model.eval(), x, {}, ["spikingjelly-2026-08"])["spikingjelly-2026-08"]


def test_spikingjelly_takes_one_odd_value_for_a_dense_layer():
    x = torch.zeros(1, 10)
    x[0, 3] = 2
    assert _spikingjelly(nn.Sequential(nn.Linear(10, 5)), x).totals == {"ac": 0, "mac": 50}
    x[0, 3] = 1
    assert _spikingjelly(nn.Sequential(nn.Linear(10, 5)), x).totals == {"ac": 5, "mac": 0}


def test_spikingjelly_pads_the_dense_side_alone():
    conv = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    assert _spikingjelly(conv, torch.ones(1, 1, 5, 5)).headline == "169 AC"
    assert _spikingjelly(conv, torch.full((1, 1, 5, 5), 0.5)).headline == "225 MAC"


def test_spikingjelly_takes_weights_of_ones_for_spikes():
    conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.zero_()[0] = 1
    x = torch.rand(1, 1, 5, 5)
    assert _spikingjelly(nn.Sequential(conv), x).totals == {"ac": 9 * 25, "mac": 0}
    assert _spikingjelly(nn.Sequential(conv), torch.ones(1, 1, 5, 5)).totals == {"ac": 169, "mac": 0}
    linear = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        linear.weight.zero_()[0] = 1
    assert _spikingjelly(nn.Sequential(linear), torch.rand(2, 4)).totals == {"ac": 4, "mac": 0}


def test_spikingjelly_counts_batch_norm_and_average_pools():
    x = torch.rand(2, 3, 4, 4)
    assert _spikingjelly(nn.Sequential(nn.BatchNorm2d(3)), x).totals == {"ac": 48 + 3 / 2, "mac": 48}
    assert _spikingjelly(nn.Sequential(nn.AvgPool2d(2)), x).totals == {"ac": 12 * 3, "mac": 0}


def test_spikingjelly_additions_in_neurons_are_told():
    neuron = type("LIFNode", (type("BaseNode", (nn.Identity,), {"__module__": "spikingjelly"}),), {})
    report = _spikingjelly(nn.Sequential(nn.Linear(8, 8), neuron()), SPIKES)
    assert any("not reproduced" in s for s in report.differences)


def test_spikingjelly_presets():
    report = _spikingjelly(nn.Sequential(nn.Linear(8, 5)), torch.full((1, 8), 0.5))
    assert report.joules == pytest.approx({"fp32": 40 * 4.6e-12, "fp16": 40 * 1.5e-12, "int8": 40 * 0.23e-12})


class Loop(nn.Module):
    """A layer that runs once, and one that runs on every step of other data."""

    def __init__(self, steps: torch.Tensor):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)
        self.steps = steps

    def forward(self, x: torch.Tensor) -> None:
        self.first(x)
        for step in self.steps:
            self.second(step)


def test_the_literature_formula_by_hand():
    spikes = (torch.rand(4, 5, 2, 4, 4) < 0.3).float()
    model = Loop(spikes)
    batch = torch.rand(5, 1, 4, 4)
    meter = HandMeter(model, {"first": Values(), "second": Events(most=1)})
    report = meter.run([batch], ["literature-sop"], timesteps=4)[0]["literature-sop"]
    first, second = 16 * 9 * 2, 16 * 9 * 2 * 3
    sops = float(spikes.mean()) * 4 * second
    assert report.totals["macs"] == first
    assert report.totals["sops"] == pytest.approx(sops)
    assert report.joules["snn"] == pytest.approx((4.6 * first + 0.9 * sops) * 1e-12)
    assert report.joules["ann"] == pytest.approx(4.6e-12 * (first + second))
    assert any("averaged over the layer" in s for s in report.differences)


def test_spkeras_by_hand():
    """A pixel of 0.5 stands for 0.5 T spikes; of 32 neurons 8 fire once in 4 steps: 1/4 spike per neuron."""
    steps = torch.zeros(4, 1, 2, 4, 4)
    steps[0, 0, :, 0, :] = 1
    meter = HandMeter(Loop(steps), {"first": Values(), "second": Events(most=1)})
    report = meter.run([torch.full((1, 1, 4, 4), 0.5)], ["spkeras"], timesteps=4)[0]["spkeras"]
    assert {name: row["ops"] for name, row in report.layers.items()} == {"first": 0.5 * 4 * 18, "second": 0.25 * 54}
    assert report.metrics == {"mops": pytest.approx(49.5e-6)}
    (once,) = (gap for gap in report.gaps if "A weight counts once" in gap.why)
    assert once.operations < 0 and set(once.layers) == {"first", "second"}
    assert report.joules == {}
