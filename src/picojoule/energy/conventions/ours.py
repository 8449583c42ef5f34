"""`picojoule`: the exact counts of the same run, in the same form as the other tools' numbers."""

from picojoule.energy.conventions.convention import Convention, Facts
from picojoule.energy.conventions.observed import Observed
from picojoule.energy.conventions.prices import HOROWITZ_45NM
from picojoule.energy.conventions.report import ConventionReport
from picojoule.energy.count import QUANTITIES, OpCounts


class Ours(Convention):
    """Events x exact fan-out; the class follows from the structure of the model."""

    name = "picojoule"
    tool = "picojoule"
    units = {"acs": "AC", "macs": "MAC"}
    ac_term, mac_term = "acs", "macs"

    def site(self, seen: Observed) -> None:
        """Nothing to do: the counts exist already."""

    def report(self, exact: OpCounts, facts: Facts) -> ConventionReport:
        """The exact counts."""
        table = {q: exact.per_layer(q).detach().tolist() for q in QUANTITIES}
        layers = {name: {q: table[q][i] for q in QUANTITIES} for i, name in enumerate(exact.layers)}
        totals = {q: sum(table[q]) for q in QUANTITIES}
        prices = HOROWITZ_45NM["fp32"]
        joules = {
            "horowitz-45nm-fp32": prices.joules(totals["acs"], totals["dense_macs"]),
            "horowitz-45nm-fp32-skip-zeros": prices.joules(totals["acs"], totals["macs"]),
        }
        operations = totals["acs"] + totals["macs"]
        return ConventionReport(self.name, self.tool, self.units, layers, totals, joules, operations, ())
