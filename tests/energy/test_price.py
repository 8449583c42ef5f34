import pytest
import torch
from torch import nn

from picojoule.energy import OpCounts, count, hardware, hardware_names
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.layers import AddTime, MeanReadout, Repeat
from picojoule.neurons import LIF


def _two_layers() -> OpCounts:
    """Input (1, 0, 2) into 4 neurons that all fire at both steps, into 2 outputs.

    12 dense MACs, 8 of them with a non-zero value; 2 * 4 * 2 = 16 ACs; 2 * 4 neuron updates.
    """
    model = nn.Sequential(AddTime(), nn.Linear(3, 4, bias=False), Repeat(2), LIF(), nn.Linear(4, 2), MeanReadout())
    nn.init.ones_(model[1].weight)  # pyright: ignore[reportArgumentType]
    x = torch.tensor([[1.0, 0.0, 2.0]]).repeat(5, 1)
    counts = count(observe(model, x)(x)[1]).detach()
    assert [float(counts.total(q)) for q in ("dense_macs", "macs", "acs")] == [12, 8, 16]
    return counts


BY_HAND = {  # value, low, high in picojoules per sample
    "horowitz-45nm-fp32": (12 * 4.6 + 16 * 0.9,) * 3,
    "horowitz-45nm-fp32-skip-zeros": (8 * 4.6 + 16 * 0.9,) * 3,
    "horowitz-45nm-int8": (12 * 0.23 + 16 * 0.03,) * 3,
    "horowitz-45nm-int8-sram": (
        12 * (0.23 + 2 * 12.5) + 16 * (0.03 + 3 * 12.5) + 8 * 2 * 12.5,
        12 * (0.23 + 2 * 1.25) + 16 * (0.03 + 3 * 1.25) + 8 * 2 * 1.25,
        12 * (0.23 + 2 * 12.5) + 16 * (0.03 + 3 * 12.5) + 8 * 2 * 12.5,
    ),
    "horowitz-45nm-fp32-skip-zeros-sram": (
        8 * (4.6 + 2 * 50) + 16 * (0.9 + 3 * 50) + 8 * 2 * 50,
        8 * (4.6 + 2 * 5) + 16 * (0.9 + 3 * 5) + 8 * 2 * 5,
        8 * (4.6 + 2 * 50) + 16 * (0.9 + 3 * 50) + 8 * 2 * 50,
    ),
    "horowitz-45nm-fp32-sram": (
        12 * (4.6 + 2 * 50) + 16 * (0.9 + 3 * 50) + 8 * 2 * 50,
        12 * (4.6 + 2 * 5) + 16 * (0.9 + 3 * 5) + 8 * 2 * 5,
        12 * (4.6 + 2 * 50) + 16 * (0.9 + 3 * 50) + 8 * 2 * 50,
    ),
}


def test_every_price_list_is_worked_out_by_hand_here():
    assert hardware_names() == sorted(BY_HAND)


@pytest.mark.parametrize("name", BY_HAND)
def test_energy_of_two_layers(name):
    assert tuple(hardware(name).energy_pj(_two_layers())) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", hardware_names())
def test_layers_and_updates_add_up_to_the_whole(name):
    counts, prices = _two_layers(), hardware(name)
    for bound in ("value", "low", "high"):
        updates = 8 * prices.words_per_update * getattr(prices.word, bound)
        whole = float(prices.layer_energy_pj(counts, bound).sum()) + updates
        assert getattr(prices.energy_pj(counts), bound) == pytest.approx(whole)


@pytest.mark.parametrize("name", hardware_names())
def test_a_price_list_says_what_it_is(name):
    h = hardware(name)
    assert h.name == name and h.title and h.scope and h.covers and h.node and h.source
    for price in (h.mac, h.ac, h.word):
        assert 0 <= price.low <= price.value <= price.high
    low, value, high = (getattr(h.energy_pj(_two_layers()), k) for k in ("low", "value", "high"))
    assert 0 < low <= value <= high
    assert f"{h.ac.value:g} pJ per AC" in h.prices
    assert "arithmetic" in h.scope  # these lists price no more than arithmetic and on-chip memory


def test_unknown_hardware():
    with pytest.raises(BadInput, match="did you mean 'horowitz-45nm-fp32'"):
        hardware("horowitz-45-fp32")
