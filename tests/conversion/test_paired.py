"""Two networks on the same images: loss, its error, and agreement."""

import pytest
import torch

from picojoule.conversion.paired import paired


def test_loss_error_and_agreement():
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    before = labels.clone()
    before[0] = 1  # one wrong
    after = before.clone()
    after[1:4] = torch.tensor([2, 0, 1])  # three lost
    after[0] = 0  # one won
    found = paired(before, after, labels)
    assert (found.lost, found.won, found.images) == (3, 1, 10)
    assert found.loss == pytest.approx(0.2) and found.agreement == pytest.approx(0.6)
    differences = (before == labels).double() - (after == labels).double()
    assert found.error == pytest.approx(float(differences.std(correction=0)) / 10**0.5)


def test_a_network_against_itself_loses_nothing():
    answers = torch.randint(3, (50,), generator=torch.Generator().manual_seed(0))
    found = paired(answers, answers, torch.zeros(50, dtype=torch.long))
    assert found.loss == found.error == 0 and found.agreement == 1
