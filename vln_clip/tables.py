"""Tables of metrics in four formats: for the terminal, Markdown, LaTeX (booktabs) and CSV.

One model, ``Table``, is rendered by one function per format. CSV is for programs: full precision, units of the
metrics themselves (rates from 0 to 1), intervals in columns of their own, all tables in one. The others round.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import rich.table
from rich.console import Console
from rich.text import Text

from vln_clip import files
from vln_clip.errors import InputError, unknown_name

COLUMNS = {  # metric: heading, factor, digits
    "success_rate": ("SR %", 100.0, 1),
    "spl": ("SPL %", 100.0, 1),
    "oracle_rate": ("OSR %", 100.0, 1),
    "nav_error": ("NE m", 1.0, 2),
    "oracle_error": ("OE m", 1.0, 2),
    "lengths": ("TL m", 1.0, 2),
    "steps": ("steps", 1.0, 1),
    "ndtw": ("nDTW %", 100.0, 1),
    "sdtw": ("SDTW %", 100.0, 1),
    "cls": ("CLS %", 100.0, 1),
    "dtw": ("DTW m", 1.0, 1),
    "accuracy": ("accuracy %", 100.0, 2),
    "accuracy_yes/no": ("yes/no %", 100.0, 2),
    "accuracy_number": ("number %", 100.0, 2),
    "accuracy_other": ("other %", 100.0, 2),
    "accuracy_binary": ("binary %", 100.0, 2),
    "accuracy_open": ("open %", 100.0, 2),
    "BLEU-1": ("B@1", 100.0, 1),
    "BLEU-4": ("B@4", 100.0, 1),
    "METEOR": ("METEOR", 100.0, 1),
    "ROUGE-L": ("ROUGE-L", 100.0, 1),
    "CIDEr": ("CIDEr", 100.0, 1),
    "SPICE": ("SPICE", 100.0, 1),
    "CLIPScore": ("CLIP-S", 1.0, 3),
    "RefCLIPScore": ("RefCLIP-S", 1.0, 3),
    "image_R@1": ("T→I R@1", 100.0, 1),
    "image_R@5": ("T→I R@5", 100.0, 1),
    "image_R@10": ("T→I R@10", 100.0, 1),
    "text_R@1": ("I→T R@1", 100.0, 1),
    "text_R@5": ("I→T R@5", 100.0, 1),
    "text_R@10": ("I→T R@10", 100.0, 1),
}
WIDTH = 170  # columns where the output is no terminal
SMALLEST_P = 0.001
MISSING = "–"
LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "→": r"$\to$",
    "<": "$<$",
    ">": "$>$",
}


@dataclass(frozen=True)
class Cell:
    """One value of a metric, in the metric's own unit, with its interval and its p-value where there are some."""

    value: float
    interval: tuple[float, float] | None = None
    p: float | None = None


@dataclass(frozen=True)
class Row:
    """One row: what it is of, by heading, and its values by metric.

    Rows of one ``section`` stand together; a first label that only repeats it is shown once.
    """

    labels: dict[str, str | int]
    cells: dict[str, Cell]
    section: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of metrics under a title.

    Attributes:
        title: what the numbers are, in words.
        kind: what the rows are, in one word, for CSV.
        rows: with the same labels in each.
        signed: the values are differences, written with their sign.
    """

    title: str
    kind: str
    rows: Sequence[Row]
    signed: bool = False

    @property
    def headings(self) -> list[str]:
        """Return the headings of the labels."""
        return list(self.rows[0].labels)

    @property
    def counts(self) -> list[bool]:
        """Return of each label whether it is a count, to be aligned as a number."""
        return [isinstance(label, int) for label in self.rows[0].labels.values()]

    @property
    def metrics(self) -> list[str]:
        """Return the metrics that any row has, in the order of ``COLUMNS``."""
        return [metric for metric in COLUMNS if any(metric in row.cells for row in self.rows)]

    @property
    def sections(self) -> list[list[tuple[list[str], Row]]]:
        """Return the rows by section, each with its labels as people read them."""
        found: list[list[tuple[list[str], Row]]] = []
        for before, row in zip([None, *self.rows[:-1]], self.rows, strict=True):
            labels = [str(label) for label in row.labels.values()]
            if before is None or before.section != row.section:
                found.append([])
            elif labels[0] == row.section:
                labels[0] = ""
            found[-1].append((labels, row))
        return found

    def numbers(self, row: Row, metric: str) -> tuple[str, str, str]:
        """Return value, ends of the interval and p-value of a cell as text, the latter two empty where absent."""
        cell = row.cells.get(metric)
        if cell is None:
            return MISSING, "", ""
        _, factor, digits = COLUMNS[metric]
        sign = "+" if self.signed else ""
        value, *ends = (f"{x * factor:{sign}.{digits}f}" for x in (cell.value, *(cell.interval or ())))
        p = "" if cell.p is None else f"p<{SMALLEST_P:g}" if cell.p < SMALLEST_P else f"p={cell.p:.3f}"
        return value, "…".join(ends), p


def as_text(tables: Sequence[Table]) -> str:
    """Render tables as the terminal shows them."""
    shown = [rich_table(table, table.metrics) for table in tables]
    text = io.StringIO()
    Console(file=text, width=max(map(_width, shown))).print(*shown)
    return text.getvalue()


def as_markdown(tables: Sequence[Table]) -> str:
    """Render tables in Markdown, each under its title."""
    blocks = []
    for table in tables:
        headings = [*table.headings, *(COLUMNS[metric][0] for metric in table.metrics)]
        lines = [headings, ["---:" if count else "---" for count in table.counts] + ["---:"] * len(table.metrics)]
        for labels, row in chain(*table.sections):
            lines.append([*labels, *(_in_one_line(*table.numbers(row, metric)) for metric in table.metrics)])
        text = "\n".join("| " + " | ".join(word.replace("|", r"\|") for word in line) + " |" for line in lines)
        blocks.append(f"**{table.title}**\n\n{text}\n")
    return "\n".join(blocks)


def as_latex(tables: Sequence[Table]) -> str:
    r"""Render tables as ``tabular`` environments for the package booktabs; intervals stand below their values."""
    return "\n".join(_tabular(table) for table in tables)


def _tabular(table: Table) -> str:
    """Render one table in LaTeX."""
    metrics = table.metrics
    align = "".join("r" if count else "l" for count in table.counts) + "r" * len(metrics)
    headings = [*table.headings, *(COLUMNS[metric][0] for metric in metrics)]
    lines = [
        f"% {' '.join(table.title.split())}; needs \\usepackage{{booktabs}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        _latex_row([_latex(heading) for heading in headings]),
        r"\midrule",
    ]
    for k, section in enumerate(table.sections):
        lines += [r"\midrule"] if k else []
        for labels, row in section:
            lines += _latex_lines(labels, [table.numbers(row, metric) for metric in metrics])
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_lines(labels: Sequence[str], numbers: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return one row of a table: values, and below them intervals and p-values where there are some."""
    values, intervals, p_values = zip(*numbers, strict=True)
    lines = [_latex_row([*map(_latex, labels), *(f"${v}$" if v[0] in "+-" else _latex(v) for v in values)])]
    ranges = ["$[" + ends.replace("…", ", ") + "]$" if ends else "" for ends in intervals]
    for below in (ranges, [_latex(p) for p in p_values]):
        if any(below):
            lines.append(_latex_row([*[""] * len(labels), *(rf"\scriptsize {word}" if word else "" for word in below)]))
    return lines


def _latex_row(words: Sequence[str]) -> str:
    return " & ".join(words).strip() + r" \\"


def _latex(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(LATEX.get(character, character) for character in text)


def as_csv(tables: Sequence[Table]) -> str:
    """Render all tables as one CSV: a column ``table``, the labels, then every metric with interval and p-value."""
    lines: list[dict[str, str | int | float]] = []
    for table in tables:
        for row in table.rows:
            line: dict[str, str | int | float] = {"table": table.kind, **row.labels}
            for metric, cell in row.cells.items():
                line[metric] = cell.value
                if cell.interval is not None:
                    line[f"{metric}_low"], line[f"{metric}_high"] = cell.interval
                if cell.p is not None:
                    line[f"{metric}_p"] = cell.p
            lines.append(line)
    labels = dict.fromkeys(heading for table in tables for heading in table.headings)
    wanted = [metric + end for metric in COLUMNS for end in ("", "_low", "_high", "_p")]
    present = {name for line in lines for name in line}
    text = io.StringIO()
    header = ["table", *labels, *(name for name in wanted if name in present)]
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _in_one_line(value: str, ends: str, p: str) -> str:
    """Return ``60.2 [57.3, 63.0]``, with a p-value behind it where there is one."""
    interval = f" [{ends.replace('…', ', ')}]" if ends else ""
    return value + interval + (f" {p}" if p else "")


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "table": as_text,
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
}
EXTENSIONS = {".txt": "table", ".md": "markdown", ".tex": "latex", ".csv": "csv"}


def require_format(name: str) -> str:
    """Return the name of a format; an unknown one is an ``InputError``."""
    if name not in FORMATS:
        raise unknown_name("--format", name, FORMATS)
    return name


def format_of(path: Path) -> str:
    """Return the format that the name of a file asks for."""
    if path.suffix.lower() not in EXTENSIONS:
        known = ", ".join(f"{extension} ({name})" for extension, name in EXTENSIONS.items())
        raise InputError(f"--out must end in one of {known}, got {str(path)!r}; or name the format with --format")
    return EXTENSIONS[path.suffix.lower()]


def print_tables(tables: Sequence[Table], name: str = "table") -> None:
    """Print tables to standard output."""
    if name != "table":
        print(FORMATS[name](tables), end="")
        return
    console = Console()
    width = console.width if console.is_terminal else WIDTH
    for table in tables:
        for metrics in fitting(table, width):
            shown = rich_table(table, metrics)
            # A single column may still be wider: the terminal wraps it, rich would cut numbers off.
            Console(width=max(width, _width(shown))).print(shown)


def fitting(table: Table, width: int) -> list[list[str]]:
    """Return the metrics of a table in as many parts as it takes for each to fit into a width."""
    parts: list[list[str]] = [[]]
    for metric in table.metrics:
        if parts[-1] and _width(rich_table(table, [*parts[-1], metric])) > width:
            parts.append([])
        parts[-1].append(metric)
    return parts


def write_tables(path: Path, tables: Sequence[Table], name: str) -> None:
    """Write tables to a file."""
    text = FORMATS[name](tables)
    files.write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def rich_table(table: Table, metrics: Sequence[str]) -> rich.table.Table:
    """Return some columns of a table for a rich console; intervals and p-values stand below their values."""
    shown = rich.table.Table(title=Text(table.title), title_justify="left")
    for heading, count in zip(table.headings, table.counts, strict=True):
        shown.add_column(heading, justify="right" if count else "left", no_wrap=True)
    for metric in metrics:
        shown.add_column(COLUMNS[metric][0], justify="right", no_wrap=True)
    for section in table.sections:
        shown.add_section()
        for labels, row in section:
            cells = ["\n".join(filter(None, table.numbers(row, metric))) for metric in metrics]
            shown.add_row(*(Text(word) for word in (*labels, *cells)))
    return shown


def _width(shown: rich.table.Table) -> int:
    """Return how many columns a table takes where nothing limits it."""
    return Console(width=1000).measure(shown).maximum
