"""Which runs belong together, how they are called, and which plain run they are held against."""

from typing import Any

from penalty_records import record

from picojoule.report.variants import is_strength_zero, plain_of, setting, shared_options, variants


def labels(records: list[dict[str, Any]]) -> list[str]:
    return [variant.label for variant in variants(records)]


def test_defaults_are_not_shown_and_seeds_and_strengths_belong_together() -> None:
    runs = [record("synaptic-penalty", strength, seed=seed) for strength in (1.0, 0.1) for seed in (0, 1)]
    squared = record("synaptic-penalty", 1.0, options={"p": 2})
    one, two = variants([*runs, squared])
    assert (one.label, two.label) == ("synaptic-penalty", "synaptic-penalty p=2")
    assert {strength: len(same) for strength, same in one.by_strength().items()} == {0.1: 2, 1.0: 2}
    assert list(one.by_strength()) == [0.1, 1.0] and one.seeds == [0, 1]


def test_what_all_rows_share_is_said_once() -> None:
    arctan = {"surrogate": "arctan"}
    runs = [record("plain", options=arctan), record("total-spikes", 1.0, options={**arctan, "p": 2})]
    assert labels(runs) == ["plain", "total-spikes"]
    assert shared_options(runs) == {"p": "2", "surrogate": "arctan"}
    both = [*runs, record("synaptic-penalty", 1.0, options=arctan)]
    assert labels(both) == ["plain", "synaptic-penalty", "total-spikes p=2"], "p is another one elsewhere"
    assert shared_options(both) == {"surrogate": "arctan"}


def test_one_option_is_not_taken_for_the_end_of_another() -> None:
    run = record("plain", options={"synaptic_decay": 0.5})
    run["options"]["decay"] = 0.5
    assert labels([run, record("plain", options={"synaptic_decay": 0.9}) | {"strength": None}]) == [
        "plain synaptic_decay=0.5",
        "plain synaptic_decay=0.9",
    ]


def test_settings_that_differ_within_a_method_are_shown() -> None:
    runs = [record("plain", timesteps=1), record("plain", timesteps=4), record("total-spikes", 1.0, timesteps=4)]
    assert labels(runs) == ["plain T=1", "plain T=4", "total-spikes"]
    longer = record("plain", timesteps=1, config={"epochs": 9, "workers": 7})
    assert labels([runs[0], longer]) == ["plain epochs=1", "plain epochs=9"]


def test_an_option_that_older_records_lack_makes_no_variant() -> None:
    old, new = record("synaptic-penalty", 1.0, seed=0), record("synaptic-penalty", 1.0, seed=1)
    del old["options"]["psi"]
    assert labels([old, new]) == ["synaptic-penalty"]


def test_sums_of_penalties_are_called_by_their_parts() -> None:
    name = "synaptic-penalty+first-spike"
    run = record(name, 1.0) | {
        "options": {"synaptic-penalty:p": 2, "first-spike:gate": "strict", "first-spike:surrogate": "arctan"},
        "run": f"{name.replace('+', '_p-2+')}_seed-0",
    }
    plain = record("synaptic-penalty", 1.0)
    assert labels([run, plain]) == ["synaptic-penalty", f"{name} synaptic-penalty:p=2"]
    assert setting(run, "surrogate") == "arctan"


def test_methods_have_their_order() -> None:
    names = [
        "synops-conversion",
        "ecc",
        "b+a",
        "layer-mean",
        "a+b",
        "first-spike",
        "plain",
        "synaptic-penalty",
        "ann",
        "ann-int8",
    ]
    expected = ["plain", "synaptic-penalty", "first-spike", "layer-mean", "a+b", "b+a", "ecc", "synops-conversion"]
    assert labels([record(name) for name in names]) == expected


def test_a_repeated_run_counts_once_as_it_came_out_last() -> None:
    (variant,) = variants([record("plain", acs=1.0), record("plain", acs=2.0), record("plain", seed=1, acs=3.0)])
    assert [run["acs"] for run in variant.runs] == [2.0, 3.0]


def test_the_plain_run_has_the_same_seed_surrogate_and_network() -> None:
    run = record("synaptic-penalty", 1.0, seed=1, timesteps=4)
    near, far = record("plain", seed=1, timesteps=4), record("plain", seed=1, timesteps=1)
    assert plain_of(run, [near, far]) is near and plain_of(run, [far, near]) is near
    assert is_strength_zero(near, run) and not is_strength_zero(far, run)
    wrong = [
        record("plain", seed=0),
        record("plain", seed=1, options={"surrogate": "arctan"}),
        record("plain", seed=1) | {"network": "cnn7"},
        record("plain", seed=1) | {"dataset": "cifar10"},
    ]
    assert plain_of(run, wrong) is None
    assert plain_of(run, [*wrong, far]) is far


def test_a_conversion_is_held_against_plain_but_does_not_start_there() -> None:
    converted = record("converted-target", 1.0) | {"options": {"bits": 4}}
    plain = record("plain")
    assert plain_of(converted, [plain]) is plain
    assert not is_strength_zero(plain, converted)
