"""What fine-tuning begins with: runs and checkpoints of the program, and public files that lack parts of the model."""

import logging
from dataclasses import replace

import pytest
import torch

from tests.tiny_vil import public_lxmert
from tests.toy_vil import VilWorld
from vln_clip import checkpoint
from vln_clip.errors import InputError
from vln_clip.pretrain.__main__ import parse
from vln_clip.pretrain.data import VilData
from vln_clip.pretrain.model import build_classifier, build_pretraining, header, start_from
from vln_clip.tasks.pretraining.models.layers import bert_config
from vln_clip.tasks.pretraining.pieces import WordPieces
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

LABELS = {"vqa": AnswerVocabulary(["teal", "grey"])}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data folder with a run's folder: a pre-trained model of random weights, as the second stage leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        made = VilWorld(tmp_path_factory.mktemp("vil"), patch)
        made.config = parse(made.flags("toy"))
        made.config_data = VilData(made.config, CPU, labels=LABELS)
        made.model = build_pretraining(made.config, made.config_data, seed=5)
        torch.nn.init.normal_(made.model.answers[-1].bias)
        saved = made.runs / "toy" / "checkpoints" / "pretraining_2" / "last"
        checkpoint.save(saved, made.model, header(made.config, made.config_data, None))
        yield made


def started(world, source, task="vqa", data=None):
    """Return the weights of a classifier before and after it was given those of a file."""
    data = data or world.config_data
    model = build_classifier(world.config, data, task, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start_from(model, source, world.config, data, task)
    return before, model.state_dict()


@pytest.mark.parametrize("below", [".", "checkpoints/pretraining_2/last"])
def test_a_run_and_its_checkpoint_are_the_same_beginning(world, below):
    _, found = started(world, world.runs / "toy" / below)
    for name, value in world.model.vil.state_dict().items():
        assert torch.equal(found[f"vil.{name}"], value), name


def test_rows_of_answers_are_found_by_their_normalized_form(world):
    _, found = started(world, world.runs / "toy")
    gray = world.config_data.answers.answers.index("gray")  # LXMERT's table writes "grey" so
    assert torch.equal(found["head.3.bias"], torch.stack([torch.tensor(0.0), world.model.answers[-1].bias[gray]]))


def test_what_a_public_lxmert_lacks_stays_as_it_began(world, tmp_path):
    tensors = {name: value for name, value in public_lxmert(world.model).items() if ".layer.2." not in name}
    torch.save(tensors, tmp_path / "Epoch20_LXRT.pth")
    before, found = started(world, tmp_path / "Epoch20_LXRT.pth")
    theirs = world.model.state_dict()
    for name, value in found.items():
        if name.startswith(("vil.layers.0.", "vil.embeddings.", "vil.pooler.")):
            assert torch.equal(value, theirs[name]), name
        elif name.startswith(("vil.encoder.", "vil.visual.", "vil.layers.")):
            assert torch.equal(value, before[name]), name


def test_heads_that_a_bert_does_not_have_are_told(world, tmp_path, caplog):
    from transformers import BertModel

    BertModel(bert_config(world.model.vil.sizes)).save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO):
        build_pretraining(replace(world.config, bert=str(tmp_path)), world.config_data, seed=1)
    assert "missing, and so random: matching.bias, matching.weight, words.bias, words.transform." in caplog.text


def test_a_model_of_other_word_pieces_is_refused(world):
    words = world.config_data.pieces.words
    data = VilData(world.config, CPU, WordPieces([*words[:-2], words[-1], words[-2]]), LABELS)
    with pytest.raises(InputError, match=r"--init must be a model of this run's word pieces, got .*toy of others"):
        started(world, world.runs / "toy", data=data)


def test_a_fine_tuned_model_needs_no_answers_of_pre_training(world):
    data = VilData(world.config, CPU, labels=LABELS)
    data.row = replace(data.row, answers="lxmert/nothing.json")
    assert header(world.config, data, "vqa")["labels"] == ["teal", "grey"]
    with pytest.raises(InputError, match=r"nothing\.json"):
        header(world.config, data, None)
