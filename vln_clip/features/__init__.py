"""Features of the 36 views: stores on disk, banks aligned with a world, other formats, and where NAME is found."""

from vln_clip.features.bank import FeatureBank, bank
from vln_clip.features.formats import convert
from vln_clip.features.locate import check_width, dataset_key, features_used, find_store, split_name
from vln_clip.features.store import FeatureStore, StoreHeader, StoreWriter, open_store

__all__ = [
    "FeatureBank",
    "FeatureStore",
    "StoreHeader",
    "StoreWriter",
    "bank",
    "check_width",
    "convert",
    "dataset_key",
    "features_used",
    "find_store",
    "open_store",
    "split_name",
]


def cli() -> None:
    """Run ``python -m vln_clip.features``."""
    from vln_clip.features.__main__ import cli as run

    run()
