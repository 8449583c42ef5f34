"""ECC as SpKeras computes it, in closed form, over the number of steps, without and with residual elimination.

    python recipes/ecc_closed_form.py vgg16.keras --data cifar10-holdout --out closed-form.jsonl

One JSON line for each residual; a table in results/conversion is made of them. With scales by the largest
activation, which do not depend on T, one conversion serves all of them.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

import picojoule as pj
from picojoule.conversion import closed_form
from picojoule.conversion.paired import paired
from picojoule.data import Dataset, intensities, limited, load
from picojoule.experiment.record import provenance

CALIBRATION, BATCH = 1000, 100


@torch.no_grad()
def record(model: torch.nn.Module, data: Dataset, residual: float, steps: list[int], name: str) -> dict:
    """Accuracy after each number of steps, on the test split, beside that of the network itself."""
    options = pj.ECCOptions(normalisation="max", residual=residual)
    made = pj.convert(model, intensities(data.train.images[:CALIBRATION], data.scale), timesteps=1, options=options)
    forms = {count: closed_form(made, count) for count in steps}
    first, later = [], {count: [] for count in steps}
    for x in intensities(data.test.images, data.scale).split(BATCH):
        first.append(model(x).argmax(1))
        for count, form in forms.items():
            later[count].append(form(x).argmax(1))
    labels, ann = data.test.labels, torch.cat(first)
    after = {count: paired(ann, torch.cat(found), labels) for count, found in later.items()}
    accuracy = float((ann == labels).double().mean())
    curve = [{"timesteps": count, "accuracy": accuracy - found.loss} for count, found in after.items()]
    return {
        **provenance(torch.device("cpu")),
        "conversion_of": name,
        "dataset": data.name,
        "split_note": data.split_note,
        "conversion": {
            "ann_accuracy": accuracy,
            "snn": curve,
            "paired": after[steps[-1]]._asdict(),
            "chosen": {"timesteps": steps[-1], "options": asdict(options), "form": "closed form"},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--steps", default="16,32,64,128,256")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model = pj.load(arguments.model).eval()
    data = limited(load(arguments.data, arguments.data_dir), test=arguments.samples)
    steps = [int(count) for count in arguments.steps.split(",")]
    with arguments.out.open("a") as out:
        for residual in (0.0, 0.5):
            out.write(json.dumps(record(model, data, residual, steps, arguments.model.name), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
