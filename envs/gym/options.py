"""The arguments of ``gymnasium.make`` and ``gymnasium.make_vec``, checked at birth."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from vln_clip.envs.demo import DemoConfig
from vln_clip.errors import InputError, unknown_name
from vln_clip.tasks.datasets import ALL_LANGUAGES

OBSERVATIONS = ("indices", "features", "rgb")
INSTRUCTIONS = ("tokens", "text")


@dataclass(frozen=True)
class Options:
    """What an environment shows and where its episodes come from.

    Attributes:
        split: name of a split or a file of that format; ``@N`` behind it takes N of its paths.
        data: folder with ``R2R/`` and ``connectivity/``; None is ``$VLN_CLIP_DATA`` (R2R) or the generated world
            (Demo).
        demo: fields of ``DemoConfig`` that differ from the default world; only for Demo.
        observation: ``indices`` shows viewpoint, view and candidates; ``features`` adds the features of the 36 views,
            ``rgb`` adds their pictures.
        features: feature store by name (``clip_rn50x4``, ``a+b``) or file; needed for ``features`` and only there.
        instruction: ``tokens`` or ``text``.
        max_steps: decisions after which an episode is truncated.
        max_tokens: most tokens of an instruction, special words included; the length of the padded array. None is the
            data set's: 80, RxR 160.
        language: one of a multilingual data set's (RxR: ``en``, ``hi``, ``te``), or ``all``.
        image_size_px: height and width of each of the 36 pictures of ``rgb``.
    """

    split: str = "train"
    data: str | os.PathLike[str] | None = None
    demo: Mapping[str, int] | None = None
    observation: str = "indices"
    features: str | os.PathLike[str] | None = None
    instruction: str = "tokens"
    max_steps: int = 35
    max_tokens: int | None = None
    language: str = ALL_LANGUAGES
    image_size_px: tuple[int, int] = (60, 80)

    def __post_init__(self) -> None:
        for name, known in (("observation", OBSERVATIONS), ("instruction", INSTRUCTIONS)):
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        if self.observation == "features" and self.features is None:
            raise InputError("features must name a feature store or file where observation is 'features', got None")
        if self.observation != "features" and self.features is not None:
            raise InputError(
                f"features must only be given with observation='features', got {os.fspath(self.features)!r} with "
                f"{self.observation!r}"
            )
        require_count("max_steps", self.max_steps, 1)
        if self.max_tokens is not None:
            require_count("max_tokens", self.max_tokens, 2)
        for name in ("split", "data", "features", "language"):
            value = getattr(self, name)
            if not isinstance(value, str | os.PathLike) and (value is not None or name in ("split", "language")):
                raise InputError(f"{name} must be a name or a path, got {value!r}")
        try:
            height, width = self.image_size_px
        except (TypeError, ValueError):
            raise InputError(f"image_size_px must be a height and a width, got {self.image_size_px!r}") from None
        require_count("height of image_size_px", height, 1)
        require_count("width of image_size_px", width, 1)

    @classmethod
    def parse(cls, arguments: Mapping[str, object]) -> "Options":
        """Take keyword arguments; an unknown one is an ``InputError`` with a suggestion."""
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in known:
                raise unknown_name("argument", name, [*known, "render_mode"])
        return cls(**arguments)  # type: ignore[arg-type]

    @property
    def demo_config(self) -> DemoConfig:
        """Return the generated world that ``demo`` describes."""
        try:
            return DemoConfig(**(self.demo or {}))
        except (TypeError, ValueError) as error:
            raise InputError(f"demo must be fields of DemoConfig, got {self.demo!r}: {error}") from None

    @property
    def folder(self) -> Path | None:
        """Return ``data`` as a path that exists."""
        if self.data is None:
            return None
        folder = Path(self.data)
        if not folder.is_dir():
            raise InputError(
                f"data must be a folder with R2R/ and connectivity/, got {str(folder)!r} which does not exist; "
                "leave it out for $VLN_CLIP_DATA (R2R) or the generated world (Demo)"
            )
        return folder


def require_count(name: str, value: object, least: int) -> None:
    """Raise ``InputError`` unless an argument is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
