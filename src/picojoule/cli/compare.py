"""`picojoule compare`: the main job."""

from typing import Annotated

from cyclopts import Parameter

from picojoule.cli.results import Run, run_and_show
from picojoule.experiment.config import Training

DEFAULT_METHODS = "ann,ann-sparse,ann-int8,plain,synaptic-penalty,ecc"


def compare(
    *,
    methods: str = DEFAULT_METHODS,
    training: Annotated[Training, Parameter(name="*")] = Training(),  # noqa: B008  (frozen)
    run: Annotated[Run, Parameter(name="*")] = Run(),  # noqa: B008  (frozen)
) -> None:
    """Train an ANN and spiking networks on one dataset, count and price their operations, and compare.

    Prints the table and writes records.jsonl and report.html to the output folder.

    Args:
        methods: Comma list of methods; a method that converts another's network runs that one too.
    """
    run_and_show([name.strip() for name in methods.split(",") if name.strip()], training, run)
