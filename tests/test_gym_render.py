"""Pictures, texts and the window of the gymnasium environments."""

import builtins
import logging
import sys
import types

import gymnasium
import numpy as np
import pytest

from tests.gym_world import arguments
from vln_clip.envs.gym.picture import MAP_PX, STRIP_PX, WIDTH_PX


@pytest.fixture
def without_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "tkinter", None)  # importing it raises ImportError


def make(worlds, name, mode, **more):
    env_id, chosen = arguments(name, worlds)
    env = gymnasium.make(env_id, render_mode=mode, **{**chosen, **more})
    env.reset(seed=1)
    return env


def test_frames_have_one_size_and_a_panorama_where_skyboxes_are(worlds):
    plain, pictured = make(worlds, "indices", "rgb_array"), make(worlds, "rgb", "rgb_array", max_steps=5)
    assert pictured.render().shape[0] == plain.render().shape[0] + STRIP_PX
    first = pictured.render()
    assert first.shape[1:] == (WIDTH_PX, 3)
    assert first.dtype == np.uint8
    strip = first[-MAP_PX - STRIP_PX : -MAP_PX]
    assert strip.std() > 10
    assert len(np.unique(strip.reshape(-1, 3), axis=0)) > 200  # a photograph, not a drawing
    pictured.step(1)
    assert pictured.render().shape == first.shape
    assert (pictured.render() != first).any()


def test_the_panorama_has_the_agent_s_heading_in_the_middle_and_no_seams(worlds):
    from vln_clip.envs.gym.picture import Painter

    env = make(worlds, "rgb", None)
    painter, walkers = Painter(env.unwrapped.source), env.unwrapped.walkers
    painter._badge = lambda *_: None
    strips = []
    for view in (12, 15):  # a quarter turn to the right
        walkers.view[0] = view
        strips.append(painter.frame(walkers, 0)[-MAP_PX - STRIP_PX : -MAP_PX].astype(int))
    assert np.abs(np.roll(strips[0], -WIDTH_PX // 4, axis=1) - strips[1]).max() <= 1
    jumps = np.abs(np.diff(strips[0], axis=1)).mean((0, 2))
    # The narrow views meet every 15 degrees; at 45 + 90k degrees the cube's faces meet too, which are not blended.
    edges = [k * WIDTH_PX // 24 - 1 for k in range(1, 24) if (15 * k - 180) % 90 != 45]
    assert jumps[edges].mean() < 2 * jumps.mean()


def test_pictures_and_texts_do_not_show_the_goal(worlds):
    for name in ("indices", "rgb"):
        for mode in ("rgb_array", "ansi"):
            env = make(worlds, name, mode)
            before = env.render()
            env.unwrapped.walkers.table.goal[:] = 0
            assert np.array_equal(env.render(), before)


def test_text_tells_instruction_place_and_actions(worlds):
    env = make(worlds, "indices", "ansi")
    row = next(e for e in env.unwrapped.source.table.episodes if e.start == "a2")
    env.reset(options={"episode": row.instr_id})
    env.unwrapped.walkers.view[0] = 12  # north
    lines = env.render().splitlines()
    assert lines[0] == f"{row.instr_id}: {row.instruction}"
    assert "decision 0 of 35, building alpha, viewpoint a2, looking 0 deg clockwise from +y, +0 deg up" in lines[1]
    # North to a3 (2.5 m on and 1.5 m up), east to a4, south to a1.
    assert [line.split() for line in lines[2:]] == [
        ["0", "stop"],
        ["1", "ahead", "up,", "2.9", "m"],
        ["2", "90", "deg", "right,", "2.5", "m"],
        ["3", "behind,", "2.5", "m"],
    ]


def test_human_mode_writes_text_where_there_is_no_display(worlds, without_display, capsys, caplog):
    with caplog.at_level(logging.WARNING):
        env = make(worlds, "indices", "human")
        env.step(1)
    assert env.render() is None
    assert capsys.readouterr().out.count("0  stop") == 2  # after reset and after the step
    told = [record.getMessage() for record in caplog.records if "no window can be opened" in record.getMessage()]
    assert len(told) == 1
    assert "render_mode='rgb_array'" in told[0]
    env.close()
    env.close()


def test_human_mode_shows_frames_in_a_window(worlds, monkeypatch, capsys):
    shown, window = [], FakeTk(shown_limit=2)
    tkinter = types.ModuleType("tkinter")
    tkinter.TclError = FakeTclError
    tkinter.Tk, tkinter.Label = lambda: window, lambda root: window
    image_tk = types.SimpleNamespace(PhotoImage=lambda image, master: shown.append(image.size) or image)
    monkeypatch.setitem(sys.modules, "tkinter", tkinter)
    monkeypatch.setitem(sys.modules, "PIL.ImageTk", image_tk)
    monkeypatch.setattr("PIL.ImageTk", image_tk, raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)
    env = make(worlds, "indices", "human")
    env.step(1)
    assert shown == [(WIDTH_PX, MAP_PX + 76)] * 2
    assert capsys.readouterr().out == ""
    env.step(1)  # a person has closed the window meanwhile
    assert "0  stop" in capsys.readouterr().out
    env.close()


def test_rendering_without_a_mode_says_what_to_do(worlds):
    env = make(worlds, "indices", None)
    with pytest.warns(UserWarning, match="render_mode"):
        env.render()


FakeTclError = type("TclError", (builtins.Exception,), {})


class FakeTk:
    """Stands for a Tk window that a person closes after some frames."""

    def __init__(self, shown_limit):
        self.updates, self.limit = 0, shown_limit

    def update(self):
        self.updates += 1
        if self.updates > self.limit:
            raise FakeTclError("application has been destroyed")

    def title(self, _):
        pass

    def pack(self):
        pass

    def configure(self, image):
        pass

    def destroy(self):
        pass
