import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.full_disk import limited_files
from tests.traces import HINDI, PLACES, episode, two_floors, walk, write_font
from vln_clip.errors import InputError
from vln_clip.viewer import lettering
from vln_clip.viewer.figure import draw_figure, map_array
from vln_clip.viewer.labels import place_labels
from vln_clip.viewer.lanes import lane_offsets, lane_points
from vln_clip.viewer.maps import AGENT_COLORS, agent_style
from vln_clip.viewer.walks import Walks


@pytest.fixture
def tables(tmp_path):
    return two_floors(tmp_path / "connectivity")


@pytest.fixture
def no_system_fonts(monkeypatch):
    """A machine that has DejaVu Sans alone."""
    monkeypatch.setattr(lettering, "_system_fonts", list)
    lettering._search.cache_clear()
    lettering._warn_once.cache_clear()
    yield
    lettering._search.cache_clear()
    lettering._warn_once.cache_clear()


def svg_of(tmp_path, traces, tables, **options):
    path = tmp_path / "figure.svg"
    draw_figure(traces, tables, path, **options)
    return path.read_text()


def said(svg):
    """Texts of a figure in their order."""
    return [text.replace("&amp;", "&") for text in re.findall(r"<text [^>]*>([^<]*)</text>", svg)]


def test_a_figure_says_who_walked_how_well_and_what_for(tmp_path, tables):
    texts = said(svg_of(tmp_path, [walk(tables, "0123"), walk(tables, "012", "file", decided=False)], tables))
    assert "house, episode 7_0" in texts
    assert "follower: SR 0, nDTW 43.2 %, NE 4.50 m" in texts
    assert "file: SR 0, nDTW 43.2 %, NE 4.50 m" in texts
    assert {"start", "goal", "reference path", "3 m around the goal", "N", "2 m"} <= set(texts)
    assert "Leave the kitchen, go up the stairs & stop at the $5 lamp." in " ".join(texts)


def test_only_floors_that_are_touched_are_drawn_and_stairs_say_where_to(tmp_path, tables):
    both = walk(tables, "012345")
    assert Walks([both], tables).floors == [0, 1]
    texts = said(svg_of(tmp_path, [both], tables))
    assert "floor 1: cameras at 1.5 to 2.9 m" in texts
    assert "floor 2: cameras at 4.5 m" in texts
    assert "↑ floor 2" in texts
    assert "↓ floor 1" in texts
    below = walk(tables, "012", of=episode("0123"))
    assert Walks([below], tables).floors == [0]
    assert not any("floor 2" in text for text in said(svg_of(tmp_path, [below], tables)))


def test_every_step_is_numbered_and_places_visited_twice_hold_both(tmp_path, tables):
    texts = said(svg_of(tmp_path, [walk(tables, "01232", of=episode("0123"))], tables))
    assert [text for text in texts if re.fullmatch(r"[\d,]+", text)] == ["2", "3,5", "4"]


def test_a_hidden_goal_has_no_circle_no_reference_and_no_scores(tmp_path, tables):
    texts = said(svg_of(tmp_path, [walk(tables, "0123", of=episode(None))], tables))
    assert "follower: goal hidden, no scores" in texts
    assert not {"goal", "reference path"} & set(texts)


def test_a_walk_that_was_cut_off_says_so(tmp_path, tables):
    texts = said(svg_of(tmp_path, [walk(tables, "0123", stopped=False)], tables))
    assert "follower: SR 0, nDTW 43.2 %, NE 4.50 m, cut off before it stopped" in texts


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_a_figure_drawn_again_is_the_same_file(tmp_path, tables, ending):
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    for path in (first, second):
        draw_figure([walk(tables, "012345")], tables, path)
    assert first.read_bytes() == second.read_bytes()
    assert b"20" + b"26-" not in first.read_bytes()


def test_another_ending_is_refused(tmp_path, tables):
    with pytest.raises(InputError, match=r"--map must name a file that ends in \.png, \.svg, \.pdf, got .*map\.jpg"):
        draw_figure([walk(tables, "01")], tables, tmp_path / "map.jpg")
    assert not (tmp_path / "map.jpg").exists()


def test_traces_of_two_episodes_are_no_figure(tables):
    traces = [walk(tables, "01"), walk(tables, "01", of=episode(instr_id="8_1"))]
    with pytest.raises(ValueError, match="one episode"):
        Walks(traces, tables)


def test_an_agent_that_never_moved_has_a_figure(tmp_path, tables):
    assert "follower: goal hidden, no scores" in said(
        svg_of(tmp_path, [walk(tables, "3", of=episode(None, "3"))], tables)
    )


def test_agents_differ_in_color_line_and_mark():
    styles = [agent_style(number) for number in range(len(AGENT_COLORS))]
    for part in zip(*styles, strict=True):
        assert len(set(part)) == len(styles)


def test_walks_that_share_an_edge_have_lanes_of_their_own():
    # Edge 1-2: agent 0 there and back, agent 1 there. Three lanes: -1, 0, 1 to the right of 1 -> 2; who comes back
    # is on the left of that direction, which is its own right.
    first, second = lane_offsets([np.array([1, 2, 1]), np.array([1, 2])])
    assert first.tolist() == [0.0, 1.0]
    assert second.tolist() == [1.0]
    assert lane_offsets([np.array([0, 1, 2])])[0].tolist() == [0.0, 0.0]


def test_lanes_lie_to_the_right_of_the_way():
    points = lane_points(np.array([[0.0, 0.0], [0.0, 2.0], [3.0, 2.0]]), np.array([1.0, -1.0]), width=0.5)
    assert points.tolist() == [[[0.5, 0.0], [0.5, 2.0]], [[0.0, 2.5], [3.0, 2.5]]]


def test_labels_avoid_lines_marks_and_one_another():
    anchors = np.zeros((3, 2))
    lines = np.array([[[-30.0, 0.0], [30.0, 0.0]], [[0.0, 0.0], [0.0, 30.0]]])
    centers = place_labels(anchors, [1, 1, 2], lines, np.zeros((1, 2)))
    for row, (x, y) in enumerate(centers.tolist()):
        assert abs(y) > 2.75  # half a number's height from the level line
        assert y < 0 or abs(x) > 1.95
        others = np.delete(centers, row, axis=0)
        assert np.abs(others - centers[row]).max(axis=1).min() > 3.9


@pytest.mark.parametrize("size", [96, (160, 90)])
def test_a_small_map_is_an_array_of_its_size_with_every_agent_on_it(tables, size):
    traces = [walk(tables, "0123"), walk(tables, "01", "file", decided=False)]
    picture = map_array(traces, tables, size)
    assert picture.shape == ((96, 96, 3) if size == 96 else (90, 160, 3))
    assert picture.dtype == np.uint8
    blue, red = (np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in AGENT_COLORS[:2])
    for color in (blue, red):
        assert (np.abs(picture.astype(int) - color).max(axis=2) < 30).any()
    assert (map_array(traces, tables, size) == picture).all()


def test_a_small_map_of_one_place_is_drawn(tables):
    assert len(np.unique(map_array([walk(tables, "0", of=episode(None))], tables, 64))) > 5


def test_letters_of_no_font_are_left_out_and_told_once(tmp_path, tables, no_system_fonts, caplog):
    trace = walk(tables, "0123", of=episode(text=HINDI))
    with caplog.at_level(logging.WARNING, "vln_clip"):
        logging.getLogger("vln_clip").propagate = True
        for _ in range(2):
            svg = svg_of(tmp_path, [trace], tables)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "Devanagari" in message
    assert "fonts-noto-core" in message
    assert "--font" in message
    assert "house, episode 7_0" in said(svg)
    assert not any(letter in svg for letter in HINDI if letter > "z")


def test_chinese_is_called_so(tables, no_system_fonts, caplog):
    logging.getLogger("vln_clip").propagate = True
    assert lettering.find_font("走到厨房") is None
    assert "no font on this machine has Chinese letters" in caplog.text
    assert "fonts-noto-cjk" in caplog.text


def test_a_given_font_draws_other_scripts_as_a_picture(tmp_path, tables, no_system_fonts):
    write_font(tmp_path / "squares.ttf", HINDI)
    trace = walk(tables, "0123", of=episode(text=HINDI))
    svg = svg_of(tmp_path, [trace], tables, font=tmp_path / "squares.ttf")
    assert svg.count("<image") == 1
    draw_figure([trace], tables, tmp_path / "with.png", font=tmp_path / "squares.ttf")
    draw_figure([trace], tables, tmp_path / "without.png")
    with Image.open(tmp_path / "with.png") as one, Image.open(tmp_path / "without.png") as other:
        assert one.height > other.height


def test_a_font_without_latin_letters_serves_a_mixed_text(tmp_path, tables, no_system_fonts):
    write_font(tmp_path / "squares.ttf", "".join(sorted(set(HINDI) - set("TV"))))
    assert lettering.find_font(f"{HINDI} TV", tmp_path / "squares.ttf") == tmp_path / "squares.ttf"
    mixed, plain = lettering.Letters(tmp_path / "squares.ttf", 10), lettering.Letters(lettering.default_font(), 10)
    assert mixed.getlength(HINDI + "TV") == pytest.approx(mixed.getlength(HINDI) + plain.getlength("TV"))


def test_what_is_no_font_is_refused(tmp_path, tables):
    (tmp_path / "font.ttf").write_text("no font")
    with pytest.raises(InputError, match=r"--font must be a TrueType or OpenType file, got .*font\.ttf"):
        draw_figure([walk(tables, "01")], tables, tmp_path / "map.svg", font=tmp_path / "font.ttf")


def test_lines_break_between_words_and_between_ideographs():
    font = lettering.Letters(lettering.default_font(), 10)
    text = "one two three four five six"
    lines = lettering.wrap(text, font, 80)
    assert len(lines) > 1
    assert " ".join(lines) == text
    assert all(font.getlength(line) <= 80 for line in lines)
    assert "".join(lettering.wrap("走到厨房然后停下来", font, 30)) == "走到厨房然后停下来"
    assert len(lettering.wrap("走到厨房然后停下来", font, 30)) > 1
    assert lettering.wrap("", font, 30) == [""]


def test_the_window_holds_everything_that_is_drawn(tables):
    low, high = Walks([walk(tables, "0123")], tables).window
    for x, y, _ in PLACES:
        assert low[0] < x < high[0]
        assert low[1] < y < high[1]
    far = replace(episode("01"), instr_id="7_0")
    low, high = Walks([walk(tables, "01", of=far)], tables).window
    assert (high - low >= 8).all()  # however short a walk is, what is around it is seen


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(tmp_path, tables):
    out = tmp_path / "new" / "walks.pdf"
    out.parent.mkdir()
    out.write_text("old")
    with limited_files(2000), pytest.raises(InputError, match=r"walks.pdf cannot be written: File too large"):
        draw_figure([walk(tables, "012")], tables, out)
    assert [path.read_text() for path in out.parent.iterdir()] == ["old"]
