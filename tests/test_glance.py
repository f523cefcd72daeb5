"""What TensorBoard shows of a run: read back from its event files."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.full_disk import limited_files
from tests.test_checkpoint_run import StoppedError, make_stage, open_run, stop_after
from tests.toy_runs import World
from tests.toy_world import toy_setting
from vln_clip import glance, train
from vln_clip.agents.baselines import StopAgent
from vln_clip.envs.evaluation import walk_scores, walk_split
from vln_clip.errors import InputError
from vln_clip.events import Sights
from vln_clip.records import Episode
from vln_clip.rollout import teacher_forced
from vln_clip.training import run_stage

CLOCK = {"clock/iterations_per_s", "clock/iterations_per_s_with_validation", "clock/validation_s"}
PARTS = {"imitation", "reinforcement", "policy", "value", "entropy"}


def events(run, stage):
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(run / "events" / stage), size_guidance=everything).Reload()


def texts(found, tag):
    return [event.tensor_proto.string_val[0].decode() for event in found.Tensors(f"{tag}/text_summary")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("glance"), patch)
        world.train("--bt", "--no-blind")
        yield world


@pytest.fixture(scope="module")
def run(world):
    return world.runs / "toy"


def test_every_stage_has_its_losses_scores_and_speed(run):
    for stage in ("follower", "back_translated"):
        tags = set(events(run, stage).Tags()["scalars"])
        assert {f"loss/{part}" for part in PARTS} | CLOCK | {"optimizer/learning_rate"} <= tags
        assert {f"optimizer/{part}_gradient_norm" for part in ("encoder", "decoder", "critic")} <= tags
        for split in ("val_unseen", "val_seen", "train"):
            assert {f"{split}/{metric}" for metric in ("success_rate", "spl", "ndtw", "nav_error")} <= tags
    assert {f"aug_loss/{part}" for part in PARTS} <= tags
    speaker = set(events(run, "speaker").Tags()["scalars"])
    assert {"loss/word", "val_unseen/bleu", "val_seen/loss", "optimizer/learning_rate"} | CLOCK <= speaker


def test_numbers_are_those_of_the_metrics_file_which_knows_no_clock(run):
    for stage in ("follower", "speaker", "back_translated"):
        found = events(run, stage)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = [line for line in lines if line["stage"] == stage]
        tags = set(found.Tags()["scalars"])
        assert tags - CLOCK == set(lines[0]) - {"stage", "iteration"}
        for tag in tags - CLOCK:
            values = [(event.step, event.value) for event in found.Scalars(tag)]
            assert values == [(line["iteration"], pytest.approx(line[tag], rel=1e-5, abs=1e-6)) for line in lines]
        for tag in CLOCK:
            assert all(event.value > 0 for event in found.Scalars(tag))


def test_small_numbers_keep_their_digits(run):
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert line["optimizer/learning_rate"] == 1e-4
    toy = open_run(run.parent / "small")
    toy.log("follower", 1, {"loss/x": 1.23456789e-9, "loss/y": 1.23456789}, {}, Sights())
    line = json.loads((toy.folder / "metrics.jsonl").read_text())
    assert (line["loss/x"], line["loss/y"]) == (1.23457e-9, 1.234568)


def test_maps_of_the_same_episodes_are_shown_at_every_validation(run):
    found = events(run, "follower")
    tags = found.Tags()["images"]
    # Of 12 instructions the 4th and the 10th; paths of val_unseen (300, …) and val_seen (200, …) have three each.
    names = [
        f"{split}_{hundred}0{name}"
        for split, hundred in (("val_unseen", 3), ("val_seen", 2))
        for name in ("1_0", "3_0")
    ]
    assert tags == [f"walks/{name}" for name in names]
    for tag in tags:
        assert [event.step for event in found.Images(tag)] == [2, 4]
        for event in found.Images(tag):
            picture = decoded(event)
            assert picture.shape[1] == glance.SIZE_PX
            assert picture.shape[0] > glance.SIZE_PX + 30  # the words below
            assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    (first, second) = texts(found, "walks/val_unseen")
    assert "301_0: Walk to the " in first
    assert all(words in first + second for words in ("m from the goal, ", "nDTW"))


def decoded(event):
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def test_a_map_shows_what_the_agent_did(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    table = setting.table("val_unseen")
    walks = walk_split(world, StopAgent(), table, 8, feedback=teacher_forced)
    scores = walk_scores(world, table, walks)
    there = glance.trace("follower", table, walks, scores, 0)
    assert [world.tables.viewpoint_ids[v] for v in there.viewpoints] == list(there.episode.path)
    assert glance.outcome(there) == f"success: 0.0 m from the goal, {len(there.viewpoints) - 1} moves, nDTW 100 %"
    assert there.headings_rad[0] == pytest.approx(0.0)  # annotated: 0
    stay = walk_split(world, StopAgent(), table, 8)
    nowhere = glance.trace("follower", table, stay, walk_scores(world, table, stay), 0)
    assert nowhere.viewpoints.tolist() == there.viewpoints[:1].tolist()
    assert glance.outcome(nowhere).startswith("failure: ")
    assert "goal, 0 moves" in glance.outcome(nowhere)
    pictures = [glance.captioned_map(shown, world.tables) for shown in (there, nowhere)]
    assert not np.array_equal(pictures[0][: glance.SIZE_PX], pictures[1][: glance.SIZE_PX])


def test_the_speaker_s_words_stand_beside_the_reference(run):
    found = events(run, "speaker")
    for split, hundred in (("val_unseen", 3), ("val_seen", 2)):
        written = texts(found, f"descriptions/{split}")
        assert len(written) == 2
        for text in written:
            lines = text.splitlines()
            assert lines[0] == "| what the speaker wrote | the reference |"
            assert [line.split(",")[0] for line in lines[2:]] == [f"| path {hundred}0{k}" for k in (0, 2, 3)]
            assert all("| Walk to the " in line for line in lines[2:])


def test_every_language_is_shown(tmp_path, monkeypatch):
    world = World(tmp_path, monkeypatch)
    flags = ("--dataset", "rxr", "--no-blind", "--bt", "--iters", "2", "--speaker-iters", "2", "--bt-iters", "2")
    run = world.train(*flags, "--speaker-eval-every", "2", name="rxr")
    tags = set(events(run, "follower").Tags()["scalars"])
    for split in ("val_unseen", "val_seen"):
        for language in ("en", "hi", "te"):
            names = {tag.rpartition("/")[2] for tag in tags if tag.startswith(f"{split}/{language}/")}
            assert names == {"success_rate", "spl", "ndtw", "sdtw"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    row = next(row for row in rows if row["stage"] == "follower")
    # 16 instructions are English (two regions), 8 Hindi and 8 Telugu.
    mean = sum(row[f"val_unseen/{name}/ndtw"] * n for name, n in (("en", 16), ("hi", 8), ("te", 8))) / 32
    assert row["val_unseen/ndtw"] == pytest.approx(mean, abs=1e-5)
    (text,) = texts(events(run, "speaker"), "descriptions/val_unseen")
    for language in ("en", "hi", "te"):
        assert text.count(f", {language}: ") == 3  # of three paths
    assert "की ओर जाइए" in text


def test_markdown_cells_hold_any_text():
    text = glance.markdown(("a", "b"), [("x | y", "<UNK>\nnext")])
    assert text == "| a | b |\n| --- | --- |\n| x \\| y | &lt;UNK> next |"
    episode = Episode("1_0", "1", "alpha", "a0", 0.0, "Stop | here.", ("a0",))
    shown = glance.descriptions({"val_seen": [glance.Description(episode, "go <b>")]})
    assert shown.texts["descriptions/val_seen"].endswith("| path 1, en: go &lt;b> | Stop \\| here. |")


def test_examples_are_spread_evenly():
    assert glance.spread(12, 3) == [2, 6, 10]
    assert glance.spread(2, 3) == [0, 1]
    assert glance.spread(0, 3) == []


@pytest.mark.parametrize("stops", [(5,), (5, 1, 3)])
def test_a_stage_that_was_stopped_shows_every_step_once(tmp_path, monkeypatch, stops):
    toy = toy_setting(tmp_path, monkeypatch)

    def stage():
        picture = np.zeros((4, 4, 3), np.uint8)
        return replace(make_stage(toy, "follower"), look=lambda: Sights({"walks/x": picture}, {"walks": "| a |"}))

    for count in stops:
        run = open_run(tmp_path)  # a process each
        with pytest.raises(StoppedError):
            run_stage(run, stop_after(stage(), count))
    run = open_run(tmp_path)
    run_stage(run, stage())
    check_steps(run.folder, [2, 4, 6, 8])


def check_steps(run, steps):
    # This is how TensorBoard reads: all values are tensors.
    folder = str(run / "events" / "follower")
    found = plugin_event_accumulator.EventAccumulator(folder, {"tensors": 0}).Reload()
    tags = found.Tags()["tensors"]
    assert {"walks/x", "walks/text_summary", "loss/policy", "val_seen/spl", *CLOCK} <= set(tags)
    for tag in tags:
        assert [event.step for event in found.Tensors(tag)] == steps, tag


def test_what_was_shown_beyond_the_last_checkpoint_is_shown_anew(tmp_path, monkeypatch):
    # The machine goes down between the numbers of iteration 4 and its checkpoint.
    toy = toy_setting(tmp_path, monkeypatch)
    picture = np.zeros((4, 4, 3), np.uint8)
    stage = replace(make_stage(toy, "follower"), look=lambda: Sights({"walks/x": picture}, {"walks": "| a |"}))
    run, saves, save = open_run(tmp_path), [], train.checkpoint.save

    def stop(folder, *rest):
        if folder.name == "last":
            saves.append(folder)
        if len(saves) == 2:
            raise StoppedError
        save(folder, *rest)

    with monkeypatch.context() as patched:
        patched.setattr("vln_clip.snapshots.checkpoint.save", stop)
        with pytest.raises(StoppedError):
            run_stage(run, stage)
    check_steps(run.folder, [2, 4])  # written at once, not at exit
    run_stage(run, stage)
    assert len(list((run.folder / "events" / "follower").iterdir())) == 2
    check_steps(run.folder, [2, 4, 6, 8])


def test_other_stages_keep_their_events(tmp_path, monkeypatch):
    # TensorBoard drops the events of a folder from a step on, whatever their tags are.
    toy = toy_setting(tmp_path, monkeypatch)
    run = open_run(tmp_path)
    run_stage(run, make_stage(toy, "follower", iters=4))
    run_stage(run, make_stage(toy, "back_translated", iters=2))
    for stage, steps in (("follower", [2, 4]), ("back_translated", [2])):
        assert [event.step for event in events(run.folder, stage).Scalars("val_seen/spl")] == steps


def test_a_full_disk_ends_a_run_with_a_sentence(tmp_path, monkeypatch):
    toy = toy_setting(tmp_path, monkeypatch)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    stage = replace(make_stage(toy, "follower"), look=lambda: Sights({"walks/x": noise}, {"walks": "| a |"}))
    run = open_run(tmp_path)
    with limited_files(20_000), pytest.raises(InputError, match=r"cannot be written to: File too large; .* goes on"):
        run_stage(run, stage)
    run_stage(open_run(tmp_path), stage)
    check_steps(run.folder, [2, 4, 6, 8])
