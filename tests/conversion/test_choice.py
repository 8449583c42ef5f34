"""The choice of scales and steps: within the tolerance, with the fewest steps, not on luck."""

import pytest

from picojoule.conversion import ECCOptions, choose
from picojoule.conversion.choice import MODES, Try
from picojoule.errors import BadInput


def held(digits, most=300):
    return list(zip(digits.images[:most].split(50), digits.labels[:most].split(50), strict=True))


def test_the_fewest_steps_within_the_tolerance(digits_average):
    said = []
    found = choose(
        digits_average.network, digits_average.calibration.split(100), held(digits_average), 0.03,
        steps=(2, 8, 16), on_try=said.append,
    )  # fmt: skip
    assert found.within and tuple(said) == found.tries
    assert {one.mode for one in found.tries} == set(MODES)
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


def test_a_try_within_by_luck_is_not_within():
    lucky = Try("max", 4, 0.98, 0.004, 0.003, 1.0, 1.0)
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
