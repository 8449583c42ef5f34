"""From a trained analog network to a spiking one."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from picojoule.conversion.analog import analog_graph
from picojoule.conversion.correct import correct_biases
from picojoule.conversion.images import image_batches
from picojoule.conversion.normalise import normalised, scale_biases, with_biases, with_ends
from picojoule.conversion.options import ECCOptions
from picojoule.conversion.parts import CountInput, CountOutput, neurons_of
from picojoule.conversion.refusals import refuse_spiking, refuse_unrectified
from picojoule.conversion.thresholds import scales
from picojoule.conversion.time import with_time
from picojoule.conversion.weight_levels import quantise_weights
from picojoule.errors import BadInput
from picojoule.graph.seen import first_line
from picojoule.graph.shapes import evaluating, infer_shapes
from picojoule.graph.trace import module_of
from picojoule.networks import Network


class ConvertedLayer(NamedTuple):
    """One population: `name` is that of its node in the analog graph and in the spiking one.

    `scale` is the activation that one event per step stands for: a scalar, or `[C, 1, ...]` by channel.
    """

    name: str
    scale: Tensor


class Converted(NamedTuple):
    """A conversion: the spiking `network`, and what it was made of.

    `ann` is the analog graph `[B, ...] -> [B, classes]` whose rectifiers became neurons. `scaled` is that graph in
    units of events, on the spiking network's own weights. `layers` pairs the populations, in wiring order.
    """

    network: Network
    ann: fx.GraphModule
    scaled: fx.GraphModule
    layers: tuple[ConvertedLayer, ...]
    options: ECCOptions


def convert(
    model: nn.Module,
    calibration: Tensor | Iterable[Any],
    *,
    timesteps: int = 16,
    options: ECCOptions = ECCOptions(),  # noqa: B008  (frozen)
) -> Converted:
    """Convert a trained network of ReLUs into a clocked spiking network with explicit current control (ECC).

    `model` takes images `[B, ...]` and yields scores `[B, classes]`; it is not changed. `calibration` is about 1,000 of
    its training images, as one tensor `[N, ...]` or as batches of them; labels beside them are not read. The spiking
    network runs for `timesteps`; `Network.with_timesteps` changes that, and only "mmse" scales and corrected biases
    depend on it.

    Raises BadInput for layers that cannot spike, models that do already or would nowhere, and calibration data that do
    not fit, in one sentence.
    Source: Wu, Yi, Huang 2022 (doi 10.3389/fnins.2022.759900); what is read of it and what is our choice is in
    docs/methods/ecc.md.
    """
    _check(model, timesteps, options)
    options = replace(options, per_channel=options.by_channel)
    batches = calibration_of(calibration, options)
    example = batches[0][:1]
    with torch.no_grad():
        classes = _classes(model, batches[0])
        ann = analog_graph(model, batches[0], options)
        refuse_unrectified(ann, type(model).__name__)
        infer_shapes(ann, example, 0)
        ended = with_ends(ann, options)
        infer_shapes(ended, example, 0)
        found = scales(ended, batches, timesteps, options)
        scaled = normalised(ended, found, example)
        if not options.bias_per_step:
            scale_biases(scaled, 1 / timesteps)
        if options.bias_correction:
            with_biases(scaled)
        if options.weight_bits is not None:
            quantise_weights(scaled, options.weight_bits, options.weight_rounding)
        spiking = with_time(scaled, timesteps, options)
        if options.bias_correction:
            correct_biases(spiking, scaled, ann, found, batches, timesteps)
    network = Network(spiking, tuple(example.shape[1:]), classes).eval().to(example.device)
    ends = {n.name for n in neurons_of(ended) if isinstance(module_of(ended, n), CountInput | CountOutput)}
    layers = tuple(ConvertedLayer(name, scale) for name, scale in found.items() if name not in ends)
    return Converted(network, ann, scaled.eval(), layers, options)


def _check(model: Any, timesteps: Any, options: Any) -> None:
    if not isinstance(model, nn.Module):
        raise BadInput(f"expected a model that is an nn.Module, got {type(model).__name__}; pj.load opens model files")
    refuse_spiking(model)
    if not isinstance(timesteps, int) or timesteps < 1:
        raise BadInput(f"expected timesteps as a whole number of at least 1, got {timesteps!r}")
    if not isinstance(options, ECCOptions):
        raise BadInput(f"expected options as ECCOptions(normalisation='max', ...), got {type(options).__name__}")


def calibration_of(calibration: Tensor | Iterable[Any], options: ECCOptions) -> Sequence[Tensor]:
    """Calibration data as batches `[B, ...]`. Raises BadInput where there are none, or numbers that are no images."""
    given = list(image_batches(calibration, "calibration images"))
    if not given:
        raise BadInput("expected calibration images [N, ...] or batches of them, got none; pass some training images")
    if len({b.shape[1:] for b in given}) > 1:
        shapes = sorted({tuple(b.shape[1:]) for b in given})
        raise BadInput(f"expected calibration images of one shape, got {shapes}; resize them alike")
    if not all(b.is_floating_point() and bool(b.isfinite().all()) for b in given):
        raise BadInput("expected finite floating-point calibration images; scale them as in training, e.g. to [0, 1]")
    low, high = min(float(b.min()) for b in given), max(float(b.max()) for b in given)
    if low == high == 0:
        raise BadInput("expected calibration images that show something, got only zeros; pass some training images")
    if options.input == "count" and not 0 <= low <= high <= 1:
        raise BadInput(
            f"expected calibration images in [0, 1] for input='count', got numbers from {low:g} to {high:g}; train on "
            "images scaled so, or use 'current'"
        )
    return given


def _classes(model: nn.Module, batch: Tensor) -> int:
    with evaluating(model):
        try:
            scores = model(batch[:2])
        except BadInput:
            raise
        except (RuntimeError, ValueError, TypeError) as error:
            shape, said = tuple(batch.shape[1:]), first_line(error)
            mend = "; expected batches [B, C, H, W], give one image as x[None]" if len(shape) < 3 else ""
            raise BadInput(f"calibration images of shape {shape} do not fit the model ({said}){mend}") from error
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise BadInput(f"expected a model with scores [B, classes], got {got}; convert its classifying part")
    return scores.shape[1]
