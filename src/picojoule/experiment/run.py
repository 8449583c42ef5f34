"""One run, from settings to a finished model and its record; finished runs are found again, not repeated."""

import hashlib
import json
import math
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from picojoule.data import Dataset, intensities
from picojoule.energy.price import hardware_names
from picojoule.errors import BadInput
from picojoule.exchange.archive import load_model, save_model
from picojoule.experiment.config import Training
from picojoule.experiment.distributed import barrier, rank
from picojoule.experiment.loop import CHECKPOINT_FILE, calibration_batches, evaluate, seed_everything, train
from picojoule.experiment.method import Method
from picojoule.experiment.progress import Progressbar
from picojoule.experiment.record import Record, energy_fields, provenance
from picojoule.files import write_text
from picojoule.graph import observe
from picojoule.networks import Definition, Network

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Setting:
    """What all runs of one table share: data, settings, where results go, and until when to work."""

    data: Dataset
    training: Training
    pool: str
    out: Path
    device: torch.device
    quiet: bool = False
    deadline: float = math.inf

    def definition(self, method: Method) -> Definition:
        """The network that a method deploys."""
        t = self.training
        wanted = Definition(t.network, self.data.input_shape, self.data.classes, 1, self.pool, t.encoder, t.readout)
        return method.definition(wanted, t.timesteps)


def run(setting: Setting, method: Method, seed: int, parent: Record | None = None) -> Record:
    """Train (or convert from `parent`, the record of the parent's run), measure on the test set once, save.

    Returns the record. A run that is finished in its folder is read back; one that was interrupted goes on.
    """
    folder = setting.out / "runs" / run_name(method, seed)
    fingerprint = _fingerprint(setting, method, seed)
    finished = _finished(folder / "record.json", fingerprint)
    if finished is not None:
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)  # a kill may have come between record and this
        return finished
    with Progressbar(run_name(method, seed), setting.quiet) as bar:
        network, history, seconds = _deploy(setting, method, seed, parent, folder, fingerprint, bar)
    record = _record(setting, method, seed, network, history, seconds, folder, fingerprint)
    if rank() == 0:
        save_model(network, folder / MODEL_FILE, {"method": method.name, "data": setting.data.name})
        write_text(folder / "record.json", json.dumps(record, sort_keys=True))
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    barrier()
    return record


def run_name(method: Method, seed: int) -> str:
    """The folder of a run: method, the options that differ from its defaults, seed."""
    changed = [f"{f.name}-{getattr(method, f.name)}" for f in _options(method) if getattr(method, f.name) != f.default]
    return "_".join([method.name, *changed, f"seed-{seed}"])


def _deploy(
    setting: Setting,
    method: Method,
    seed: int,
    parent: Record | None,
    folder: Path,
    fingerprint: str,
    bar: Progressbar,
) -> tuple[Network, list[dict[str, float]], float]:
    definition = setting.definition(method)
    history: list[dict[str, float]] = []
    seconds = 0.0
    started = time.monotonic()
    if parent is not None:
        network = load_model(setting.out / "runs" / parent["run"] / MODEL_FILE, str(setting.device))
    else:
        seed_everything(seed)
        network = method.build(definition).to(setting.device)
        if setting.training.channels_last:
            network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        network, history, seconds = train(
            method,
            network,
            setting.data,
            setting.training,
            seed,
            folder,
            fingerprint,
            device=setting.device,
            deadline=setting.deadline,
            bar=bar,
        )
        started = time.monotonic()
    network.eval()
    calibration = list(calibration_batches(setting.data, setting.device))
    deployed = method.finish(network, calibration, definition)
    return deployed.eval(), history, seconds + time.monotonic() - started


def _record(
    setting: Setting,
    method: Method,
    seed: int,
    network: Network,
    history: list[dict[str, float]],
    seconds: float,
    folder: Path,
    fingerprint: str,
) -> Record:
    data, definition = setting.data, setting.definition(method)
    example = intensities(data.test.images[:1], data.scale).to(setting.device)
    observed = observe(network, example, strict=True)
    validation = evaluate(observed, data.validation, data, setting.device, [])
    report = evaluate(observed, data.test, data, setting.device, hardware_names())
    return {
        **provenance(setting.device),
        "method": method.name,
        "network": definition.name,
        "dataset": data.name,
        "seed": seed,
        "timesteps": definition.timesteps,
        "pool": definition.pool,
        "encoder": definition.encoder,
        "readout": definition.readout,
        "strength": getattr(method, "strength", None),
        "options": {f.name: getattr(method, f.name) for f in _options(method)},
        "parent": method.parent,
        "hardware": method.hardware,
        "split": "test",
        "split_note": data.split_note,
        "validation_accuracy": validation.accuracy,
        "validation_acs": float(validation.counts.total("acs")),
        **energy_fields(report),
        "wall_s": round(seconds, 3),
        "history": history,
        "config": setting.training.as_json(),
        "run": folder.name,
        "model": str(folder / MODEL_FILE),
        "cite": list(method.cite),
        "fingerprint": fingerprint,
    }


def _options(method: Method) -> tuple[Any, ...]:
    return fields(method)  # pyright: ignore[reportArgumentType]


def _fingerprint(setting: Setting, method: Method, seed: int) -> str:
    """Names a run by everything that decides its result."""
    options = {f.name: getattr(method, f.name) for f in _options(method)}
    decides = {
        "config": {k: v for k, v in setting.training.as_json().items() if k not in ("option", "page_reuse")},
        "pool": setting.pool,
        "options": options,
        "train": len(setting.data.train.labels),
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:10]
    return f"{method.name} {setting.training.network} {setting.data.name} seed {seed} settings {digest}"


def _finished(path: Path, fingerprint: str) -> Record | None:
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
