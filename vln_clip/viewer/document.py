"""The page's document: traces and graphs as plain JSON values, for the page in a file and for the live server alike.

::

    {"version": 1, "title", "dataset", "split",
     "facts": [str]     what a stranger must know: features, checkpoint, counts
     "notes": [str]     what is missing, and why
     "agents": [{"name", "about"}],
     "scans": {scan: {"ids": [viewpoint id], "x", "y", "z": [metres], "floor": [int], "floors": [str],
                      "edges": [a0, b0, a1, b1, …], each once, "panorama": [number of its picture or -1] or null}},
     "panoramas": {"width": px, "height": px, "count": n, "url": null or an address with {scan} and {viewpoint}},
     "episodes": [{"id", "path_id", "scan", "language", "instruction", "heading": start heading_rad,
                   "path": [viewpoint] or null, "walks": [one per agent, null where it has none:
         {"viewpoints", "heading": [rad], "elevation": [rad], "words": [str] or null, "unknown": [index in words],
          "metrics": {name: value} or null, "decisions": null or [
              {"c": [candidate], "p": [probability, of stop last], "a": action, len(c) being stop,
               "w": attention over words or null, "v": over the 36 views or null, "value", "reward": number or null,
               "s": saliency {"height": h, "width": w, "data": 36 · h · w levels} or null,
               "forced": true, only where somebody else chose}]}]}]}

Viewpoints are numbered within their scan, in the order of ``ids``. ``words`` are what the agent read, ``<BOS>`` and
``<EOS>`` included, so that attention adds up to one. Attention and saliency are strings with one character of the
base64 alphabet per entry: level k of 64 stands for the weight (k / 63)².
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.envs.building.map import find_floors, heights_text
from vln_clip.viewer.panoramas import Panoramas
from vln_clip.viewer.traces import Decision, Trace

VERSION = 1
LEVELS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
Json = dict[str, Any]


@dataclass(frozen=True)
class ShownAgent:
    """An agent of the page: its name, a sentence about it, and its traces, at most one per episode."""

    name: str
    about: str
    traces: Sequence[Trace] = ()


def make_document(
    agents: Sequence[ShownAgent],
    tables: NavTables,
    *,
    title: str,
    dataset: str,
    split: str,
    facts: Sequence[str] = (),
    notes: Sequence[str] = (),
    scans: Iterable[str] | None = None,
) -> Json:
    """Return the document of some agents' traces, without pictures.

    Args:
        agents: side by side on the same episodes, which appear in the order in which they are first met.
        tables: the graphs that all traces walk on.
        title: of the page.
        dataset: name.
        split: name.
        facts: sentences.
        notes: sentences.
        scans: buildings to show; None for those of the episodes.
    """
    walks: dict[str, list[Trace | None]] = {}
    for k, agent in enumerate(agents):
        for trace in agent.traces:
            walks.setdefault(trace.episode.instr_id, [None] * len(agents))[k] = trace
    if scans is None:
        scans = dict.fromkeys(trace.episode.scan for row in walks.values() for trace in row if trace is not None)
    return {
        "version": VERSION,
        "title": title,
        "dataset": dataset,
        "split": split,
        "facts": list(facts),
        "notes": list(notes),
        "agents": [{"name": agent.name, "about": agent.about} for agent in agents],
        "scans": {scan: scan_json(tables, scan) for scan in sorted(scans)},
        "panoramas": {"width": 0, "height": 0, "count": 0, "url": None},
        "episodes": [episode_json(row, tables) for row in walks.values()],
    }


def put_panoramas(document: Json, tables: NavTables, panoramas: Panoramas) -> None:
    """Tell a document which pictures will be stored with its page."""
    picture_of = {viewpoint: k for k, viewpoint in enumerate(panoramas.viewpoints)}
    for scan, graph in document["scans"].items():
        pictures = [picture_of.get(viewpoint, -1) for viewpoint in tables.viewpoints(scan).tolist()]
        graph["panorama"] = pictures if max(pictures) >= 0 else None
    width_px = panoramas.width_px
    document["panoramas"] |= {"width": width_px, "height": width_px // 2, "count": len(picture_of)}


def scan_json(tables: NavTables, scan: str) -> Json:
    """Return the graph of a building."""
    viewpoints = tables.viewpoints(scan)
    position = tables.position_m(viewpoints)
    floor = find_floors(position[:, 2])
    edges = [
        (a, int(b) - int(viewpoints[0]))
        for a, viewpoint in enumerate(viewpoints)
        for b in tables.neighbor[viewpoint, : tables.degree[viewpoint]]
    ]
    return {
        "ids": [tables.viewpoint_id(viewpoint) for viewpoint in viewpoints],
        **{axis: np.round(position[:, k], 2).tolist() for k, axis in enumerate("xyz")},
        "floor": floor.tolist(),
        "floors": [heights_text(position[floor == k, 2]) for k in range(int(floor.max()) + 1)],
        "edges": [end for edge in sorted(edges) if edge[0] < edge[1] for end in edge],
        "panorama": None,
    }


def episode_json(traces: Sequence[Trace | None], tables: NavTables) -> Json:
    """Return one episode with the walk of each agent, None where an agent has none; at least one has."""
    episode = next(trace.episode for trace in traces if trace is not None)
    first = int(tables.viewpoints(episode.scan)[0])
    path = episode.path and [tables.index(episode.scan, viewpoint) - first for viewpoint in episode.path]
    return {
        "id": episode.instr_id,
        "path_id": episode.path_id,
        "scan": episode.scan,
        "language": episode.language,
        "instruction": episode.instruction,
        "path": path,
        "heading": round(episode.heading_rad, 3),
        "walks": [None if trace is None else _walk(trace, first) for trace in traces],
    }


def levels_text(values: np.ndarray) -> str:
    """Return values in [0, 1], any shape, as one character each: level k of 64 stands for (k / 63)²."""
    levels = np.rint(np.sqrt(np.clip(values, 0, 1)) * 63).astype(np.int64)
    return LEVELS[levels.ravel()].tobytes().decode()


def _walk(trace: Trace, first: int) -> Json:
    """Return one walk; ``first`` is the global index of the scan's first viewpoint."""
    metrics = trace.metrics and {name: round(value, 4) for name, value in trace.metrics.items()}
    decisions = trace.decisions
    return {
        "viewpoints": (trace.viewpoints - first).tolist(),
        "heading": np.round(trace.headings_rad, 3).tolist(),
        "elevation": np.round(trace.elevations_rad, 3).tolist(),
        "words": None if trace.words is None else list(trace.words),
        "unknown": sorted(trace.unknown),
        "metrics": metrics,
        "decisions": None if decisions is None else [_decision(decision, first) for decision in decisions],
    }


def _decision(decision: Decision, first: int) -> Json:
    """Return one decision."""
    found: Json = {
        "c": (decision.candidates - first).tolist(),
        "p": [round(p, 3) for p in decision.probabilities.tolist()],
        "a": decision.action,
        "w": None if decision.words is None else levels_text(decision.words),
        "v": None if decision.views is None else levels_text(decision.views),
        "value": None if decision.value is None else round(decision.value, 3),
        "reward": None if decision.reward is None else round(decision.reward, 3),
        "s": None,
    }
    if decision.saliency is not None:
        _, height, width = decision.saliency.shape
        found["s"] = {"height": height, "width": width, "data": levels_text(decision.saliency)}
    return found | ({"forced": True} if decision.forced else {})
