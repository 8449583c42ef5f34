"""Recorded conversions side by side."""

from typing import Any

from picojoule.conversion import ECCOptions
from picojoule.report.conversions import conversion_columns


def record(loss: float, name: str = "a.keras", **options: Any) -> dict[str, Any]:
    curve = [{"timesteps": 2, "accuracy": 0.5, "acs": 10.0}, {"timesteps": 4, "accuracy": 0.9 - loss, "acs": 20.0}]
    return {
        "conversion_of": f"models/{name}",
        "dataset": "digits",
        "commit": "abc",
        "conversion": {
            "ann_accuracy": 0.9,
            "snn": curve,
            "paired": {"loss": loss, "error": 0.01, "agreement": 0.95, "images": 100},
            "chosen": {"options": vars(ECCOptions(**options))},
        },
    }


def cells(records: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {column.heading: column.cells for column in conversion_columns(records)[0]}


def test_one_network_to_a_row():
    found = cells([record(0.02), record(0.03, residual=0.0, bn_epsilon=0.001, bias_per_step=False)])
    assert found["scales"] == ["mmse", "mmse, tau 0, epsilon 0.001, bias once"]
    assert found["T=2"] == ["40.00", "40.00"] and found["T=4"] == ["2.00", "3.00"]
    assert found["at the last T"] == ["0.04 to 3.96", "1.04 to 4.96"] and "networks" not in found


def test_networks_of_one_name_and_choice_are_one_row():
    found = cells([record(0.02), record(0.04), record(0.01, name="b.keras")])
    assert found["model"] == ["a.keras", "b.keras"] and found["networks"] == ["2", "1"]
    assert found["T=4"] == ["3.00", "1.00"] and found["at the last T"] == ["3.00 ± 1.41", "-0.96 to 2.96"]


def test_steps_that_a_row_lacks_are_left_blank():
    short = record(0.02, name="b.keras")
    short["conversion"]["snn"] = short["conversion"]["snn"][:1]
    assert cells([record(0.02), short])["T=4"] == ["2.00", ""]


def test_counts_in_closed_form_have_no_accumulates():
    formed = record(0.02)
    formed["conversion"]["chosen"]["form"] = "closed form"
    formed["conversion"]["snn"] = [{"timesteps": 4, "accuracy": 0.88}]
    found = cells([record(0.02), formed])
    assert found["scales"] == ["mmse", "mmse, closed form"] and found["ACs"] == ["20", ""]
