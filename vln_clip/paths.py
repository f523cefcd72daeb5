"""Where data and caches live. The data folder is only read, but by ``data get``, which fills it."""

import os
from pathlib import Path

import platformdirs


def data_dir() -> Path:
    """Return the folder of inputs: ``$VLN_CLIP_DATA``, by default ``data`` in the working folder."""
    return Path(os.environ.get("VLN_CLIP_DATA", "data"))


def cache_dir() -> Path:
    """Return the folder of caches: ``$VLN_CLIP_CACHE``, by default the user's cache folder."""
    named = os.environ.get("VLN_CLIP_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("vln_clip"))
