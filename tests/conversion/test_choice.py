"""The choice of scales and steps: within the tolerance, with the fewest steps, not on luck."""

import pytest
import torch
from torch import nn

from picojoule.conversion import ECCOptions, choose, convert
from picojoule.conversion.choice import Try, modes_of, named
from picojoule.errors import BadInput


def with_pools(scale):
    return [scale, f"{scale}, signed", f"{scale}, signed, pools pass", f"{scale}, bias correction"]


def held(digits, most=300):
    return list(zip(digits.images[:most].split(50), digits.labels[:most].split(50), strict=True))


def test_the_fewest_steps_within_the_tolerance(digits_average):
    said = []
    found = choose(
        digits_average.network, digits_average.calibration.split(100), held(digits_average), 0.03,
        steps=(2, 8, 16), on_try=said.append,
    )  # fmt: skip
    assert found.within and set(said) == set(found.tries) and len(said) == len(found.tries)
    assert {one.mode for one in found.tries} == {named(one) for one in modes_of(ECCOptions())}
    within = [one for one in found.tries if one.loss + one.error <= 0.03]
    assert found.best == min(within, key=lambda one: (one.timesteps, one.acs))
    assert found.converted.network.timesteps == found.best.timesteps
    scores = found.converted.network(digits_average.images[:300])
    right = float((scores.argmax(1) == digits_average.labels[:300]).double().mean())
    assert right == pytest.approx(found.best.accuracy)


def test_where_none_is_within_the_least_loss_is_taken(digits_average):
    found = choose(digits_average.network, digits_average.calibration.split(100), held(digits_average), 0.0, steps=(1,))
    assert not found.within and found.best.loss == min(one.loss for one in found.tries) > 0


def test_other_options_stay(digits_average):
    found = choose(
        digits_average.network, digits_average.calibration.split(100), held(digits_average, 100), 0.5,
        steps=(4,), options=ECCOptions(pooling="pass", residual=0.4),
    )  # fmt: skip
    assert found.converted.options.pooling == "pass" and found.converted.options.residual == 0.4


@pytest.mark.parametrize(
    "options, held, expected",
    [
        ({}, None, ["max", "percentile", *with_pools("mmse by channel")]),
        ({"normalisation": "max"}, None, with_pools("max")),
        (
            {"normalisation": "percentile", "per_channel": False},
            ["normalisation", "per_channel"],
            with_pools("percentile"),
        ),
        ({"normalisation": "none"}, None, with_pools("none")),
        ({"constant": 2.0}, None, with_pools("constant 2")),
        (
            {"signed": True},
            None,
            ["max, signed", "percentile, signed", "mmse by channel, signed", "mmse by channel, signed, pools pass",
             "mmse by channel, signed, bias correction"],
        ),
        (
            {"pooling": "neurons"},
            ["pooling"],
            ["max", "percentile", "mmse by channel", "mmse by channel, signed", "mmse by channel, bias correction"],
        ),
    ],
)  # fmt: skip
def test_what_is_given_stays_and_the_rest_is_tried(options, held, expected):
    made = modes_of(ECCOptions(**options), held)
    assert [named(one) for one in made] == expected
    assert all(getattr(one, key) == value for one in made for key, value in options.items())


@pytest.mark.parametrize(
    "pool, there",
    [(nn.AvgPool2d(2), True), (nn.AdaptiveAvgPool2d(2), True), (nn.MaxPool2d(2), False)],
    ids=lambda given: type(given).__name__,
)
def test_pools_pass_only_where_there_are_average_pools(pool, there):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(12, 2)).eval()
    x = torch.rand(6, 1, 6, 6)
    found = choose(network, [x], [(x, torch.zeros(6, dtype=torch.int64))], 0.5, steps=(1,))
    assert any("pools pass" in one.mode for one in found.tries) is there


def test_few_steps_need_pools_that_pass_and_events_that_are_taken_back(digits_average):
    calibration, images = digits_average.calibration.split(100), held(digits_average, 100)
    found = choose(digits_average.network, calibration, images, 0.0, steps=(4,))
    assert found.converted.options.signed and found.converted.options.pooling == "pass"


def test_a_scale_that_is_given_is_chosen(digits_average):
    found = choose(
        digits_average.network, digits_average.calibration.split(100), held(digits_average, 100), 0.5,
        steps=(4,), options=ECCOptions(constant=1.5, signed=True),
    )  # fmt: skip
    assert found.converted.options.constant == 1.5 and found.converted.options.signed
    assert all(float(layer.scale) == 1.5 for layer in found.converted.layers)


def test_numbers_between_two_steps_are_tried_down_to_the_fewest(digits_average):
    calibration, images = digits_average.calibration.split(100), held(digits_average)
    held_fixed = {"options": ECCOptions(normalisation="max"), "held": ["normalisation", "pooling"]}
    found = choose(digits_average.network, calibration, images, 0.03, **held_fixed)
    tried = {one.timesteps: one for one in found.tries if one.mode == found.best.mode}
    fewest = found.best.timesteps
    assert fewest & (fewest - 1), "a number that is no power of two is the fewest here"
    assert not tried[fewest - 1].within(0.03)
    made = convert(digits_average.network, calibration, timesteps=fewest, options=found.converted.options).network
    right = float((made(digits_average.images[:300]).argmax(1) == digits_average.labels[:300]).double().mean())
    assert right == pytest.approx(found.best.accuracy)


def test_more_steps_are_tried_until_a_mode_is_certainly_within_the_finest_loss(digits_average):
    """Modes stop where one is within the finest loss, not where one happens to lose nothing."""
    steps, finest = (1, 2, 4, 8, 16, 32, 64), 0.01
    found = choose(
        digits_average.network, digits_average.calibration.split(100), held(digits_average), 0.05,
        steps=steps, losses=(finest,),
    )  # fmt: skip
    first = min(s for s in steps if any(one.timesteps == s and one.within(finest) for one in found.tries))
    assert steps[0] < first < steps[-1], "some steps are too few here, and not all are needed"
    assert max(one.timesteps for one in found.tries) == first
    assert len([one for one in found.tries if one.timesteps == first]) > 1, "all modes that are left are tried there"


def test_a_mode_far_behind_goes_no_further(digits_average):
    calibration, images = digits_average.calibration.split(100), held(digits_average, 100)
    found = choose(digits_average.network, calibration, images, 0.0, steps=(2, 8, 16))
    best = min((one for one in found.tries if one.timesteps == 2), key=lambda one: one.loss)
    dropped = {one.mode for one in found.tries if one.timesteps == 2 and one.is_far_behind(best)}
    assert dropped and dropped < {one.mode for one in found.tries}
    assert dropped.isdisjoint(one.mode for one in found.tries if one.timesteps > 2)
    assert best.mode in {one.mode for one in found.tries if one.timesteps == 8}


def test_far_behind_is_more_than_twice_the_loss_beyond_chance():
    best = Try("mmse", 4, 0.9, 0.02, 0.005, 1.0, 1.0, 1.0)
    assert Try("max", 4, 0.8, 0.07, 0.01, 1.0, 1.0, 1.0).is_far_behind(best)
    assert not Try("max", 4, 0.8, 0.05, 0.01, 1.0, 1.0, 1.0).is_far_behind(best)
    assert not best.is_far_behind(best)
    ahead = Try("signed", 4, 0.9, -0.01, 0.002, 1.0, 1.0, 1.0)
    assert not ahead.is_far_behind(ahead)
    assert Try("max", 4, 0.9, 0.003, 0.002, 1.0, 1.0, 1.0).is_far_behind(ahead)


def test_a_try_within_by_luck_is_not_within():
    lucky = Try("max", 4, 0.98, 0.004, 0.003, 1.0, 1.0, 1.0)
    assert not lucky.within(0.005) and lucky.within(0.007)


@pytest.mark.parametrize("steps, images", [((), 50), ((4,), 0)])
def test_nothing_to_choose_from_is_refused(digits_average, steps, images):
    with pytest.raises(BadInput):
        choose(
            digits_average.network,
            [digits_average.calibration],
            held(digits_average, images)[:images],
            0.1,
            steps=steps,
        )
