"""Navigation graphs: reading and checking them, compiling them into tables."""

from vln_clip.connectivity.graphs import ScanGraph, load_graph, load_graphs, read_scans
from vln_clip.connectivity.tables import NavTables

__all__ = ["NavTables", "ScanGraph", "load_graph", "load_graphs", "read_scans"]
