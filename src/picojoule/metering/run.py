"""One classified pass: which modules run, and what is known of every tensor."""

import sys
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from picojoule.graph.shapes import BatchAxis
from picojoule.metering.ledger import Ledger
from picojoule.metering.session import Session
from picojoule.metering.tag import Tag, Tags, constant, graded


class Frame:
    """A module that is running: what entered it, and what happened inside so far."""

    __slots__ = ("module", "path", "x", "sites", "origins", "linear_calls", "code")

    def __init__(self, module: nn.Module, path: str, x: Tensor | None):
        self.module, self.path, self.x = module, path, x
        self.sites = 0
        self.origins: set[str] = set()
        self.linear_calls = 0
        self.code = getattr(type(module).forward, "__code__", None)


class Pass:
    """The state of one classified pass, which all who follow it share.

    `called` are the modules that ran. `functional` says that hooks on modules could not count this pass again;
    `driver` is the last site that ran.
    """

    def __init__(self, session: Session, tags: Tags, ledger: Ledger):
        self.session, self.tags, self.ledger = session, tags, ledger
        self.frames: list[Frame] = []
        self.functional = False
        self.driver = ""
        self.called: set[nn.Module] = set()
        self._parameters = {id(p): (name, p) for name, p in session.root.named_parameters(remove_duplicate=True)}
        self._pointers = {p.data_ptr(): name for name, p in self._parameters.values() if p.numel()}
        self._fixed = {id(t) for t in session.attributes()}

    @property
    def frame(self) -> Frame | None:
        """The innermost module that runs."""
        return self.frames[-1] if self.frames else None

    @property
    def place(self) -> str:
        """Where the pass is, to name what is no module: the innermost module, and the line of its forward."""
        frame = self.frame
        return f"{(frame.path if frame else '') or type(self.session.root).__name__}:{_line(frame)}"

    def tag(self, x: Any) -> Tag:
        """The tag of a tensor or a number."""
        if not isinstance(x, Tensor):
            return constant(float(x)) if isinstance(x, int | float) else constant()
        entry = self.tags.get(x)
        if entry is not None:
            return entry.tag
        tag = self._outside(x)
        self.tags.put(x, tag, None if tag.is_constant else self._likely(x))
        return tag

    def batch(self, x: Tensor) -> BatchAxis | None:
        entry = self.tags.get(x)
        return self._likely(x) if entry is None else entry.batch

    def _likely(self, x: Tensor) -> BatchAxis | None:
        """Of a tensor from outside: the only axis that is as long as the batch."""
        long = [d for d, size in enumerate(x.shape) if size == self.ledger.samples]
        return BatchAxis(long[0], 1) if len(long) == 1 else None

    def _outside(self, x: Tensor) -> Tag:
        """A tensor that no watched operation made."""
        own = self._parameters.get(id(x))
        if own is not None and own[1] is x:
            value = _number(x)
            return constant(value, frozenset({own[0]}), True)
        name = self._pointers.get(pointer(x))
        if name is not None:
            return constant(_number(x), frozenset({name}), True)
        if isinstance(x, nn.Parameter) or id(x) in self._fixed or x.numel() == 1:
            sources = frozenset({f"parameter {tuple(x.shape)}"}) if isinstance(x, nn.Parameter) else frozenset()
            return constant(_number(x), sources)
        return graded("from outside the model's call", lost=True)


def _line(frame: Frame | None) -> int:
    """The line at which the running module's forward stands, 0 if it cannot be told."""
    if frame is None or frame.code is None:
        return 0
    f = sys._getframe(1)
    while f is not None:
        if f.f_code is frame.code:
            return f.f_lineno
        f = f.f_back
    return 0


def _number(x: Tensor) -> float | None:
    """The value of a tensor of one element, read once."""
    if x.numel() != 1 or x.dtype.is_complex or not pointer(x):
        return None
    with _disable_current_modes():
        return float(x.detach())


def pointer(x: Tensor) -> int:
    """Where the elements lie; 0 for a tensor without memory of its own."""
    try:
        return x.data_ptr()
    except RuntimeError:
        return 0
