"""Weights of BERT, of public CLIP-ViL_p and LXMERT checkpoints, and answer heads for other lists of answers."""

import json

import pytest
import torch

from tests.golden import SHARED
from tests.tiny_vil import (
    BERT_NAMES,
    MASKED,
    SIZES,
    TOKENS,
    make_images,
    make_pretraining,
    make_vil,
    public_lxmert,
    public_vil,
    renamed,
)
from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.models import (
    Classifier,
    PretrainingModel,
    load_bert,
    read_public_checkpoint,
    take_answer_rows,
)
from vln_clip.tasks.pretraining.models.heads import answer_head
from vln_clip.tasks.pretraining.models.layers import bert_config
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

ANSWERS = SHARED / "data" / "answers"
needs_lists = pytest.mark.skipif(not ANSWERS.is_dir(), reason="the public answer lists are not on this machine")
ATTNPOOL = "vil.encoder.visual.attnpool."


def save(path, tensors):
    torch.save(tensors, path)
    return path


def outputs(model):
    with torch.no_grad():
        found = model.eval()(TOKENS, make_images(), MASKED)
    return torch.cat([found.words.flatten(), found.matching.flatten(), found.answers.flatten()])


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


# Public CLIP-ViL_p.


def test_a_public_checkpoint_gives_the_model_that_it_was_made_of(tmp_path):
    theirs, ours = make_pretraining(seed=1), make_pretraining(seed=2)
    pool = ours.vil.encoder.visual.attnpool.k_proj.weight.clone()
    path = save(tmp_path / "Epoch11_LXRT.pth", public_vil(theirs))
    report = read_public_checkpoint(path, ours)
    assert torch.equal(outputs(ours), outputs(theirs))
    assert torch.equal(ours.vil.encoder.visual.attnpool.k_proj.weight, pool)  # the file's is random
    assert set(report.unused) == {
        "bert.encoder.visual_model.logit_scale",
        "bert.encoder.visual_model.transformer.resblocks.0.ln_1.bias",
        "bert.encoder.visn_fc.box_fc.weight",
        "obj_predict_head.transform.dense.weight",
        *(name for name in renamed_pool(theirs)),
    }
    assert "cls.predictions.decoder.weight" in report.used
    assert "bert.encoder.visual_pos.x_position_embedding.weight" in report.used
    assert report.missing == tuple(sorted(name for name in ours.state_dict() if name.startswith(ATTNPOOL)))
    assert len(report.used) + len(report.unused) == len(public_vil(theirs))


def renamed_pool(model):
    return [name.removeprefix("module.") for name in public_vil(model) if "attnpool" in name]


def test_heads_may_be_missing_in_the_file_and_are_listed(tmp_path):
    theirs, ours = make_pretraining(seed=1), make_pretraining(seed=2)
    heads = ("module.cls.", "module.answer_head.")
    tensors = {name: value for name, value in public_vil(theirs).items() if not name.startswith(heads)}
    before = state(ours)
    report = read_public_checkpoint(save(tmp_path / "a.pth", tensors), ours)
    missing = {name.partition(".")[0] for name in report.missing if not name.startswith(ATTNPOOL)}
    assert missing == {"words", "matching", "answers"}
    for name, value in ours.state_dict().items():
        other = before if name in report.missing else theirs.state_dict()
        assert torch.equal(value, other[name]), name


def test_heads_may_be_missing_in_the_model_and_are_listed(tmp_path):
    theirs = make_pretraining(seed=1)
    path = save(tmp_path / "a.pth", public_vil(theirs))
    report = read_public_checkpoint(path, Classifier(make_vil(seed=2), 3))
    assert {name.partition(".")[0] for name in report.unused} == {"bert", "cls", "answer_head", "obj_predict_head"}
    assert {name for name in report.missing if name.startswith("head.")} == {
        f"head.{place}.{part}" for place in (0, 2, 3) for part in ("weight", "bias")
    }
    report = read_public_checkpoint(path, PretrainingModel(make_vil(seed=2), None))
    assert [name for name in report.unused if name.startswith("answer_head.")] == [
        f"answer_head.logit_fc.{place}.{part}" for place in (0, 2, 3) for part in ("weight", "bias")
    ]


QUERY = "module.bert.encoder.layer.0.attention.self.query.weight"
CONV = "module.bert.encoder.visual_model.visual.conv1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({QUERY: None}, r"must have a tensor for vil\.layers\.0\.attention\.self\.query\.weight of the model"),
        ({QUERY: torch.zeros(8, 8)}, r"query\.weight must be \(32, 32\), got \(8, 8\); build the model with the enc"),
        ({QUERY: torch.full((32, 32), float("nan"))}, r"query\.weight must hold finite numbers"),
        ({"module.bert.encoder.layer.2.output.dense.bias": torch.zeros(32)}, "got bert.encoder.layer.2.output.dense.b"),
        ({"module.new.weight": torch.zeros(2)}, "must hold tensors of this model only, got new.weight"),
        ({CONV: torch.zeros(6, 3, 3, 3)}, r"conv1\.weight must be \(4, 3, 3, 3\), got \(6, .*\(tiny_resnet here\)"),
        ({CONV: None}, r"must have a tensor for vil\.encoder\.visual\.conv1\.weight"),
        (
            {"module.bert.encoder.visual_model.visual.layer1.7.conv1.weight": torch.zeros(2)},
            r"must be of the tower tiny_resnet .*visual\.layer1\.7\.conv1\.weight is not in it",
        ),
        (
            {"module.cls.predictions.decoder.weight": torch.zeros(50, 32)},
            r"decoder\.weight must be the same as bert\.embeddings\.word_embeddings\.weight",
        ),
        (
            {"module.bert.encoder.visual_pos.x_position_embedding.weight": torch.zeros(25, 256)},
            r"x_position_embedding\.weight must be \(6, 256\), got \(25, 256\)",
        ),
        ({"module.answer_head.logit_fc.3.bias": torch.zeros(9)}, r"logit_fc\.3\.bias must be \(7,\), got \(9,\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, change, message):
    tensors = public_vil(make_pretraining(seed=1)) | change
    path = save(tmp_path / "a.pth", {name: value for name, value in tensors.items() if value is not None})
    ours = make_pretraining(seed=2)
    before = state(ours)
    with pytest.raises(InputError, match=message) as caught:
        read_public_checkpoint(path, ours)
    assert str(path) in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_a_file_of_something_else_is_refused(tmp_path):
    path = save(tmp_path / "a.pth", {"visual.conv1.weight": torch.zeros(2)})
    with pytest.raises(InputError, match=r"must be a checkpoint of CLIP-ViL_p or LXMERT, .* got visual\.conv1\.weight"):
        read_public_checkpoint(path, make_pretraining())
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        read_public_checkpoint(path, make_pretraining())


def test_half_precision_is_read_as_single(tmp_path):
    theirs, ours = make_pretraining(seed=1), make_pretraining(seed=2)
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in public_vil(theirs).items()}
    read_public_checkpoint(save(tmp_path / "a.pth", tensors), ours)
    assert ours.vil.pooler.weight.dtype == torch.float32
    assert torch.equal(ours.vil.pooler.weight, theirs.vil.pooler.weight.half().float())


# LXMERT.


def test_of_lxmert_embeddings_language_layers_pooler_and_heads_are_used(tmp_path):
    theirs, ours = make_pretraining(seed=1), make_pretraining(seed=2)
    before = state(ours)
    report = read_public_checkpoint(save(tmp_path / "Epoch20_LXRT.pth", public_lxmert(theirs)), ours)
    assert report.unused == (
        "bert.encoder.x_layers.0.visual_attention.att.query.weight",
        "bert.encoder.r_layers.0.output.dense.bias",
        "bert.encoder.visn_fc.visn_fc.weight",
        "obj_predict_head.decoder_dict.obj.bias",
    )
    kept = ("vil.encoder.", "vil.visual.", "vil.layers.1.")
    for name, value in ours.state_dict().items():
        assert torch.equal(value, (before if name.startswith(kept) else theirs.state_dict())[name]), name
        assert (name in report.missing) == (name.startswith(kept) and not name.endswith("num_batches_tracked")), name


def test_an_lxmert_checkpoint_without_one_of_its_tensors_is_refused(tmp_path):
    tensors = public_lxmert(make_pretraining(seed=1))
    del tensors[QUERY]
    with pytest.raises(InputError, match=r"LXMERT checkpoint .* must have a tensor for vil\.layers\.0\.attention"):
        read_public_checkpoint(save(tmp_path / "a.pth", tensors), make_pretraining())


# BERT.


def save_bert(folder, kind="BertForPreTraining", **changes):
    """Write a random BERT as transformers does; returns its weights."""
    import transformers

    config = bert_config(SIZES)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(4)
    bert = getattr(transformers, kind)(config)
    with torch.no_grad():
        for value in bert.parameters():
            value.add_(torch.rand_like(value) / 10)
    bert.save_pretrained(folder)
    return bert


def test_bert_of_a_folder_fills_all_but_image_and_answers(tmp_path):
    bert = save_bert(tmp_path / "bert")
    model = make_pretraining()
    before, generator = state(model), torch.get_rng_state()
    report = load_bert(model, tmp_path / "bert")
    assert torch.equal(generator, torch.get_rng_state())
    assert report.unused == ()
    kept = ("vil.encoder.", "vil.visual.", "answers.")
    assert all(name.startswith(kept) for name in report.missing)
    expected = {name: value for name, value in bert.state_dict().items() if name != "cls.predictions.decoder.bias"}
    found = {name: value for name, value in renamed(model, BERT_NAMES).items() if not name.startswith("answer_head.")}
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    for name, value in model.state_dict().items():
        assert not name.startswith(kept) or torch.equal(value, before[name]), name


def test_bert_without_heads_leaves_ours_and_says_so(tmp_path):
    save_bert(tmp_path / "bert", "BertModel")
    model = make_pretraining()
    before = state(model)
    report = load_bert(model, str(tmp_path / "bert"))
    heads = {name for name in model.state_dict() if name.startswith(("words.", "matching."))}
    assert heads <= set(report.missing)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in heads)
    assert "bert.pooler.dense.weight" in report.used


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 40}, "must have the model's vocab_size = 50, got 40"),
        ({"num_hidden_layers": 3}, "must have the model's num_hidden_layers = 2, got 3"),
        ({"num_attention_heads": 2}, "must have the model's num_attention_heads = 4, got 2"),
        ({"hidden_act": "relu"}, "must have the model's hidden_act = gelu, got relu"),
        ({"max_position_embeddings": 16}, r"position_embeddings\.weight must be \(12, 32\), got \(16, 32\)"),
    ],
)
def test_a_bert_of_other_sizes_is_refused(tmp_path, changes, message):
    save_bert(tmp_path / "bert", **changes)
    with pytest.raises(InputError, match=message):
        load_bert(make_pretraining(), tmp_path / "bert")


def test_what_is_no_bert_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    model = make_pretraining()
    with pytest.raises(InputError, match=r"BERT none-such/bert must be on this machine .* network is switched off"):
        load_bert(model, "none-such/bert")
    with pytest.raises(InputError, match=r"BERT must be a folder with config\.json and weights, or a name on the hub"):
        load_bert(model, tmp_path / "nowhere")
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(InputError, match=r"folder .*empty must hold BERT's config\.json and weights") as caught:
        load_bert(model, folder)
    assert "\n" not in str(caught.value)
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    with pytest.raises(InputError, match="must be of model_type bert, got roberta"):
        load_bert(model, folder)
    save_bert(folder)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"must hold BERT's config\.json and weights, got one that cannot be read"):
        load_bert(model, folder)


# Answer heads.


def test_rows_of_known_answers_are_copied_and_those_of_others_are_zero():
    torch.manual_seed(0)
    before, after = answer_head(8, 4), answer_head(8, 3)
    states = torch.randn(5, 8)
    count = take_answer_rows(before, ["yes", "Grey", "no", "2"], after, ["no", "teal", "grey"], str.lower)
    assert count == 2
    assert torch.allclose(after(states)[:, 0], before(states)[:, 2])  # which needs all layers of the head
    assert torch.allclose(after(states)[:, 2], before(states)[:, 1])
    assert not after(states)[:, 1].any()


def test_of_two_answers_that_become_one_the_normalized_one_counts():
    before, after = answer_head(8, 4), answer_head(8, 1)
    torch.nn.init.normal_(before[3].bias)
    assert take_answer_rows(before, ["no", "Yes", "yes", "YES"], after, ["yes"], str.lower) == 1
    assert torch.equal(after[3].bias, before[3].bias[2:3])
    assert take_answer_rows(before, ["no", "Yes", "YES", "maybe"], after, ["yes"], str.lower) == 1
    assert torch.equal(after[3].bias, before[3].bias[1:2])  # none is: the first
    assert take_answer_rows(before, ["a", "b", "c", "d"], after, ["yes"], str.lower) == 0
    assert not after[3].weight.any()


def test_lists_that_do_not_belong_to_their_heads_are_refused():
    with pytest.raises(InputError, match="a row for each of its 2 answers"):
        take_answer_rows(answer_head(8, 3), ["a", "b"], answer_head(8, 1), ["a"], str)
    with pytest.raises(InputError, match="answer heads must be of one width, got 16 and 8"):
        take_answer_rows(answer_head(8, 1), ["a"], answer_head(4, 1), ["a"], str)


@needs_lists
@pytest.mark.parametrize(
    ("task", "size", "found", "lost"),
    [
        ("vqa", 3129, 3124, {"", "visilab", "5 star", "1 4", "1 world"}),
        ("gqa", 1842, 1736, None),
    ],
)
def test_so_many_public_answers_have_a_row_in_the_head_of_pre_training(task, size, found, lost):
    before = AnswerVocabulary.read(ANSWERS / "lxmert" / "all_ans.json").answers
    after = AnswerVocabulary.read(ANSWERS / task / "trainval_label2ans.json").answers
    assert (len(before), len(after)) == (9500, size)
    head_from, head_to = answer_head(8, 9500), answer_head(8, size)
    torch.nn.init.ones_(head_from[3].bias)
    assert take_answer_rows(head_from, before, head_to, after, str) == found
    without = {answer for answer, bias in zip(after, head_to[3].bias.tolist(), strict=True) if bias == 0}
    assert len(without) == size - found
    assert lost is None or without == lost
