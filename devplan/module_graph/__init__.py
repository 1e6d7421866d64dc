"""The module graph of a split model: blocks, the tensors that pass between them, what crosses.

prepared subject -> one virtual forward, watched -> networkx.DiGraph -> dot, json, mmd, svg
"""

from devplan.module_graph.build import INPUTS, OUTPUTS, build_module_graph, module_graph
from devplan.module_graph.contract import contract_layers
from devplan.module_graph.writing import FORMATS, graph_text, known_graph_format

__all__ = [
    "FORMATS",
    "INPUTS",
    "OUTPUTS",
    "build_module_graph",
    "contract_layers",
    "graph_text",
    "known_graph_format",
    "module_graph",
]
