"""The figure of noise shaping in docs/methods/hybrid.md: the curves obey the theory that is drawn beside them."""

import runpy
from pathlib import Path

import pytest
import torch

from picojoule.report.svg import write_svg

TOOL = Path(__file__).resolve().parents[2] / "tools" / "draw_noise_shaping.py"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


def test_the_diffused_error_stays_under_its_bound_and_falls_as_one_over_t(tool):
    steps, fineness = tool["STEPS"], tool["FINENESS"]
    error = tool["error_of_mean"](tool["sent"]("diffused"))
    bound = 1 / (fineness * torch.arange(1, steps + 1))
    assert (error <= bound).all()
    assert tool["error_of_mean"](tool["sent"]("stochastic"))[-1] > 5 * bound[-1]


def test_the_diffused_error_has_no_power_at_low_frequencies_and_stochastic_rounding_is_white(tool):
    frequency = torch.fft.rfftfreq(tool["STEPS"])
    low, high = (frequency > 0.02) & (frequency < 0.05), frequency > 0.2
    diffused, stochastic = (tool["spectrum"](tool["sent"](one)) for one in ("diffused", "stochastic"))
    shaped = (2 * torch.sin(torch.pi * frequency)).square() / (12 * tool["FINENESS"] ** 2)
    for band in (low, high):
        assert diffused[band].mean() == pytest.approx(float(shaped[band].mean()), rel=0.5)
    assert stochastic[low].mean() == pytest.approx(float(stochastic[high].mean()), rel=0.1)


def test_it_is_drawn(tool, tmp_path):
    pytest.importorskip("matplotlib")
    write_svg(tmp_path / "a.svg", (11, 3.6), tool["draw"])
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "stochastic" in text and "bound 1 / (w T)" in text
