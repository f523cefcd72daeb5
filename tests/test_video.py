import logging
import math
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from tests.traces import HINDI, PLACES, episode, two_floors, walk, write_font
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.viewer.captions import Caption
from vln_clip.viewer.lettering import default_font, open_font
from vln_clip.viewer.screen import Screen, end_text
from vln_clip.viewer.shots import count_shots, shots
from vln_clip.viewer.sight import Sight, _in_camera
from vln_clip.viewer.skyboxes import Skyboxes
from vln_clip.viewer.video import write_video

SMALL = {"size_px": (160, 90), "fps": 5}
# Faces up, back, left, forward, right, down; the toy cameras' forward face looks along +y, heading 0.
FACES = ((0, 0, 0), (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (250, 250, 250))
NORTH, EAST = FACES[3], FACES[4]


@pytest.fixture
def tables(tmp_path):
    return two_floors(tmp_path / "connectivity")


def write_skyboxes(folder, names):
    """Write one-colored faces, in the data folder whose graphs are ``two_floors``."""
    place = folder / "scans" / "house" / "matterport_skybox_images"
    place.mkdir(parents=True)
    for name in names:
        for k, color in enumerate(FACES):
            Image.new("RGB", (16, 16), color).save(place / f"{name}_skybox{k}_sami.jpg", quality=95)
    return folder


@pytest.fixture
def skyboxes(tmp_path, tables):
    write_skyboxes(tmp_path, [f"h{i}" for i in range(len(PLACES))])
    return Skyboxes(tmp_path, tables)


@pytest.mark.parametrize("ending", ["mp4", "gif"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_film_holds_every_frame_and_shows_a_change(tmp_path, tables, skyboxes, ending, seen):
    trace, path = walk(tables, "0123"), tmp_path / f"walk.{ending}"
    count = write_video(trace, tables, skyboxes if seen else None, path, **SMALL)
    # Three moves of 1.6 s and a last place of 2.2 s, at five frames per second.
    assert count == 3 * 8 + 11
    frames = iio.imread(path) if ending == "mp4" else np.stack(list(iio.imiter(path)))
    if ending == "mp4":
        assert frames.shape == (count, 90, 160, 3)
    else:  # frames that equal the one before are drawn as a longer one
        assert 10 < len(frames) <= count
        with Image.open(path) as image:
            total_ms = 0
            for k in range(image.n_frames):
                image.seek(k)
                total_ms += image.info["duration"]
        assert total_ms == count * 200
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 100
    assert [file.name for file in tmp_path.glob(".*")] == []


@pytest.mark.parametrize(
    ("options", "stopped"),
    [({"decided": False}, True), ({"forced": (0, 1)}, True), ({}, False), ({"of": episode(None)}, True)],
)
def test_every_kind_of_walk_can_be_filmed(tables, options, stopped):
    trace = walk(tables, "0123456", stopped=stopped, **options)
    screen = Screen(trace, tables, None, (320, 180), None)
    frames = [screen.draw(shot) for shot in shots(trace, tables, 2)]
    assert len(frames) == count_shots(trace, 2)
    assert {frame.shape for frame in frames} == {(180, 320, 3)}


def test_an_agent_that_never_moved_can_be_filmed(tmp_path, tables):
    assert write_video(walk(tables, "0"), tables, None, tmp_path / "still.mp4", **SMALL) == 11


def test_the_first_person_view_looks_where_the_agent_looks(tables, skyboxes):
    # h0 to h1 is north, h1 to h2 east.
    trace = replace(walk(tables, "012"), headings_rad=np.array([0.0, 0.0, math.pi / 2]))
    sight = Sight(trace, tables, skyboxes, (60, 40))
    middles = [np.asarray(sight.draw(shot))[6, 30] for shot in shots(trace, tables, 10)]
    assert np.abs(middles[0].astype(int) - NORTH).max() < 12
    assert np.abs(middles[-1].astype(int) - EAST).max() < 12


def test_the_camera_turns_and_moves_without_jumps(tables):
    trace = walk(tables, "0123456", of=replace(episode(), heading_rad=3.0))
    film = list(shots(trace, tables, 24))
    turns = np.diff([shot.heading_rad for shot in film])
    wrapped = (turns + math.pi) % (2 * math.pi) - math.pi
    assert np.abs(wrapped).max() < math.radians(30)
    assert np.abs(np.diff([shot.elevation_rad for shot in film])).max() < math.radians(6)
    places = [shot.step + shot.moved for shot in film]
    assert np.diff(places).min() >= 0
    assert np.diff(places).max() < 0.2
    assert {shot.viewpoint for shot in film} == set(trace.viewpoints.tolist())


def test_what_is_missing_is_said_and_a_compass_stands_in(tmp_path, tables, caplog):
    skyboxes = Skyboxes(write_skyboxes(tmp_path, ["h0", "h2"]), tables)
    logging.getLogger("vln_clip").propagate = True
    with caplog.at_level(logging.WARNING, "vln_clip"):
        write_video(walk(tables, "0123"), tables, skyboxes, tmp_path / "walk.mp4", **SMALL)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "7_0: 2 of its viewpoints have no skybox" in message
    assert "(first h1)" in message
    assert "compass" in message


def test_a_damaged_skybox_is_named_and_nothing_is_left(tmp_path, tables, skyboxes):
    broken = tmp_path / "scans" / "house" / "matterport_skybox_images" / "h2_skybox3_sami.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InputError, match=r"h2_skybox3_sami\.jpg"):
        write_video(walk(tables, "0123"), tables, skyboxes, tmp_path / "walk.mp4", **SMALL)
    assert not list(tmp_path.glob("*.mp4"))
    assert not list(tmp_path.glob(".*"))


def test_without_ffmpeg_the_way_out_is_said(tmp_path, tables, monkeypatch):
    def fail():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", fail)
    with pytest.raises(InputError, match=r"--video .*walk\.mp4 needs ffmpeg.*pip install 'imageio\[ffmpeg\]'.*\.gif"):
        write_video(walk(tables, "01"), tables, None, tmp_path / "walk.mp4", **SMALL)
    assert write_video(walk(tables, "01"), tables, None, tmp_path / "walk.gif", **SMALL) == 8 + 11


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("walk.avi", (160, 90), r"--video must name a file that ends in \.mp4, \.gif, got .*walk\.avi"),
        ("walk.mp4", (161, 90), "must be even and at least 64, got 161x90"),
        ("walk.mp4", (160, 32), "must be even and at least 64, got 160x32"),
    ],
)
def test_bad_names_and_sizes_are_refused(tmp_path, tables, name, size, message):
    with pytest.raises(InputError, match=message):
        write_video(walk(tables, "01"), tables, None, tmp_path / name, size_px=size)


def test_the_word_attended_to_most_is_lit_most(tables):
    trace = walk(tables, "01", of=episode(text="left left left right"))
    weights = np.array([0.1, 0.0, 0.2, 0.7], dtype=np.float32)
    decision = replace(trace.decisions[0], words=weights)
    strip = Caption(replace(trace, decisions=[decision, decision]), (400, 40), 20).draw(0)
    picture = np.asarray(strip).astype(int)
    yellow = picture[..., :2].sum(-1) / 2 - picture[..., 2]  # (40, 400)
    font = open_font(default_font(), 20)
    edges = [round(font.getlength(part)) for part in ("", "left ", "left left ", "left left left ")]
    lit = [np.median(yellow[3:24, start + 4 : start + 40]) for start in edges]
    assert lit[3] > lit[2] > lit[0] > lit[1]


def test_marks_of_the_vocabulary_are_no_words(tables):
    trace = replace(walk(tables, "01"), words=("<BOS>", "<te>", "<lang:en>", "go", ",", "on", "<EOS>"))
    assert Caption(trace, (300, 40), 20).words == [(3, "go"), (4, ","), (5, "on")]


def test_a_long_instruction_is_set_smaller_and_follows_the_attention(tables):
    words = [f"word{k}" for k in range(150)]
    trace = walk(tables, "01", of=episode(text=" ".join(words)))
    early, late = (np.eye(150, dtype=np.float32)[k] for k in (0, 149))
    decisions = [replace(trace.decisions[0], words=found) for found in (early, late)]
    caption = Caption(replace(trace, decisions=decisions), (400, 60), 24)
    first, last = (np.asarray(caption.draw(step)).astype(int) for step in (0, 1))
    for picture in (first, last):
        assert (picture[..., :2].sum(-1) / 2 - picture[..., 2]).max() > 120  # the lit word is on the strip
    assert np.abs(first - last).max() > 100


def test_instructions_of_other_scripts_need_a_font(tmp_path, tables):
    trace = walk(tables, "01", of=episode(text=HINDI))
    write_font(tmp_path / "squares.ttf", HINDI)
    assert np.asarray(Caption(trace, (400, 40), 20, tmp_path / "squares.ttf").draw(0)).min() < 100


def test_the_end_is_told(tables):
    assert end_text(walk(tables, "01")) == "stopped 4.5 m from the goal: failure, 3 m would do"
    won = {"success_rate": 1.0, "ndtw": 1.0, "nav_error": 1.26}
    assert end_text(walk(tables, "01", scores=won)) == "stopped 1.3 m from the goal: success"
    assert end_text(walk(tables, "012", of=episode(None), stopped=False)) == "cut off after 2 moves; the goal is hidden"


def test_directions_in_the_camera():
    # Looking east and 90 degrees up: what is above is ahead, east is below the picture, south to the right.
    assert np.allclose(_in_camera(np.array([0, 0, 1.0]), math.pi / 2, math.pi / 2), (0, 0, 1))
    assert np.allclose(_in_camera(np.array([1.0, 0, 0]), math.pi / 2, math.pi / 2), (0, -1, 0))
    assert np.allclose(_in_camera(np.array([0, -1.0, 0]), math.pi / 2, 0.0), (1, 0, 0))


def test_skyboxes_are_found_by_viewpoint(tmp_path, tables: NavTables):
    skyboxes = Skyboxes(write_skyboxes(tmp_path, ["h3"]), tables)
    assert skyboxes.lacking([2, 3, 2]) == ["h2"]
    assert skyboxes.faces(3).shape == (6, 16, 16, 3)
    assert skyboxes.rotation(3).shape == (3, 3)


def test_a_full_disk_is_one_sentence(tmp_path, tables, monkeypatch):
    def stopped(*words, **flags):
        yield None
        raise OSError("[Errno 32] Broken pipe\n\nFFMPEG COMMAND:\nffmpeg -y")

    monkeypatch.setattr("imageio_ffmpeg.write_frames", stopped)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "film.mp4").write_text("old")
    with pytest.raises(InputError) as error:
        write_video(walk(tables, "01"), tables, None, tmp_path / "new" / "film.mp4", size_px=(64, 64), fps=2)
    assert "film.mp4 cannot be written: ffmpeg stopped ([Errno 32] Broken pipe); is the disk full?" in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.read_text() for path in (tmp_path / "new").iterdir()] == ["old"]
