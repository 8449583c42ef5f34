"""One tensor, many numbers: what each tool was seen to report for the same convolution."""

import pytest
import torch
from hand_meter import measure
from torch import Tensor, nn

from picojoule.kinds import Events, Kind, Values

torch.manual_seed(0)
SPIKES = (torch.rand(2, 3, 8, 8) < 0.2).float()
CONV = nn.Conv2d(3, 4, 3, padding=1, bias=False)
TERNARY = SPIKES - (torch.rand_like(SPIKES) < 0.1).float()
RELU = torch.relu(torch.randn(2, 3, 8, 8))

ROWS: dict[str, tuple[Tensor, Kind]] = {
    "{0,1}": (SPIKES, Events(most=1)),
    "{0,0.5}": (SPIKES * 0.5, Events(0.5, most=1)),
    "{-1,0,1}": (TERNARY, Events(signed=True, most=1)),
    "relu": (RELU, Values()),
}
NUMBERS = {
    "picojoule": ("1258 AC", "1258 AC", "1570 AC", "3090 MAC"),
    "syops": ("1458 AC", "729 AC", "6912 MAC", "6912 MAC"),
    "neurobench": ("1258 AC", "1258 MAC", "1570 AC", "3090 MAC"),
    "spikingjelly-2026-08": ("1258 AC", "6912 MAC", "6912 MAC", "6912 MAC"),
    "norse": ("1458 SynOps", "729 SynOps", "846 SynOps", "2778 SynOps"),
    "sinabs": ("1258 SynOps", "629 SynOps", "742 SynOps", "2325 SynOps"),
    "literature-sop": ("6912 MAC",) * 4,
}


@pytest.mark.parametrize("row", range(4), ids=list(ROWS))
@pytest.mark.parametrize("name", NUMBERS)
def test_each_tool_reports_its_own_number(name, row):
    x, kind = list(ROWS.values())[row]
    report = measure(nn.Sequential(CONV), x, {"0": kind}, [name])[name]
    number, unit = NUMBERS[name][row].split()
    assert report.headline.split()[1:] == [unit]
    assert report.operations == pytest.approx(float(number), abs=0.51)


def test_dense_counts_with_and_without_padding_taps():
    reports = measure(nn.Sequential(CONV), SPIKES, {"0": Events(most=1)})
    assert reports["neurobench"].totals["Dense"] == 5808
    assert reports["syops"].totals["total"] == 6912


def test_energy_of_scaled_spikes_differs_by_a_factor_of_48():
    reports = measure(nn.Sequential(CONV), SPIKES * 0.5, {"0": Events(0.5, most=1)})
    lowest, exact = reports["syops"].joules["readme"], reports["picojoule"].joules["horowitz-45nm-fp32"]
    highest = reports["spikingjelly-2026-08"].joules["fp32"]
    assert (lowest, exact, highest) == pytest.approx((0.66e-9, 1.13e-9, 31.8e-9), rel=0.01)
    assert highest / lowest == pytest.approx(48, abs=0.5)


def test_the_reasons_are_those_of_the_row():
    scaled = measure(nn.Sequential(CONV), SPIKES * 0.5, {"0": Events(0.5, most=1)})
    assert any("fractional" in s for s in scaled["spikingjelly-2026-08"].differences)
    assert "mean of the values" in scaled["syops"].differences[0]
    assert any("multiply-accumulates" in s for s in scaled["neurobench"].differences)
    plain = measure(nn.Sequential(CONV), SPIKES, {"0": Events(most=1)})
    assert "Padding taps" in plain["syops"].differences[0]
    assert not plain["sinabs"].differences and not plain["spikingjelly-2026-08"].differences
    signed = measure(nn.Sequential(CONV), TERNARY, {"0": Events(signed=True, most=1)})
    assert any("negative" in s for s in signed["syops"].differences)
