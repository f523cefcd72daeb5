"""Files appear whole, under names of their own until then, and what was given up is removed."""

import os
import time
from pathlib import Path

import numpy as np

from vln_clip import files
from vln_clip.columns import map_columns, write_columns


def test_abandoned_temporary_files_of_a_cache_are_removed(tmp_path):
    old, new, folder = (tmp_path / f".{name}.tmp" for name in ("old", "new", "folder"))
    for file in (old, new, folder / "file"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    for path in (old, folder):
        os.utime(path, (time.time() - 90_000,) * 2)
    files.remove_temporaries(tmp_path.glob(files.TEMPORARY))
    assert [path.name for path in tmp_path.iterdir()] == [new.name]


def test_machines_with_equal_process_numbers_write_beside_each_other(tmp_path, monkeypatch):
    # As containers on one disk do: while one writes, the other begins and ends.
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path = tmp_path / "x.json"

    def write(temporary):
        temporary.write_text("ours")
        files.write_atomically(path, lambda other: other.write_text("theirs"))

    files.write_atomically(path, write)
    assert path.read_text() == "ours"
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]


def test_what_cannot_be_removed_from_a_shared_cache_stays(tmp_path, monkeypatch):
    left = tmp_path / ".x.tmp"
    left.touch()
    os.utime(left, (0, 0))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    files.remove_temporaries(tmp_path.glob(files.TEMPORARY))
    assert left.exists()


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    order, fsync, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("sync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("rename"), rename(*paths)))
    files.save_json(tmp_path / "x.json", {})
    assert order == ["sync", "rename", "sync"]


def test_what_nobody_used_for_months_is_removed(tmp_path):
    def fill(writer):
        writer.append("x", np.arange(3))
        return {}

    unused, used, new, writing = (tmp_path / name for name in ("unused", "used", "new", ".writing.1.tmp"))
    for path in (unused, used, new, writing):
        write_columns(path, fill)
    for path in (unused, used, writing):
        os.utime(path, (0, path.stat().st_mtime - files.UNUSED_S - 1))
    mapped = map_columns(used)[0]
    files.remove_unused(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([used, new, writing])
    used.unlink()
    assert mapped["x"].tolist() == [0, 1, 2]
    files.remove_unused(tmp_path / "absent")
