"""The recipe that trains foreign networks with the penalty, for one epoch."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from .installed import needs

RECIPE = Path(__file__).parents[2] / "recipes" / "penalty_for_foreign_networks.py"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("library", [pytest.param(name, marks=needs(name)) for name in ("snntorch", "spikingjelly")])
def test_the_penalty_trains_a_foreign_network_to_fewer_operations(library: str):
    spec = importlib.util.spec_from_file_location("recipe", RECIPE)
    assert spec is not None and spec.loader is not None
    recipe: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    plain, pressed = (recipe.run(library, strength, seed=0, epochs=1) for strength in (0.0, 1.0))
    assert pressed["acs"] < 0.5 * plain["acs"] and plain["uncounted"] == pressed["uncounted"] == []
    assert plain["macs"] == pressed["macs"] > 0
