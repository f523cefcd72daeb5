"""Files are put in place whole, whoever else writes them."""

from vln_clip import files


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
