"""Whether a feature file is sound, and complete for a data set; read row by row."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vln_clip.encoders.table import ENCODERS, WIDTHS, Widths
from vln_clip.features.formats import check_exists, format_of, read_header, read_rows, stem_of
from vln_clip.features.locate import PUBLIC_STEMS
from vln_clip.records import NUM_VIEWS

_SHOWN = 3


@dataclass
class Audit:
    """What was found in a feature file.

    Attributes:
        path: the file.
        keys: every viewpoint with the number of its rows.
        widths: every width with the number of rows that have it.
        dtype: of the values.
        encoder: registry name, empty where neither header nor file name tell it.
        num_bad: viewpoints with values that are not finite.
        num_zero: views whose features are all zero.
        norms: lowest, mean and highest L2 norm of the finite views.
        problems: what is wrong.
    """

    path: Path
    keys: Counter[str] = field(default_factory=Counter)
    widths: Counter[int] = field(default_factory=Counter)
    dtype: str = ""
    encoder: str = ""
    num_bad: int = 0
    num_zero: int = 0
    norms: tuple[float, float, float] = (math.inf, 0.0, 0.0)
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return one line: size, encoder, norms."""
        widths = " or ".join(str(width) for width in sorted(self.widths)) or "0"
        text = f"{self.path}: {len(self.keys):,} viewpoints x {NUM_VIEWS} views x {widths} {self.dtype}"
        text += f", {self.encoder or 'unknown encoder'}"
        low, mean, high = self.norms
        return text + (f", norm of views {low:.3f} to {high:.3f}, mean {mean:.3f}" if self.keys else "")


def audit(path: Path) -> Audit:
    """Read a feature file once and report what is wrong inside it.

    Raises:
        InputError: the file cannot be read to its end.
    """
    format_of(path)
    check_exists(path)
    found = Audit(path, encoder=encoder_of(path))
    total, count, bad = 0.0, 0, []
    for key, features in read_rows(path):
        found.keys[key] += 1
        found.widths[features.shape[1]] += 1
        found.dtype = str(features.dtype)
        values = features.astype(np.float32)
        norms = np.linalg.norm(values, axis=1)
        norms = norms[np.isfinite(values).all(axis=1)]
        if len(norms) < NUM_VIEWS:
            bad.append(key)
        found.num_zero += int((norms == 0).sum())
        total, count = total + float(norms.sum()), count + len(norms)
        low, _, high = found.norms
        found.norms = (float(norms.min(initial=low)), total / max(count, 1), float(norms.max(initial=high)))
    found.num_bad = len(bad)
    found.problems = list(_problems(found, bad))
    return found


def encoder_of(path: Path) -> str:
    """Return the encoder that a file's header or a public file's name tells, else an empty string."""
    header = read_header(path)
    names = [header.encoder] if header else []
    if format_of(path) != "store":
        names.append(stem_of(path))
    public = {stem: encoder for encoder, stem in PUBLIC_STEMS.items()}
    known = (public.get(name, name) for name in names)
    return next((name for name in known if name in ENCODERS or ":" in name), "")


def known_widths(encoder: str) -> Widths | None:
    """Return the widths of an encoder's outputs where the registry knows them without building the encoder."""
    prefix, _, rest = encoder.partition(":")
    return Widths(int(rest), int(rest)) if prefix == "pixels" and rest.isdigit() else WIDTHS.get(encoder)


def _problems(found: Audit, bad: Sequence[str]) -> Iterator[str]:
    if not found.keys:
        yield "it must hold at least one viewpoint, got none"
    twice = [key for key, count in found.keys.items() if count > 1]
    if twice:
        yield f"{len(twice):,} viewpoints occur more than once: {_some(twice)}"
    if bad:
        yield f"{len(bad):,} viewpoints have values that are not finite: {_some(bad)}"
    if found.num_zero:
        yield f"{found.num_zero:,} views are all zero"
    if len(found.widths) > 1:
        yield f"all viewpoints must have one width, got {', '.join(str(width) for width in sorted(found.widths))}"
    known = known_widths(found.encoder)
    for width in found.widths:
        if known and width != known.pooled:
            grid = " (the width of its grid features)" if width == known.grid else ""
            yield f"pooled features of {found.encoder} have {known.pooled} columns, got {width}{grid}"


@dataclass(frozen=True)
class Wanted:
    """Viewpoints that a data set needs.

    Attributes:
        name: of the data set or split.
        keys: its viewpoints by scan.
    """

    name: str
    keys: dict[str, tuple[str, ...]]

    def touched(self, keys: Collection[str]) -> "Wanted":
        """Return only the scans of which at least one viewpoint is there."""
        return Wanted(self.name, {scan: every for scan, every in self.keys.items() if any(k in keys for k in every)})


def coverage(wanted: Wanted, keys: Collection[str], num_scans: int) -> tuple[str, bool]:
    """Say how complete a file is for a data set.

    Args:
        wanted: what the data set needs.
        keys: what the file has.
        num_scans: scans of the whole data set.

    Returns:
        One line, and whether nothing is missing.
    """
    total = sum(map(len, wanted.keys.values()))
    missing = {scan: [key for key in every if key not in keys] for scan, every in wanted.keys.items()}
    missing = {scan: lacking for scan, lacking in missing.items() if lacking}
    count = sum(map(len, missing.values()))
    line = f"{wanted.name}: {total - count:,} of {total:,} viewpoints in {len(wanted.keys)} of {num_scans} scans"
    if not count:
        return f"{line}, complete", True
    most = sorted(missing, key=lambda scan: -len(missing[scan]))
    scans = ", ".join(f"{scan} ({len(missing[scan])} of {len(wanted.keys[scan])})" for scan in most[:_SHOWN])
    more = f" and {len(most) - _SHOWN} scans more" if len(most) > _SHOWN else ""
    return f"{line}, {count:,} MISSING in {scans}{more}; first {missing[most[0]][0]}", False


def _some(names: Sequence[str]) -> str:
    """Name a few of many."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
