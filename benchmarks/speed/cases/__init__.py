"""The cases by name, in the order of the report."""

from collections.abc import Callable

from ..case import Case
from . import blocks, conv_train, counting, epochs, lif, linear_lif, memory, steps, vgg_inference

CASES: dict[str, Callable[[bool], list[Case]]] = {
    "lif": lif.cases,
    "linear-lif": linear_lif.cases,
    "conv-train": conv_train.cases,
    "vgg-inference": vgg_inference.cases,
    "counting": counting.cases,
    "time": steps.cases,
    "memory": memory.cases,
    "blocks": blocks.cases,
    "epochs": epochs.cases,
}
"""Each makes the settings of a case; its argument asks for small sizes that only show that it runs."""
