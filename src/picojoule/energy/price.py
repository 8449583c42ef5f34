"""From operation counts to joules: price lists read from data files, each with its source and scope."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from torch import Tensor

from picojoule.energy.count import OpCounts
from picojoule.errors import BadInput, unknown_name


class Energy(NamedTuple):
    """Picojoules per sample: the value, and the interval that the source's own range of prices gives."""

    value: float
    low: float
    high: float


class Price(NamedTuple):
    """Picojoules per operation, with the source's range."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Hardware:
    """One price list. `scope` says in a phrase what is included, `covers` in full; a name's scope never changes.

    `words` is how many memory words an operation moves; `skips_zero_values` prices only MACs of non-zero values.
    """

    name: str
    title: str
    scope: str
    covers: str
    node: str
    measured: bool
    source: str
    skips_zero_values: bool
    mac: Price
    ac: Price
    word: Price
    words_per_mac: float
    words_per_ac: float
    words_per_update: float

    @property
    def prices(self) -> str:
        """The prices in words."""
        text = f"{self.mac.value:g} pJ per MAC, {self.ac.value:g} pJ per AC"
        if self.word.high:
            text += f", {self.word.value:g} ({self.word.low:g} to {self.word.high:g}) pJ per memory word"
        return text

    def layer_energy_pj(self, counts: OpCounts, bound: str = "value") -> Tensor:
        """Picojoules per sample of each layer's synapses, `[layer]`; `bound` is "value", "low" or "high"."""
        mac, ac, word = (getattr(price, bound) for price in (self.mac, self.ac, self.word))
        macs = counts.per_layer("macs" if self.skips_zero_values else "dense_macs")
        return macs * (mac + self.words_per_mac * word) + counts.per_layer("acs") * (ac + self.words_per_ac * word)

    def energy_pj(self, counts: OpCounts) -> Energy:
        """Picojoules per sample of all layers and neuron updates."""
        updates = sum(counts.updates_per_sample().values()) * self.words_per_update
        return Energy(
            *(
                float(self.layer_energy_pj(counts, bound).sum()) + updates * getattr(self.word, bound)
                for bound in Energy._fields
            )
        )


_SHIPPED = files("picojoule.energy.hardware")


def hardware_names() -> list[str]:
    """The names of the price lists that come with picojoule."""
    return sorted(f.name.removesuffix(".toml") for f in _SHIPPED.iterdir() if f.name.endswith(".toml"))


@cache
def hardware(name: str) -> Hardware:
    """The price list called `name`. Raises BadInput, with the nearest name, if there is none."""
    if name not in hardware_names():
        raise unknown_name("hardware", name, hardware_names())
    return _parse(tomllib.loads((_SHIPPED / f"{name}.toml").read_text()))


def _parse(table: dict[str, Any]) -> Hardware:
    prices, words = table.pop("prices_pj"), table.pop("words", {})
    free = {"value": 0.0, "low": 0.0, "high": 0.0}
    try:
        return Hardware(
            **table,
            mac=Price(**prices["mac"]),
            ac=Price(**prices["ac"]),
            word=Price(**prices.get("word", free)),
            words_per_mac=words.get("per_mac", 0),
            words_per_ac=words.get("per_ac", 0),
            words_per_update=words.get("per_neuron_update", 0),
        )
    except (KeyError, TypeError) as error:
        raise BadInput(f"the price list {table.get('name')!r} is incomplete: {error}") from error
