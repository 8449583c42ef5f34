"""What a conversion measures beside the spiking network."""

import pytest
import torch
from torch import nn

from picojoule.conversion import ECCOptions, convert
from picojoule.conversion.by_step import AnytimeNetwork
from picojoule.data import limited, load
from picojoule.experiment.converted import Wish, ann_density, converted


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)),
    ).eval()


def test_the_density_of_the_ann_by_hand():
    """Every non-zero input of a dense layer is multiplied once for each of its outputs."""
    ann, x = network(), torch.rand(30, 1, 8, 8)
    made = convert(ann, x, timesteps=2)
    with torch.no_grad():
        first = ann[:5](x)
        second = ann[5:7](first)
    macs = 12 * int((first != 0).sum()) + 10 * int((second != 0).sum())
    dense = 12 * first.numel() + 10 * second.numel()
    assert ann_density(made, x.split(7)) == pytest.approx(macs / dense)


def test_an_ann_that_is_never_active_has_no_density():
    ann, x = network(), torch.rand(8, 1, 8, 8)
    with torch.no_grad():
        for layer in (ann[1], ann[5]):
            layer.bias.fill_(-100)  # pyright: ignore
    assert ann_density(convert(ann, x, timesteps=2), [x]) is None


def test_the_sparse_ann_of_the_record_has_that_density():
    data, ann = limited(load("digits"), test=60), network()
    made, record = converted(ann, data, Wish(timesteps=2, options=ECCOptions()), ["horowitz-45nm-fp32"], "ann")
    images = data.test.images / data.scale
    assert record["ann_density"] == pytest.approx(ann_density(made, [images]))
    fired = record["baselines"]["sparse-ann"]["macs"]
    by_hand = record["macs"] + record["ann_density"] * (64 * 12 + 12 * 10)
    assert fired == pytest.approx(by_hand)


def test_batches_follow_steps_and_image_size_and_change_nothing(monkeypatch):
    """Seven images of 64 pixels for two steps at a time: the same answers and counts as in batches of fifty."""
    data, ann, wish = limited(load("digits"), test=60), network(), Wish(timesteps=2)
    found = [converted(ann, data, wish, ["horowitz-45nm-fp32"], "ann")[1]["conversion"]]
    seen = []
    answers = AnytimeNetwork.forward
    monkeypatch.setattr(AnytimeNetwork, "forward", lambda self, x: seen.append(len(x)) or answers(self, x))
    monkeypatch.setattr("picojoule.experiment.converted.INPUTS", 64 * 2 * 7)
    found.append(converted(ann, data, wish, ["horowitz-45nm-fp32"], "ann")[1]["conversion"])
    assert seen == [7] * 8 + [4]
    for whole, pieces in zip(*(one["snn"] for one in found), strict=True):
        assert pieces == pytest.approx(whole)
