import pytest
import torch

from picojoule.kernels.native.library import using
from picojoule.neurons import IAF, LIF, unroll
from picojoule.neurons.unroll import stack_time


def _backward_nodes(output: torch.Tensor) -> list[str]:
    seen, names, todo = set(), [], [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name())
        todo += [parent for parent, _ in node.next_functions]
    return names


@pytest.mark.parametrize("neuron", [LIF(), LIF(v_reset=None), IAF(max_events=3)])
def test_backward_is_linear_in_time(neuron):
    sizes = []
    for steps in (4, 8, 16):
        with using("reference"):
            names = _backward_nodes(neuron(torch.rand(steps, 2, 3, requires_grad=True)))
        assert not any("Select" in name or "Slice" in name or "Index" in name for name in names)
        assert sum("Unbind" in name for name in names) == 1
        sizes.append(len(names))
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])


def test_runs_any_step_over_time():
    def running_sum(state, current):
        state = state + current
        return state, 10 * state

    currents = torch.arange(6.0).reshape(3, 2)
    last, outputs = unroll(running_sum, torch.zeros(2), currents)
    assert last.tolist() == [6, 9]
    assert outputs.tolist() == [[0, 10], [20, 40], [60, 90]]


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_stack_equals_torch_stack(steps, shape):
    parts = [torch.randn(shape) for _ in range(steps)]
    torch.testing.assert_close(stack_time(parts), torch.stack(parts), rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 3])
def test_stack_keeps_channels_last(steps):
    parts = [torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last) for _ in range(steps)]
    stacked = stack_time(parts)
    torch.testing.assert_close(stacked, torch.stack(parts), rtol=0, atol=0)
    assert stacked.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert stacked.flatten(0, 1).data_ptr() == stacked.data_ptr()


def test_a_neuron_keeps_channels_last():
    currents = torch.randn(3 * 2, 4, 5, 5).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    events = LIF()(currents)
    assert events.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(events, LIF()(currents.contiguous()), rtol=0, atol=0)
