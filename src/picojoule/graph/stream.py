"""Run a graph over a stream: the state of every stateful part is passed in and handed back."""

from typing import Any

from torch import Tensor, fx

from picojoule.neurons import Stateful

State = dict[str, Any]
"""The state of a network: one entry per call of a stateful part, by the call's name."""


class _Advance(fx.Interpreter):
    """Interprets a graph once. A part without an entry in `before` starts from rest."""

    def __init__(self, graph: fx.GraphModule, before: State):
        super().__init__(graph)
        self.extra_traceback = False  # our messages are one sentence
        self._before = before
        self.rest: State = {}
        self.after: State = {}

    def run_node(self, n: fx.Node) -> Any:
        module = self.submodules.get(str(n.target)) if n.op == "call_module" else None
        if not isinstance(module, Stateful):
            return super().run_node(n)
        (x,), _ = self.fetch_args_kwargs_from_env(n)
        self.rest[n.name] = module.initial_state(x)
        output, self.after[n.name] = module.advance(x, self._before.get(n.name, self.rest[n.name]))
        return output


def advance(graph: fx.GraphModule, x: Tensor, state: State) -> tuple[Any, State]:
    """The output for the next piece `x` of a stream, and the state after it."""
    run = _Advance(graph, state)
    return run.run(x), run.after


def state_of_rest(graph: fx.GraphModule, x: Tensor) -> State:
    """The state of rest of every stateful part, for inputs like `x`."""
    run = _Advance(graph, {})
    run.run(x)
    return run.rest
