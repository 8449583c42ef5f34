import pytest
import torch
from hand_meter import HandMeter, measure
from torch import nn

from picojoule.energy.conventions.keras_spiking import DEVICES, Device
from picojoule.kinds import Events
from picojoule.neurons import LIF


def test_the_example_of_its_documentation(monkeypatch):
    """Dense 784 -> 128 with ReLU: 100,352 connections, 128 neurons, 8.64e-4 J on the CPU, 1.03e-5 J on `my-cpu`."""
    monkeypatch.setitem(DEVICES, "my-cpu", Device(1e-10, 2e-9, False))
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU())
    report = measure(model, torch.rand(3, 784), {}, ["keras-spiking"])["keras-spiking"]
    assert (report.totals["connections"], report.totals["neurons"]) == (100352, 128)
    assert report.joules["cpu"] == pytest.approx(8.64e-4, rel=1e-3)
    assert report.joules["my-cpu"] == pytest.approx(1.03e-5, rel=3e-3)


def test_spiking_devices_pay_for_the_rate_at_every_step():
    torch.manual_seed(0)
    x = (torch.rand(2, 5, 20) < 0.25).float()  # [B, T, N]

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.spike = nn.Linear(20, 4), type("BaseNode", (nn.ReLU,), {"__module__": "spikingjelly"})()

        def forward(self, x):
            return sum(self.spike(self.layer(x[:, t])) for t in range(5))

    report = HandMeter(Loop(), {"layer": Events()}).run([x], ["keras-spiking"], timesteps=5)[0]["keras-spiking"]
    synops = float(x.sum()) * 4 / 2
    assert report.totals["connections"] == 80 and report.totals["neurons"] == 4
    assert report.totals["synops"] == pytest.approx(synops)
    assert report.joules["loihi"] == pytest.approx(synops * 27.1e-12 + 4 * 5 * 81e-12)
    assert report.joules["gpu"] == pytest.approx(0.3e-9 * 84)


def test_neurons_unrolled_over_time_count_each_step():
    report = HandMeter(nn.Sequential(nn.Linear(4, 4), nn.Unflatten(0, (3, 2)), LIF()), {}, folds=3).run(
        [torch.rand(6, 4)], ["keras-spiking"], timesteps=3
    )[0]["keras-spiking"]
    assert report.layers["2"] == {"neurons": 4, "neuron_updates": 12}
    assert report.layers["0"]["connections"] == 16


def test_connections_of_a_convolution_know_no_border():
    conv = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2))
    report = measure(conv, torch.rand(2, 4, 5, 5), {}, ["keras-spiking"])["keras-spiking"]
    assert report.totals["connections"] == 25 * 6 * 9 * 2
    assert any("border" in s for s in report.differences)


def test_data_do_not_change_the_energy_of_devices_that_do_not_spike():
    model = nn.Sequential(nn.Linear(6, 2))
    reports = [measure(model, x, {}, ["keras-spiking"])["keras-spiking"] for x in (torch.zeros(2, 6), torch.ones(2, 6))]
    assert reports[0].joules["cpu"] == reports[1].joules["cpu"] > 0
    assert reports[0].joules["loihi"] == 0 < reports[1].joules["loihi"]
