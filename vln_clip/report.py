"""What results look like as tables: a run's ``results.json``, and the rows, groups and differences of an evaluation."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vln_clip.tables import COLUMNS, Cell, Row, Table, print_tables


def print_results(path: Path) -> None:
    """Print ``results.json``, splits below each other, one row per agent."""
    results: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_text())
    rows = []
    for split, agents in results.items():
        for agent, metrics in agents.items():
            labels: dict[str, str | int] = {"split": split, "agent": agent, "features": str(metrics["features"])}
            rows.append(Row(labels, metric_cells(metrics), section=split))
    title = f"{path.parent}: checkpoints chosen by val_unseen success rate; *_last is the last one"
    multilingual = any("by_language" in metrics for agents in results.values() for metrics in agents.values())
    if multilingual:
        title += ", *_ndtw chosen by nDTW"
    print_tables([Table(title, "results", rows)])
    if multilingual and "val_unseen" in results:
        agents = {agent: row | {"by": {"language": row["by_language"]}} for agent, row in results["val_unseen"].items()}
        print_tables([groups_table("val_unseen by language", "language", agents)])


def metric_cells(metrics: Mapping[str, Any]) -> dict[str, Cell]:
    """Return the cells of metrics with the intervals of their entry ``ci``; metrics that lack (older files) have none.

    Args:
        metrics: ``{metric: value}``; ``ci`` is ``{metric: (low, high)}``.
    """
    ends = metrics.get("ci", {})
    return {
        metric: Cell(metrics[metric], tuple(ends[metric]) if metric in ends else None)
        for metric in COLUMNS
        if metric in metrics
    }


def rows_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table with a row per agent from ``{agent: metrics}``."""
    shown = [
        Row({"agent": agent, "n": metrics["num_instructions"]}, metric_cells(metrics))
        for agent, metrics in rows.items()
    ]
    return Table(title, "all", shown)


def groups_table(
    title: str, by: str, rows: Mapping[str, Mapping[str, Any]], order: Callable[[str], Any] | None = None
) -> Table:
    """Return a table with every agent in every group, from ``{agent: {"by": {by: {group: metrics}}}}``.

    Agents without groups (means read from a file) are left out, and of incomplete files the groups they lack;
    ``order`` is what to sort groups by.
    """
    found = {agent: metrics["by"][by] for agent, metrics in rows.items() if "by" in metrics}
    shown = []
    for group in sorted({group for groups in found.values() for group in groups}, key=order):
        for agent, metrics in ((agent, groups[group]) for agent, groups in found.items() if group in groups):
            labels = {by: group, "agent": agent, "n": metrics["num_instructions"]}
            shown.append(Row(labels, metric_cells(metrics), section=group))
    return Table(title, by, shown)


def differences_table(title: str, comparisons: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table of paired differences from ``{agent: comparison}``, the fields of ``Comparison`` by name."""
    shown = []
    for agent, found in comparisons.items():
        cells = {
            metric: Cell(found["difference"][metric], found["ci"].get(metric), found["p"][metric]) for metric in COLUMNS
        }
        counts = {key: found[key] for key in ("wins", "losses", "ties")}
        shown.append(Row({"difference": f"{agent} − {found['against']}", **counts}, cells))
    return Table(title, "difference", shown, signed=True)
