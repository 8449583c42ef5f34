"""Numbers as people read them: picojoules in nJ or µJ, fractions in percent, counts with separators."""

from collections.abc import Iterable

UNITS = (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3), ("pJ", 1.0))


def energy_unit(energies_pj: Iterable[float | None]) -> tuple[str, float]:
    """(name, picojoules) of the largest unit in which the smallest positive energy is at least 1."""
    smallest = min((energy for energy in energies_pj if energy), default=1.0)
    return next((unit for unit in UNITS if smallest >= unit[1]), UNITS[-1])


def format_energy(energy_pj: float) -> str:
    """One energy with its own unit, e.g. `90.2 nJ`."""
    name, size = energy_unit([energy_pj])
    return f"{format_number(energy_pj / size)} {name}"


def format_number(value: float) -> str:
    """Three significant digits below 1000, whole numbers with separators above."""
    if abs(value) < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:,.0f}"


def format_percent(fraction: float, digits: int = 1) -> str:
    return f"{100 * fraction:.{digits}f}"
