import re

import numpy as np
import pytest
from PIL import Image

from tests.full_disk import limited_files
from tests.traces import HINDI, episode, two_floors, walk
from vln_clip.errors import InputError
from vln_clip.viewer import sheet
from vln_clip.viewer.lettering import default_font
from vln_clip.viewer.sheet import draw_sheet
from vln_clip.viewer.walks import Walks


@pytest.fixture
def tables(tmp_path):
    return two_floors(tmp_path / "connectivity")


def groups_of(tables, count, digits="0123"):
    return [[walk(tables, digits, of=episode("0123", instr_id=f"7_{k}"))] for k in range(count)]


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (5, 4, 2), (40, 7, 6), (100, 10, 10), (200, 10, 20)]
)
def test_a_picture_is_about_as_wide_as_high_up_to_ten_columns(count, columns, rows):
    assert sheet._shape(count, "png") == (columns, rows)


@pytest.mark.parametrize(("count", "pages"), [(1, 1), (20, 1), (21, 2), (200, 10)])
def test_a_document_has_twenty_episodes_per_page(count, pages):
    columns, rows = sheet._shape(count, "pdf")
    assert columns * rows <= 20
    assert -(-count // (columns * rows)) == pages


def test_every_episode_has_its_cell(tmp_path, tables):
    draw_sheet(groups_of(tables, 3), tables, tmp_path / "sheet.png")
    draw_sheet(groups_of(tables, 2), tables, tmp_path / "two.png")
    with Image.open(tmp_path / "sheet.png") as three, Image.open(tmp_path / "two.png") as two:
        assert three.size[0] > two.size[0]
        picture = np.asarray(three.convert("L"))
    # Cells are alike but for their ids: each third has as much ink, within a tenth.
    ink = [(part < 128).sum() for part in np.array_split(picture[80:], 3, axis=1)]
    assert max(ink) < 1.1 * min(ink)


def test_a_document_has_its_pages_and_is_repeatable(tmp_path, tables, monkeypatch):
    monkeypatch.setattr(sheet, "_PAGE_ROWS", 1)
    traces = groups_of(tables, 5)
    for name in ("a.pdf", "b.pdf"):
        draw_sheet(traces, tables, tmp_path / name)
    content = (tmp_path / "a.pdf").read_bytes()
    assert content == (tmp_path / "b.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", content)) == 2


def test_scores_are_those_of_each_agent_from_left_to_right(tables):
    from vln_clip.viewer.panels import new_figure

    axis = new_figure(2, 2, 100).add_axes((0, 0, 1, 1))
    won = {"success_rate": 1.0, "ndtw": 0.876, "nav_error": 0.0}
    sheet._draw_scores(axis, Walks([walk(tables, "01", scores=won), walk(tables, "01")], tables), 100, 10)
    placed = sorted((text.get_position()[0], text.get_text()) for text in axis.texts)
    assert [text for _, text in placed] == ["✓ 88", "✗ 43"]
    sheet._draw_scores(axis, Walks([walk(tables, "01", of=episode(None))], tables), 100, 50)
    assert axis.texts[-1].get_text() == "?"


def test_an_agent_keeps_its_color_where_another_has_no_walk(tables):
    one, other = walk(tables, "01", "one"), walk(tables, "01", "other")
    assert Walks([one, other], tables, ("one", "other")).numbers == [0, 1]
    assert Walks([other], tables, ("one", "other")).numbers == [1]
    assert Walks([other], tables).numbers == [0]


def test_long_instructions_end_in_dots_within_the_cell():
    lines = sheet._first_lines("walk past the table " * 20, default_font(), 130)
    assert len(lines) == 2
    assert lines[1].endswith(" …")
    assert all(sheet.open_font(default_font(), 5.5).getlength(line) <= 130 for line in lines)
    assert sheet._first_lines("walk", default_font(), 130) == ["walk"]


def test_episodes_without_letters_or_goal_are_drawn_all_the_same(tmp_path, tables):
    groups = [[walk(tables, "01", of=episode(None, text=HINDI))], [walk(tables, "0123456", stopped=False)]]
    draw_sheet(groups, tables, tmp_path / "sheet.png", title="mixed")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 400


@pytest.mark.parametrize("count", [0, 201])
def test_too_many_episodes_are_refused_with_the_way_out(tmp_path, tables, count):
    groups = groups_of(tables, 1) * count
    with pytest.raises(
        InputError, match=f"--sheet must hold 1 to 200 episodes, got {count}; choose fewer with --limit"
    ):
        draw_sheet(groups, tables, tmp_path / "sheet.png")


def test_another_ending_is_refused(tmp_path, tables):
    with pytest.raises(InputError, match=r"--sheet must name a file that ends in \.png, \.pdf, got .*sheet\.svg"):
        draw_sheet(groups_of(tables, 1), tables, tmp_path / "sheet.svg")


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(tmp_path, tables):
    out = tmp_path / "new" / "walks.pdf"
    out.parent.mkdir()
    out.write_text("old")
    with limited_files(2000), pytest.raises(InputError, match=r"walks.pdf cannot be written: File too large"):
        draw_sheet([[walk(tables, "012")]], tables, out)
    assert [path.read_text() for path in out.parent.iterdir()] == ["old"]
