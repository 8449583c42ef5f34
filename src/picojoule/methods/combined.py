"""Several penalties in one loss: `synaptic-penalty+first-spike`, `bits-penalty+hybrid`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from picojoule.errors import BadInput
from picojoule.experiment.method import Method, Phase, Progress
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity
from picojoule.networks import Definition, Network


@dataclass(frozen=True)
class Combined(Method):
    """The network, its encoder, phases and schedules are those of the last part; the loss has the terms of all.

    All parts but the last are penalties. `pinned` names those whose strength is their own, whatever that of the others.
    """

    parts: tuple[Method, ...]
    pinned: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self._last.parent is not None:
            raise BadInput(f"expected {self._last.name} to be trained, so that penalties can act, got {self.label()}")
        floors = {p.name: (p.floor, p.floor_rate) for p in self.parts if isinstance(p, Penalised) and p.floor}
        if len(set(floors.values())) > 1:
            got = ", ".join(f"{name} {floor:g} at floor_rate {rate:g}" for name, (floor, rate) in floors.items())
            raise BadInput(
                f"expected one floor for all penalties, got {got}; give --option.floor and --option.floor_rate for all "
                "of them"
            )

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "+".join(part.name for part in self.parts)

    @property
    def strength(self) -> float | None:
        """The strength of the parts without one of their own; None if there is no such part, or they differ."""
        strengths = {p.strength for p in self.parts if isinstance(p, Penalised) and p.name not in self.pinned}
        return strengths.pop() if len(strengths) == 1 else None

    @property
    def cite(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(dict.fromkeys(source for part in self.parts for source in part.cite))

    @property
    def observes(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return True

    @property
    def pool(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return next((part.pool for part in self.parts if part.pool is not None), None)

    @property
    def encoder(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._last.encoder

    @property
    def readout(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._last.readout

    @property
    def _last(self) -> Method:
        return self.parts[-1]

    def options(self) -> dict[str, Any]:
        """Those of all parts; of the strengths only the ones that are not `strength`."""
        named = {f"{part.name}:{key}": value for part in self.parts for key, value in part.options().items()}
        if self.strength is None:
            return named
        common = {f"{part.name}:strength" for part in self.parts if part.name not in self.pinned}
        return {key: value for key, value in named.items() if key not in common}

    def reads(self) -> dict[str, Any]:
        return {f"{part.name}:{key}": value for part in self.parts for key, value in part.reads().items()}

    def label(self) -> str:
        return "+".join(part.label() for part in self.parts)

    def keeps_trains(self) -> bool:
        return any(part.keeps_trains() for part in self.parts)

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        found = self._last.definition(wanted, timesteps)
        for part in self.parts[:-1]:
            part.definition(found, found.timesteps)  # raises where the part cannot work on it
        return found

    def build(self, definition: Definition) -> Network:
        return self._last.build(definition)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """Those of the last part; where its penalty acts, all do."""
        names = tuple(part.name for part in self.parts[:-1])
        phases = self._last.phases(epochs)
        return tuple(
            phase._replace(terms=phase.terms + names) if phase.terms and self._last.name in phase.terms else phase
            for phase in phases
        )

    def loss(self, output: Tensor, target: Tensor, activity: Activity | None, progress: Progress) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for part in self.parts:
            terms |= part.loss(output, target, activity, progress)
        return terms

    def on_progress(self, network: Network, progress: Progress) -> None:
        self._last.on_progress(network, progress)

    def finish(self, network: Network, calibration: Sequence[Tensor], definition: Definition) -> Network:
        return self._last.finish(network, calibration, definition)
