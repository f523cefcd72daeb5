"""``python -m vln_clip.visualize``: shows how agents walk, in a page that opens anywhere, in figures, or live."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vln_clip import log
from vln_clip.errors import InputError
from vln_clip.scoring import Options
from vln_clip.setting import Setting
from vln_clip.viewer import figure, sheet, video
from vln_clip.viewer.agents import OpenedAgent, choose_episodes, open_agents
from vln_clip.viewer.booklet import PictureOptions, write_booklet
from vln_clip.viewer.document import ShownAgent
from vln_clip.viewer.page import MAX_AGENTS, page_html
from vln_clip.viewer.panoramas import MAX_WIDTH_PX
from vln_clip.viewer.skyboxes import Skyboxes
from vln_clip.viewer.traces import Trace


@dataclass(frozen=True)
class VisualizeConfig:
    """Show how agents walk, side by side on the same episodes: runs, checkpoints, prediction files of any source."""

    agents: tyro.conf.Positional[tuple[Path, ...]] = ()
    """folders of runs or of checkpoints, or prediction files (.json, .jsonl, .gz)"""
    out: Path | None = None
    """page to write (.html), one file that needs no network, of one or two agents"""
    map: Path | None = None
    """map of one episode to draw (.png, .svg, .pdf)"""
    video: Path | None = None
    """film of one agent on one episode (.mp4, .gif)"""
    sheet: Path | None = None
    """maps of several episodes on one picture (.png) or on pages of 20 (.pdf)"""
    serve: Path | None = None
    """in place of agents: a run or a checkpoint to talk to in a browser, on this machine alone"""
    port: int = 8000
    """with --serve: where to listen; 0 takes a free port"""
    dataset: str = "auto"
    """name of a data set, or auto: the runs' own, or r2r where $VLN_CLIP_DATA holds it, else demo"""
    split: str = "val_unseen"
    """name of a split, NAME@N for N of its paths, or a file (with a /)"""
    language: str | None = None
    """one language of a multilingual data set, or all; by default the first run's own, for files all"""
    episode: tuple[str, ...] = ()
    """only these: ids of instructions, or of paths for all instructions of each"""
    limit: int | None = None
    """only so many episodes, drawn at random, the same ones every time"""
    saliency: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """heat maps: what in each of the 36 views spoke for each decision (needs skyboxes and the features' encoder)"""
    no_panoramas: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """with --out: leave the pictures out"""
    panorama_width: int | None = None
    """with --out: width of the pictures in pixels; by default the largest of 1024, 768 and 512 that fits"""
    max_mb: float = 20.0
    """with --out: size of the page up to which pictures are put in, in megabytes"""
    font: Path | None = None
    """with --map, --video, --sheet: font file for instructions, where the usual fonts lack their letters"""
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
    options = Options(**shared)
    if config.serve is not None:
        (agent,) = open_agents([config.serve], options)
        serve(config, agent)
        return
    opened = open_agents(config.agents, options)
    show(config, opened, choose_episodes(opened, config.split, config.episode, config.limit))


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def check(config: VisualizeConfig) -> None:
    """Refuse flags that are wrong or contradict each other, before any work."""
    written = {"--out": config.out, "--map": config.map, "--video": config.video, "--sheet": config.sheet}
    given = [flag for flag, path in written.items() if path is not None]
    if config.serve is not None:
        _refuse_beside_serve(config, given)
        return
    if not config.agents:
        raise InputError("name at least one run, checkpoint or prediction file to show, or --serve RUN")
    if not given:
        raise InputError(f"say what to write ({', '.join(written)}), or let an agent walk live with --serve RUN")
    if config.out is not None:
        _check_page(config, config.out)
    for flag, kinds in (("--map", figure.FORMATS), ("--video", video.FORMATS), ("--sheet", sheet.FORMATS)):
        path = written[flag]
        if path is not None:
            figure.picture_kind(path, kinds, flag)
    if config.video is not None and len(config.agents) > 1:
        raise InputError(f"--video films one agent, got {len(config.agents)}; --out shows two side by side")
    if config.limit is not None and config.limit < 1:
        raise InputError(f"--limit must be at least 1, got {config.limit}")


def _refuse_beside_serve(config: VisualizeConfig, given: list[str]) -> None:
    """Refuse what a live agent has no use for."""
    others = [*given, *(["--episode"] if config.episode else []), *(["--limit"] if config.limit is not None else [])]
    if config.agents or others:
        beside = ", ".join([*map(str, config.agents), *others])
        raise InputError(f"--serve shows one agent live and writes nothing; leave out {beside}")
    assert config.serve is not None
    if config.serve.is_file():
        raise InputError(f"--serve must be a run or a checkpoint, got the file {config.serve}; only agents walk live")
    if not 0 <= config.port <= 65535:
        raise InputError(f"--port must be from 0 to 65535, got {config.port}")


def _check_page(config: VisualizeConfig, out: Path) -> None:
    """Check what concerns the page."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out must name a page that ends in .html, got {out}")
    if len(config.agents) > MAX_AGENTS:
        raise InputError(f"--out shows at most {MAX_AGENTS} agents side by side, got {len(config.agents)}")
    if not config.max_mb > 0:  # NaN is refused, too
        raise InputError(f"--max-mb must be above 0, got {config.max_mb:g}")
    width_px = config.panorama_width
    if width_px is not None and (width_px % 2 or not 2 <= width_px <= MAX_WIDTH_PX):
        raise InputError(f"--panorama-width must be an even number up to {MAX_WIDTH_PX}, got {width_px}")
    if width_px is not None and config.no_panoramas:
        raise InputError("--panorama-width and --no-panoramas exclude each other; leave one out")


def show(config: VisualizeConfig, opened: list[OpenedAgent], instr_ids: list[str]) -> None:
    """Trace agents on some episodes and write what was asked for."""
    for flag, path in (("--map", config.map), ("--video", config.video)):
        if path is not None and len(instr_ids) != 1:
            raise InputError(f"{flag} shows one episode, got {len(instr_ids)}; name it with --episode ID")
    if config.sheet is not None and len(instr_ids) > sheet.MOST_EPISODES:
        raise InputError(f"--sheet holds at most {sheet.MOST_EPISODES} episodes, got {len(instr_ids)}; use --limit")
    shown, notes = [], []
    for agent in opened:
        found, told = agent.trace(config.split, instr_ids)
        shown.append(found if not config.saliency else with_saliency(agent, found))
        notes += told
    if not any(agent.traces for agent in shown):
        names = ", ".join(config.episode)
        raise InputError(f"there must be a walk to show, but none of the agents has one for {names}")
    data = opened[0].setting
    draw(config, data, shown)
    if config.out is not None:
        pictures = PictureOptions(not config.no_panoramas, config.panorama_width, config.max_mb)
        write_booklet(config.out, data, config.split, shown, notes, pictures)


def draw(config: VisualizeConfig, data: Setting, shown: Sequence[ShownAgent]) -> None:
    """Write map, video and contact sheet, as far as they were asked for."""
    groups: dict[str, list[Trace]] = {}
    for agent in shown:
        for trace in agent.traces:
            groups.setdefault(trace.episode.instr_id, []).append(trace)
    first = next(iter(groups.values()))
    if config.map is not None:
        figure.draw_figure(first, data.tables, config.map, font=config.font)
        log.logger.info("wrote %s", config.map)
    if config.video is not None:
        skyboxes = Skyboxes(data.data, data.tables)
        count = video.write_video(first[0], data.tables, skyboxes, config.video, font=config.font)
        log.logger.info("wrote %s: %d frames", config.video, count)
    if config.sheet is not None:
        sheet.draw_sheet(list(groups.values()), data.tables, config.sheet, font=config.font)
        log.logger.info("wrote %s: %d episodes", config.sheet, len(groups))


def with_saliency(agent: OpenedAgent, shown: ShownAgent) -> ShownAgent:
    """Return an agent whose decisions have heat maps; one from a file has no decisions."""
    from vln_clip.viewer.saliency import add_saliency  # brings the encoders

    if agent.loaded is None:
        raise InputError(f"--saliency needs runs or checkpoints, but {agent.path} is a file; only agents have reasons")
    return ShownAgent(shown.name, shown.about, add_saliency(shown.traces, agent.loaded))


def serve(config: VisualizeConfig, agent: OpenedAgent) -> None:
    """Let an agent walk on demand in a browser, until interrupted."""
    from vln_clip.viewer.server import serve as serve_live  # brings a web server

    assert agent.loaded is not None
    told = ShownAgent(agent.name, agent.about)
    serve_live(agent.loaded, config.split, config.port, told, page_html, config.saliency)


if __name__ == "__main__":
    cli()
