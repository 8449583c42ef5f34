"""One trace of a model that everybody reads: wiring, shapes, kinds, observation, streaming, small edits."""

from picojoule.graph.modules import module_graph
from picojoule.graph.observe import Observed, observe
from picojoule.graph.records import Activity, NeuronRecord, Site, SynapseRecord
from picojoule.graph.trace import trace

__all__ = ["Activity", "NeuronRecord", "Observed", "Site", "SynapseRecord", "module_graph", "observe", "trace"]
