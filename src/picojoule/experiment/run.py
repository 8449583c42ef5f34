"""One run, from settings to a finished model and its record; finished runs are found again, not repeated."""

import json
import time

import torch

from picojoule.data import intensities
from picojoule.errors import BadInput
from picojoule.exchange.archive import load_model, read_notes, save_model
from picojoule.execution import fused
from picojoule.experiment.distributed import barrier, rank
from picojoule.experiment.evaluate import calibration_batches, evaluate
from picojoule.experiment.job import Job
from picojoule.experiment.loop import CHECKPOINT_FILE, Trainer, seed_everything
from picojoule.experiment.progress import Progressbar
from picojoule.experiment.record import Record, energy_fields, provenance
from picojoule.experiment.start import digest_of, take_weights
from picojoule.files import write_text
from picojoule.graph import observe
from picojoule.networks import Network
from picojoule.neurons.learned import learned_values

PRICED = (
    *("horowitz-45nm-fp32", "horowitz-45nm-fp32-skip-zeros", "horowitz-45nm-int8"),
    *("horowitz-45nm-fp32-sram", "horowitz-45nm-fp32-skip-zeros-sram", "horowitz-45nm-int8-sram"),
    *("horowitz-45nm-fp32-memory", "horowitz-45nm-int8-memory", "lemaire-2022-fit", "yan-2024-22nm"),
)
"""The price lists of every record; `picojoule measure` knows more."""
MODEL_FILE = "model.safetensors"
NOTED = ("method", "network", "dataset", "seed", "strength", "options", "pool", "encoder", "readout")
"""What a model file says of itself, so that a later measurement is a record like the first."""


def run(job: Job, parent: Record | None = None) -> Record:
    """Train (or convert from `parent`, the record of the parent's run), measure on the test set once, save.

    Returns the record. A run that is finished in its folder is read back; one that was interrupted goes on.
    """
    finished = _finished(job)
    if finished is not None:
        (job.folder / CHECKPOINT_FILE).unlink(missing_ok=True)  # a kill may have come between record and this
        return finished
    with Progressbar(job.name, job.setting.quiet) as bar:
        network, history, seconds, start = _deploy(job, parent, bar)
    record = _record(job, network) | {"history": history, "wall_s": round(seconds, 3)}
    record["learned"] = {name: {"start": start.get(name), "end": end} for name, end in learned_values(network).items()}
    record["collapsed"] = bool(history) and "collapsed" in history[-1]
    if rank() == 0:
        notes = {key: record[key] for key in NOTED}
        save_model(network, job.folder / MODEL_FILE, notes)
        write_text(job.folder / "record.json", json.dumps(record, sort_keys=True))
        (job.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    barrier()
    return record


def _deploy(
    job: Job, parent: Record | None, bar: Progressbar
) -> tuple[Network, list[dict[str, float]], float, dict[str, dict[str, float]]]:
    """The network to deploy, the history of its training, the seconds of both, and the values it learned from."""
    setting = job.setting
    history: list[dict[str, float]] = []
    start: dict[str, dict[str, float]] = {}
    trained = 0.0
    started = time.monotonic()
    if parent is not None:
        network = load_model(setting.out / "runs" / parent["run"] / MODEL_FILE, str(setting.device))
    else:
        seed_everything(job.seed)
        network = job.method.build(job.definition).to(setting.device)
        if job.start is not None:
            take_weights(network, job.start)
        start = learned_values(network)
        if setting.training.channels_last:
            network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        network, history, trained = Trainer(job, network, bar).run()
        started = time.monotonic()
    network.eval()
    calibration = list(calibration_batches(setting.data, setting.device))
    deployed = job.method.finish(network, calibration, job.definition).eval()
    # The memory order a saved model is loaded in: measuring the file again gives the record's numbers.
    deployed = deployed.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return deployed, history, trained + time.monotonic() - started, start


def _record(job: Job, network: Network) -> Record:
    setting, method, definition = job.setting, job.method, job.definition
    data = setting.data
    example = intensities(data.test.images[:1], data.scale).to(setting.device)
    observed = fused(observe(network, example, data.inputs, strict=True))
    validation = evaluate(observed, data.validation, data, setting.device, [])
    report = evaluate(observed, data.test, data, setting.device, list(PRICED))
    return {
        **provenance(setting.device),
        "method": method.name,
        "network": definition.name,
        "dataset": data.name,
        "seed": job.seed,
        "timesteps": definition.timesteps,
        "sequential_depth": network.sequential_depth,
        "pool": definition.pool,
        "encoder": definition.encoder,
        "readout": definition.readout,
        "strength": getattr(method, "strength", None),
        "options": method.settled(definition),
        "reads": method.reads(),
        "parent": method.parent,
        "hardware": method.hardware,
        "split": "test",
        "split_note": data.split_note,
        "validation_accuracy": validation.accuracy,
        "validation_acs": float(validation.counts.total("acs")),
        **energy_fields(report),
        "config": setting.training.as_json(),
        "started_from": job.start and {"digest": digest_of(job.start), "notes": read_notes(job.start)},
        "run": job.name,
        "model": str(job.folder / MODEL_FILE),
        "cite": [*method.cite, data.citation],
        "fingerprint": job.fingerprint,
    }


def _finished(job: Job) -> Record | None:
    path, fingerprint = job.folder / "record.json", job.fingerprint
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{path} is not a readable record ({error}); delete it to run again") from error
    if record.get("fingerprint") != fingerprint:
        raise BadInput(
            f"{path} is the record of another run ({record.get('fingerprint')}), this one is {fingerprint}; "
            "resume with the same settings or choose another --out"
        )
    return record
