"""Pictures of what the framework does: the graph of a computation, and backpropagation step by step."""

from minigrad.viz.backprop import Backprop, backprop
from minigrad.viz.graph import Graph, graph

__all__ = ["Backprop", "Graph", "backprop", "graph"]
