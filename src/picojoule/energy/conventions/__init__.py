"""What other tools would report for the same model, by the name of the tool, and why it differs."""

from picojoule.energy.conventions.neurobench import neurobench_keys
from picojoule.energy.conventions.report import ConventionReport, Gap
from picojoule.energy.conventions.watch import CONVENTIONS, Conventions

__all__ = ["CONVENTIONS", "ConventionReport", "Conventions", "Gap", "neurobench_keys"]
