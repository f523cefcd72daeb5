"""A step whose numbers are none, or whose gradient is far out, is not taken, and can be repeated."""

import json

import pytest
import torch

from tests.killed_runs import contents
from vln_clip import checkpoint, recipe, replay
from vln_clip.divergence import ENOUGH_STEPS, DivergedError, Watch
from vln_clip.errors import InputError
from vln_clip.run import LAST


@pytest.mark.filterwarnings("ignore:Error detected in:UserWarning")  # what --anomaly is for
def test_a_step_that_diverges_is_not_taken_and_can_be_repeated(own_world, monkeypatch, capsys):
    # Weights that grow without bound at the fifth step give logits that are no numbers.
    update = recipe.envdrop.FollowerLearner.update
    calls = iter(range(100))

    def exploding(self):
        found = update(self)
        if next(calls) == 2:
            with torch.no_grad():
                self.follower.encoder.encoder2decoder.weight.fill_(torch.nan)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(recipe.envdrop.FollowerLearner, "update", exploding)
        with pytest.raises(
            InputError, match=r"follower diverged in iteration 4: loss/imitation is nan \(batches train"
        ) as told:
            own_world.train("--no-blind")
    folder = own_world.runs / "toy" / "diverged" / "follower_4"
    assert f"python -m vln_clip.replay {folder} repeats the step" in str(told.value)
    saved = checkpoint.load(folder)
    assert saved.header["iteration"] == 3
    episodes = json.loads((own_world.data / "R2R" / "R2R_train.json").read_text())
    known = {f"{item['path_id']}_{k}" for item in episodes for k in range(3)}
    assert len(saved.header["batches"]["train"]) == 8  # imitation's batch; reinforcement was not begun
    assert set(saved.header["batches"]["train"]) <= known
    before = contents(own_world.runs / "toy")
    replay.main([str(folder), "--anomaly"])
    told = capsys.readouterr()
    assert "repeated: loss/imitation is nan" in told.out or "repeated: Function" in told.out
    assert "weights with inf or nan: encoder.encoder2decoder.weight (1 of " in told.out
    assert contents(own_world.runs / "toy") == before


def test_a_repeated_step_is_the_same_step(own_world, capsys):
    with pytest.raises(InputError, match="diverged in iteration 21") as told:
        own_world.train("--no-blind", "--iters", "40", "--max-gradient-norm-factor", "1.0001")
    replay.main([str(own_world.runs / "toy" / "diverged" / "follower_21")])
    why = str(told.value).partition("iteration 21: ")[2].partition(" (batches")[0]
    assert why.endswith("(--max-gradient-norm-factor)")
    assert f"repeated: {why}" in capsys.readouterr().out  # with the norm to four digits


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_validation_without_a_number_to_choose_by_is_told_and_not_kept(own_world, monkeypatch, bad):
    validate = recipe.FollowerValidation.__call__
    calls = iter(range(100))

    def failing(self):
        found = validate(self)
        if next(calls) == 1:
            found["val_unseen"]["success_rate"] = bad
        return found

    monkeypatch.setattr(recipe.FollowerValidation, "__call__", failing)
    told = (
        rf"follower diverged: val_unseen/success_rate is {bad} in the validation after iteration 4, .*follower/last is"
    )
    with pytest.raises(InputError, match=told):
        own_world.train("--no-blind")
    run = own_world.runs / "toy"
    assert checkpoint.load(run / "checkpoints" / "follower" / LAST).header["iteration"] == 2
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_folder_without_a_diverged_step_is_not_repeated(world):
    folder = world.runs / "toy" / "checkpoints" / "follower" / LAST
    with pytest.raises(InputError, match="must be what a run saved when it diverged, RUNS/NAME/diverged/"):
        replay.main([str(folder)])


def test_the_watch_stops_at_numbers_that_are_none():
    watch = Watch()
    assert watch.checked({"loss": 1.0}) == {"loss": 1.0}
    for bad in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(DivergedError, match="loss is"):
            watch.checked({"fine": 1.0, "loss": bad})
    watch.checked_norms({"norm": 1e30})
    assert watch.state() == {}  # nothing is kept where nothing is compared


def test_the_watch_compares_gradient_norms_with_their_median():
    watch = Watch(max_norm_factor=10.0)
    for k in range(ENOUGH_STEPS):
        watch.checked_norms({"norm": 1.0 + k % 2})  # median 1.5
    again = Watch(max_norm_factor=10.0)
    again.restore(watch.state())
    for each in (watch, again):
        each.checked_norms({"norm": 15.0})
        with pytest.raises(DivergedError, match=r"norm is 20.5, more than 10 times 2, its median over 21 steps"):
            each.checked_norms({"norm": 20.5})
    Watch(max_norm_factor=10.0).checked_norms({"norm": 1e30})  # the first has no median
