"""The readers of words, pictures, and tables of own buildings, each with a file that it reads."""

import io
import os

import numpy as np
from PIL import Image

from tests import mutations
from tests.reader_case import Case, as_json, text
from vln_clip.envs.building.edges import read_corrections
from vln_clip.envs.building.panoramas import image_size, read_depth, read_panorama
from vln_clip.envs.building.poses import read_poses
from vln_clip.envs.skybox import load_skybox, load_skybox_depth
from vln_clip.sources.overrides import VARIABLE, current_sources
from vln_clip.tasks.text import Vocabulary
from vln_clip.tasks.tokenizers import find_tokenizer

# Words.


def read_words(path):
    vocabulary = Vocabulary.read(path)
    vocabulary.encode("walk left", 10, *vocabulary.languages[:1])
    vocabulary.write(path.with_name("again.json"))


PIECES = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "walk", "##ing", "left", "बाएँ", "##।"]


def write_tokenizer(path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(path.with_name("tokenizer.json")))
    as_json({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"})(
        path.with_name("tokenizer_config.json")
    )


def read_tokenizer(path):
    words = find_tokenizer(str(path.parent))
    words.join(words.tokenize("walking left"))


# Pictures.


def picture(kind, size, mode="RGB"):
    def write(path):
        rng = np.random.default_rng(0)
        shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
        array = rng.integers(0, 256, shape).astype(np.uint8 if mode == "RGB" else np.uint16)
        out = io.BytesIO()
        Image.fromarray(array).save(out, kind)
        path.write_bytes(out.getvalue())

    return write


def read_strip(path):
    assert load_skybox(path.parent, "v").shape[0] == 6


def read_strip_depth(path):
    assert load_skybox_depth(path.parent, "v").shape[0] == 6


def read_panorama_file(path):
    image_size(path)
    assert read_panorama(path).ndim == 3


# Buildings.

COLUMNS = "image,x_m,y_m,z_m,heading_deg,pitch_deg,roll_deg\n"
POSES = COLUMNS + "a.png,0,0,1.5,0,0,0\nb.png,2,0,1.5,123,10,-5\nc.png,4,0,1,9,0,0\n"
POSE_ROWS = [
    {"image": f"{name}.png", "x_m": n, "y_m": 0, "z_m": 1.5, "heading_rad": 0.5} for n, name in enumerate("abc")
]


def read_edges(path):
    poses = path.with_name("poses.csv")
    text(POSES)(poses)
    read_corrections(path, read_poses(poses), np.zeros((3, 3), bool))


def read_overrides(path):
    os.environ[VARIABLE] = str(path)
    try:
        current_sources()
    finally:
        del os.environ[VARIABLE]


SOURCES = {"R2R/R2R_train.json": "https://example.org/a.json", "connectivity/": "http://example.org/x/"}


CASES = {
    "vocabulary": Case("words.txt", text("<PAD>\n<UNK>\n<EOS>\nwalk\nleft\n"), mutations.words, read_words),
    "vocabulary_json": Case(
        "words.json",
        lambda path: Vocabulary(["walk", "left"], "unicode", ["en", "hi"]).write(path),
        mutations.json_text,
        read_words,
    ),
    "tokenizer": Case("tokenizer.json", write_tokenizer, mutations.json_text, read_tokenizer),
    "tokenizer_config": Case("tokenizer_config.json", write_tokenizer, mutations.json_text, read_tokenizer),
    "skybox_jpeg": Case("v_skybox_small.jpg", picture("JPEG", (96, 16)), mutations.bytes_of, read_strip),
    "skybox_png": Case("v_skybox_small.jpg", picture("PNG", (96, 16)), mutations.bytes_of, read_strip),
    "skybox_depth": Case(
        "v_skybox_depth_small.png", picture("PNG", (96, 16), "L16"), mutations.bytes_of, read_strip_depth
    ),
    "panorama_jpeg": Case("p.jpg", picture("JPEG", (32, 16)), mutations.bytes_of, read_panorama_file),
    "panorama_tiff": Case("p.tif", picture("TIFF", (32, 16)), mutations.bytes_of, read_panorama_file),
    "panorama_webp": Case("p.webp", picture("WEBP", (32, 16)), mutations.bytes_of, read_panorama_file),
    "panorama_depth": Case(
        "p.png", picture("PNG", (32, 16), "L16"), mutations.bytes_of, lambda path: read_depth(path, 0.001)
    ),
    "poses_csv": Case("poses.csv", text(POSES), mutations.csv_text, read_poses),
    "poses_json": Case("poses.json", as_json(POSE_ROWS), mutations.json_text, read_poses),
    "edges": Case("edges.csv", text("a,b,edge\na,b,1\nb,c,0\n"), mutations.csv_text, read_edges),
    "overrides": Case("sources.json", as_json(SOURCES), mutations.json_text, read_overrides),
}
