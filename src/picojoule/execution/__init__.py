"""How a model is run: less memory in training, blocks of time in inference. Results stay the same."""

from typing import TYPE_CHECKING

from picojoule.lazy import lazy

if TYPE_CHECKING:
    from picojoule.execution.blocks import in_time_blocks
    from picojoule.execution.fuse import fused
    from picojoule.execution.inference import fast
    from picojoule.execution.precision import fast_precision
    from picojoule.execution.recompute import recomputed, recomputed_over_time

__all__ = ["fast", "fast_precision", "fused", "in_time_blocks", "recomputed", "recomputed_over_time"]

__getattr__ = lazy(
    __name__,
    {
        "picojoule.execution.blocks": ("in_time_blocks",),
        "picojoule.execution.inference": ("fast",),
        "picojoule.execution.fuse": ("fused",),
        "picojoule.execution.precision": ("fast_precision",),
        "picojoule.execution.recompute": ("recomputed", "recomputed_over_time"),
    },
)
