"""``python -m vln_clip.visualize``: shows how agents walk, in a page that opens anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vln_clip import __version__, log
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.scoring import Options
from vln_clip.setting import Setting
from vln_clip.viewer.agents import choose_episodes, open_agents
from vln_clip.viewer.document import ShownAgent, make_document, put_panoramas
from vln_clip.viewer.page import MAX_AGENTS, page_html, write_page
from vln_clip.viewer.panoramas import MAX_WIDTH_PX, SkyboxFinder, draw_panoramas


@dataclass(frozen=True)
class VisualizeConfig:
    """Show how agents walk, side by side on the same episodes: runs, checkpoints, prediction files of any source."""

    agents: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs or of checkpoints, or prediction files (.json, .jsonl, .gz)"""
    out: Path | None = None
    """page to write (.html): one file that needs no network"""
    dataset: str = "auto"
    """name of a data set, or auto: the runs' own, or r2r where $VLN_CLIP_DATA holds it, else demo"""
    split: str = "val_unseen"
    """name of a split, NAME@N for N of its paths, or a file (with a /)"""
    language: str | None = None
    """one language of a multilingual data set, or all; by default the first run's own, for files all"""
    episode: tuple[str, ...] = ()
    """only these: ids of instructions, or of paths for all instructions of each"""
    limit: int | None = None
    """only the first so many episodes"""
    no_panoramas: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """leave the pictures out"""
    panorama_width: int | None = None
    """width of the pictures in pixels; by default the largest of 1024, 768 and 512 that fits"""
    max_mb: float = 20.0
    """size of the page up to which pictures are put in, in megabytes"""
    features: str | None = None
    """other features of the same width for the checkpoints"""
    allow_foreign: bool = False
    """leave out predictions for instructions of other splits, in place of refusing the file"""
    device: str = "auto"
    """cpu, cuda, …"""


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(VisualizeConfig, args=argv, prog="python -m vln_clip.visualize")
    check(config)
    shared = {name: getattr(config, name) for name in Options.__dataclass_fields__ if hasattr(config, name)}
    opened = open_agents(config.agents, Options(**shared))
    instr_ids = choose_episodes(opened, config.split, config.episode, config.limit)
    shown, notes = [], []
    for agent in opened:
        found, told = agent.trace(config.split, instr_ids)
        shown.append(found)
        notes += told
    assert config.out is not None
    write(config, config.out, opened[0].setting, shown, notes)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def check(config: VisualizeConfig) -> None:
    """Refuse flags that are wrong, before any work."""
    if not config.agents:
        raise InputError("name at least one run, checkpoint or prediction file to show")
    if config.out is None:
        raise InputError("say what to write: --out PAGE.html")
    if config.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out must name a page that ends in .html, got {config.out}")
    if len(config.agents) > MAX_AGENTS:
        raise InputError(f"--out shows at most {MAX_AGENTS} agents side by side, got {len(config.agents)}")
    if config.limit is not None and config.limit < 1:
        raise InputError(f"--limit must be at least 1, got {config.limit}")
    if config.max_mb <= 0:
        raise InputError(f"--max-mb must be above 0, got {config.max_mb:g}")
    width = config.panorama_width
    if width is not None and (width % 2 or not 2 <= width <= MAX_WIDTH_PX):
        raise InputError(f"--panorama-width must be an even number up to {MAX_WIDTH_PX}, got {width}")
    if width is not None and config.no_panoramas:
        raise InputError("--panorama-width and --no-panoramas exclude each other; leave one out")


def write(
    config: VisualizeConfig,
    path: Path,
    data: Setting,
    shown: Sequence[ShownAgent],
    notes: Sequence[str],
) -> None:
    """Write the page of some agents' traces on a split."""
    document = make_document(
        shown,
        data.tables,
        title=f"{data.dataset.name} {config.split}: {', '.join(agent.name for agent in shown)}",
        dataset=data.dataset.name,
        split=config.split,
        facts=facts_of(shown, data, config.split),
        notes=notes,
    )
    if data.splits[config.split].goal_hidden:
        document["notes"].append(f"the goals of {config.split} are hidden: no scores, no reference paths")
    pictures: Sequence[bytes] = ()
    if not config.no_panoramas:
        room = config.max_mb * 1e6 - len(page_html(document).encode())
        finder = SkyboxFinder(data.data, data.tables)
        panoramas, told = draw_panoramas(visited(shown, data.tables), finder, room, config.panorama_width)
        document["notes"] += told
        if panoramas is not None:
            put_panoramas(document, data.tables, panoramas)
            pictures = panoramas.pictures
    for note in document["notes"]:
        log.logger.info("%s", note)
    write_page(document, pictures, path)
    size_mb = path.stat().st_size / 1e6
    counts = (len(document["episodes"]), len(pictures))
    log.logger.info("wrote %s: %d episodes, %d panoramas, %.1f MB", path, *counts, size_mb)
    if size_mb > config.max_mb:
        log.logger.warning("the page is above --max-mb %g even without pictures; --limit shows less", config.max_mb)


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


if __name__ == "__main__":
    cli()
