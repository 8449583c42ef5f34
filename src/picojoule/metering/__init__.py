"""The meter: counts the operations of any torch model while it runs."""

from picojoule.metering.ledger import ChangedPath
from picojoule.metering.meter import Meter, meter
from picojoule.metering.rules import OPAQUE
from picojoule.metering.state import KeptState

__all__ = ["OPAQUE", "ChangedPath", "KeptState", "Meter", "meter"]
