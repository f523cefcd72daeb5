"""``python -m vln_clip.explain``: what in a picture speaks for a text, in the eyes of one encoder or several."""

import functools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from PIL import Image

from vln_clip import log
from vln_clip.errors import InputError
from vln_clip.files import write_drawn
from vln_clip.viewer.lettering import find_font

if TYPE_CHECKING:
    import torch

    from vln_clip.encoders import Encoder
    from vln_clip.encoders.text import TextEncoder
_MOST_OBLONG = 100  # sides; of a longer picture the encoder would see next to nothing


@dataclass(frozen=True)
class ExplainConfig:
    """Show what in a picture speaks for a text: Grad-CAM for convolutional towers, attention rollout for ViTs."""

    image: tyro.conf.Positional[Path]
    """picture: JPEG, PNG or WebP of any size"""
    text: tyro.conf.Positional[str]
    """what is looked for in it"""
    encoder: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """with a text tower: clip_rn50, clip_vit_b32, ..., open_clip:ARCH/TAG; give it again for more beside it"""
    weights: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """file of both towers' weights, with several encoders NAME=FILE; by default those published"""
    random_weights: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """leave the weights random: shows that everything runs, the heat means nothing"""
    out: Path | None = None
    """sheet to write (.png), the heat of each encoder goes beside it; by default IMAGE_explained.png, right here"""
    save_map: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """write each encoder's cells as they are, too: float32, height x width, .npy"""
    font: Path | None = None
    """font file for the text, where the usual fonts lack its letters"""
    device: str = "auto"
    """cpu, cuda, …"""

    @property
    def sheet(self) -> Path:
        """Return the file of the sheet."""
        return self.out or Path(f"{self.image.stem}_explained.png")

    def beside(self, encoder: str, ending: str) -> Path:
        """Return the file of one encoder."""
        return self.sheet.with_name(f"{self.sheet.stem}_{re.sub(r'[^A-Za-z0-9.-]+', '_', encoder)}{ending}")


@dataclass(frozen=True)
class Explained:
    """What one encoder says of a picture.

    Attributes:
        name: of the encoder.
        method: Grad-CAM or attention rollout.
        cells: (h, w) float32, not scaled.
        heat: (H, W) float32, the cells over the whole picture.
        seen: (H, W) bool, what of the picture the encoder gets.
        cosine: of picture and text.
    """

    name: str
    method: str
    cells: np.ndarray
    heat: np.ndarray
    seen: np.ndarray
    cosine: float

    @property
    def sentence(self) -> str:
        """Say what was found and where."""
        (h, w), (height, width) = self.cells.shape, self.seen.shape
        told = f"{self.name}: cosine {self.cosine:.3f}, {self.method} of {h} x {w} cells over "
        if self.seen.all():
            return f"{told}the whole picture"
        rows, columns = (np.flatnonzero(self.seen.any(axis)) for axis in (1, 0))
        return (
            f"{told}columns {columns[0]} to {columns[-1]} and rows {rows[0]} to {rows[-1]} of {width} x {height} "
            "pixels; what lies outside it does not see"
        )

    def caption(self, random_weights: bool) -> tuple[str, ...]:
        """Return what stands below its picture."""
        lines = [self.name, f"cosine {self.cosine:.3f}, {self.method}"]
        lines += [] if self.seen.all() else ["gray: outside of what it sees"]
        lines += [] if self.cells.any() else ["nothing speaks for the text"]
        lines += ["random weights: means nothing"] if random_weights else []
        return tuple(lines)


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(ExplainConfig, args=argv, prog="python -m vln_clip.explain")
    check(config)
    from vln_clip.devices import pick_device  # with it comes PyTorch, which --help and mistakes need not wait for
    from vln_clip.encoders.table import require_comparable
    from vln_clip.viewer.heatsheet import Panel, draw_heatsheet, overlay

    for name in config.encoder:
        require_comparable(name)
    files, device = weights_of(config), pick_device(config.device)
    picture = read_picture(config.image)
    panels, cells = [Panel(picture, ("picture",))], []
    for name in config.encoder:
        found = explain_with(*load(name, files.get(name), config.random_weights, device), picture, config.text)
        log.logger.info(found.sentence)
        panels.append(Panel(overlay(picture, found.heat, found.seen), found.caption(config.random_weights)))
        cells.append(found.cells)
    sheet = draw_heatsheet(config.text, panels, config.font)
    for name, panel, own in zip(config.encoder, panels[1:], cells, strict=True):  # now that no encoder was refused
        _write_picture(config.beside(name, ".png"), Image.fromarray(panel.picture))
        if config.save_map:
            write_drawn(config.beside(name, ".npy"), functools.partial(np.save, arr=own))
    _write_picture(config.sheet, sheet)
    log.logger.info("wrote %s, and the heat of each encoder to %s", config.sheet, config.beside("ENCODER", ".png"))


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def check(config: ExplainConfig) -> None:
    """Refuse flags that are wrong, before any work."""
    if not config.text.strip():
        raise InputError("TEXT must have at least one word, got an empty one; say what to look for in the picture")
    if not config.encoder:
        raise InputError("name at least one encoder with --encoder, for example clip_rn50")
    twice = next((name for name in config.encoder if config.encoder.count(name) > 1), None)
    if twice:
        raise InputError(f"--encoder must name each encoder once, got {twice} twice")
    if config.random_weights and config.weights:
        raise InputError(f"one of --weights and --random-weights may be given, got both ({', '.join(config.weights)})")
    if config.sheet.suffix.lower() != ".png":
        raise InputError(f"--out must name a file that ends in .png, got {config.sheet}")
    if config.font is not None:
        find_font(config.text, config.font)  # refuses what is no font
    written = [config.sheet, *(config.beside(name, ".png") for name in config.encoder)]
    if config.image.resolve() in [path.resolve() for path in written]:
        raise InputError(f"the picture {config.image} would be overwritten; give another --out")


def weights_of(config: ExplainConfig) -> dict[str, Path]:
    """Return the files of weights that were given, by encoder."""
    found: dict[str, Path] = {}
    for given in config.weights:
        name, equals, path = given.partition("=")
        if not equals or name not in config.encoder:
            if len(config.encoder) > 1:
                raise InputError(
                    f"--weights must be NAME=FILE with several encoders, NAME one of {', '.join(config.encoder)}, "
                    f"got {given!r}"
                )
            name, path = config.encoder[0], given
        if name in found:
            raise InputError(f"--weights must name one file per encoder, got {found[name]} and {path} for {name}")
        found[name] = Path(path)
    return found


def read_picture(path: Path) -> np.ndarray:
    """Read a picture, turned as its EXIF data says, (H, W, 3) uint8 RGB.

    Raises:
        InputError: it is missing, damaged or all too oblong.
    """
    from vln_clip.features.images import read_rgb

    picture = np.asarray(read_rgb(path, exif=True))
    height, width = picture.shape[:2]
    if max(height, width) > _MOST_OBLONG * min(height, width):
        raise InputError(
            f"a picture's sides must differ by a factor of at most {_MOST_OBLONG}, got {width} x {height} pixels in "
            f"{path}; cut it"
        )
    return picture


def load(
    name: str, weights: Path | None, random_weights: bool, device: "torch.device"
) -> tuple["Encoder", "TextEncoder"]:
    """Make both towers of an encoder.

    Raises:
        InputError: no such encoder, or no weights for it.
    """
    import torch

    from vln_clip.encoders import create_encoder, create_text_encoder

    if random_weights:
        log.logger.warning(f"NOTE: --random-weights: {name} knows nothing, its heat means nothing")
        torch.manual_seed(0)  # the same every time
    pretrained: bool | Path = weights or not random_weights
    return create_encoder(name, pretrained, device), create_text_encoder(name, pretrained, device)


def explain_with(encoder: "Encoder", text_encoder: "TextEncoder", picture: np.ndarray, text: str) -> Explained:
    """Explain a picture (H, W, 3) uint8 RGB with one encoder.

    Raises:
        InputError: no method fits the encoder, or its weights give no numbers.
    """
    import torch

    from vln_clip.encoders.relevance import covered_part, over_picture, relevance

    _tell_what_is_not_read(text_encoder, text)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    device = next(encoder.parameters()).device
    images = encoder.transform.scale(encoder.transform.fit(pixels).to(device))
    with torch.no_grad():
        targets = text_encoder.encode([text])
    maps, cosines = (values.float().cpu() for values in relevance(encoder, images, targets, text_encoder.logit_scale))
    if not (maps.isfinite().all() and math.isfinite(cosines[0])):
        raise InputError(f"weights of {encoder.name} must give numbers, got inf or nan ({encoder.weights})")
    size, cells = (picture.shape[0], picture.shape[1]), (maps.shape[1], maps.shape[2])
    heat, seen = over_picture(maps, encoder.transform, size, size, covered_part(encoder, cells))
    method = "attention rollout" if encoder.num_blocks else "Grad-CAM"
    return Explained(encoder.name, method, maps[0].numpy(), heat[0].numpy(), seen.numpy(), float(cosines[0]))


def _tell_what_is_not_read(text_encoder: "TextEncoder", text: str) -> None:
    """Warn of a text whose end is cut off, or of words that an encoder with a list of words does not know."""
    from vln_clip.encoders.demo_clip import UNKNOWN

    name, room, tokens = text_encoder.name, text_encoder.context_length - 2, text_encoder.words(text)
    if len(tokens) > room:
        log.logger.warning(f"NOTE: {name} reads {room} tokens of a text, got {len(tokens)}: the end is cut off")
    unknown = sum(text_encoder.spell(token) == UNKNOWN for token in tokens)
    if unknown:
        log.logger.warning(
            f"NOTE: {name} does not know {unknown} of the {len(tokens)} words of the text, which are all one to it"
        )


def _write_picture(path: Path, picture: Image.Image) -> None:
    write_drawn(path, lambda file: picture.save(file, "PNG"))


if __name__ == "__main__":
    cli()
