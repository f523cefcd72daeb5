"""The formats of leaderboard submissions: one row each; which data set is submitted in which stands in its own row.

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
        write: ``(path, predictions)``; off the graph, of ``ContinuousPrediction``.
        validate: ``(path, episodes, graph, split_of) -> Report``, or ``(path, ids, starts) -> Report`` off the graph.
        on_graph: predictions are walks along the navigation graph, not positions in metres.
    """

    ending: str
    write: str
    validate: str
    on_graph: bool = True

    def function(self, name: str) -> Callable[..., Any]:
        """Import ``write`` or ``validate``."""
        return resolve("function", {"write": self.write, "validate": self.validate}, name)


_OWN = "vln_clip.tasks.submission"
FORMATS = {
    "r2r": Format(".json", f"{_OWN}:write_r2r", f"{_OWN}:validate_r2r"),
    "rxr": Format(".jsonl", f"{_OWN}:write_rxr", f"{_OWN}:validate_rxr"),
    "r2r-ce": Format(
        ".json",
        "vln_clip.tasks.continuous_predictions:write_r2r_ce",
        "vln_clip.tasks.continuous_submission:validate_r2r_ce",
        on_graph=False,
    ),
    "rxr-habitat": Format(
        ".jsonl",
        "vln_clip.tasks.continuous_predictions:write_rxr_habitat",
        "vln_clip.tasks.continuous_submission:validate_rxr_habitat",
        on_graph=False,
    ),
}


def find_format(name: str) -> Format:
    """Return the row of a format; an unknown name is an ``InputError``."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]
