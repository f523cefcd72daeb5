"""The formats of leaderboard submissions: one row each, and which data set is submitted in which.

Rows name functions that are imported when they are called for. Sources: R2R's is that of its EvalAI challenge; RxR's
server does not document its own publicly, so the row follows the keys of RxR's guide files (specification 8.5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vln_clip.errors import unknown_name
from vln_clip.registry import resolve


@dataclass(frozen=True)
class Format:
    """One format of submissions.

    Attributes:
        ending: of its files' names; ``.gz`` may follow.
        write: ``(path, predictions)``.
        read: ``(path) -> predictions``.
        validate: ``(path, episodes, graph, split_of) -> Report``, or ``(path, ids, starts) -> Report`` off the graph.
        test_split: the split that its server scores.
        on_graph: predictions are walks along the navigation graph, not positions in metres.
    """

    ending: str
    write: str
    read: str
    validate: str
    test_split: str
    on_graph: bool = True

    def function(self, name: str) -> Callable[..., Any]:
        """Import ``write``, ``read`` or ``validate``."""
        return resolve("function", {"write": self.write, "read": self.read, "validate": self.validate}, name)


_READ = "vln_clip.tasks.predictions:read_predictions"
_OWN = "vln_clip.tasks.submission"
FORMATS = {
    "r2r": Format(".json", f"{_OWN}:write_r2r", _READ, f"{_OWN}:validate_r2r", "test"),
    "rxr": Format(".jsonl", f"{_OWN}:write_rxr", _READ, f"{_OWN}:validate_rxr", "test_standard"),
}
OF_DATASET = {
    "r2r": "r2r",
    "xl-r2r": "r2r",
    "r4r": "r2r",
    "demo": "r2r",
    "rxr": "rxr",
    "demo-rxr": "rxr",
    "r2r-ce": "r2r-ce",
    "rxr-ce": "rxr-habitat",
}


def find_format(name: str) -> Format:
    """Return the row of a format; an unknown name is an ``InputError``."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]


def style_of(dataset: str) -> str:
    """Return the name of the format in which a data set is submitted."""
    if dataset not in OF_DATASET:
        raise unknown_name("dataset", dataset, OF_DATASET)
    return OF_DATASET[dataset]
