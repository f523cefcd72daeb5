"""What the results of VQA look like as a table."""

from pathlib import Path

from vln_clip.reading import read_json
from vln_clip.report import check_results, metric_cells
from vln_clip.tables import MISSING, Row, Table, print_tables


def print_results(path: Path) -> None:
    """Print ``results.json``, one row per model; context first."""
    results = check_results(read_json(path), path)
    rows = [
        Row({"split": split, "model": name, "features": str(row.get("features", MISSING))}, metric_cells(row), split)
        for split, models in results.items()
        for name, row in models.items()
    ]
    title = f"{path.parent}: official accuracy; checkpoints chosen by it, *_last is the last one"
    print_tables([Table(title, "results", rows)])
