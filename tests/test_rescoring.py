"""Rescoring of searched walks with a speaker, the grid of weights, and what the programs make of a search."""

import json
from dataclasses import replace

import pytest
import torch

from tests.test_bad_input import refused
from tests.test_search import opinionated, rows_of, talker, whole
from tests.toy_world import toy_setting
from vln_clip import evaluate, log, submit
from vln_clip.envs.evaluation import score_walks
from vln_clip.envs.search import search
from vln_clip.losses import word_loss
from vln_clip.rescoring import AVERAGES, BOTH, FOLLOWER, NONE, SPEAKER, Weighting, choose, speaker_log_prob
from vln_clip.searched import score_grid, search_split
from vln_clip.searching import Search
from vln_clip.tasks.metrics import LENGTHS, SUCCESS_RATE


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy data set and its world with features."""
    return toy_setting(tmp_path, monkeypatch)


def test_a_speaker_s_score_is_its_word_loss_per_walk(toy):
    setting, world = toy
    speaker, batch = talker(setting), whole(setting)
    found = search(world, opinionated(setting), batch, 5)
    said = speaker_log_prob(world, speaker, batch, found)
    for row in range(12):
        for k in range(int(found.mask[row].sum())):
            one = rows_of(batch, [row])
            path = found.viewpoint[row : row + 1, k, : int(found.num_decisions[row, k])]
            logits = speaker(world.observe_walk(replace(one, guide=path)), one.tokens, one.length)
            wanted = -float(word_loss(logits, one.tokens).detach()) * (int(one.length[0]) - 1)
            assert float(said[row, k]) == pytest.approx(wanted, abs=1e-4)


# Two walks of 2 and 4 decisions, an instruction of 10 words; the third entry is no walk.
WALKS = torch.tensor([[-1.0, -1.6, -torch.inf]]), torch.tensor([[2, 4, 0]]), torch.tensor([[-30.0, -28.0, 0.0]])


@pytest.mark.parametrize(
    ("alpha", "average", "best"),
    [
        (0.0, NONE, 0),  # -1 against -1.6
        (0.0, FOLLOWER, 1),  # -0.5 against -0.4
        (1.0, NONE, 1),
        (1.0, BOTH, 1),
        (0.2, SPEAKER, 0),  # 0.8 * -1 + 0.2 * -3 = -1.4 against 0.8 * -1.6 + 0.2 * -2.8 = -1.84
        (0.2, NONE, 0),  # -0.8 - 6 = -6.8 against -1.28 - 5.6 = -6.88
    ],
)
def test_choosing_by_hand(alpha, average, best):
    follower, num_decisions, speaker = WALKS
    chosen = choose(follower, num_decisions, speaker, torch.tensor([10]), Weighting(alpha, average))
    assert chosen.tolist() == [best]


def test_alpha_1_orders_by_the_speaker_and_alpha_0_needs_none(toy):
    setting, world = toy
    batch, speaker = whole(setting), talker(setting)
    found = search(world, opinionated(setting), batch, 5)
    said = speaker_log_prob(world, speaker, batch, found)
    words, decisions = batch.length - 1, found.num_decisions
    chosen = choose(found.log_prob, decisions, said, words, Weighting(1.0))
    assert chosen.tolist() == said.masked_fill(~found.mask, -torch.inf).argmax(1).tolist()
    assert len(set(chosen.tolist())) > 1
    assert choose(found.log_prob, decisions, None, words, Weighting(0.0, NONE)).tolist() == [0] * 12


def test_a_speaker_must_not_drop(toy):
    setting, world = toy
    batch = whole(setting)
    found = search(world, opinionated(setting), batch, 2)
    with pytest.raises(AssertionError, match="without dropout"):
        speaker_log_prob(world, talker(setting).train(), batch, found)


def test_the_grid_holds_what_each_weighting_scores(toy):
    setting, world = toy
    table = setting.table("val_unseen")
    found = search_split(world, opinionated(setting), table, Search(), talker(setting))
    entries = score_grid(world, table, found)
    assert len(entries) == 101 * len(AVERAGES)
    for entry in (entries[0], entries[150], entries[-1]):
        chosen = found.best(Weighting(entry["alpha"], entry["average"]))
        for name, explore in (("walked", True), ("jumped", False)):
            assert entry[name] == pytest.approx(score_walks(world, table, found.walks(world, chosen, explore)))
        assert entry["walked"][SUCCESS_RATE] == entry["jumped"][SUCCESS_RATE]  # they end in the same place
        assert entry["walked"][LENGTHS] > entry["jumped"][LENGTHS]


def test_evaluating_a_search_stands_beside_greedy(world, tmp_path, capsys):
    out = tmp_path / "scores.json"
    run = world.runs / "toy"
    words = ["--checkpoint", run, "--search", "beam", "--search-grid", "--json", out, "--device", "cpu"]
    log.program(evaluate.main, [str(word) for word in words])
    found = json.loads(out.read_text())
    names = ["random", "shortest_path", "blind", "no_instruction", "back_translated", "back_translated_beam5"]
    assert list(found["rows"]) == names
    results = json.loads((run / "results.json").read_text())["val_unseen"]
    assert found["rows"]["back_translated"]["spl"] == pytest.approx(results["back_translated"]["spl"])
    beam = found["rows"]["back_translated_beam5"]
    assert (found["spl"], found["lengths"]) == (beam["spl"], beam["lengths"])
    assert found["comparisons"]["back_translated_beam5"]["against"] == "back_translated"
    assert (found["search"]["beam_size"], found["search"]["alpha"]) == (5, 0.5)
    assert found["search"]["speaker"].endswith("toy/checkpoints/speaker/best_val_unseen_bleu")
    (chosen,) = [e for e in found["grid"] if (e["alpha"], e["average"]) == (0.5, BOTH)]
    assert chosen["walked"]["lengths"] == pytest.approx(beam["lengths"])
    told = " ".join(capsys.readouterr().out.split())
    assert "alphas tuned on val_unseen itself" in told
    assert "asked for, alpha 0.5" in told
    assert "beam5: alpha 0.5, averaged: both, trajectories begin with the exploration of the search" in told
    assert "back_translated_beam5" in told


def test_a_searched_submission_is_valid_and_says_so(world, capsys):
    run = world.runs / "toy"
    words = ["--checkpoint", run, "--search", "beam", "--beam-size", "3", "--alpha", "0", "--device", "cpu"]
    log.program(submit.main, [str(word) for word in words])
    folder = run / "checkpoints" / "back_translated" / "best_val_unseen"
    path = folder / "submission_test_beam3.json"
    assert f"{path}: valid, 12 predictions for 12 instructions" in capsys.readouterr().out
    about = json.loads((folder / "submission_test_beam3.about.json").read_text())
    assert about["search"] == {
        "search": "beam",
        "beam_size": 3,
        "alpha": 0.0,
        "average": "both",
        "speaker": None,
        "max_expansions": 300,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--alpha", "0.3", "--beam-size", "2"], "--beam-size and --alpha must come with --search beam"),
        (["--search", "beam", "--beam-size", "0"], "--beam-size must be at least 1, got 0"),
        (["--search", "beam", "--max-expansions", "-1"], "--max-expansions must be at least 1, got -1"),
        (["--search", "beam", "--alpha", "1.5"], "--alpha must be from 0 (the follower alone) to 1"),
        (["--search", "beam", "--alpha", "nan"], "--alpha must be from 0 (the follower alone) to 1"),
        (["--search", "beam", "--alpha", "0", "--speaker", "x"], "--speaker must come with an --alpha above 0"),
        (["--search", "beam", "--speaker", "x"], "--speaker must be the folder of a speaker's checkpoint or of its"),
    ],
)
@pytest.mark.parametrize("program", [evaluate, submit])
def test_contradictions_are_refused(world, capsys, program, words, message):
    assert message in refused(capsys, program.main, ["--checkpoint", world.runs / "toy", "--device", "cpu", *words])


def test_searches_without_a_walker_are_refused(world, capsys):
    beam = ["--search", "beam"]
    told = refused(capsys, evaluate.main, ["--predictions", "x.json", *beam])
    assert "--search beam is for --checkpoint" in told
    assert "--search beam is for --checkpoint" in refused(capsys, submit.main, ["--validate", "x.json", *beam])
    told = refused(capsys, evaluate.main, ["--checkpoint", world.runs / "toy", "--search-grid"])
    assert "--search-grid must come with --search beam" in told


def test_speakers_that_do_not_fit_are_refused(world, capsys, tmp_path):
    run = world.runs / "toy"
    beam = ["--search", "beam", "--device", "cpu"]
    blind = ["--checkpoint", run / "checkpoints" / "blind" / "last"]
    told = refused(capsys, evaluate.main, [*blind, *beam])
    assert "was trained on other features than the follower: toy there, none here" in told
    told = refused(capsys, evaluate.main, ["--checkpoint", run, *beam, "--speaker", blind[1]])
    assert "must be a speaker's checkpoint, but is of stage 'blind'" in told


def test_a_run_without_speaker_names_the_flag(own_world, capsys):
    run = own_world.train("--no-blind", name="alone")
    told = refused(capsys, evaluate.main, ["--checkpoint", run, "--search", "beam", "--device", "cpu"])
    assert "holds no speaker" in told
    assert "--speaker FOLDER" in told
