"""Results as a table for people."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = {
    "success_rate": ("SR %", 100.0, 1),
    "spl": ("SPL %", 100.0, 1),
    "oracle_rate": ("OSR %", 100.0, 1),
    "nav_error": ("NE m", 1.0, 2),
    "oracle_error": ("OE m", 1.0, 2),
    "lengths": ("TL m", 1.0, 2),
    "steps": ("steps", 1.0, 1),
    "ndtw": ("nDTW %", 100.0, 1),
    "sdtw": ("sDTW %", 100.0, 1),
    "cls": ("CLS %", 100.0, 1),
}
WIDTH = 170  # columns where the output is no terminal


def print_results(path: Path) -> None:
    """Print ``results.json``, splits below each other, one row per agent."""
    results: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_text())
    table = Table(title=f"{path.parent}: checkpoints chosen by val_unseen success rate; *_last is the last one")
    for heading in ("split", "agent", *(name for name, _, _ in COLUMNS.values())):
        table.add_column(heading, justify="left" if heading in ("split", "agent") else "right", no_wrap=True)
    table.add_column("features")
    for split, rows in results.items():
        for i, (agent, metrics) in enumerate(rows.items()):
            cells = [f"{metrics[key] * scale:.{digits}f}" for key, (_, scale, digits) in COLUMNS.items()]
            table.add_row(split if i == 0 else "", agent, *cells, str(metrics["features"]))
        table.add_section()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)


def print_metrics(title: str, metrics: dict[str, float]) -> None:
    """Print one row of metrics."""
    table = Table(title=title)
    for name, _, _ in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(*(f"{metrics[key] * scale:.{digits}f}" for key, (_, scale, digits) in COLUMNS.items()))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
