"""What one run is: a method and a seed within the settings of a table."""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from picojoule.data import Dataset
from picojoule.errors import BadInput
from picojoule.execution import fast_precision
from picojoule.experiment.config import Training
from picojoule.experiment.method import Method
from picojoule.experiment.start import digest_of, start_file
from picojoule.networks import RECORDED, Definition, Memory

_SAME_RESULT = ("option", "page_reuse", "recompute", "start")
"""Settings that change no number of a run; options are in the fingerprint by method, and weights by content."""
LONGEST_LABEL = 160
"""Characters of a folder's name; a longer list of options is named by its digest, for file systems end at 255."""


@dataclass(frozen=True)
class Setting:
    """What all runs of one table share: data, settings, where results go, and until when to work.

    A precision of "auto" is decided here, so that records and fingerprints name what ran.
    """

    data: Dataset
    training: Training
    pool: str
    out: Path
    device: torch.device
    quiet: bool = False
    deadline: float = math.inf

    def __post_init__(self) -> None:
        if self.training.precision == "auto":
            object.__setattr__(self, "training", replace(self.training, precision=fast_precision(self.device)))

    def definition(self, method: Method) -> Definition:
        """The network that a method deploys. Raises BadInput if it cannot take the data."""
        t, data = self.training, self.data
        recorded = ("none" if data.is_sequences else "frames") if data.timesteps else None
        encoder = t.encoder or recorded or method.encoder
        of = "images" if recorded is None else "sequences" if data.is_sequences else "events over time"
        if encoder != recorded and (recorded or encoder in RECORDED):
            raise BadInput(f"{data.name} holds {of}, which --encoder {encoder} does not take; leave out --encoder")
        if data.timesteps and t.timesteps not in (None, data.timesteps):
            raise BadInput(f"{data.name} has {data.timesteps} time steps, got --timesteps {t.timesteps}; leave it out")
        memory = Memory(t.theta, t.learn_theta, t.low_rank)
        wanted = Definition(
            t.network, data.input_shape, data.classes, 1, self.pool, encoder, dropout=t.dropout, memory=memory
        )
        readout = t.readout or ("last-step" if wanted.recurrent else method.readout)
        wanted = replace(wanted, readout=readout)
        found = method.definition(wanted, data.timesteps or t.timesteps)
        if data.timesteps and found.encoder != recorded:
            mend = "choose --network lmu, lstm or gru"
            if wanted.recurrent or of.startswith("events"):
                mend = f"choose {'the method ann or hybrid' if wanted.recurrent else 'another method'}"
            raise BadInput(f"{method.name} takes images and {data.name} holds {of}; {mend}")
        return found


@dataclass(frozen=True)
class Job:
    """One run. `name` is its folder: the method, the options that differ from its defaults, the seed."""

    setting: Setting
    method: Method
    seed: int

    @property
    def name(self) -> str:
        label = self.method.label()
        if len(label) > LONGEST_LABEL:
            label = f"{self.method.name}_{hashlib.sha256(label.encode()).hexdigest()[:10]}"
        return f"{label}_seed-{self.seed}"

    @property
    def folder(self) -> Path:
        return self.setting.out / "runs" / self.name

    @property
    def definition(self) -> Definition:
        """The network that the run deploys."""
        return self.setting.definition(self.method)

    @property
    def start(self) -> Path | None:
        """The model file whose weights training starts from."""
        return start_file(self.setting.training.start, self.seed)

    @property
    def fingerprint(self) -> str:
        """Names the run by everything that decides its result."""
        setting, strength = self.setting, getattr(self.method, "strength", None)
        decides = {
            "config": {k: v for k, v in setting.training.as_json().items() if k not in _SAME_RESULT},
            "pool": setting.pool,
            "options": self.method.settled(self.definition) | ({} if strength is None else {"strength": strength}),
            "reads": self.method.reads(),
            "train": len(setting.data.train.labels),
        }
        if self.start is not None:
            decides["start"] = digest_of(self.start)
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:10]
        network, data = setting.training.network, setting.data.name
        return f"{self.method.name} {network} {data} seed {self.seed} settings {digest}"
