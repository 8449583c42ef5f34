"""What a conversion says of itself: what was chosen, what the network answers after its steps, and every layer."""

from picojoule.report.block import Block
from picojoule.report.columns import Column
from picojoule.report.load import Record
from picojoule.report.units import format_energy, format_percent

KEYS = ("conversion", "steps", "rates")


def conversion_blocks(record: Record) -> list[Block]:
    """The parts of a conversion, to be read before those of the measurement; none for other records."""
    found = record.get("conversion")
    return [] if found is None else [_outcome(record, found), _steps(record, found), _rates(found)]


def _outcome(record: Record, found: Record) -> Block:
    chosen, against = found["chosen"], found["paired"]
    accuracies = f"{format_percent(found['ann_accuracy'], 2)} %, spiking {format_percent(record['accuracy'], 2)} %"
    lines = [
        f"Network {accuracies} of {against['images']:,} test images: {100 * against['loss']:.2f} points lost (95 % "
        f"interval {interval(against)}, paired); both answer alike on "
        f"{format_percent(against['agreement'], 2)} %.",
        f"T = {chosen['timesteps']} steps, mode: {choices(chosen['options'])}.",
    ]
    if "tolerance" in chosen:
        within = "the fewest steps within" if chosen["within"] else "no try stayed within, this lost least:"
        lines.append(
            f"Chosen among {_modes(found)} on validation images, where it loses "
            f"{100 * chosen['validation_loss']:.2f} ± {100 * chosen['validation_error']:.2f} points: "
            f"{within} {100 * chosen['tolerance']:g} points."
        )
    for least in found["least"]:
        lines.append(
            f"For {100 * least['loss']:g} points (validation): T = {least['timesteps']} ({least['mode']}); least "
            f"arithmetic energy {format_energy(least['energy_pj'])} (T = {least['cheapest_timesteps']}, "
            f"{least['cheapest_mode']})."
        )
    return Block("conversion", "Conversion", [], [*lines, found["suggestion"]])


def _modes(found: Record) -> str:
    modes = len({one["mode"] for one in found["tries"]})
    return "1 mode" if modes == 1 else f"{modes} modes"


def _steps(record: Record, found: Record) -> Block:
    curve = found["snn"]
    columns = [
        Column("T", "steps", [str(point["timesteps"]) for point in curve]),
        Column("accuracy [%]", "", [format_percent(point["accuracy"], 2) for point in curve]),
        Column("loss", "points", [f"{100 * (found['ann_accuracy'] - point['accuracy']):.2f}" for point in curve]),
        Column("ACs", "per image", [f"{point['acs']:,.0f}" for point in curve]),
        Column("MACs", "per image", [f"{point['macs']:,.0f}" for point in curve]),
        Column("energy", "arithmetic only", [format_energy(point["energy_pj"]) for point in curve]),
    ]
    note = "What this one network, whose scales are for all its steps, answers if it is read earlier."
    return Block("steps", f"Accuracy after T steps, {record['hardware']}", columns, [note])


def _rates(found: Record) -> Block:
    layers = found["layers"]

    def percent(key: str) -> list[str]:
        return [format_percent(layer[key]) for layer in layers]

    columns = [
        Column("layer", "", [layer["name"] for layer in layers], True),
        Column("correlation", "of rates and activations", [f"{layer['correlation']:.3f}" for layer in layers]),
        Column("mean error", "events per step", [f"{layer['mean_error']:.3f}" for layer in layers]),
        Column("worst channel", "events per step", [f"{layer['max_error']:.3f}" for layer in layers]),
        Column("shift", "of a channel's mean", [f"{layer['shift']:+.3f}" for layer in layers]),
        Column("residual", "thresholds", [f"{layer['residual']:.2f}" for layer in layers]),
        Column("saturated [%]", "", percent("saturated_fraction")),
        Column("silent [%]", "", percent("silent_fraction")),
        Column("missing [%]", "silent, but active", percent("missing_fraction")),
    ]
    note = "Validation images; activations and rates in units of one event per step."
    return Block("rates", "Activations of the network against rates of the spiking one", columns, [note])


def interval(against: Record) -> str:
    """The 95 % interval of a paired loss, in points."""
    low, high = (100 * (against["loss"] + side * 1.96 * against["error"]) for side in (-1, 1))
    return f"{low:.2f} to {high:.2f}"


def choices(options: Record) -> str:
    """The choices of a conversion in words."""
    kind = options["normalisation"] if options["constant"] is None else f"constant {options['constant']:g}"
    words = [kind + (" by channel" if options["per_channel"] else "")]
    words += [name.replace("_", " ") for name in ("signed", "bias_correction") if options[name]]
    words += [f"tau {options['residual']:g}"] if options["residual"] != 0.5 else []
    words += [f"{name} counts" for name in ("input", "readout") if options[name] == "count"]
    words += [f"{options['weight_bits']}-bit weights"] if options["weight_bits"] else []
    words += [f"epsilon {options['bn_epsilon']:g}"] if options["bn_epsilon"] is not None else []
    words += ["bias once"] if not options["bias_per_step"] else []
    words += ["pools pass"] if options["pooling"] == "pass" else []
    return ", ".join(words)
