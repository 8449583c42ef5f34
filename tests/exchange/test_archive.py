"""A saved network comes back bit by bit; what cannot be described is refused; a file runs no code."""

import copy
import json
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from picojoule.cells import GRU, LMU, LSTM, LegendreMemory, SpikingRNN, WindowMixer, WindowRNN
from picojoule.errors import BadInput
from picojoule.exchange import archive, load, read_notes, save
from picojoule.graph import observe
from picojoule.graph.trace import trace
from picojoule.layers import (
    AddTime,
    Bernoulli,
    Concatenate,
    Crop2d,
    EvenRate,
    Frames,
    LastStep,
    Latency,
    LogLatency,
    MeanReadout,
    MembraneReadout,
    Permute,
    QuantisedReLU,
    Repeat,
    Reshape,
    Residual,
    Scale,
    Shift,
    SpikeCount,
    SpikingMaxPool1d,
    SpikingMaxPool2d,
    Timewise,
)
from picojoule.networks import Definition, Mixer, Network, build
from picojoule.neurons import IAF, LIF, CubaLIF, Diffused, SignedIAF, WindowLIF, WindowNeuron, surrogate

IMAGE = (4, 8, 8)


def network(*parts: nn.Module, shape: tuple[int, ...] = IMAGE) -> Network:
    """The parts over time, with trained weights and statistics that are not the fresh ones."""
    torch.manual_seed(0)
    made = Network(trace(nn.Sequential(*parts), (QuantisedReLU,)), shape, 10)
    with torch.no_grad():
        for tensor in (*(p for p in made.parameters() if p.requires_grad), *made.buffers()):
            if tensor.dtype.is_floating_point:
                tensor.add_(0.1 * torch.rand(tensor.shape, dtype=tensor.dtype))
            else:
                tensor.add_(3)
    return made.eval()


def images(made: Network, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, *made.input_shape, generator=generator).to(next(made.parameters()).dtype)


def flat(state: object) -> list[torch.Tensor]:
    """All numbers of a nested state."""
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        state = tuple(state[key] for key in sorted(state))
    if isinstance(state, tuple | list):
        return [tensor for part in state for tensor in flat(part)]
    return [] if state is None else [torch.tensor(state)]


def assert_comes_back(made: Network, path) -> Network:
    save(made, path)
    back = load(path)
    assert not back.training
    assert (back.input_shape, back.classes, back.timesteps) == (made.input_shape, made.classes, made.timesteps)
    assert back.state_dict().keys() == made.state_dict().keys()
    for key, tensor in made.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor) and back.state_dict()[key].dtype == tensor.dtype
    assert [str(n.target) for n in back.graph_module.graph.nodes] == [
        str(n.target) for n in made.graph_module.graph.nodes
    ]
    with torch.no_grad():
        x = images(made)
        assert torch.equal(back(x), made(x))
        (y, state), (z, other) = (n.advance(x, n.initial_state(len(x))) for n in (made, back))
        assert torch.equal(y, z)
        assert all(torch.equal(a, b) for a, b in zip(flat(state), flat(other), strict=True))
    return back


def line(layer: nn.Module) -> tuple[nn.Module, ...]:
    """A one-dimensional layer for the image as four channels."""
    return (AddTime(), nn.Flatten(3), Timewise(layer))


def volume(layer: nn.Module) -> tuple[nn.Module, ...]:
    """A three-dimensional layer for the channels as depth: [1, B, 4, 8, 8] is what it takes as [B, C, D, H, W]."""
    return (layer,)


def after_events(neuron: nn.Module) -> tuple[nn.Module, ...]:
    return (AddTime(), nn.Flatten(2), nn.Linear(256, 12), Repeat(5), neuron)


SEQUENCE = (AddTime(), nn.Flatten(2), Repeat(4))

CASES: dict[str, tuple[nn.Module, ...]] = {
    "Linear": (AddTime(), nn.Flatten(2), nn.Linear(256, 5)),
    "Linear-no-bias": (AddTime(), nn.Flatten(2), nn.Linear(256, 5, bias=False)),
    "Conv1d": line(nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)),
    "Conv2d": (AddTime(), Timewise(nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), bias=False))),
    "Conv2d-same": (AddTime(), Timewise(nn.Conv2d(4, 6, 3, padding="same"))),
    "Conv2d-circular": (AddTime(), Timewise(nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"))),
    "Conv3d": volume(nn.Conv3d(4, 2, 3, padding=1, groups=2)),
    "ConvTranspose1d": line(nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1)),
    "ConvTranspose2d": (AddTime(), Timewise(nn.ConvTranspose2d(4, 6, 3, stride=3, output_padding=(2, 1), groups=2))),
    "ConvTranspose3d": volume(nn.ConvTranspose3d(4, 2, 3, stride=2, dilation=2, bias=False)),
    "BatchNorm1d": (AddTime(), nn.Flatten(2), Timewise(nn.BatchNorm1d(256, eps=1e-3, momentum=0.2))),
    "BatchNorm1d-bare": (AddTime(), nn.Flatten(2), Timewise(nn.BatchNorm1d(256, affine=False, momentum=None))),
    "BatchNorm2d": (AddTime(), Timewise(nn.BatchNorm2d(4, eps=0.1))),
    "BatchNorm2d-untracked": (AddTime(), Timewise(nn.BatchNorm2d(4, track_running_stats=False))),
    "MaxPool2d": (AddTime(), Timewise(nn.MaxPool2d(3, stride=2, padding=1, dilation=1, ceil_mode=True))),
    "AvgPool2d": (AddTime(), Timewise(nn.AvgPool2d((2, 3), stride=(1, 2), padding=1, count_include_pad=False))),
    "AvgPool2d-divisor": (AddTime(), Timewise(nn.AvgPool2d(3, ceil_mode=True, divisor_override=5))),
    "BatchNorm3d": (nn.BatchNorm3d(4, eps=0.01),),
    "MaxPool1d": line(nn.MaxPool1d(3, stride=2, padding=1, ceil_mode=True)),
    "AvgPool1d": line(nn.AvgPool1d(3, stride=2, padding=1, count_include_pad=False)),
    "AdaptiveAvgPool1d": line(nn.AdaptiveAvgPool1d(5)),
    "AdaptiveAvgPool2d": (AddTime(), Timewise(nn.AdaptiveAvgPool2d((3, None)))),
    "AdaptiveMaxPool1d": line(nn.AdaptiveMaxPool1d(5)),
    "AdaptiveMaxPool2d": (AddTime(), Timewise(nn.AdaptiveMaxPool2d(3))),
    "ZeroPad1d": line(nn.ZeroPad1d((1, 2))),
    "ZeroPad2d": (nn.ZeroPad2d((1, 2, 3, 0)), nn.Conv2d(4, 2, 3)),
    "ZeroPad3d": (nn.ZeroPad3d((1, 2, 0, 1, 2, 0)), nn.Conv3d(4, 2, 3)),
    "AvgPool3d": (nn.AvgPool3d((1, 2, 3), stride=1, ceil_mode=True, divisor_override=5), nn.Conv3d(4, 2, 2)),
    "PixelShuffle": (nn.PixelShuffle(2), nn.Conv2d(1, 2, 3)),
    "Unflatten": (nn.Unflatten(-1, (2, 4)), nn.Conv3d(4, 2, 2)),
    "Upsample": (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(4, 2, 3)),
    "Upsample-size": (nn.Upsample((5, 9)), nn.Conv2d(4, 2, 3)),
    "Crop2d": (Crop2d(1, 0, 2, 3), nn.Conv2d(4, 2, 3)),
    "Permute": (Permute(2, 0, 1), nn.Conv2d(8, 2, 3)),
    "Reshape": (Reshape(8, -1, 8), nn.Conv2d(8, 2, 3)),
    "ReLU6": (nn.Conv2d(4, 2, 3), nn.ReLU6()),
    "LeakyReLU": (nn.Conv2d(4, 2, 3), nn.LeakyReLU(0.3)),
    "Softmax": (nn.Conv2d(4, 2, 3), nn.Softmax(1)),
    "PReLU": (nn.Conv2d(4, 2, 3), nn.PReLU(2)),
    "Hardtanh": (nn.Conv2d(4, 2, 3), nn.Hardtanh(-0.2, 0.4)),
    "Threshold": (nn.Conv2d(4, 2, 3), nn.Threshold(0.1, 0.2)),
    "Sigmoid": (nn.Conv2d(4, 2, 3), nn.Sigmoid()),
    "Hardsigmoid": (nn.Conv2d(4, 2, 3), nn.Hardsigmoid()),
    "Hardswish": (nn.Conv2d(4, 2, 3), nn.Hardswish()),
    "Tanh": (nn.Conv2d(4, 2, 3), nn.Tanh()),
    "ELU": (nn.Conv2d(4, 2, 3), nn.ELU(0.7)),
    "GELU": (nn.Conv2d(4, 2, 3), nn.GELU("tanh")),
    "SiLU": (nn.Conv2d(4, 2, 3), nn.SiLU()),
    "Softplus": (nn.Conv2d(4, 2, 3), nn.Softplus(2.0, 10.0)),
    "Mish": (nn.Conv2d(4, 2, 3), nn.Mish()),
    "LogSoftmax": (nn.Conv2d(4, 2, 3), nn.LogSoftmax(1)),
    "Dropout": (nn.Conv2d(4, 2, 3), nn.Dropout(0.3)),
    "Flatten": (AddTime(), nn.Flatten(2, 3)),
    "ReLU": (AddTime(), Timewise(nn.BatchNorm2d(4)), nn.ReLU()),
    "Identity": (AddTime(), nn.Identity()),
    "AddTime": (AddTime(),),
    "Repeat": (AddTime(), Repeat(7)),
    "Bernoulli": (Bernoulli(5, seed=3),),
    "Latency": (Latency(5, floor=0.3, span=0.5),),
    "LogLatency": (LogLatency(5, 15.0, threshold=0.3),),
    "Frames-3d": (Frames(4), nn.Flatten(2)),
    "MeanReadout": (*after_events(LIF()), MeanReadout()),
    "SpikeCount": (*after_events(IAF()), SpikeCount()),
    "MembraneReadout": (*after_events(LIF()), MembraneReadout(0.7, "max")),
    "MembraneReadout-last": (*after_events(LIF()), MembraneReadout(1.0)),
    "QuantisedReLU": (AddTime(), Timewise(nn.BatchNorm2d(4)), QuantisedReLU(0.07, 15)),
    "IAF": after_events(IAF(0.4, v_initial=0.2, max_events=3)),
    "IAF-learn": after_events(IAF(0.4, v_reset=-0.1, learn_threshold=True)),
    "LIF": after_events(LIF(0.8, 0.3, v_reset=None, v_initial=-0.1, max_events=2)),
    "LIF-learn": after_events(LIF(0.8, 0.3, learn_decay=True, learn_threshold=True)),
    "CubaLIF": after_events(CubaLIF(0.6, 0.8, 0.3, v_reset=None, v_initial=-0.1, max_events=2)),
    "CubaLIF-learn": after_events(
        CubaLIF(0.6, 0.8, 0.3, learn_synaptic_decay=True, learn_decay=True, learn_threshold=True)
    ),
    "SignedIAF": after_events(SignedIAF(0.4, v_initial=0.2)),
    "Diffused": after_events(Diffused("tanh", 2.5, rounding="stochastic", gradient="rate", v_initial=0.25, seed=3)),
    "Diffused-learn": after_events(Diffused("relu6", 0.7, random_start=False, learn_fineness=True)),
    "EvenRate": (EvenRate(5),),
    "Scale": (AddTime(), Scale(0.3)),
    "Scale-channels": (AddTime(), Scale(torch.rand(4, 1, 1))),
    "Shift": (AddTime(), Shift(torch.rand(4, 8, 8))),
    "SpikingMaxPool1d": (EvenRate(5), nn.Flatten(3), SpikingMaxPool1d(3, 2, 1)),
    "SpikingMaxPool2d": (EvenRate(5), SpikingMaxPool2d(3, stride=(2, 1), padding=1, ceil_mode=True)),
    "SpikingRNN": (AddTime(), nn.Flatten(2), Repeat(4), SpikingRNN(256, 12, LIF(0.7, 0.5)), MeanReadout()),
    "WindowRNN": (*SEQUENCE, WindowRNN(256, 12, 8, projection="mean", neuron=LIF(0.7, 0.5)), MeanReadout()),
    "WindowLIF": (AddTime(), Repeat(3), WindowLIF(LIF(0.3, 0.2, learn_decay=True, learn_threshold=True), 4, "carry")),
    "LSTM": (*SEQUENCE, LSTM(256, 6), MeanReadout()),
    "GRU": (*SEQUENCE, GRU(256, 6), MeanReadout()),
    "LegendreMemory": (*SEQUENCE, LegendreMemory(6, 9, 256, last=True)),
    "LegendreMemory-learn": (*SEQUENCE, LegendreMemory(6, 90, 256, discretisation="euler", learn_theta=True)),
    "LMU": (*SEQUENCE, LMU(256, 6, LegendreMemory(32, 64, 2, low_rank=True), cell="gru", bias=True)),
    "LMU-keras": (*SEQUENCE, LMU.as_keras(256, 6, LegendreMemory(5, 9), last=True)),
    "LastStep": (*SEQUENCE, LastStep()),
    "Timewise": (AddTime(), Timewise(nn.Linear(8, 2))),
}


def with_weights(*parts: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, ...]:
    """The parts, with a linear layer behind them if they have no weights."""
    whole = nn.Sequential(*parts).eval()
    if any(True for _ in whole.parameters()):
        return parts
    return (*parts, nn.Linear(whole(torch.zeros(2, *shape)).shape[-1], 2))


def shape_of(name: str) -> tuple[int, ...]:
    return (4, 3, 6, 6) if name.endswith("3d") else IMAGE


@pytest.mark.parametrize("name", CASES)
def test_every_layer_comes_back(name, tmp_path):
    made = network(*with_weights(*CASES[name], shape=shape_of(name)), shape=shape_of(name))
    back = assert_comes_back(made, tmp_path / "model.safetensors")
    for key, layer in made.graph_module.named_children():
        assert repr(back.graph_module.get_submodule(key)) == repr(layer)
    again = tmp_path / "again.safetensors"
    save(back, again)
    assert again.read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["mixer-cnn-4x2", "mixer-rnn-4x2"])
@pytest.mark.parametrize(
    "mixer, neuron",
    [
        (Mixer(), WindowNeuron()),
        (
            Mixer(projection="carry", stitch="any", encoder="straight-through", overlap=False),
            WindowNeuron(0.7, 0.2, learn_decay=True, learn_threshold=True, surrogate=surrogate("triangle", width=0.8)),
        ),
        (Mixer(windows=1), WindowNeuron(analog=True)),
    ],
)
def test_window_mixers_come_back(name, mixer, neuron, tmp_path):
    made = build(Definition(name, IMAGE, 10, mixer=mixer), lambda: copy.deepcopy(neuron)).eval()
    made.graph_module.get_parameter("fc2.weight").data.normal_()
    back = assert_comes_back(made, tmp_path / "model.safetensors")
    cells = [[repr(m) for m in n.modules() if isinstance(m, WindowMixer)] for n in (made, back)]
    assert cells[0] == cells[1] and len(cells[0]) == 6
    again = tmp_path / "again.safetensors"
    save(back, again)
    assert again.read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_every_layer_of_the_table_is_tried():
    tried = {name.split("-")[0] for name in CASES} | {"WindowConvolution", "WindowLSTM", "WindowNeuron"}
    assert tried == {layer.__name__ for layer in archive._LAYERS}


@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
)
@settings(max_examples=15, deadline=None)
def test_any_convolution_comes_back(tmp_path_factory, out, groups, kernel, stride, padding, dilation, bias, mode):
    layer = nn.Conv2d(4, out * groups, kernel, stride, padding, dilation, groups, bias, mode)
    path = tmp_path_factory.mktemp("conv") / "model.safetensors"
    assert_comes_back(network(AddTime(), Timewise(layer)), path)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("triangle", {}),
        ("triangle", {"width": 2.5}),
        ("rectangle", {"width": 0.5}),
        ("arctan", {"alpha": 3.0}),
        ("sigmoid", {"alpha": 2.0}),
        ("s3nn", {"a": 3.0, "b": 0.5}),
        ("fast_sigmoid", {"slope": 2.0}),
    ],
)
@pytest.mark.parametrize("neuron", [LIF, IAF, CubaLIF])
def test_surrogates_come_back_with_their_gradient(neuron, name, shape, tmp_path):
    made = network(*after_events(neuron(threshold=6.0, surrogate=surrogate(name, **shape))), MeanReadout())
    back = assert_comes_back(made, tmp_path / "model.safetensors")
    gradients = []
    for each in (made, back):
        each(images(made)).square().sum().backward()
        gradients.append([p.grad for p in each.parameters()])
    assert all(torch.equal(a, b) and a.abs().sum() > 0 for a, b in zip(*gradients, strict=True))


def residual_and_branches() -> Network:
    def block() -> nn.Module:
        return nn.Sequential(Timewise(nn.Conv2d(4, 4, 3, padding=1)), Timewise(nn.BatchNorm2d(4)), LIF(threshold=0.2))

    shared = block()
    return network(
        AddTime(),
        Repeat(3),
        block(),
        Residual(nn.Sequential(shared, block())),
        Residual(shared, Timewise(nn.Conv2d(4, 4, 1))),
        Concatenate(block(), nn.Identity(), dim=2),
        nn.Flatten(2),
        nn.Linear(8 * 64, 10),
        MeanReadout(),
    )


def test_residuals_branches_and_shared_layers_come_back(tmp_path):
    made = residual_and_branches()
    back = assert_comes_back(made, tmp_path / "model.safetensors")
    with torch.no_grad():
        (_, activity), (_, other) = (observe(n, images(made), strict=True)(images(made)) for n in (made, back))
    assert [r.site for r in activity.synapses] == [r.site for r in other.synapses]
    assert all(torch.equal(a.acs, b.acs) for a, b in zip(activity.synapses, other.synapses, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_of_numbers_comes_back(dtype, tmp_path):
    made = network(AddTime(), nn.Flatten(2), nn.Linear(256, 10), Timewise(nn.BatchNorm1d(10)), MeanReadout())
    assert_comes_back(made.to(dtype), tmp_path / "model.safetensors")


def test_a_loaded_network_can_be_trained(tmp_path):
    save(network(*CASES["LIF-learn"]), tmp_path / "m")
    assert all(p.requires_grad for p in load(tmp_path / "m").parameters())


def test_channels_last_weights_come_back(tmp_path):
    made = network(AddTime(), Timewise(nn.Conv2d(4, 6, 3, padding=1)))
    made = made.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    assert_comes_back(made, tmp_path / "model.safetensors")


def test_a_saved_file_shares_no_memory_with_the_network(tmp_path):
    made = network(AddTime(), nn.Flatten(2), nn.Linear(256, 10))
    save(made, tmp_path / "m")
    back = load(tmp_path / "m")
    with torch.no_grad():
        next(back.parameters()).zero_()
    assert next(made.parameters()).abs().sum() > 0
    assert next(load(tmp_path / "m").parameters()).abs().sum() > 0


def test_notes_come_back(tmp_path):
    notes = {"method": "plain", "deep": {"list": [1, 2.5, None, True], "text": 'µJ "quoted"\n'}}
    save(network(*CASES["Linear"]), tmp_path / "m", notes)
    assert read_notes(tmp_path / "m") == notes
    save(network(*CASES["Linear"]), tmp_path / "m")
    assert read_notes(tmp_path / "m") == {}


class Halving(nn.Module):
    def forward(self, x):
        return x / 2


class OwnLayer(nn.Linear):
    """A subclass may compute anything, so it is not its parent."""


def triangle(u: torch.Tensor, *, width: float = 1.0) -> torch.Tensor:
    return torch.ones_like(u) * width


@pytest.mark.parametrize(
    "parts, hint",
    [
        ((AddTime(), nn.Flatten(2), nn.Linear(256, 3), nn.CELU()), "CELU"),
        ((AddTime(), Timewise(OwnLayer(8, 3))), "OwnLayer"),
        ((AddTime(), Timewise(nn.AlphaDropout(0.1))), "AlphaDropout"),
        ((AddTime(), Halving()), "truediv"),
        (after_events(LIF(surrogate=lambda u: u)), "surrogate"),
        (after_events(LIF(surrogate=partial(torch.full_like, fill_value=1.0))), "surrogate"),
        (after_events(LIF(surrogate=triangle)), "surrogate"),
        (after_events(LIF(surrogate=partial(triangle, width=2.0))), "surrogate"),
    ],
)
def test_what_cannot_be_described_is_refused(parts, hint, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(BadInput, match=hint) as refusal:
        save(network(*parts), path)
    assert str(refusal.value).startswith("cannot save ")
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "below" / "model.safetensors"
    save(network(*CASES["Linear"]), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(archive, "save", fail)
    with pytest.raises(OSError, match="disk is full"):
        save(network(*CASES["LIF"]), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def rewritten(path, change) -> None:
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["picojoule"])
    change(description)
    save_file(load_file(path), path, {"picojoule": json.dumps(description)})


TOUCH = "__import__('pathlib').Path('executed').touch()"


def _default_argument(d):
    d["nodes"][0]["target"] = f"x={TOUCH}"


def _keyword(d):
    d["nodes"][1]["keywords"] = {"dict": {f"x={TOUCH}, y": 1}}


def _module_name(d):
    name = '0"), exec("' + TOUCH.replace(".", r"\x2e") + '"), print("'
    d["nodes"][2]["target"] = name
    d["layers"][name] = {"type": "Identity", "arguments": {}}


def _node_name(d):
    d["nodes"][0]["name"] = f"x = {TOUCH}"
    d["nodes"][1]["arguments"] = [{"node": f"x = {TOUCH}"}]


def _argument(d):
    d["nodes"][1]["arguments"].append(f"{TOUCH}")


@pytest.mark.parametrize("attack", [_default_argument, _keyword, _module_name, _node_name, _argument])
def test_a_model_file_runs_no_code(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    save(network(AddTime(), nn.Identity(), nn.Identity()), path)
    rewritten(path, attack)
    try:
        load(path)(torch.zeros(1, *IMAGE))
    except (BadInput, TypeError):
        pass
    assert not (tmp_path / "executed").exists()


def _reserved_word(d):
    d["nodes"][0]["target"] = "def"


def _no_groups(d):
    d["layers"]["1"]["layer"]["arguments"]["groups"] = 0


def _no_arguments(d):
    del d["layers"]["1"]["layer"]["arguments"]


def _unknown_argument(d):
    d["layers"]["1"]["layer"]["arguments"]["colour"] = "red"


def _unknown_function(d):
    d["nodes"][1] |= {"op": "call_function", "target": "system"}


def _unknown_node(d):
    d["nodes"][1]["arguments"] = [{"node": "nowhere"}]


def _unknown_target(d):
    d["nodes"][1]["target"] = "nowhere"


def _no_shape(d):
    d["input_shape"] = None


def _other_weights(d):
    d["layers"]["1"]["layer"]["arguments"]["out_channels"] = 7


@pytest.mark.parametrize(
    "damage",
    [
        _reserved_word,
        _no_groups,
        _no_arguments,
        _unknown_argument,
        _unknown_function,
        _unknown_node,
        _unknown_target,
        _no_shape,
        _other_weights,
    ],
)
def test_a_wrong_description_is_bad_input(damage, tmp_path):
    path = tmp_path / "model.safetensors"
    save(network(AddTime(), Timewise(nn.Conv2d(4, 6, 3))), path)
    rewritten(path, damage)
    with pytest.raises(BadInput, match="model.safetensors describes no network|the model file"):
        load(path)


def test_the_length_of_a_file_is_not_mistaken_for_a_pickle(tmp_path):
    path, heads = tmp_path / "model.safetensors", set()
    for padding in range(0, 256, 8):
        save(network(*CASES["Linear"]), path, {"padding": padding * "x"})
        assert read_notes(path) == {"padding": padding * "x"}
        heads.add(path.read_bytes()[0])
    assert 0x80 in heads
