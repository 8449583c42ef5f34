"""`picojoule convert`: a trained Keras, ONNX or PyTorch model in, a spiking model and a diagnosis out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from picojoule.cli.measure import check_writable
from picojoule.cli.output import print_json
from picojoule.conversion.options import ECCOptions
from picojoule.errors import BadInput
from picojoule.experiment.config import Training

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = "0.5pt"
HARDWARE = "horowitz-45nm-fp32,horowitz-45nm-fp32-memory"


class TypedOptions(ECCOptions):
    """The options of a command line or its --config file; `typed` is what was given there, by name."""

    typed: dict[str, Any]

    def __init__(self, **typed: Any):
        super().__init__(**typed)
        object.__setattr__(self, "typed", typed)  # the dataclass is frozen


def convert(
    model: str,
    /,
    *,
    data: str,
    data_dir: Path | None = None,
    weights: Path | None = None,
    tolerance: str | None = None,
    timesteps: int | None = None,
    options: Annotated[TypedOptions, Parameter(name="*")] = TypedOptions(),  # noqa: B008  (frozen)
    choosing: int | None = None,
    samples: int | None = None,
    out: Path | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Convert a trained network into a spiking one, choose its steps, measure it, and say where it loses.

    Without --timesteps the ways to set scales are tried with 1 to 64 steps on validation images, and the fewest steps
    within --tolerance are taken; options that are given stay as they are, and only the others are tried. With
    --timesteps the network is converted for exactly that many, by the options given.

    Args:
        model: A .keras, .h5, .onnx or .safetensors file, or FILE.py:FACTORY, a function that returns a torch module.
        data: Dataset: its training images set the scales, validation images decide, the test split is measured.
        data_dir: Folder of the datasets; else $PICOJOULE_DATA, else the cache folder.
        weights: State dict (.safetensors) for the model of a Python file.
        tolerance: Accuracy that may be lost against the network itself, such as 1pt or 1%; 0.5pt unless given.
        timesteps: Convert for this many steps instead of choosing.
        choosing: Validation images that decide; 1,000 unless given.
        samples: Only the first N test images.
        out: Folder for model.safetensors, record.json, measurement.md, measurement.csv and report.html; nothing is
            written without it.
        seed: Seed of torch; conversion draws no random numbers.
        json: Print one JSON object on stdout and nothing else.
    """
    Training(data=data, timesteps=timesteps)  # checks the names and numbers before torch is loaded
    if tolerance is not None and timesteps is not None:
        raise BadInput("give --tolerance, which chooses the steps, or --timesteps, which sets them, not both")
    if choosing is not None and timesteps is not None:
        raise BadInput("--choosing is for a choice of steps; leave it out, or --timesteps, which sets them")
    allowed = parse_points(tolerance or TOLERANCE)
    if choosing is not None and choosing < 1:
        raise BadInput(f"expected --choosing of at least 1 image, got {choosing}")
    if out is not None:
        check_writable(out)
    import torch

    from picojoule.data import limited, load
    from picojoule.experiment.converted import Wish, check_model, check_saved, converted, save_converted
    from picojoule.files import writable_folder
    from picojoule.report import conversion_text, write_measurement

    torch.manual_seed(seed)
    network = _open(model, weights).eval()
    dataset = limited(load(data, data_dir), test=samples)
    check_model(network, dataset, model)
    wish = Wish(allowed, timesteps, ECCOptions(**options.typed), choosing=choosing, held=options.typed)
    if out is not None:
        check_saved(network, dataset, wish.options)
    made, record = converted(network, dataset, wish, HARDWARE.split(","), model, progress=not json)
    if out is not None:
        save_converted(made, record, writable_folder(out) / "model.safetensors")
        write_measurement(record, out)
    found = record["conversion"]
    if json:
        kept = ("ann_accuracy", "snn", "paired", "chosen", "least", "layers", "breaks_at", "suggestion", "tries")
        file = None if out is None else str(out / "model.safetensors")
        print_json({key: found[key] for key in kept} | {"model": file, "record": record})
        return
    print(conversion_text(record))
    if out is not None:
        print(f"\nmodel: {out / 'model.safetensors'}, record: {out / 'record.json'}, report: {out / 'report.html'}")


def parse_points(text: str) -> float:
    """`"0.5pt"` or `"0.5%"` as the fraction 0.005. Raises BadInput."""
    number = text.strip().removesuffix("pt").removesuffix("%")
    try:
        points = float(number) if number != text.strip() else -1.0
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise BadInput(f"expected --tolerance in points of accuracy, such as 0.5pt, got {text!r}")
    return points / 100


def _open(model: str, weights: Path | None) -> "nn.Module":
    from picojoule.exchange import Declaration, is_factory, load, open_factory

    if is_factory(model):
        made = open_factory(model, weights)
        if made.declared != Declaration():
            raise BadInput(
                f"the file of {model} declares how its model is fed or read, which conversion does not follow; give a "
                "model from images [B, C, H, W] to scores [B, classes]"
            )
        return made.model
    if weights is not None:
        raise BadInput(f"--weights is for FILE.py:FACTORY; {model} holds its own weights, leave --weights out")
    return load(model)
