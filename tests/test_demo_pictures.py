import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.picture_oracle import answer
from tests.test_demo import digests
from vln_clip.envs.demo.house import CAMERA_M, make_house
from vln_clip.envs.demo.palette import COLORS
from vln_clip.envs.demo.pictures import PicturesConfig, build_pictures, demo_pictures
from vln_clip.envs.demo.pictures.asking import Candidate, candidates
from vln_clip.envs.demo.pictures.balance import pick
from vln_clip.envs.demo.pictures.build import houses_of
from vln_clip.envs.demo.pictures.described import described_views, sentences
from vln_clip.envs.demo.pictures.files import question_type
from vln_clip.envs.demo.pictures.seen import Facts, Seen
from vln_clip.envs.demo.pictures.views import camera_axes, draw_pictures
from vln_clip.envs.demo.pictures.words import NOUNS, ROOMS
from vln_clip.envs.demo.raycast import cast_picture, make_scene, render_skybox, shade_picture, solids_around

TINY = PicturesConfig(
    num_train_houses=3, num_val_houses=2, num_test_houses=1, pictures_per_house=6, width_px=96, height_px=72
)
SPLITS = ("train2014", "val2014", "test2015")
Truth = dict[int, Facts]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "set"
    build_pictures(folder, TINY, workers=1)
    return folder


@pytest.fixture(scope="module")
def truth() -> Truth:
    return {picture.facts.image_id: picture.facts for number in range(6) for picture in draw_pictures(TINY, number)}


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def questions(folder: Path, split: str) -> list[dict]:
    return read(folder, f"VQA/v2_OpenEnded_mscoco_{split}_questions.json")["questions"]


def annotations(folder: Path, split: str) -> list[dict]:
    return read(folder, f"VQA/v2_mscoco_{split}_annotations.json")["annotations"]


def asked(folder: Path) -> list[tuple[str, dict]]:
    """Return (question, annotation) of all splits that show answers."""
    found = []
    for split in SPLITS[:2]:
        texts = {row["question_id"]: row["question"] for row in questions(folder, split)}
        found += [(texts[row["question_id"]], row) for row in annotations(folder, split)]
    return found


def test_same_seed_gives_the_same_bytes_with_any_number_of_workers(tiny, tmp_path):
    calls = []
    build_pictures(tmp_path / "other", TINY, workers=2, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(k, 6) for k in range(1, 7)]
    assert digests(tmp_path / "other") == digests(tiny)
    assert [file.name for file in tmp_path.iterdir()] == ["other"]  # no draft is left


def test_pictures_are_built_once(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path))
    config = PicturesConfig(num_train_houses=1, num_val_houses=2, num_test_houses=0, pictures_per_house=1, width_px=32)
    folder = demo_pictures(config)
    before = digests(folder)
    calls: list[int] = []
    assert demo_pictures(config, on_progress=lambda done, total: calls.append(done)) == folder
    assert not calls
    build_pictures(folder, config, workers=1)  # somebody else was faster: what stands there stays
    assert digests(folder) == before
    assert len(list((tmp_path / "demo").iterdir())) == 1


def test_another_seed_gives_other_pictures():
    first, other = (next(draw_pictures(PicturesConfig(seed=seed, width_px=32, height_px=32), 0)) for seed in (0, 1))
    assert not np.array_equal(first.rgb, other.rgb)


def test_question_files_have_the_format_of_vqa_v2(tiny):
    for split in SPLITS:
        head = read(tiny, f"VQA/v2_OpenEnded_mscoco_{split}_questions.json")
        assert set(head) == {"info", "task_type", "data_type", "license", "data_subtype", "questions"}
        assert (head["task_type"], head["data_type"], head["data_subtype"]) == ("Open-Ended", "mscoco", split)
        ids = [row["question_id"] for row in head["questions"]]
        assert len(set(ids)) == len(ids) > 5
        for row in head["questions"]:
            assert set(row) == {"image_id", "question", "question_id"}
            assert row["question_id"] // 1000 == row["image_id"]
            assert re.fullmatch(r"[A-Z][a-z, ]+\?", row["question"])
            file = tiny / "COCO" / "images" / split / f"COCO_{split}_{row['image_id']:012d}.jpg"
            assert Image.open(file).size == (96, 72)
    for split in SPLITS[:2]:
        head = read(tiny, f"VQA/v2_mscoco_{split}_annotations.json")
        assert set(head) == {"info", "data_type", "license", "data_subtype", "annotations"}
        keys = [(row["question_id"], row["image_id"]) for row in questions(tiny, split)]
        assert [(row["question_id"], row["image_id"]) for row in head["annotations"]] == keys
    assert not (tiny / "VQA" / "v2_mscoco_test2015_annotations.json").exists()


def test_ten_people_answer_and_most_say_the_truth(tiny):
    deviate, confidence = 0, Counter()
    for text, row in asked(tiny):
        wanted = {"question_type", "multiple_choice_answer", "answers", "image_id", "answer_type", "question_id"}
        assert set(row) == wanted
        assert [answer["answer_id"] for answer in row["answers"]] == list(range(1, 11))
        given = Counter(answer["answer"] for answer in row["answers"])
        assert given.most_common(1)[0][0] == row["multiple_choice_answer"]
        assert given[row["multiple_choice_answer"]] >= 6  # at most four deviate, so the truth is worth full score
        assert text.lower().startswith(row["question_type"]) or row["question_type"] == "none of the above"
        deviate += 10 - given[row["multiple_choice_answer"]]
        confidence.update(answer["answer_confidence"] for answer in row["answers"])
    assert 0.05 < deviate / 10 / len(asked(tiny)) < 0.25
    assert set(confidence) == {"yes", "maybe", "no"}
    assert confidence["yes"] > confidence["maybe"] > confidence["no"]


def test_yes_is_as_frequent_as_no_and_all_answer_types_occur(tiny):
    for split in SPLITS[:2]:
        rows = annotations(tiny, split)
        answers = Counter(row["multiple_choice_answer"] for row in rows)
        assert answers["yes"] == answers["no"] > 0
        assert {row["answer_type"] for row in rows} == {"yes/no", "number", "other"}


def test_caption_files_have_the_formats_of_coco_and_karpathy(tiny):
    captions: dict[int, list[str]] = {}
    for split in SPLITS[:2]:
        content = read(tiny, f"COCO/annotations/captions_{split}.json")
        assert set(content) == {"info", "images", "licenses", "annotations"}
        for row in content["images"]:
            assert set(row) == {"id", "file_name", "height", "width", "license"}
            assert (row["width"], row["height"]) == (96, 72)
            assert (tiny / "COCO" / "images" / split / row["file_name"]).exists()
        for row in content["annotations"]:
            captions.setdefault(row["image_id"], []).append(row["caption"])
        assert {row["id"] for row in content["images"]} == {row["image_id"] for row in content["annotations"]}
    assert all(len(group) == len(set(group)) == 5 for group in captions.values())
    content = read(tiny, "COCO/annotations/dataset_coco.json")
    assert content["dataset"] == "coco"
    for index, row in enumerate(content["images"]):
        assert row["imgid"] == index
        assert [sentence["raw"] for sentence in row["sentences"]] == captions[row["cocoid"]]
        assert row["sentids"] == [sentence["sentid"] for sentence in row["sentences"]]
        assert row["filename"] == f"COCO_{row['filepath']}_{row['cocoid']:012d}.jpg"
        for sentence in row["sentences"]:
            assert sentence["tokens"] == re.sub(r"[.,]", "", sentence["raw"].lower()).split()
            assert len(sentence["tokens"]) <= 16
    listed = read(tiny, "COCO/annotations/image_info_test2015.json")["images"]
    files = {file.name for file in (tiny / "COCO" / "images" / "test2015").iterdir()}
    assert {row["file_name"] for row in listed} == files


def test_splits_share_no_house(tiny):
    rows = read(tiny, "COCO/annotations/dataset_coco.json")["images"]
    houses = {split: {row["cocoid"] // 1000 - 1 for row in rows if row["split"] == split} for split in ("train", "val")}
    houses["karpathy test"] = {row["cocoid"] // 1000 - 1 for row in rows if row["split"] == "test"}
    houses["test"] = {row["image_id"] // 1000 - 1 for row in questions(tiny, "test2015")}
    assert houses == {"train": {0, 1, 2}, "val": {3}, "karpathy test": {4}, "test": {5}}
    assert [list(houses_of(TINY, split)) for split in SPLITS] == [[0, 1, 2], [3, 4], [5]]


def seen(name: str, color: str | None, center: float, clear: bool = True, distance_m: float = 3.0) -> Seen:
    place = "left" if center < 0.3 else "right" if center > 0.7 else "middle"
    return Seen(name, color, "office", 0.05, center, place, distance_m, clear)


def all_asked(*things: Seen) -> dict[tuple[str, str], set[str]]:
    """Return the answers of all questions about an office with some things, by form and topic."""
    found: dict[tuple[str, str], set[str]] = {}
    for candidate in candidates(0, Facts(7, "office", "carpet", things)):
        found.setdefault((candidate.form, candidate.topic), set()).add(candidate.answer)
    return found


def test_questions_about_a_picture_by_hand():
    found = all_asked(
        seen("sofa", "red", 0.2), seen("lamp", "blue", 0.8), seen("lamp", "pink", 0.2), seen("rug", "red", 0.5)
    )
    assert found["presence", "sofa"] == {"yes"}
    assert found["presence", "bed"] == {"no"}
    assert found["count", "lamp"] == {"2"}
    assert found["count_color", "red"] == {"2"}  # the sofa and the rug
    assert found["color", "sofa"] == {"red"}
    assert ("color", "lamp") not in found  # which of the two?
    assert found["color_at", "lamp"] == {"blue", "pink"}  # of the one on the right and of that on the left
    assert found["where", "sofa"] == {"left"}
    assert found["what", "blue"] == {"lamp"}
    assert ("what", "red") not in found
    assert found["room", "room"] == {"office"}
    assert found["floor", "floor"] == {"carpet"}


def test_nothing_is_asked_where_people_would_disagree():
    found = all_asked(seen("sofa", "red", 0.2), seen("armchair", "blue", 0.8), seen("bed", "pink", 0.5, clear=False))
    topics = {topic for form, topic in found if form in ("count", "color", "where", "is_color", "beside", "closer")}
    assert not topics & {"sofa", "armchair", "bed"}  # the first two look alike; of the bed too little is seen
    assert ("presence", "bed") not in found
    assert ("presence", "chair") not in found  # an armchair is a chair to many
    assert ("any_color", "green") not in found  # an office has pale green walls


def test_picked_answers_are_balanced():
    def many(form: str, topic: str, answer: str, count: int) -> list[Candidate]:
        return [Candidate(k, form, topic, f"{topic} {k}?", answer, "yes_no") for k in range(count)]

    found = many("presence", "bed", "yes", 5) + many("presence", "bed", "no", 90) + many("presence", "sofa", "no", 9)
    found += many("color", "bed", "red", 80) + many("color", "bed", "blue", 10) + many("color", "bed", "pink", 4)
    picked = pick(np.random.default_rng(0), found, 1000)
    # All 5 with yes and as many with no; nobody sees a sofa. Red comes twice as often as the middle one of 4, 10, 80.
    answers = Counter((candidate.form, candidate.topic, candidate.answer) for candidate in picked)
    assert answers == {
        ("presence", "bed", "yes"): 5,
        ("presence", "bed", "no"): 5,
        ("color", "bed", "red"): 20,
        ("color", "bed", "blue"): 10,
        ("color", "bed", "pink"): 4,
    }
    assert [candidate.image_id for candidate in picked] == sorted(candidate.image_id for candidate in picked)
    # 12 % of 75 questions are about colors: three rounds of all three answers.
    few = Counter(candidate.answer for candidate in pick(np.random.default_rng(0), found, 75))
    assert [few[color] for color in ("red", "blue", "pink")] == [3, 3, 3]


def test_who_knows_what_is_seen_answers_every_question(tiny, truth):
    rows = asked(tiny)
    wrong = [(text, row["multiple_choice_answer"], truth[row["image_id"]]) for text, row in rows]
    assert [item for item in wrong if answer(item[0], item[2]) != item[1]] == []
    assert len(rows) >= 100


def test_captions_tell_only_what_is_seen(tiny, truth):
    nouns = {word: name for name, noun in NOUNS.items() for word in (noun.one, noun.many)}
    pattern = re.compile(rf"({'|'.join(COLORS)}) ({'|'.join(nouns)})(?: on the (left|right))?")
    named = 0
    for row in read(tiny, "COCO/annotations/dataset_coco.json")["images"]:
        facts = truth[row["cocoid"]]
        for sentence in row["sentences"]:
            text = sentence["raw"].lower()
            assert (
                facts.room is None
                or facts.room in text
                or "house" in text
                or " on the left and " in text
                or (" on the right and " in text)
            )
            for color, noun, place in pattern.findall(text):
                fits = [t for t in facts.clear if (t.name, t.color) == (nouns[noun], color)]
                assert fits, (text, facts)
                assert not place or place in {thing.place for thing in fits}
                named += 1
    assert named > 100


def test_things_have_their_color_in_the_picture():
    checked = 0
    for picture in draw_pictures(PicturesConfig(pictures_per_house=12, width_px=96, height_px=72), 3):
        pixels = picture.rgb.reshape(-1, 3).astype(float)
        direction = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
        for thing in picture.facts.things:
            if thing.color in (None, "black") or thing.name in (
                "curtain",
                "mirror",
                "lamp",
                "bookshelf",
                "sink",
                "bed",
            ):
                continue  # black has no hue; most of the others is not in their own color
            paint = np.array(COLORS[thing.color], float)
            near = np.linalg.norm(direction - paint / np.linalg.norm(paint), axis=1) < 0.25
            assert near.mean() >= 0.45 * thing.share, (thing, picture.facts.image_id)
            checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    ("heading_deg", "down_deg", "right", "down", "forward"),
    [
        # Level to the north: right is east. Half the field of view has tangents 0.8 across and 0.8 * 3 / 4 down.
        (0, 0, (0.8, 0, 0), (0, 0, -0.6), (0, 1, 0)),
        (90, 0, (0, -0.8, 0), (0, 0, -0.6), (1, 0, 0)),
        # 30 degrees down to the north: forward leans down by sin 30 = 1/2, down leans to the south.
        (0, 30, (0.8, 0, 0), (0, -0.3, -0.6 * 3**0.5 / 2), (0, 3**0.5 / 2, -0.5)),
    ],
)
def test_camera_axes(heading_deg, down_deg, right, down, forward):
    axes = camera_axes(np.radians(heading_deg), np.radians(down_deg), 3 / 4)
    assert axes == pytest.approx(np.array([right, down, forward]), abs=1e-6)


def test_picture_to_the_north_is_the_skybox_face_to_the_north():
    scene = make_scene(make_house(0, 0))
    eye = np.array([*scene.house.points[5], CAMERA_M], dtype=np.float32)
    axes = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32)
    cast = cast_picture(scene, solids_around(scene, eye), eye, axes, (32, 32))
    assert np.array_equal(shade_picture(scene, cast), render_skybox(scene, 5, 32)[3])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Is there a sofa in the picture?", "is there a"),
        ("Is there an armchair?", "is there"),
        ("What is the color of the bed?", "what is the color of the"),
        ("What is the red thing?", "what is the"),
        ("How many things are red?", "how many"),
        ("Is anything red in the picture?", "is"),
        ("Which room is this?", "which"),
        ("Has it a bed?", "none of the above"),
    ],
)
def test_question_types_are_the_longest_known_leading_words(text, wanted):
    assert question_type(text) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_px": 33}, "width_px must be an even number of at least 32, got 33"),
        ({"height_px": 16}, "height_px must be an even number of at least 32, got 16"),
        ({"num_val_houses": 1}, "num_val_houses must be at least 2, got 1"),
        ({"pictures_per_house": 1001}, "pictures_per_house must be at most 1000, got 1001"),
    ],
)
def test_bad_configurations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PicturesConfig(**options)


def test_described_views_are_the_same_each_time_and_their_sentences_name_what_is_there():
    config = PicturesConfig()
    views = list(described_views(config.seed, 0, 12, (72, 96)))
    again = list(described_views(config.seed, 0, 12, (72, 96)))
    assert [view.sentences for view in views] == [view.sentences for view in again]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(views, again, strict=True))
    assert 8 <= len(views) <= 12
    kinds = {room.kind for room in make_house(config.seed, 0).plan.rooms}
    for view in views:
        rooms = {text.removeprefix("A ").removeprefix("An ").removesuffix(".") for text in view.sentences}
        assert view.rgb.shape == (72, 96, 3)
        assert rooms & set(ROOMS) <= kinds  # the sentence of a room alone names one of the house


def test_a_view_without_anything_to_name_has_no_sentences():
    rng = np.random.default_rng(0)
    assert sentences(rng, 0, Facts(1, None, None, ())) == ()
    assert sentences(rng, 0, Facts(1, "office", None, ()))[0] == "An office."


def test_clauses_of_instructions_name_large_things_with_their_colors():
    sofa = Seen("sofa", "red", "office", 0.2, 0.5, "middle", 2.0, True)
    small = Seen("lamp", "blue", "office", 0.02, 0.5, "middle", 2.0, True)
    found = sentences(np.random.default_rng(0), 0, Facts(1, "office", None, (sofa, small)))
    clauses = [text for text in found if text.split()[0] in ("Walk", "Go", "Keep", "Stop", "Wait", "Enter", "Leave")]
    assert clauses
    assert all("red sofa" in text or "red couch" in text for text in clauses)
