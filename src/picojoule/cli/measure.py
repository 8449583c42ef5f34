"""`picojoule measure`: operations and joules of a saved model, or of one that a Python file makes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.cli.output import print_json
from picojoule.errors import BadInput, unknown_name
from picojoule.experiment.config import Training, checked_seed

if TYPE_CHECKING:
    from torch import nn

    from picojoule.data import Dataset
    from picojoule.exchange import Declaration

FORMATS = ("text", "markdown", "csv")
HARDWARE = "horowitz-45nm-fp32,horowitz-45nm-fp32-memory"


def measure(
    model: str,
    /,
    *,
    weights: Path | None = None,
    data: str = "digits",
    data_dir: Path | None = None,
    samples: int | None = None,
    hardware: str = HARDWARE,
    convention: str | None = None,
    ann_density: str | None = None,
    presentations: int | None = None,
    timesteps: int | None = None,
    strict: bool = False,
    skip_zero_weights: bool = False,
    neurobench: bool = False,
    power: bool = False,
    device: str | None = None,
    seed: int = 0,
    format: str = "text",
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Count every synaptic operation of a model on a test set, price it, and say against what it wins or loses.

    Args:
        model: A .safetensors file that picojoule wrote, a .keras, .h5 or .onnx file, or FILE.py:FACTORY, a function
            that returns a torch module.
        weights: State dict (.safetensors) for the model of a Python file.
        data: Dataset whose test split is run.
        data_dir: Folder of the datasets; else $PICOJOULE_DATA, else the cache folder.
        samples: Only the first N test images.
        hardware: Comma list of price lists, by name or as paths of .toml files, or all; the first prices baselines.
        convention: Show what other tools would report: a comma list such as neurobench,syops, or all.
        ann_density: Share of non-zero activations of the sparse ANN to compare with, such as 40%.
        presentations: How often the ANNs to compare with see a sample: once unless given, or at every step where a
            saved model has cells LMU, LSTM or GRU.
        timesteps: Run a saved model for another number of time steps.
        strict: Fail if anything cannot be counted.
        skip_zero_weights: Do not count synapses whose weight is zero.
        neurobench: Add the results under NeuroBench's own names.
        power: Add wall-clock time, and joules if this machine has a sensor.
        device: Where to run.
        seed: Seed of random encoders and neurons, and of the noise in window mixers, which training tests with 0.
        format: What is printed: text, markdown or csv (a row per layer).
        out: Folder for record.json, measurement.md, measurement.csv and report.html; nothing is written without it.
        json: Print one JSON object on stdout and nothing else.
    """
    Training(data=data, timesteps=timesteps)  # checks the names and numbers before torch is loaded
    checked_seed(seed)
    if format not in FORMATS:
        raise unknown_name("format", format, list(FORMATS))
    if presentations is not None and presentations < 1:
        raise BadInput(f"expected --presentations of at least 1, got {presentations}")
    if json and format != "text":
        raise BadInput("give --json or --format, not both")
    density = None if ann_density is None else parse_share(ann_density)
    if out is not None:
        check_writable(out)
    from picojoule.data import limited, load
    from picojoule.experiment.measured import Asked, measured

    names, conventions = _price_lists(hardware), _conventions(convention)
    dataset = limited(load(data, data_dir), test=samples)
    opened, notes, declared = _open(model, weights, timesteps, dataset)
    asked = Asked(conventions, density, presentations, skip_zero_weights, strict, neurobench, power, progress=not json)
    record = measured(opened, notes, dataset, names, device, seed, model, asked, declared)
    if out is not None:
        from picojoule.report import write_measurement

        write_measurement(record, out)
    if json:
        print_json(record)
        return
    from picojoule.report import measurement_csv, measurement_markdown, measurement_text

    shown = {"text": measurement_text, "markdown": measurement_markdown, "csv": measurement_csv}[format](record)
    print(shown, end="" if shown.endswith("\n") else "\n")
    if out is not None and format == "text":
        print(f"\nrecord: {out / 'record.json'}, report: {out / 'report.html'}")


def parse_share(text: str) -> float:
    """`"40%"` or `"0.4"` as a fraction in (0, 1]. Raises BadInput."""
    number = text.strip()
    try:
        share = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise BadInput(f"expected --ann-density as a share from above 0 to 1, such as 40% or 0.4, got {text!r}")
    return share


def check_writable(folder: Path) -> None:
    """Raises BadInput if a folder cannot be made or written; makes nothing, for the measurement may yet fail."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "may not be written" if there.is_dir() else "is a file"
        raise BadInput(f"cannot write to the folder {folder} ({there} {reason}); choose another --out")


def _price_lists(text: str) -> list[str]:
    """The price lists, all of them checked before anything is run."""
    from picojoule.energy.price import hardware, hardware_names

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names == ["all"]:
        names = list(dict.fromkeys([*HARDWARE.split(","), *hardware_names()]))
    if not names:
        raise BadInput("expected at least one price list after --hardware")
    found = [hardware(name).name for name in names]
    twice = next((name for n, name in enumerate(found) if name in found[:n]), None)
    if twice is not None:
        raise BadInput(f"two of the price lists after --hardware are called {twice!r}; give them names of their own")
    return names


def _conventions(text: str | None) -> tuple[str, ...]:
    from picojoule.energy import CONVENTIONS

    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    names = CONVENTIONS if names == ("all",) else names
    if not names:
        raise BadInput("expected at least one convention after --convention, such as neurobench, or all")
    for name in names:
        if name not in CONVENTIONS:
            raise unknown_name("convention", name, [*CONVENTIONS, "all"])
    return names


def _open(
    model: str, weights: Path | None, timesteps: int | None, dataset: "Dataset"
) -> tuple["nn.Module", dict[str, Any], "Declaration"]:
    """The model, what is known of it, and how it is fed and read."""
    from picojoule.exchange import KERAS, ONNX, Declaration, is_factory, load, open_factory, read_notes

    if is_factory(model):
        if timesteps is not None:
            raise BadInput(f"--timesteps is for saved models; {model} decides itself how many steps it runs")
        made = open_factory(model, weights)
        held = None if weights is None else str(weights)
        return made.model, {"method": "own model", "network": Path(model).name, "weights": held}, made.declared
    if weights is not None:
        raise BadInput(f"--weights is for FILE.py:FACTORY; {model} holds its own weights, leave --weights out")
    own = Path(model).suffix.lower() not in (*KERAS, *ONNX)
    network, notes = load(model), read_notes(model) if own else {"method": "ann", "network": Path(model).name}
    shape = tuple(dataset.test.images.shape[1:])
    if network.input_shape != shape:
        raise BadInput(
            f"{model} takes inputs of shape {network.input_shape}, {dataset.name} has {shape}; "
            "give the --data the model was trained on"
        )
    if timesteps not in (None, dataset.timesteps) and dataset.timesteps:
        raise BadInput(f"{dataset.name} has {dataset.timesteps} time steps, got --timesteps {timesteps}; leave it out")
    declared = Declaration(inputs=dataset.inputs)
    return network if timesteps is None else network.with_timesteps(timesteps), notes, declared
