"""`picojoule train`: one method."""

from typing import Annotated

from cyclopts import Parameter

from picojoule.cli.results import Run, run_and_show
from picojoule.experiment.config import Training


def train(
    method: str,
    /,
    *,
    training: Annotated[Training, Parameter(name="*")] = Training(),  # noqa: B008  (frozen)
    run: Annotated[Run, Parameter(name="*")] = Run(),  # noqa: B008  (frozen)
) -> None:
    """Train one method, measure it on the test set, and write model, record and report.

    Args:
        method: ann, ann-sparse, ann-int8, plain, synaptic-penalty, first-spike, total-spikes, layer-mean,
            synops-target, rate-bounds, energy-penalty, bits-penalty, synops-conversion, ecc, hybrid, one-step;
            penalties add up, as in synaptic-penalty+first-spike or bits-penalty+hybrid.
    """
    run_and_show([method], training, run)
