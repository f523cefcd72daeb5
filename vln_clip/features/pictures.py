"""What features were made from, as a digest, so that features of other pictures or poses are not taken for current.

Only names and sizes of skybox files and the rotations of cameras are looked at: nothing is read, and a copied data
folder, whose files have new times, stays the same one.
"""

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence

import numpy as np

from vln_clip.features.extraction import Panorama

_DECIMALS = 6  # of rotations; further ones may depend on the machine
_SMALL = "small.jpg"


def picture_digests(panoramas: Sequence[Panorama]) -> dict[str, str]:
    """Return a digest of each scan's pictures and camera rotations.

    Args:
        panoramas: those of a scan together.
    """
    return {
        scan: _digest_of(list(group))
        for scan, group in itertools.groupby(panoramas, key=lambda panorama: panorama.scan)
    }


def joint_digest(digests: Mapping[str, str]) -> str:
    """Return the digest of several scans; an empty string (unknown) where one is unknown."""
    if not all(digests.values()):
        return ""
    return _hex("\n".join(f"{scan} {digests[scan]}" for scan in sorted(digests)).encode())


def _digest_of(panoramas: Sequence[Panorama]) -> str:
    sizes: dict[str, dict[str, int]] = {}
    folder = panoramas[0].folder
    if folder.is_dir():  # pictures may come from elsewhere
        for entry in os.scandir(folder):
            viewpoint_id, found, kind = entry.name.partition("_skybox")
            if found and kind.endswith((_SMALL, "_sami.jpg")):
                sizes.setdefault(viewpoint_id, {})[kind] = entry.stat().st_size
    lines = []
    for panorama in panoramas:
        files = sizes.get(panorama.viewpoint_id, {})
        if len(files) > 1:
            files.pop(f"_{_SMALL}", None)  # not used beside the six faces
        rotation = (np.round(panorama.rotation, _DECIMALS) + 0.0).tolist()  # no minus zeros
        lines.append(f"{panorama.viewpoint_id} {rotation} {sorted(files.items())}")
    return _hex("\n".join(lines).encode())


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
