"""Films of walks, MP4 and GIF: what the agent sees, the map, the instruction and what it thinks of its choices."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.files import write_atomically
from vln_clip.viewer import pens
from vln_clip.viewer.captions import LIT
from vln_clip.viewer.figure import picture_kind
from vln_clip.viewer.screen import Screen
from vln_clip.viewer.shots import count_shots, shots
from vln_clip.viewer.skyboxes import Skyboxes
from vln_clip.viewer.traces import Trace

logger = logging.getLogger(__name__)

FORMATS = (".mp4", ".gif")
_SIZES_PX, _RATES = {"mp4": (1280, 720), "gif": (640, 360)}, {"mp4": 24, "gif": 10}
_LEAST_PX = 64
_QUALITY = ["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart", "-f", "mp4"]
_PALETTE_FRAMES = 12
_FIXED = (pens.INK, pens.PALE, pens.CHOSEN, pens.OTHER, LIT)


def write_video(
    trace: Trace,
    graph: NavTables,
    skyboxes: Skyboxes | None,
    path: Path,
    *,
    size_px: tuple[int, int] | None = None,
    fps: int | None = None,
    font: Path | None = None,
) -> int:
    """Film a walk.

    Args:
        trace: the walk.
        graph: it leads through.
        skyboxes: pictures for the first person view; a compass stands in where they lack a viewpoint of the walk,
            or are None.
        path: file to write, atomically: ``.mp4`` (H.264) or ``.gif``.
        size_px: width and height, even; 1280x720 for MP4 and 640x360 for GIF by default.
        fps: frames per second; 24 for MP4 and 10 for GIF by default.
        font: for the instruction, where it has its letters (``--font``).

    Returns:
        The number of frames.

    Raises:
        InputError: another ending or an odd size, a damaged skybox, no ffmpeg, or the file cannot be written.
    """
    kind = picture_kind(path, FORMATS, "--video")
    size, rate = size_px or _SIZES_PX[kind], fps or _RATES[kind]
    if any(edge < _LEAST_PX or edge % 2 for edge in size):
        raise InputError(f"a video's width and height must be even and at least {_LEAST_PX}, got {size[0]}x{size[1]}")
    screen = Screen(trace, graph, _complete(trace, skyboxes), size, font)
    frames = (screen.draw(shot) for shot in shots(trace, graph, rate))
    if kind == "gif":
        palette = _palette(screen, trace, graph, rate)
        write_atomically(path, lambda temporary: _write_gif(temporary, frames, palette, rate))
    else:
        _require_ffmpeg(path)
        write_atomically(path, lambda temporary: _write_mp4(temporary, frames, size, rate))
    return count_shots(trace, rate)


def _complete(trace: Trace, skyboxes: Skyboxes | None) -> Skyboxes | None:
    """Return the skyboxes where they hold every viewpoint of a walk; else say what is missing."""
    if skyboxes is None:
        return None
    lacking = skyboxes.lacking(trace.viewpoints.tolist())
    if not lacking:
        return skyboxes
    logger.warning(
        f"video of {trace.episode.instr_id}: {len(lacking)} of its viewpoints have no skybox in {skyboxes.data} (first "
        f"{lacking[0]}), so a compass takes the place of the first person view"
    )
    return None


def _require_ffmpeg(path: Path) -> None:
    """Raise ``InputError`` where the program that encodes is not found."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise InputError(
            f"--video {path} needs ffmpeg, which was not found; pip install 'imageio[ffmpeg]', or name the program in "
            "IMAGEIO_FFMPEG_EXE, or write a .gif"
        ) from None


def _write_mp4(path: Path, frames: Iterator[np.ndarray], size_px: tuple[int, int], fps: int) -> None:
    """Hand frames to ffmpeg one by one; none is kept."""
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(
        str(path),
        size_px,
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=2,
        quality=None,
        output_params=_QUALITY,
        ffmpeg_log_level="error",
    )
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    except OSError as error:  # of many lines; what ffmpeg itself found wrong stands above
        raise OSError(f"ffmpeg stopped ({str(error).splitlines()[0]}); is the disk full?") from None
    finally:
        writer.close()


def _palette(screen: Screen, trace: Trace, graph: NavTables, fps: int) -> Image.Image:
    """Choose 256 colors for all frames: those of lines and letters, which are few pixels, the others by some frames."""
    every = max(1, count_shots(trace, fps) // _PALETTE_FRAMES)
    some = [screen.draw(shot) for shot in itertools.islice(shots(trace, graph, fps), every // 2, None, every)]
    fixed = [pens.mix(color, weight) for color in _FIXED for weight in (1.0, 0.5)] + [pens.PAPER]
    found = Image.fromarray(np.concatenate(some)[::4, ::4]).quantize(256 - len(fixed), kmeans=1).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*itertools.chain(*fixed), *(found or [])])
    return palette


def _write_gif(path: Path, frames: Iterator[np.ndarray], palette: Image.Image, fps: int) -> None:
    """Write an endless GIF of few colors, without dithering, so that what does not move is stored once."""
    images = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first = next(images)
    first.save(path, "GIF", save_all=True, append_images=images, duration=round(1000 / fps), loop=0, optimize=False)
