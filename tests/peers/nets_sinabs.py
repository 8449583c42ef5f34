"""Networks in sinabs."""

from collections.abc import Callable

from torch import Tensor, nn

from .entries import T, entry, lib


def reset_sinabs(model: nn.Module) -> None:
    lib("sinabs").reset_states(model)


def squeezed(pooled: float) -> dict[str, float]:
    """Units of `SinabsNet`: unit events but behind the pool."""
    return {"net.0": 1.0, "net.3": pooled, "net.6": 1.0}


class SinabsNet(nn.Module):
    """x [B, T, ...] squeezed to [B * T, ...], as sinabs networks take it."""

    def __init__(self, neuron: Callable[[], nn.Module], pool: nn.Module):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1, bias=False), neuron(), pool),
            *(nn.Conv2d(4, 6, 3, stride=2, bias=False), neuron(), nn.Flatten(), nn.Linear(6, 5, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2]).sum(1)


@entry("sinabs-iaf-squeeze", "sinabs", events=squeezed(0.25), steps_first=False, reset=reset_sinabs)
def _() -> nn.Module:
    return SinabsNet(lambda: lib("sinabs.layers").IAFSqueeze(num_timesteps=T), nn.AvgPool2d(2))


@entry(
    "sinabs-lif-squeeze-sum-pool",
    "sinabs",
    events=squeezed(1.0),
    steps_first=False,
    reset=reset_sinabs,
    gain=4.0,
    shift=0.6,
)
def _() -> nn.Module:
    sl = lib("sinabs.layers")
    return SinabsNet(lambda: sl.LIFSqueeze(tau_mem=5.0, num_timesteps=T), sl.SumPool2d(2))


@entry("sinabs-single-spike", "sinabs", events=squeezed(1.0), steps_first=False, reset=reset_sinabs)
def _() -> nn.Module:
    single = lib("sinabs.activation").SingleSpike
    return SinabsNet(lambda: lib("sinabs.layers").IAFSqueeze(num_timesteps=T, spike_fn=single), nn.MaxPool2d(2))


class SinabsUnsqueezed(nn.Module):
    """Neurons on [B, T, ...]; convolutions on the flattened axes."""

    def __init__(self) -> None:
        super().__init__()
        sl = lib("sinabs.layers")
        self.conv, self.lif = nn.Conv2d(2, 4, 3), sl.LIF(tau_mem=4.0, norm_input=False)
        self.fc1, self.iaf, self.fc2 = nn.Linear(144, 10), sl.IAF(min_v_mem=-1.0), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.lif(self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        return self.fc2(self.iaf(self.fc1(spikes.flatten(2))))


@entry("sinabs-lif-iaf", "sinabs", events={"conv": 1.0, "fc1": 1.0, "fc2": 1.0}, steps_first=False, reset=reset_sinabs)
def _() -> nn.Module:
    return SinabsUnsqueezed()
