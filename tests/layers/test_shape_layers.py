"""Layers that move numbers: what they do, that they are kept whole, saved, and keep events."""

import pytest
import torch
from torch import nn

from picojoule.energy import count
from picojoule.errors import BadInput
from picojoule.exchange import load, save
from picojoule.graph import observe
from picojoule.kinds import Events, Values
from picojoule.layers import Crop2d, Permute, Reshape
from picojoule.networks import Network

MAPS = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)


def test_permute_moves_the_axes_behind_the_batch():
    torch.testing.assert_close(Permute(1, 2, 0)(MAPS), MAPS.permute(0, 2, 3, 1), rtol=0, atol=0)


def test_reshape_keeps_the_batch():
    assert Reshape(4, -1)(MAPS).shape == (2, 4, 15)
    assert torch.equal(Reshape(-1)(MAPS), MAPS.flatten(1))


def test_crop_undoes_padding():
    assert torch.equal(Crop2d(1, 2, 3, 0)(nn.ZeroPad2d((1, 2, 3, 0))(MAPS)), MAPS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Permute(0, 2),
        lambda: Permute(1, 1, 0),
        lambda: Reshape(0),
        lambda: Reshape(-1, -1),
        lambda: Reshape(-2),
        lambda: Crop2d(0, -1, 0, 0),
        lambda: Crop2d(3, 2, 0, 0)(MAPS),
        lambda: Crop2d(0, 0, 4, 0)(MAPS),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(BadInput):
        make()


def test_a_saved_network_has_them(tmp_path):
    parts = nn.Sequential(Crop2d(1, 0, 1, 1), Permute(2, 0, 1), Reshape(8, 3), nn.Flatten(), nn.Linear(24, 5))
    network = Network(parts, (3, 4, 5), 5).eval()
    save(network, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert torch.equal(again(MAPS), network(MAPS))
    assert [type(m).__name__ for m in again.graph_module.children()][:3] == ["Crop2d", "Permute", "Reshape"]


@pytest.mark.parametrize("layer", [Crop2d(1, 1, 0, 0), Permute(1, 2, 0), Reshape(-1)])
def test_events_stay_events(layer):
    model = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(2))
    spikes = (MAPS % 2).contiguous()
    model(spikes)
    for kind, events in ((Events(), True), (Values(), False)):
        counts = count(observe(model, spikes[:1], kind)(spikes)[1])
        assert (counts.total("acs") > 0) == events and (counts.total("macs") > 0) != events
