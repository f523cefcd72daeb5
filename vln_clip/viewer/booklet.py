"""Puts a page together: what agents did on some episodes, with panoramas as far as there is room."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vln_clip import __version__, log
from vln_clip.connectivity import NavTables
from vln_clip.envs.demo import DemoConfig
from vln_clip.setting import Setting
from vln_clip.viewer.document import ShownAgent, make_document, put_panoramas
from vln_clip.viewer.faces import DEMO_FACE_PX, is_demo
from vln_clip.viewer.page import page_html, write_page
from vln_clip.viewer.panoramas import draw_panoramas
from vln_clip.viewer.skyboxes import SkyboxFinder

_DEMO_FACT = (
    f"panoramas are drawn for this page, {DEMO_FACE_PX} pixels a face; the agents' features were made of the same "
    f"scenes at {DemoConfig().face_px} pixels"
)


@dataclass(frozen=True)
class PictureOptions:
    """Which pictures a page gets: whether any, how wide (pixels; None chooses), up to which size of the page."""

    wanted: bool = True
    width_px: int | None = None
    max_mb: float = 20.0


def write_booklet(
    path: Path,
    data: Setting,
    split: str,
    shown: Sequence[ShownAgent],
    notes: Sequence[str] = (),
    options: PictureOptions = PictureOptions(),
) -> None:
    """Write the page of some agents' traces, and tell the log what went into it.

    Args:
        path: HTML file, written atomically.
        data: the opened data set.
        split: the one that the traces are of.
        shown: one or two agents with their traces.
        notes: what a viewer must be told, beside what this finds out.
        options: of pictures.
    """
    document = make_document(
        shown,
        data.tables,
        title=f"{data.dataset.name} {split}: {' and '.join(agent.name for agent in shown)}",
        dataset=data.dataset.name,
        split=split,
        facts=facts_of(shown, data, split),
        notes=notes,
    )
    if data.splits[split].goal_hidden:
        document["notes"].append(f"the goals of {split} are hidden: no scores, no reference paths")
    pictures: Sequence[bytes] = ()
    if options.wanted:
        room = options.max_mb * 1e6 - len(page_html(document).encode())
        finder = SkyboxFinder(data.data, data.tables)
        panoramas, told = draw_panoramas(visited(shown, data.tables), finder, room, options.width_px)
        document["notes"] += told
        if panoramas is not None:
            if is_demo(data.data):
                document["facts"].insert(-1, _DEMO_FACT)
            put_panoramas(document, data.tables, panoramas)
            pictures = panoramas.pictures
    for note in document["notes"]:
        log.logger.info("%s", note)
    write_page(document, pictures, path)
    size_mb = path.stat().st_size / 1e6
    counts = (len(document["episodes"]), len(pictures))
    log.logger.info("wrote %s: %d episodes, %d panoramas, %.1f MB", path, *counts, size_mb)
    if size_mb > options.max_mb:
        log.logger.warning("the page is larger than --max-mb %g; --limit shows fewer episodes", options.max_mb)


def facts_of(shown: Sequence[ShownAgent], data: Setting, split: str) -> list[str]:
    """Return what a stranger must know of a page."""
    episodes = {trace.episode.instr_id: trace.episode for agent in shown for trace in agent.traces}.values()
    paths, scans = {episode.path_id for episode in episodes}, {episode.scan for episode in episodes}
    whole = data.splits[split]
    return [
        f"{len(episodes)} of {len(whole.episodes)} instructions of {data.dataset.name} {split} ({len(paths)} paths, "
        f"{len(scans)} buildings), file {whole.file.name}, SHA-256 {whole.sha256[:16]}…",
        *(f"{agent.name}: {agent.about}" for agent in shown),
        f"made by vln-clip {__version__}",
    ]


def visited(shown: Sequence[ShownAgent], tables: NavTables) -> list[int]:
    """Return the global viewpoints that walks and reference paths visit, in ascending order."""
    found: set[int] = set()
    for agent in shown:
        for trace in agent.traces:
            found.update(trace.viewpoints.tolist())
            found.update(tables.index(trace.episode.scan, viewpoint) for viewpoint in trace.episode.path or ())
    return sorted(found)
