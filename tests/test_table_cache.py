"""Compiled graphs in the cache: damaged ones are built again, and what cannot be read is told."""

from pathlib import Path

import pytest

from tests.test_connectivity import same
from tests.toy_world import write_graphs
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"degree"', b'"dagree"'),  # a table under another name
        (b'"view"', b'"VIEW"'),
        (b"a0\na1", b"a0\n\xff1"),  # no UTF-8
        (b"a0\na1", b"a0\n\na"),  # a viewpoint more
        (b'"shape":[21,3]', b'"shape":[3,21]'),
    ],
)
def test_damaged_tables_of_the_cache_are_built_again(tmp_path, monkeypatch, old, new):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    folder = write_graphs(tmp_path / "graphs")
    built = NavTables.load(folder)
    (cached,) = (tmp_path / "cache" / "tables").iterdir()
    content = cached.read_bytes()
    cached.unlink()  # never written over: it is mapped
    assert old in content
    cached.write_bytes(content.replace(old, new))
    assert same(built, NavTables.load(folder))
    assert cached.read_bytes() == content


def test_a_cache_that_cannot_be_read_is_built_again(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    folder = write_graphs(tmp_path / "graphs")
    built = NavTables.load(folder)

    def gone(path):
        raise FileNotFoundError(path)  # another process removed it after we saw it

    monkeypatch.setattr("vln_clip.connectivity.tables.map_columns", gone)
    assert same(built, NavTables.load(folder))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that exists and cannot be read")
def test_a_graph_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    folder = write_graphs(tmp_path / "graphs")
    (folder / "alpha_connectivity.json").unlink()
    (folder / "alpha_connectivity.json").symlink_to("/proc/self/mem")
    with pytest.raises(InputError, match=r"alpha_connectivity\.json cannot be read: Input/output error"):
        NavTables.load(folder)
