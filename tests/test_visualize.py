"""``vln-clip visualize`` on the toy world: pages, maps, what is refused."""

import gzip
import json
import os
import re

import pytest
from PIL import Image

from tests.test_bad_input import refused
from tests.toy_runs import write_predictions
from vln_clip import log, visualize
from vln_clip.evaluate import main as evaluate

DOCUMENT = re.compile(r'<script type="application/json" id="document">(.*?)</script>', re.S)


@pytest.fixture
def run(world):
    return world.runs / "toy"


@pytest.fixture
def page(tmp_path):
    """Run the program; return the document in its page."""

    def call(*words):
        out = tmp_path / "page.html"
        log.program(visualize.main, [*map(str, words), "--out", str(out), "--device", "cpu"])
        return json.loads(DOCUMENT.search(out.read_text())[1])

    return call


def test_a_run_s_page_holds_its_walks_with_reasons_and_scores(run, page, tmp_path):
    document = page(run)
    evaluate(["--checkpoint", str(run), "--json", str(tmp_path / "scores.json"), "--no-context", "--no-ci"])
    scored = json.loads((tmp_path / "scores.json").read_text())
    assert (document["dataset"], document["split"]) == ("r2r", "val_unseen")
    assert [agent["name"] for agent in document["agents"]] == ["toy"]
    assert document["agents"][0]["about"].startswith("back_translated at iteration ")
    assert len(document["episodes"]) == scored["num_instructions"] == 12
    walks = [episode["walks"][0] for episode in document["episodes"]]
    for name in ("success_rate", "ndtw"):
        assert sum(walk["metrics"][name] for walk in walks) / 12 == pytest.approx(scored[name], abs=1e-4)
    for walk in walks:
        assert walk["words"][0] == "<BOS>"
        for decision in walk["decisions"]:
            assert len(decision["w"]) == len(walk["words"])
            assert len(decision["v"]) == 36
            assert len(decision["p"]) == len(decision["c"]) + 1
    assert document["notes"] == ["no panoramas: the data folder holds no skyboxes of these buildings"]
    assert document["facts"][0].startswith("12 of 12 instructions of r2r val_unseen (4 paths, 1 buildings)")


def test_a_run_and_a_file_stand_side_by_side_on_the_episodes_asked_for(run, world, page, tmp_path):
    file = write_predictions(world, tmp_path / "shortest.json.gz")
    document = page(run, file, "--episode", "301", "302_1")
    assert [episode["id"] for episode in document["episodes"]] == ["301_0", "301_1", "301_2", "302_1"]
    assert [agent["name"] for agent in document["agents"]] == ["toy", "shortest"]
    for episode in document["episodes"]:
        mine, theirs = episode["walks"]
        assert mine["decisions"]
        assert theirs["decisions"] is None
        assert theirs["viewpoints"] == episode["path"]
        assert theirs["metrics"]["spl"] == 1


def first_two(found):
    """Leave out all predictions but two."""
    del found[2:]


def test_what_a_file_leaves_out_has_no_walk(run, world, page, tmp_path, capsys):
    file = write_predictions(world, tmp_path / "few.json", change=first_two)
    document = page(file)
    assert [episode["id"] for episode in document["episodes"]] == ["300_0", "300_1"]
    both = page(run, file)
    assert sum(episode["walks"][1] is None for episode in both["episodes"]) == 10
    assert "few has no walk for 10 of 12 instructions" in both["notes"]
    chosen = page(run, file, "--episode", both["episodes"][-1]["id"])
    assert chosen["episodes"][0]["walks"][1] is None
    assert "few has no walk for any of these instructions" in chosen["notes"]
    words = [file, "--episode", "301_0", "--out", tmp_path / "none.html"]
    assert "none of the agents has one for 301_0" in refused(capsys, visualize.main, words)


def test_guide_files_of_rxr_are_shown(world, page, tmp_path):
    with gzip.open(world.data / "RxR" / "rxr_val_unseen_guide.jsonl.gz", "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    guide = tmp_path / "guide.jsonl"
    answers = [{key: item[key] for key in ("instruction_id", "path")} for item in items]
    guide.write_text("".join(f"{json.dumps(answer)}\n" for answer in answers))
    document = page(guide, "--dataset", "rxr", "--language", "hi")
    assert len(document["episodes"]) == 8
    assert {episode["language"] for episode in document["episodes"]} == {"hi"}
    assert all(episode["walks"][0]["metrics"]["ndtw"] == 1 for episode in document["episodes"])
    assert document["episodes"][0]["instruction"].endswith("रुकिए।")


def test_hidden_goals_leave_scores_out_and_are_said(run, page):
    document = page(run, "--split", "test", "--limit", 5)
    assert len(document["episodes"]) == 5
    assert all(episode["path"] is None and episode["walks"][0]["metrics"] is None for episode in document["episodes"])
    assert "the goals of test are hidden: no scores, no reference paths" in document["notes"]


def test_a_limit_draws_the_same_episodes_every_time_and_keeps_their_order(run, page):
    ids = [[episode["id"] for episode in page(run, *more)["episodes"]] for more in ((), ("--limit", 6), ("--limit", 6))]
    assert ids[1] == ids[2] == [name for name in ids[0] if name in ids[1]]
    assert len(ids[1]) == 6
    assert ids[1] != ids[0][:6]  # those would be of two paths


def test_checkpoints_of_one_run_are_called_by_their_stage(run, page):
    stages = [run / "checkpoints" / stage / "best_val_unseen" for stage in ("follower", "back_translated")]
    document = page(*stages, "--limit", 1)
    assert [agent["name"] for agent in document["agents"]] == ["toy/follower", "toy/back_translated"]


def test_things_called_the_same_are_called_by_their_path(world, page, tmp_path):
    files = [write_predictions(world, tmp_path / name) for name in ("a.json", "a.json.gz")]
    assert [agent["name"] for agent in page(*files)["agents"]] == files


def test_a_file_whose_name_is_no_text_can_be_shown(world, page, tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9.json")
    write_predictions(world, file)
    document = page(file)
    assert document["agents"] == [{"name": "caf\ufffd", "about": "prediction file caf\ufffd.json"}]


def test_a_map_shows_one_episode_of_all_agents(run, world, tmp_path):
    files = [write_predictions(world, tmp_path / f"{name}.json") for name in "ab"]
    out = tmp_path / "map.svg"
    log.program(visualize.main, [str(run), *files, "--episode", "301_0", "--map", str(out), "--device", "cpu"])
    assert out.read_text().startswith("<?xml")


def test_a_sheet_holds_several_episodes(run, tmp_path):
    out = tmp_path / "sheet.png"
    log.program(visualize.main, [str(run), "--limit", "3", "--sheet", str(out), "--device", "cpu"])
    with Image.open(out) as picture:
        assert picture.format == "PNG"


def test_a_sheet_that_would_be_too_large_is_refused(run, capsys, monkeypatch):
    monkeypatch.setattr("vln_clip.viewer.sheet.MOST_EPISODES", 11)
    told = refused(capsys, visualize.main, [run, "--sheet", "sheet.png", "--device", "cpu"])
    assert told == "--sheet holds at most 11 episodes, got 12; use --limit"


@pytest.mark.slow
def test_a_video_films_one_episode(run, tmp_path):
    out = tmp_path / "walk.gif"
    log.program(visualize.main, [str(run), "--episode", "301_0", "--video", str(out), "--device", "cpu"])
    with Image.open(out) as picture:
        assert picture.n_frames > 1


@pytest.fixture
def told(run, capsys):
    """Give words to the program, which must refuse them; return its one sentence."""
    return lambda *words: refused(capsys, visualize.main, [*words, "--device", "cpu"])


def test_flags_that_make_no_sense_are_refused(run, told, tmp_path):
    out = ("--out", tmp_path / "page.html")
    assert "name at least one run" in told(*out)
    assert "say what to write (--out, --map, --video, --sheet), or let an agent walk live with --serve" in told(run)
    assert "--out must name a page that ends in .html, got page.pdf" in told(run, "--out", "page.pdf")
    assert "--map must name a file that ends in .png, .svg, .pdf, got m.jpg" in told(run, "--map", "m.jpg")
    assert "--map shows one episode, got 12; name it with --episode ID" in told(run, "--map", tmp_path / "m.png")
    assert "--video shows one episode, got 12" in told(run, "--video", tmp_path / "m.gif")
    assert "--video must name a file that ends in .mp4, .gif, got m.avi" in told(run, "--video", "m.avi")
    assert "--video films one agent, got 2" in told(run, "other", "--video", "m.gif")
    assert "--sheet must name a file that ends in .png, .pdf, got m.svg" in told(run, "--sheet", "m.svg")
    assert "--out shows at most 2 agents side by side, got 3" in told(run, "a", "b", *out)
    assert f"agents side by side must be different ones, got {run} twice" in told(run, run, *out)
    assert "must be different ones" in told(run, run / ".." / run.name, *out)
    assert "--limit must be at least 1, got 0" in told(run, *out, "--limit", 0)
    assert "--max-mb must be above 0, got 0" in told(run, *out, "--max-mb", 0)
    assert "--max-mb must be above 0, got nan" in told(run, *out, "--max-mb", "nan")
    assert "--panorama-width must be an even number up to 8192, got 511" in told(run, *out, "--panorama-width", 511)
    assert "exclude each other" in told(run, *out, "--panorama-width", 512, "--no-panoramas")
    assert not (tmp_path / "page.html").exists()


def test_serve_takes_one_agent_and_nothing_else(run, told, world, tmp_path):
    assert "leave out" in told(run, "--serve", run)
    assert "leave out --map" in told("--serve", run, "--map", "m.png")
    assert "leave out --episode, --limit" in told("--serve", run, "--episode", "301_0", "--limit", 3)
    file = write_predictions(world, tmp_path / "walks.json")
    assert "--serve must be a run or a checkpoint, got the file" in told("--serve", file)
    assert "--port must be from 0 to 65535, got 70000" in told("--serve", run, "--port", 70000)
    assert "must be a run's folder, a checkpoint's or a prediction file, but does not exist" in told(
        "--serve", "nowhere"
    )


def test_episodes_that_are_none_of_the_split_are_refused(run, told, tmp_path):
    out = ("--out", tmp_path / "page.html")
    wanted = "--episode must be one of the 12 instructions of val_unseen, got '301_9'; did you mean '301_"
    assert told(run, *out, "--episode", "301_9").startswith(wanted)
    assert "got '101_0', which is of train" in told(run, *out, "--episode", "101_0")


def test_files_that_cannot_be_shown_are_refused(run, world, told, tmp_path):
    out = ("--out", tmp_path / "page.html")
    foreign = write_predictions(world, tmp_path / "seen.json", split="val_seen")
    sentence = told(foreign, *out)
    assert "must be of split val_unseen, but is of val_seen" in sentence
    assert "--allow-foreign leaves such predictions out" in sentence
    assert "there must be a walk to show" in told(foreign, *out, "--allow-foreign")
    assert "results.json" in told(run / "results.json", *out)
    assert "does not exist" in told(tmp_path / "nothing.json", *out)
    wrong = write_predictions(
        world, tmp_path / "wrong.json", change=lambda found: found[0].update(trajectory=[["b3", 0.0, 0.0]])
    )
    assert "must start at viewpoint" in told(wrong, *out)
    assert "--saliency needs runs or checkpoints, but" in told(
        write_predictions(world, tmp_path / "good.json"), *out, "--saliency"
    )
