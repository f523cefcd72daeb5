"""What results look like as tables: a run's ``results.json``, and the rows, groups and differences of an evaluation."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vln_clip.errors import InputError
from vln_clip.files import save_json
from vln_clip.reading import is_finite, read_json
from vln_clip.tables import COLUMNS, MISSING, Cell, Row, Table, print_tables

COUNT = "num_instructions"


def print_results(path: Path) -> None:
    """Print ``results.json``, splits below each other, one row per agent."""
    results = check_results(read_json(path), path)
    rows = []
    for split, agents in results.items():
        for agent, metrics in agents.items():
            features = str(metrics.get("features", MISSING))
            labels: dict[str, str | int] = {"split": split, "agent": agent, "features": features}
            rows.append(Row(labels, metric_cells(metrics), section=split))
    title = f"{path.parent}: checkpoints chosen by val_unseen success rate; *_last is the last one"
    multilingual = any("by_language" in metrics for agents in results.values() for metrics in agents.values())
    if multilingual:
        title += ", *_ndtw chosen by nDTW"
    print_tables([Table(title, "results", rows)])
    if multilingual:  # of older runs not every row
        spoken = {agent: row for agent, row in results.get("val_unseen", {}).items() if row.get("by_language")}
        agents = {agent: row | {"by": {"language": row["by_language"]}} for agent, row in spoken.items()}
        if agents:
            print_tables([groups_table("val_unseen by language", "language", agents)])


def print_models(path: Path, title: str) -> None:
    """Print the ``results.json`` of VQA or captioning, splits below each other, one row per model, context first."""
    print_tables([models_table(f"{path.parent}: {title}", check_results(read_json(path), path))])


def models_table(title: str, results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """Return ``{split: {model: {metric: value}}}`` as a table."""
    rows = [
        Row({"split": split, "model": name, "features": str(row.get("features", MISSING))}, metric_cells(row), split)
        for split, models in results.items()
        for name, row in models.items()
    ]
    return Table(title, "results", rows)


def read_rows(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what a ``results.json`` holds, nothing where it is not there; asked before work that is to end in it.

    Raises:
        InputError: the file is there and is something else.
    """
    return check_results(read_json(path), path) if path.exists() else {}


def add_rows(path: Path, split: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Put rows of a split into a ``results.json``: among what it holds already, or into a new one.

    Raises:
        InputError: the file is there and is something else, or cannot be written.
    """
    results = read_rows(path)
    save_json(path, results | {split: results.get(split, {}) | {name: dict(row) for name, row in rows.items()}})


def check_results(content: object, path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the content of a ``results.json`` whose rows hold what tables need.

    Raises:
        InputError: it is something else; the message names file, split and row.
    """
    what = f"{path} must be a run's results.json: splits with rows with metrics"
    if not isinstance(content, dict) or not all(isinstance(rows, dict) for rows in content.values()):
        raise InputError(f"{what}, got another JSON value: {content!r:.60}")
    for split, rows in content.items():
        for agent, row in rows.items():
            fault = _row_fault(row)
            if fault is not None:
                raise InputError(f"{what}, but row {agent!r:.40} of {split!r:.40} {fault}")
    return content


def _row_fault(row: object) -> str | None:
    """Say what is wrong with a row, or with one of a language in it."""
    if not isinstance(row, dict):
        return f"is {row!r:.60}"
    ends, spoken = row.get("ci", {}), row.get("by_language", {})
    wrong = [name for name in (*COLUMNS, COUNT) if name in row and not is_finite(row[name])]
    if wrong:
        return f"has {wrong[0]} {row[wrong[0]]!r:.60}, no finite number"
    if not isinstance(ends, dict) or not all(_is_interval(pair) for pair in ends.values()):
        return f"has ci {ends!r:.60}, no object of pairs of numbers"
    if not isinstance(spoken, dict):
        return f"has by_language {spoken!r:.60}, no object"
    for tag, inner in spoken.items():
        fault = "has languages" if isinstance(inner, dict) and "by_language" in inner else _row_fault(inner)
        if fault is None and COUNT not in inner:
            fault = f"lacks {COUNT}"
        if fault is not None:
            return f"in language {tag!r:.40} {fault}"
    return None


def _is_interval(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_finite(end) for end in value)


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
            metric: Cell(found["difference"][metric], found["ci"].get(metric), found["p"][metric])
            for metric in COLUMNS
            if metric in found["difference"]
        }
        counts = {key: found[key] for key in ("wins", "losses", "ties")}
        shown.append(Row({"difference": f"{agent} − {found['against']}", **counts}, cells))
    return Table(title, "difference", shown, signed=True)
