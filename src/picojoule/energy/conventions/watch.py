"""All conventions at once, watching one metered run."""

from collections.abc import Iterable

from torch import nn
from torch.utils.hooks import RemovableHandle

from picojoule.energy.conventions.convention import Convention, Facts
from picojoule.energy.conventions.keras_spiking import KerasSpiking
from picojoule.energy.conventions.literature import Literature
from picojoule.energy.conventions.neurobench import NeuroBench
from picojoule.energy.conventions.norse import Norse
from picojoule.energy.conventions.observed import Observed
from picojoule.energy.conventions.ours import Ours
from picojoule.energy.conventions.report import ConventionReport
from picojoule.energy.conventions.sinabs import Sinabs
from picojoule.energy.conventions.spikingjelly import SpikingJelly
from picojoule.energy.conventions.spkeras import SpKeras
from picojoule.energy.conventions.syops import Syops
from picojoule.energy.count import OpCounts
from picojoule.errors import BadInput, unknown_name
from picojoule.metering.call import SiteCall

_CLASSES: tuple[type[Convention], ...] = (
    *(Ours, NeuroBench, Syops, KerasSpiking, SpikingJelly, Norse, Sinabs, Literature, SpKeras),
)
_BY_NAME = {convention.name: convention for convention in _CLASSES}

CONVENTIONS: tuple[str, ...] = tuple(_BY_NAME)
"""The names of the conventions."""


class Conventions:
    """A probe that counts as other tools do, while a model runs under the meter; a context around the run.

    Arguments:
        names: conventions to follow (`CONVENTIONS`); BadInput with the nearest name for one that is unknown.
        model: the model that will run. Inside the context it has forward hooks on what the tools count at modules.

    Call `end_batch` after every batch. Memory does not grow with the number of batches.
    """

    def __init__(self, names: Iterable[str], model: nn.Module):
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in _BY_NAME:
                raise unknown_name("convention", name, list(CONVENTIONS))
        self._conventions = [_BY_NAME[name](model) for name in dict.fromkeys(names)]
        self._facts = Facts()
        self._samples = 0
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Conventions":
        try:
            for convention in self._conventions:
                self._handles.extend(convention.hooks())
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def site(self, call: SiteCall) -> None:
        """A linear operation was called."""
        if call.x.numel() == 0 or all(isinstance(c, Ours) for c in self._conventions):
            return
        seen = Observed(call)
        self._facts.site(seen)
        for convention in self._conventions:
            convention.site(seen)

    def end_batch(self, samples: int) -> None:
        """A batch of so many samples is over."""
        self._samples += samples
        for convention in self._conventions:
            convention.end_batch(samples)

    def results(self, exact: OpCounts) -> dict[str, ConventionReport]:
        """The report of each convention, held against the exact counts of the same run. To be called once."""
        if self._samples == 0 or exact.samples != self._samples:
            raise BadInput(
                f"expected exact counts of the {self._samples} samples that the conventions saw, got {exact.samples}"
                + (" (was end_batch called?)" if self._samples == 0 else "")
            )
        return {c.name: c.report(exact, self._facts) for c in self._conventions}

    def _remove(self) -> None:
        while self._handles:
            self._handles.pop().remove()
