"""Files are put in place whole, whoever else writes them."""

import os

import numpy as np

from vln_clip import files
from vln_clip.columns import map_columns, write_columns


def test_two_writers_with_one_process_number_do_not_meet(tmp_path):
    path = tmp_path / "shared.json"

    def write(temporary):
        temporary.write_text("one")
        if not path.exists():  # another container, whose process has our number, is faster
            files.write_atomically(path, lambda other: other.write_text("two"))
            assert path.read_text() == "two"

    files.write_atomically(path, write)
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


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
