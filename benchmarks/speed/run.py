"""Run one case: check that the neurons agree, time in interleaved rounds, measure the peak memory."""

from collections.abc import Mapping

import torch

from picojoule.experiment.record import Record

from .case import Case, Step
from .ceilings import ceiling_tasks, ceilings
from .peak_memory import peak_of
from .records import Measured, records_of
from .rounds import interleave, task_of

AGREEMENT = 0.999


class Disagreement(Exception):
    """Implementations do not do the same work, so their times cannot be compared."""


def run_case(case: Case, rounds: int, page_reuse: bool, flags: list[str]) -> list[Record]:
    """The records of a case. `flags` are handed to the child processes that measure memory.

    Raises Disagreement if an implementation that must fire as the reference does not.
    """
    peaks = {i.name: peak_of(case, i, flags) for i in case.implementations}
    torch.manual_seed(0)
    data = case.data()
    steps = {i.name: i.make(data) for i in case.implementations}
    agreement = _agreement(case, steps)
    measures = ceiling_tasks() if case.work else {}
    limits = {i.name: min(rounds, i.rounds or rounds) for i in case.implementations}
    tasks = {name: task_of(step) for name, step in steps.items()} | measures
    times = interleave(tasks, limits | dict.fromkeys(measures, rounds))
    found = ceilings({name: times[name] for name in measures}) if measures else None
    return records_of(case, Measured(times, peaks, agreement, found, page_reuse))


def _agreement(case: Case, steps: Mapping[str, Step]) -> dict[str, float]:
    """The fraction of spikes that equal the reference's, of every implementation that shows its spikes."""
    reference = steps[case.reference].spikes
    if reference is None:
        return {}
    expected = reference().float().flatten()
    found = {}
    for name, step in steps.items():
        if step.spikes is None:
            continue
        spikes = step.spikes().float().flatten()
        found[name] = float((spikes == expected).double().mean()) if spikes.shape == expected.shape else 0.0
        if name in case.agree and not found[name] > AGREEMENT:
            raise Disagreement(
                f"{case.title}: {name} and {case.reference} agree in {found[name]:.2%} of the spikes, "
                f"and a comparison needs more than {AGREEMENT:.1%}"
            )
    return found
