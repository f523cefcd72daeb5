"""The programs with ``--text-encoder``: a tiny CLIP reads instructions and questions; stops, checkpoints, files."""

import json
from pathlib import Path

import pytest
import torch

from tests.tiny_clip import NAME, save_as, stand_in, whole
from tests.toy_pictures import Pictures, results
from vln_clip import checkpoint, evaluate, recipe, submit
from vln_clip.config import TrainConfig
from vln_clip.errors import InputError
from vln_clip.setting import load_follower
from vln_clip.text_config import TextEncoderConfig
from vln_clip.viewer.tracing import trace_instruction, trace_rows
from vln_clip.vqa.__main__ import main as vqa_main
from vln_clip.vqa.config import VqaConfig


@pytest.fixture
def text(tmp_path, monkeypatch):
    """Flags of the tiny text encoder."""
    stand_in(monkeypatch, "vit")
    return [
        "--text-encoder",
        NAME,
        "--text-weights",
        str(save_as("safetensors", whole("vit"), tmp_path / "clip.safetensors")),
    ]


def score(run, split="val_unseen"):
    return json.loads((run / "results.json").read_text())[split]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [[], ["--train-text-encoder"]])
def test_a_run_with_back_translation_resumes_evaluates_and_submits(world, text, monkeypatch, tmp_path, kind):
    flags, name = ["--bt", *text, *kind], f"text{len(kind)}"
    run = world.train(*flags, name=name)
    header = checkpoint.load(run / "checkpoints" / "follower" / "last").header
    assert header["text_encoder"]["trained"] == bool(kind)
    found = score(run)
    assert found.keys() >= {"no_instruction", "blind", "follower", "back_translated"}
    for stage in ("FollowerLearner", "BackTranslationLearner"):
        learner = getattr(recipe.envdrop, stage)
        learn, calls = learner.__call__, iter(range(100))

        def stopping(self, learn=learn, calls=calls):
            if next(calls) == 3:
                raise KeyboardInterrupt
            return learn(self)

        with monkeypatch.context() as patched:
            patched.setattr(learner, "__call__", stopping)
            with pytest.raises(KeyboardInterrupt):
                world.train(*flags, name=f"{name}_{stage}")
        again = world.train(*flags, name=f"{name}_{stage}")
        assert score(again) == found
    out = tmp_path / "found.json"
    evaluate.main(["--checkpoint", str(run), "--split", "val_unseen", "--json", str(out), "--device", "cpu"])
    scored = json.loads(out.read_text())
    assert scored["success_rate"] == found["back_translated"]["success_rate"]
    assert scored["rows"]["no_instruction"]["success_rate"] == found["no_instruction"]["success_rate"]
    evaluate.main(["--checkpoint", str(run), "--split", "val_unseen", "--search", "beam", "--no-context"])
    submit.main(["--checkpoint", str(run), "--split", "test", "--out", str(tmp_path / "test.json")])
    assert json.loads((tmp_path / "test.json").read_text()) == json.loads((run / "submission_test.json").read_text())


@pytest.mark.slow
def test_a_follower_with_a_text_encoder_is_traced_word_by_word(world, text):
    run = world.train("--no-blind", *text, name="traced")
    loaded = load_follower(run, None, ["val_unseen"], torch.device("cpu"))
    (trace,) = trace_rows(loaded, "val_unseen", torch.tensor([0]), "follower")
    assert trace.words[:4] == ("<BOS>", "walk", "to", "the")
    assert not trace.unknown
    typed = trace_instruction(loaded, "beta", "b0", 0.0, trace.episode.instruction, "en")
    assert typed.words == trace.words
    (folder,) = (run / "checkpoints" / "follower").glob("best_val_unseen")
    saved = checkpoint.load(folder)
    saved.header["text_encoder"]["weights"] = "others"
    checkpoint.save(folder, loaded.follower, saved.header)
    with pytest.raises(InputError, match="was trained on the text encoder clip_rn50 others, but here clip_rn50"):
        load_follower(run, None, ["val_unseen"], torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [[], ["--train-text-encoder"]])
@pytest.mark.parametrize("model", ["pythia", "movie_mcan", "mcan_small", "mcan_large"])
def test_questions_are_read_by_the_text_encoder(tmp_path, monkeypatch, text, model, kind, capsys):
    world = Pictures(tmp_path, monkeypatch)
    run = world.vqa(model, "--model", model, *text, *kind)
    found = results(run)["val"]
    assert found.keys() == {"most_common", "question_only", "question_only_last", model, f"{model}_last"}
    capsys.readouterr()
    vqa_main(["evaluate", "--checkpoint", str(run), "--device", "cpu"])
    assert f"{100 * found[model]['accuracy']:.2f}" in capsys.readouterr().out
    out = tmp_path / "test.json"
    vqa_main(["predict", "--checkpoint", str(run), "--out", str(out), "--device", "cpu"])
    assert json.loads(out.read_text()) == json.loads((run / "submission_test.json").read_text())


def test_word_vectors_and_a_text_encoder_exclude_each_other():
    with pytest.raises(InputError, match="--word-vectors and --text-encoder both say what stands for words; leave one"):
        VqaConfig(word_vectors=Path("glove.txt"), text=TextEncoderConfig(NAME))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TextEncoderConfig(), "demo_x"),
        (TextEncoderConfig("open_clip:ViT-B-32/openai"), "demo_x_text-open_clip-ViT-B-32-openai"),
        (TextEncoderConfig(NAME, train_text_encoder=True), "demo_x_text-clip_rn50_trained"),
    ],
)
def test_runs_with_other_text_encoders_have_other_names(text, name):
    assert TrainConfig(dataset="demo", features="x", text=text).run_name == name
    assert VqaConfig(dataset="demo", model="pythia", features="x", text=text).run_name == f"vqa_{name}".replace(
        "demo_x", "demo_pythia_x"
    )
