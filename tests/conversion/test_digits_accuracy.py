"""The published behaviour on a small trained network, with tolerances: the fixture of docs/methods/ecc.md."""

from typing import Any

import pytest
import torch

from picojoule.conversion import ECCOptions, accuracy_by_step, closed_form, convert, count_mismatch


def options(**given: Any) -> ECCOptions:
    return ECCOptions(**{"normalisation": "max", **given})


def clocked(trained, timesteps: int, **given) -> float:
    made = convert(trained.network, trained.calibration, timesteps=timesteps, options=options(**given))
    with torch.no_grad():
        return trained.accuracy(made.network(trained.images))


def in_closed_form(trained, timesteps: int, **given) -> float:
    made = convert(trained.network, trained.calibration, timesteps=timesteps, options=options(**given))
    with torch.no_grad():
        return trained.accuracy(closed_form(made)(trained.images))


COUNTS = {"input": "count", "readout": "count"}


@pytest.mark.parametrize("network", ["digits_average", "digits_maximum"])
def test_the_ann_is_good(network, request):
    trained = request.getfixturevalue(network)
    with torch.no_grad():
        assert trained.accuracy(trained.network(trained.images)) > 97


def test_residual_elimination_in_closed_form(digits_average):
    assert in_closed_form(digits_average, 8) >= 95
    assert in_closed_form(digits_average, 8, residual=0.0) < 40
    assert in_closed_form(digits_average, 8, **COUNTS) >= 95
    assert in_closed_form(digits_average, 8, residual=0.0, **COUNTS) < 40


def test_residual_elimination_over_time(digits_average):
    assert clocked(digits_average, 16) >= 96
    assert clocked(digits_average, 16) > clocked(digits_average, 16, residual=0.0) + 20
    assert clocked(digits_average, 16, **COUNTS) >= 95


def test_max_pooling_over_time(digits_maximum):
    assert clocked(digits_maximum, 16) >= 96


@pytest.mark.parametrize("timesteps", [16, 64])
def test_corrected_weights_of_eight_bits_lose_a_point_at_most(digits_average, timesteps):
    assert clocked(digits_average, timesteps, weight_bits=8) >= clocked(digits_average, timesteps) - 1
    assert in_closed_form(digits_average, timesteps, weight_bits=8) >= in_closed_form(digits_average, timesteps) - 1


@pytest.mark.parametrize(
    "given",
    [
        {"normalisation": "percentile"},
        {"normalisation": "mmse"},
        {"per_channel": True},
        {"signed": True},
        {"bias_correction": True},
        {"pooling": "pass"},
    ],
    ids=str,
)
def test_what_helps_at_few_steps(digits_average, given):
    assert clocked(digits_average, 4, **given) > clocked(digits_average, 4) + 2


def test_all_together_are_within_a_point_at_eight_steps(digits_average, digits_maximum):
    best = {"normalisation": "mmse", "per_channel": True, "signed": True, "bias_correction": True}
    for trained in (digits_average, digits_maximum):
        with torch.no_grad():
            ann = trained.accuracy(trained.network(trained.images))
        assert clocked(trained, 8, **best) >= ann - 1


@pytest.mark.parametrize(
    "given", [{"normalisation": "none"}, {"residual": 0.0}, {"bias_per_step": False}], ids=["CN", "TRE", "CMB"]
)
def test_every_part_of_the_method_is_needed(digits_average, given):
    assert clocked(digits_average, 16, **given) < clocked(digits_average, 16) - 20


def test_a_wrong_epsilon_shifts_the_analog_scores(digits_average):
    scores = []
    for epsilon in (None, 1e-3, 0.1):
        made = convert(digits_average.network, digits_average.calibration, options=options(bn_epsilon=epsilon))
        with torch.no_grad():
            scores.append(made.ann(digits_average.images))
    torch.testing.assert_close(scores[0], scores[1])
    assert (scores[2] - scores[0]).abs().mean() > 0.1


def test_clock_and_closed_form_differ_in_some_counts(digits_average):
    made = convert(digits_average.network, digits_average.calibration, options=options(**COUNTS))
    shares = count_mismatch(made, digits_average.images)
    assert list(shares)[:-1] == [layer.name for layer in made.layers]
    mean = sum(shares.values()) / len(shares)
    assert 0.05 < mean < 0.4


def test_one_run_tells_what_shorter_runs_would(digits_average):
    made = convert(digits_average.network, digits_average.calibration, timesteps=16, options=options())
    batches = list(zip(digits_average.images.split(200), digits_average.labels.split(200), strict=True))
    curve = accuracy_by_step(made.network, batches)
    for steps in (1, 4, 16):
        with torch.no_grad():
            alone = digits_average.accuracy(made.network.with_timesteps(steps)(digits_average.images))
        assert 100 * float(curve.accuracy[steps - 1]) == pytest.approx(alone)
    assert (curve.acs.diff() > 0).all()
