import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from picojoule.cells import SpikingRNN
from picojoule.energy import count
from picojoule.errors import BadInput, UncountedLayer, UntraceableModel
from picojoule.graph import observe
from picojoule.kinds import Events
from picojoule.layers import AddTime, Repeat, SpikeCount, Timewise, pooling
from picojoule.networks import Definition, build
from picojoule.neurons import IAF, LIF


def _cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        AddTime(),
        Timewise(nn.Conv2d(1, 3, 3, padding=1)),
        Timewise(nn.BatchNorm2d(3)),
        Repeat(3),
        LIF(0.9, 0.4),
        pooling("avg", 2),
        nn.Dropout(0.5),
        nn.Flatten(2),
        nn.Linear(12, 4),
        IAF(0.2),
        SpikeCount(),
    )


def _rnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(AddTime(), nn.Flatten(2), Repeat(4), SpikingRNN(16, 5), nn.Linear(5, 3), SpikeCount())


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(Definition(name, (1, 4, 4), 3, timesteps=3), LIF)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "cnn": _cnn,
    "rnn": _rnn,
    "small-cnn": lambda: _network("small-cnn"),
    "spiking-rnn": lambda: _network("spiking-rnn"),
}
every_model = pytest.mark.parametrize("name", MODELS)


def _x(batch: int = 5) -> torch.Tensor:
    return torch.rand(batch, 1, 4, 4, generator=torch.Generator().manual_seed(2))


def _sums(observed: nn.Module, x: torch.Tensor) -> list[list[float]]:
    return count(observed(x)[1]).sums.tolist()


@every_model
@pytest.mark.parametrize("training", [True, False])
def test_observing_changes_nothing(name, training):
    model = MODELS[name]().train(training)
    parts = list(model.modules())
    parts[-1].train(not training)  # a part in another mode than the whole
    flags = [m.training for m in parts]
    before = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    observe(model, _x())
    assert [m.training for m in model.modules()] == flags
    assert torch.equal(generator, torch.get_rng_state())
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in model.parameters())


@every_model
def test_flags_inside_a_cell_and_beside_it(name):
    model = MODELS[name]()
    for part in model.modules():
        if isinstance(part, SpikingRNN | nn.BatchNorm2d):
            part.eval()  # frozen in a model that trains
    flags = [m.training for m in model.modules()]
    observe(model, _x())
    assert [m.training for m in model.modules()] == flags


def test_random_operations_leave_the_generator_alone():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(torch.bernoulli(x))

    model = Noisy()
    before = torch.get_rng_state()
    observed = observe(model, torch.rand(3, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(before, torch.get_rng_state())
    assert observed.sites[0].kind == Events(most=1)


@every_model
@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_the_models_bit_by_bit(name, training):
    model = MODELS[name]().train(training)
    twin = copy.deepcopy(model)
    observed = observe(model, _x())
    torch.manual_seed(7)
    y, _ = observed(_x())
    torch.manual_seed(7)
    assert torch.equal(y, twin(_x()))
    assert {k: v.tolist() for k, v in model.state_dict().items()} == {
        k: v.tolist() for k, v in twin.state_dict().items()
    }


@every_model
def test_shares_parameters_and_follows_modes(name):
    model = MODELS[name]()
    observed = observe(model, _x())
    mine = {id(p) for p in model.parameters()}
    assert {id(p) for p in observed.parameters()} == mine
    observed.eval()
    parts = [m for m in model.modules() if not list(m.children())]
    assert not any(m.training for m in parts)
    observed.train()
    assert all(m.training for m in parts)


@every_model
def test_gradients_are_the_models(name):
    model = MODELS[name]().eval()
    twin = copy.deepcopy(model)
    observe(model, _x())(_x())[0].sum().backward()
    twin(_x()).sum().backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None and q.grad is not None:
            assert torch.equal(p.grad, q.grad)


@every_model
def test_observed_twice_counts_the_same(name):
    model = MODELS[name]().eval()
    first, second = observe(model, _x()), observe(model, _x(2))
    assert _sums(first, _x()) == _sums(second, _x()) == _sums(first, _x())
    assert first.sites == second.sites and not first.uncounted


@every_model
def test_the_example_does_not_matter(name):
    model = MODELS[name]().eval()
    zeros, ones = observe(model, torch.zeros(1, 1, 4, 4)), observe(model, torch.ones(3, 1, 4, 4))
    assert _sums(zeros, _x()) == _sums(ones, _x())
    assert zeros.sites == ones.sites


@every_model
def test_neurons_report_what_they_sent(name):
    model = MODELS[name]().eval()
    sent: dict[str, torch.Tensor] = {}
    hooks = [
        m.register_forward_hook(lambda _, __, y, n=n: sent.update({n: y}))
        for n, m in model.named_modules()
        if isinstance(m, LIF | SpikingRNN) and not n.endswith(".neuron")
    ]
    model(_x())
    for hook in hooks:
        hook.remove()
    _, activity = observe(model, _x())(_x())
    by_end = {n.removeprefix("graph_module."): y for n, y in sent.items()}
    assert {r.name for r in activity.neurons} == by_end.keys()
    for record in activity.neurons:
        y = by_end[record.name]
        torch.testing.assert_close(record.events, y.detach().double().sum((0, 1)), rtol=0, atol=0)
        assert record.steps == y.shape[0] and record.updates == y[:, 0].numel()
    assert activity.samples == 5 and activity.timesteps == max(r.steps for r in activity.neurons)


def test_one_activation_module_may_serve_many_layers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(4, 6), nn.Linear(6, 3), nn.ReLU()

        def forward(self, x):
            return self.relu(self.b(self.relu(self.a(x))))

    _, activity = observe(Net(), torch.rand(5, 4))(torch.rand(5, 4))
    assert [r.events.shape for r in activity.neurons] == [(6,), (3,)]
    assert len({r.name for r in activity.neurons}) == 2
    assert count(activity).updates == {}, "activations have no state to update"


@pytest.mark.parametrize("steps", [1, 4])
def test_neuron_updates_of_a_folded_batch(steps):
    """Time folded into the batch: the updates of all steps belong to the sample."""

    class Step(nn.Module):
        def forward(self, x):
            return (x > 0).float()

    model = nn.Sequential(
        LIF(), nn.Flatten(0, 1), nn.Linear(3, 6), Step(), nn.Linear(6, 2), nn.Unflatten(0, (steps, -1))
    )
    x = torch.rand(steps, 5, 3)
    _, activity = observe(model, x, batch_dim=1, spiking=(Step,))(x)
    lif, folded = activity.neurons
    assert (lif.updates, folded.updates) == (3 * steps, 6 * steps)
    assert folded.events.shape == (6,)


def test_an_elementwise_product_with_a_parameter_is_listed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(4))

        def forward(self, x):
            return (x * self.weight).sum(-1, keepdim=True)

    (reason,) = observe(Net(), torch.rand(5, 4)).uncounted
    assert "elementwise product with a parameter" in reason


@pytest.mark.parametrize(
    "part, shape", [(LIF(), (4, 3, 5)), (SpikingRNN(5, 4), (4, 3, 5)), (Timewise(nn.Linear(5, 2)), (4, 3, 5))]
)
def test_a_part_may_be_the_whole_model(part, shape):
    x = torch.rand(shape)
    y, activity = observe(part, x, batch_dim=1)(x)
    assert torch.equal(y, part(x)) and activity.samples == 3
    assert len(activity.synapses) == {LIF: 0, SpikingRNN: 2, Timewise: 1}[type(part)]


@pytest.mark.parametrize("name", ["observers", "graph_module", "observed"])
def test_a_models_parts_may_have_any_name(name):
    model = nn.Sequential()
    model.add_module(name, nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    x = torch.rand(2, 4)
    y, activity = observe(model, x)(x)
    assert torch.equal(y, model(x)) and activity.synapses[0].site.name == f"{name}.0"


def test_declared_spiking_modules_are_kept_whole_and_emit_unit_events():
    class Foreign(nn.Module):
        def forward(self, x):
            return (x > 0.3).float() if x.sum() > -1e9 else x  # cannot be traced

    model = nn.Sequential(nn.Linear(4, 6), Foreign(), nn.Linear(6, 2))
    with pytest.raises(UntraceableModel):
        observe(model, torch.rand(2, 4))
    observed = observe(model, torch.rand(2, 4), spiking=(Foreign,))
    x = torch.rand(3, 4)
    y, activity = observed(x)
    assert torch.equal(y, model(x))
    assert observed.sites[1].kind == Events(most=1)
    assert count(activity).sums[0, 1] == 2 * model[:2](x).sum()
    assert [(n.name, n.neuron) for n in activity.neurons] == [("1", "Foreign")]


# What cannot be traced or counted is said.


class _Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # the offending line
            return x
        return -x


class _Loops(nn.Module):
    def forward(self, x):
        for row in x:  # another offending line
            x = x + row
        return x


@pytest.mark.parametrize("model, line", [(_Branches(), "if x.sum() > 0:"), (_Loops(), "for row in x:")])
def test_an_untraceable_model_names_its_line(model, line):
    with pytest.raises(UntraceableModel) as error:
        observe(nn.Sequential(nn.Linear(3, 3), model), torch.rand(2, 3))
    message = str(error.value)
    assert line in message and "test_observe.py:" in message and "spiking=(ItsModuleClass,)" in message
    assert isinstance(error.value, BadInput)


class _Uses(nn.Module):
    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.rand(4, 4))
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.function(x, self)


@pytest.mark.parametrize(
    "model, named",
    [
        (_Uses(lambda x, m: m.lstm(x)[0], lstm=nn.LSTM(4, 4)), "lstm (LSTM)"),
        (_Uses(lambda x, m: m.gru(x)[0], gru=nn.GRU(4, 4)), "gru (GRU)"),
        (
            _Uses(lambda x, m: m.mha(x, x, x)[0], mha=nn.MultiheadAttention(4, 2)),
            "mha (MultiheadAttention)",
        ),
        (_Uses(lambda x, m: m.emb((x > 0.5).long()).sum(-1), emb=nn.Embedding(2, 3)), "emb (Embedding)"),
        (_Uses(lambda x, m: m.two(x, x), two=nn.Bilinear(4, 4, 2)), "two (Bilinear)"),
        (_Uses(lambda x, m: torch.einsum("tbi,ij->tbj", x, m.w)), "einsum"),
        (_Uses(lambda x, m: torch.addmm(m.w[0], x[0], m.w)), "addmm"),
        (_Uses(lambda x, m: x[0].addmm(x[0], m.w)), "addmm"),
        (_Uses(lambda x, m: torch.tensordot(x, m.w, 1)), "tensordot"),
        (_Uses(lambda x, m: x[0].mv(m.w[0])), "mv"),
        (_Uses(lambda x, m: torch.mv(m.w, x[0, 0])), "mv"),
        (_Uses(lambda x, m: torch.inner(x, m.w)), "inner"),
        (_Uses(lambda x, m: F.scaled_dot_product_attention(x, x, x)), "scaled_dot_product_attention"),
        (_Uses(lambda x, m: F.linear(x, m.fc(x).mean((0, 1)).expand(4, 4)), fc=nn.Linear(4, 4)), "linear"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_cannot_be_counted_is_listed(model, named):
    x = torch.rand(2, 2, 4)
    observed = observe(model, x, batch_dim=1)
    assert any(named in what for what in observed.uncounted), observed.uncounted
    with pytest.raises(UncountedLayer, match="cannot count every operation of _Uses"):
        observe(model, x, batch_dim=1, strict=True)
    assert torch.equal(observed(x)[0], model(x))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.PReLU(), nn.Dropout(0.1)),
        nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.GroupNorm(1, 2)),
    ],
)
def test_norms_are_not_synapses(model):
    assert observe(model, torch.rand(2, 4), strict=True).uncounted == ()


def test_a_layer_without_a_batch_axis_is_listed():
    model = _Uses(lambda x, m: m.fc(x.mean(0)), fc=nn.Linear(4, 2))
    observed = observe(model, torch.rand(3, 4))
    assert "no batch axis" in observed.uncounted[0]


@pytest.mark.parametrize(
    "make, example, other",
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()), (2, 1, 6, 6), (2, 1, 8, 8)),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1)), (2, 1, 2, 2), (2, 1, 4, 4)),
        (lambda: nn.Sequential(nn.Conv1d(1, 2, 3, padding=1)), (2, 1, 1), (2, 1, 5)),
        (lambda: nn.Sequential(nn.ConvTranspose1d(1, 2, 2, padding=1)), (2, 1, 2), (2, 1, 5)),
        (lambda: _Uses(lambda x, m: F.conv1d(x, m.w[:1, :3].unsqueeze(0), padding=1)), (2, 1, 2), (2, 1, 5)),
    ],
)
def test_another_size_than_the_examples_is_refused(make, example, other):
    """Also where the fan-out happens to be the same everywhere at the example's size."""
    model = make()
    observed = observe(model, torch.rand(example))
    observed(torch.rand(7, *example[1:]))
    with pytest.raises(BadInput, match="call observe again"):
        observed(torch.rand(other))


def test_other_numbers_of_steps_and_samples_are_welcome():
    model = nn.Sequential(LIF(), nn.Linear(4, 3), LIF(), Timewise(nn.Linear(3, 2)))
    observed = observe(model, torch.rand(2, 3, 4), batch_dim=1)
    x = torch.rand(6, 5, 4)
    fresh = observe(model, x, batch_dim=1)
    assert _sums(observed, x) == _sums(fresh, x)


@pytest.mark.parametrize(
    "shape, message",
    [((2, 5), "does not fit its input of shape"), ((2, 1, 1, 1, 1, 5), "does not fit its input of shape")],
)
def test_an_example_that_does_not_fit(shape, message):
    with pytest.raises(BadInput, match=message) as error:
        observe(nn.Sequential(nn.Linear(4, 3)), torch.rand(shape))
    assert "\n" not in str(error.value)


# Compiled.


def _compiled(model: nn.Module, backend: str) -> None:
    observed = observe(model.eval(), _x())
    eager = _sums(observed, _x())
    torch.compiler.reset()
    compiled = torch.compile(observed, backend=backend, fullgraph=True)
    with torch.no_grad():
        assert _sums(compiled, _x()) == eager  # pyright: ignore[reportArgumentType]
    y, activity = compiled(_x())
    assert count(activity).sums.tolist() == eager
    (y.sum() + count(activity).sums[0].sum()).backward()
    for p in model.parameters():
        assert p.grad is None or torch.isfinite(p.grad).all()
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["cnn", "rnn"])
def test_compiled_counts_the_same(name):
    _compiled(MODELS[name](), "aot_eager")


@pytest.mark.slow  # builds C++
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_by_inductor_counts_the_same():
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("no C++ compiler is installed")
    _compiled(_cnn(), "inductor")


@pytest.mark.parametrize("grad", [True, False])
def test_activations_of_a_model_without_time(grad):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(6, 4)
    with torch.set_grad_enabled(grad):
        (relu,) = observe(model, x)(x)[1].neurons
    sent = (model[:2](x) > 0).double().sum(0)
    assert torch.equal(relu.events, sent) and relu.steps == 1
    assert relu.fired is None if grad else torch.equal(relu.fired, sent)
