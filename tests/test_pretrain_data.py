"""What a run of CLIP-ViL_p reads and how: rows that must stay, labels, pictures, the recipe of a tower."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.toy_pictures import GQA, NAMES
from tests.toy_vil import VilWorld
from tests.vqa_data import save
from vln_clip import files
from vln_clip.encoders.tower_files import FORMAT
from vln_clip.pretrain.answering import Answerer
from vln_clip.pretrain.config import PretrainConfig
from vln_clip.pretrain.data import VilData
from vln_clip.pretrain.recipes import PAPER, PAPER_X4, recipes_for
from vln_clip.tasks.vqa.vocabulary import UNKNOWN, AnswerVocabulary

CONFIG = PretrainConfig(dataset="lxmert", bert="scratch", size="demo", encoder="timm:test_resnet.r160_in1k")
CPU = torch.device("cpu")


@pytest.fixture
def world(tmp_path, monkeypatch):
    return VilWorld(tmp_path, monkeypatch)


def opened(**options):
    return VilData(replace(CONFIG, **options), CPU)


def changed(path, change):
    """Rewrite the items of a file, as many as before."""
    items = json.loads(path.read_text())
    change(items)
    save(path, items)


def exchange_images(items):
    items[0]["img_id"], items[1]["img_id"] = items[1]["img_id"], items[0]["img_id"]


def test_other_rows_are_told_even_where_they_are_as_many(world):
    before = {task: opened().fingerprint(task) for task in (None, "gqa")}
    assert before == {task: opened().fingerprint(task) for task in (None, "gqa")}
    changed(world.data / "lxmert" / "mscoco_train.json", exchange_images)
    changed(world.data / GQA / "train.json", exchange_images)
    for task, was in before.items():
        now = opened().fingerprint(task)
        assert now["rows"] == was["rows"]
        assert now != was


def test_other_answers_are_told_even_where_they_are_as_many(world):
    before = opened().fingerprint(None)
    changed(world.data / "lxmert" / "all_ans.json", lambda items: items.reverse())
    now = opened().fingerprint(None)
    assert now["labels"] == before["labels"]
    assert now != before


class Favorite(nn.Module):
    """Likes the first label best, then the third."""

    def forward(self, tokens, images):
        return torch.tensor([3.0, 1.0, 2.0]).repeat(len(tokens), 1)


def test_the_unknown_answer_of_a_list_is_never_chosen(world):
    for first, best in ((UNKNOWN, 2), ("gray", 0)):
        data = VilData(CONFIG, CPU, labels={"vqa": AnswerVocabulary([first, *NAMES[:2]])})
        assert set(Answerer(Favorite(), data).choose("vqa", "val").tolist()) == {best}


def test_palettes_are_converted_in_the_order_of_the_released_code_where_that_is_wanted(world):
    pixels = np.zeros((30, 45, 3), np.uint8)
    pixels[:, 22:] = 255
    for path in (world.data / "COCO" / "images" / "val2014").iterdir():
        Image.fromarray(pixels).convert("P").save(path.with_suffix(".png"))
        path.unlink()
    for after, values in ((False, range(3, 257)), (True, [2])):
        data = opened(convert_after_resize=after)
        image = data.read_images(data.table("vqa", "val"), torch.tensor([0]))
        assert len(image[0, 0, :, 32:96].unique()) in values  # the middle, where the two colors meet


def test_a_tower_of_a_file_has_the_recipe_of_its_architecture(tmp_path):
    for encoder, recipes in (("clip_rn50x4", PAPER_X4), ("clip_rn50", PAPER)):
        entry = {"encoder": encoder, "pooling": "own", "weights": "", "note": "", "sha256": "0" * 64, "format": FORMAT}
        path = tmp_path / f"{encoder}.safetensors"
        files.save_safetensors(path, {"a": torch.zeros(1)}, {"tower": json.dumps(entry)})
        assert recipes_for("paper", f"tower:{path}") is recipes
        assert recipes_for("paper", f"random:{encoder}") is recipes
        assert recipes_for("paper", encoder) is recipes
