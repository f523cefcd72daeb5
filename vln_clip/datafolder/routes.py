"""Do the paths of a split stay on the navigation graphs? Told path by path, and in files of lines line by line."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from vln_clip.connectivity.graphs import ScanGraph
from vln_clip.tasks.json_stream import JsonStream
from vln_clip.tasks.split import Split


def route_faults(split: Split, graphs: Mapping[str, ScanGraph]) -> dict[str, str]:
    """Return what is wrong with paths, by path id; paths in scans without a graph are left out.

    A path of two viewpoints may jump: it states start and goal, and what lies between is filled in.
    """
    faults: dict[str, str] = {}
    seen: set[str] = set()
    for episode in split.episodes:
        graph = graphs.get(episode.scan)
        if graph is None or episode.path_id in seen:
            continue
        seen.add(episode.path_id)
        fault = _fault(episode.path or (episode.start,), graph)
        if fault:
            faults[episode.path_id] = fault
    return faults


def _fault(path: tuple[str, ...], graph: ScanGraph) -> str:
    """Return what is wrong with a path, empty if nothing is."""
    rows = {viewpoint: row for row, viewpoint in enumerate(graph.viewpoint_ids)}
    for viewpoint in path:
        if viewpoint not in rows:
            excluded = " (its file excludes it)" if viewpoint in graph.excluded_ids else ""
            return f"viewpoint {viewpoint!r} is not in the navigation graph of scan {graph.scan}{excluded}"
    if len(path) > 2:
        for here, there in pairwise(path):
            if not graph.edges[rows[here], rows[there]]:
                return f"from {here!r} to {there!r} there is no edge in the navigation graph of scan {graph.scan}"
    return ""


def fault_lines(split: Split, faults: Mapping[str, str]) -> Iterator[str]:
    """Yield one sentence per instruction of a JSON lines file whose path is wrong, with its line.

    Args:
        split: of RxR.
        faults: by path id, not empty.
    """
    for where, item in JsonStream(split.file):
        fault = faults.get(str(item["path_id"]))
        if fault:
            yield f"{where} (instruction_id {item['instruction_id']}): {fault}"
