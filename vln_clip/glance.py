"""What TensorBoard shows of a validation: maps of what a follower did, and what the speaker wrote.

The episodes are the same at every validation and in every run on the same data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.evaluation import Walks
from vln_clip.events import Sights
from vln_clip.records import Episode, view_elevation_rad, view_heading_rad
from vln_clip.tasks.metrics import NAV_ERROR, NDTW, SUCCESS_RATE, Scores
from vln_clip.viewer import lettering
from vln_clip.viewer.figure import map_array
from vln_clip.viewer.traces import Trace

NUM_WALKS = 2  # maps per split: each takes 25 ms and 10 kB
NUM_DESCRIBED = 3  # paths per split, each in all languages
SIZE_PX, EDGE_PX, MOST_LINES = 350, 6, 8  # TensorBoard shows pictures 350 wide
INK, GRAY = (26, 26, 26), (95, 104, 113)
LEGEND = "○ start, ★ goal with 3 m around it; broad band: the annotated path; line: the agent"


@dataclass(frozen=True)
class Description:
    """What the speaker wrote of a path.

    Attributes:
        episode: the path, with what somebody wrote of it.
        text: of the speaker, in the language of the episode.
    """

    episode: Episode
    text: str


def spread(count: int, wanted: int) -> list[int]:
    """Choose ``wanted`` of the numbers below ``count``, evenly spread; all of them where there are fewer."""
    wanted = min(count, wanted)
    return [(2 * k + 1) * count // (2 * wanted) for k in range(wanted)]


def trace(agent: str, table: EpisodeTable, walks: Walks, scores: Scores, index: int) -> Trace:
    """Return what an agent did on one episode.

    Args:
        agent: its name.
        table: the split.
        walks: of the split.
        scores: of the walks, one (N,) array per metric.
        index: which walk.
    """
    viewpoints = walks.viewpoint[index]
    viewpoints = viewpoints[viewpoints >= 0]
    views = walks.view[index, : len(viewpoints)].tolist()
    return Trace(
        agent,
        table.episodes[walks.rows[index]],
        viewpoints,
        np.array([view_heading_rad(view) for view in views]),
        np.array([view_elevation_rad(view) for view in views]),
        metrics={name: float(values[index]) for name, values in scores.items()},
    )


def walks(seen: Mapping[str, Sequence[Trace]], graph: NavTables) -> Sights:
    """Return a captioned map of every walk, and a table of instructions and outcomes per split.

    Args:
        seen: ``{split: walks}``.
        graph: holds their buildings.
    """
    images, texts = {}, {}
    for split, traces in seen.items():
        rows = []
        for shown in traces:
            episode = shown.episode
            images[f"walks/{split}_{episode.instr_id}"] = captioned_map(shown, graph)
            rows.append((f"{episode.instr_id}: {episode.instruction}", outcome(shown)))
        texts[f"walks/{split}"] = markdown(("instruction", "what the agent did"), rows)
    return Sights(images, texts)


def descriptions(seen: Mapping[str, Sequence[Description]]) -> Sights:
    """Return a table per split of what the speaker wrote beside what somebody wrote."""
    texts = {}
    for split, written in seen.items():
        rows = [(f"path {d.episode.path_id}, {d.episode.language}: {d.text}", d.episode.instruction) for d in written]
        texts[f"descriptions/{split}"] = markdown(("what the speaker wrote", "the reference"), rows)
    return Sights(texts=texts)


def outcome(shown: Trace) -> str:
    """Say in a few words how a walk ended."""
    assert shown.metrics is not None
    error_m, ndtw, moves = shown.metrics[NAV_ERROR], shown.metrics[NDTW], len(shown.viewpoints) - 1
    result = "success" if shown.metrics[SUCCESS_RATE] else "failure"
    counted = f"{moves} move" + "s" * (moves != 1)
    return f"{result}: {error_m:.1f} m from the goal, {counted}, nDTW {100 * ndtw:.0f} %"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; TensorBoard makes columns of few letters too narrow to read."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Return a text as one cell of a Markdown table."""
    return " ".join(text.replace("\\", "\\\\").replace("|", r"\|").replace("<", "&lt;").split())


def captioned_map(shown: Trace, graph: NavTables) -> np.ndarray:
    """Return the map of a walk with its outcome and instruction below, (H, W, 3) uint8."""
    drawn = map_array([shown], graph, SIZE_PX)
    blocks = [
        _text_rows(outcome(shown), 12, INK),
        _text_rows(shown.episode.instruction, 12, INK),
        _text_rows(LEGEND, 10, GRAY),
        np.full((EDGE_PX, SIZE_PX, 3), 255, np.uint8),
    ]
    return np.concatenate([drawn, *blocks])


def _text_rows(text: str, size_px: int, color: tuple[int, int, int]) -> np.ndarray:
    """Return text on white, (h, SIZE_PX, 3) uint8; h is 0 where no font has the letters."""
    file = lettering.find_font(text)
    if file is None:
        return np.zeros((0, SIZE_PX, 3), np.uint8)
    lines = lettering.wrap(text, lettering.Letters(file, size_px), SIZE_PX - 2 * EDGE_PX)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], lines[MOST_LINES - 1] + " …"]
    letters = lettering.lines_picture(lines, file, size_px, color)[:, : SIZE_PX - EDGE_PX]
    opaque = letters[..., 3:] / 255  # (h, w, 1)
    shown = np.full((len(letters), SIZE_PX, 3), 255, np.uint8)
    columns = slice(EDGE_PX, EDGE_PX + letters.shape[1])
    shown[:, columns] = (opaque * letters[..., :3] + (1 - opaque) * 255).round().astype(np.uint8)
    return shown
