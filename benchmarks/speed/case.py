"""What a benchmark case is: data, implementations that do the same work, the work itself, and targets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """What is timed: `backward` gets what `forward` returned; None if there is only a forward pass.

    `spikes` gives the events, comparable between implementations of a case; it is never timed.
    """

    forward: Callable[[], Any]
    backward: Callable[[Any], None] | None = None
    spikes: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class Implementation:
    """One way to do the work of a case. `make` builds it from the data of the case.

    `package` is the distribution it is made of. `rounds` limits the rounds of a slow one. Recorded seconds are
    measured seconds times `scale`, recorded memory is measured memory times `memory_scale`.
    """

    name: str
    make: Callable[[Any], Step]
    package: str = "picojoule"
    rounds: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    scale: float = 1.0
    memory_scale: float = 1.0


class Work(NamedTuple):
    """The least that any implementation must do: operations of matrix products and bytes to and from memory.

    `bf16_bytes` holds for implementations in bf16. `cached` says that one tensor of the case fits the last cache
    level, so that the faster copy bandwidth bounds it.
    """

    flops: float
    bytes: float
    bf16_bytes: float
    cached: bool = False


@dataclass(frozen=True)
class Target:
    """A limit for one implementation.

    `faster`: at least `limit` times faster than `against`; `time` and `memory`: at most `limit` times those of
    `against`; `floor`: at most `limit` times the floor.
    """

    implementation: str
    kind: Literal["faster", "time", "memory", "floor"]
    limit: float
    against: str = ""

    def __str__(self) -> str:
        limit = f"{self.limit:.3g}x"
        match self.kind:
            case "faster":
                return f"at least {limit} faster than {self.against}"
            case "floor":
                return f"at most {limit} the floor"
            case kind:
                return f"at most {limit} the {kind} of {self.against}"


@dataclass(frozen=True)
class Case:
    """Implementations that do the same work on the same data, in one setting of a case.

    `name` is the case, `setting` its size (the pair is unique), `about` says what runs, `per` what the seconds
    are for. Ratios are to the implementation `reference`. The spikes of `agree` must equal the reference's.
    """

    name: str
    setting: str
    about: str
    data: Callable[[], Any]
    implementations: tuple[Implementation, ...]
    reference: str
    targets: tuple[Target, ...] = ()
    work: Work | None = None
    agree: tuple[str, ...] = ()
    per: str = "step"

    @property
    def title(self) -> str:
        return f"{self.name}, {self.setting}"
