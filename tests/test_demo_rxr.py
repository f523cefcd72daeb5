import dataclasses
import gzip
import itertools
import json
import math
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.demo_world import default_world
from vln_clip.envs.demo import DemoConfig, build_demo
from vln_clip.envs.demo.designs import DESIGNS
from vln_clip.envs.demo.furniture import Thing
from vln_clip.envs.demo.house import make_house
from vln_clip.envs.demo.landmarks import find_clues
from vln_clip.envs.demo.languages.clauses import Clause, Kind
from vln_clip.envs.demo.palette import COLORS, ROOM_TYPES
from vln_clip.envs.demo.rxr import GRAMMARS
from vln_clip.envs.demo.winding import MAX_STEPS, MIN_STEPS, draw_winding
from vln_clip.envs.demo.world import World, plan_world

TINY = DemoConfig(
    num_train_houses=1,
    num_unseen_houses=1,
    num_test_houses=1,
    face_px=8,
    num_train_paths=4,
    num_val_seen_paths=1,
    num_val_unseen_paths=2,
    num_test_paths=2,
    num_rxr_train_paths=12,
    num_rxr_val_seen_paths=2,
    num_rxr_val_unseen_paths=3,
    num_rxr_test_paths=2,
    num_rxr_aug_paths=7,
)
FILES = {
    "train": "rxr_train_guide.jsonl.gz",
    "val_seen": "rxr_val_seen_guide.jsonl.gz",
    "val_unseen": "rxr_val_unseen_guide.jsonl.gz",
    "test_standard": "rxr_test_standard_public_guide.jsonl.gz",
}
AUG = "aug_paths.jsonl.gz"
AUG_FIELDS = {"path_id", "instruction_id", "language", "scan", "path", "heading", "instruction"}
GUIDE_FIELDS = AUG_FIELDS | {"split", "annotator_id", "timed_instruction", "edit_distance"}
NUM_PATHS = {"train": 12, "val_seen": 2, "val_unseen": 3, "test_standard": 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "world"
    build_demo(folder, TINY, workers=1)
    return folder


@pytest.fixture(scope="module")
def world() -> World:
    return default_world()


def read(file: Path) -> list[dict]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def say(tag: str, kind: Kind, name: str | None = None, color: str = "blue", room: str | None = None) -> set[str]:
    """Return all wordings of one clause, found by drawing often."""
    thing = Thing(name, color, 0, (0, 0, 1, 1), 0, 1, ()) if name else None
    clause = Clause(kind, thing, room)
    rng = np.random.default_rng(0)
    return {GRAMMARS[tag].say(rng, [clause]) for _ in range(100)}


def words(text: str) -> list[str]:
    return text.lower().translate(str.maketrans("", "", ",.।")).split()


def test_files_have_the_public_names_and_fields(tiny):
    assert {file.name for file in (tiny / "RxR").iterdir()} == {*FILES.values(), AUG}
    instruction_ids = []
    for split, name in FILES.items():
        rows = read(tiny / "RxR" / name)
        assert len({row["path_id"] for row in rows}) == NUM_PATHS[split]
        for row in rows:
            assert set(row) == GUIDE_FIELDS
            assert row["split"] == split
            assert all(type(row[key]) is int for key in ("instruction_id", "path_id", "annotator_id"))
            assert 0 <= row["heading"] <= 2 * math.pi
            assert 0 <= row["edit_distance"] <= 1
            instruction_ids.append(row["instruction_id"])
        same = {(row["path_id"], row["scan"], tuple(row["path"]), row["heading"]) for row in rows}
        assert len(same) == NUM_PATHS[split]  # instructions of a path share all that is the path's
    rows = read(tiny / "RxR" / AUG)
    assert len(rows) == 3 * TINY.num_rxr_aug_paths
    assert all(set(row) == AUG_FIELDS and row["instruction"] == "" and len(row["path"]) > MIN_STEPS for row in rows)
    instruction_ids += [row["instruction_id"] for row in rows]
    assert len(set(instruction_ids)) == len(instruction_ids)
    train = read(tiny / "RxR" / FILES["train"])
    assert not {row["path_id"] for row in rows} & {row["path_id"] for row in train}
    assert {row["scan"] for row in rows} == {row["scan"] for row in train}


def test_every_path_has_the_three_languages(tiny):
    for split, name in FILES.items():
        tags: dict[int, list[str]] = {}
        texts: dict[int, set[str]] = {}
        for row in read(tiny / "RxR" / name):
            tags.setdefault(row["path_id"], []).append(row["language"])
            texts.setdefault(row["path_id"], set()).add(row["instruction"])
        if split == "train":
            assert all(Counter(found) == {"en-US": 1, "en-IN": 1, "hi-IN": 2, "te-IN": 2} for found in tags.values())
            assert all(len(found) >= 5 for found in texts.values())  # both English ones may agree
        else:
            assert all(len(found) == 3 and {"hi-IN", "te-IN"} < set(found) for found in tags.values())
            assert {tag for found in tags.values() for tag in found} == {"en-US", "en-IN", "hi-IN", "te-IN"}


def test_test_goals_are_hidden(tiny):
    hidden = read(tiny / "RxR" / FILES["test_standard"])
    assert all(len(row["path"]) == 1 for row in hidden)
    shown = {path.path_id: path.path for path in plan_world(TINY).rxr.splits["test_standard"]}
    assert all(row["path"] == [shown[row["path_id"]][0]] for row in hidden)


def test_words_are_timed_at_the_speed_of_speech(tiny):
    untimed = total = 0
    for row in read(tiny / "RxR" / FILES["train"]):
        timed = row["timed_instruction"]
        assert " ".join(item["word"] for item in timed) == row["instruction"]
        times = [item[key] for item in timed for key in ("start_time", "end_time") if key in item]
        assert times == sorted(times)
        assert all(("start_time" in item) == ("end_time" in item) for item in timed)
        assert "start_time" in timed[0]
        assert "end_time" in timed[-1]
        assert 1.2 <= len(timed) / (times[-1] - times[0]) <= 4
        untimed += sum("start_time" not in item for item in timed)
        total += len(timed)
    assert 0 < untimed < 0.05 * total  # as in the public files


def test_same_seed_gives_the_same_bytes_with_any_number_of_workers(tiny, tmp_path):
    build_demo(tmp_path / "other", TINY, workers=2)
    assert contents(tmp_path / "other") == contents(tiny)
    for file in (tiny / "RxR").iterdir():
        assert file.read_bytes()[3:8] == b"\0\0\0\0\0"  # gzip: no name, no time


def test_rxr_counts_leave_r2r_and_houses_alone(tiny, tmp_path):
    none = {name: 0 for name in dataclasses.asdict(TINY) if name.startswith("num_rxr_")}
    assert len(none) == 5
    build_demo(tmp_path / "none", dataclasses.replace(TINY, **none), workers=1)
    before, after = contents(tiny), contents(tmp_path / "none")
    assert set(before) == set(after)
    assert {name for name in before if before[name] != after[name]} == {
        f"RxR/{name}" for name in (*FILES.values(), AUG)
    }
    assert all(read(tmp_path / "none" / "RxR" / name) == [] for name in (*FILES.values(), AUG))


def test_counts_must_fit_but_unlabelled_paths_are_as_many_as_there_are():
    with pytest.raises(ValueError, match=r"num_rxr_val_unseen_paths must fit into its houses, got 3; at most 0 fit"):
        plan_world(dataclasses.replace(TINY, num_unseen_houses=0, num_val_unseen_paths=0))
    with pytest.raises(ValueError, match="num_rxr_aug_paths must be at least 0, got -1"):
        DemoConfig(num_rxr_aug_paths=-1)
    many = plan_world(dataclasses.replace(TINY, num_rxr_aug_paths=10**6)).rxr.unlabelled
    assert 50 < len(many) < 10**5


def test_default_paths_wind_over_the_graph(world):
    houses = {house.scan: house for house in world.houses}
    seen = set()
    for split, paths in {**world.rxr.splits, "aug": world.rxr.unlabelled}.items():
        detours, steps = [], Counter()
        for item in paths:
            house = houses[item.scan]
            index = [house.viewpoint_ids.index(name) for name in item.path]
            assert house.joined[index[:-1], index[1:]].all()
            assert len(set(index)) == len(index)
            assert MIN_STEPS <= len(index) - 1 <= MAX_STEPS
            shortest = house.distances_m[index[0], index[-1]]
            assert shortest >= 4
            length = sum(house.distances_m[pair] for pair in itertools.pairwise(index))
            detours.append(length / shortest)
            steps[len(index) - 1] += 1
            seen.add((item.scan, item.path))
        assert len(steps) == MAX_STEPS - MIN_STEPS + 1
        assert 0.4 <= np.mean(np.array(detours) > 1.2) <= 0.9, split
        assert max(steps.values()) < 0.5 * len(paths)
    assert len(seen) == sum(map(len, world.rxr.splits.values())) + len(world.rxr.unlabelled)
    assert [len(paths) for paths in world.rxr.splits.values()] == [600, 60, 150, 40]
    assert len(world.rxr.unlabelled) == 3000
    scans = {split: {item.scan for item in paths} for split, paths in world.rxr.splits.items()}
    assert scans["val_seen"] <= scans["train"] == {item.scan for item in world.rxr.unlabelled}
    assert not scans["train"] & (scans["val_unseen"] | scans["test_standard"])
    assert not scans["val_unseen"] & scans["test_standard"]


def test_goals_do_not_follow_from_the_start():
    house = make_house(0, 4)
    clear, unclear = draw_winding(np.random.default_rng(0), house, find_clues(house))
    assert all(guide.clarity >= 0.3 for guide in clear)
    assert all(0 < guide.clarity < 0.3 for guide in unclear)
    goals: dict[int, set[int]] = {}
    for guide in clear:
        goals.setdefault(guide.path[0], set()).add(guide.path[-1])
    assert np.median([len(found) for found in goals.values()]) >= 5


@pytest.mark.parametrize(("tag", "script", "full_stop"), [("hi-IN", "DEVANAGARI ", "।"), ("te-IN", "TELUGU ", ".")])
def test_indian_texts_are_in_their_own_script(world, tag, script, full_stop):
    for paths in world.rxr.splits.values():
        for text in (item.text for path in paths for item in path.instructions if item.tag == tag):
            assert unicodedata.is_normalized("NFC", text)
            assert text.endswith(full_stop)
            signs = set(text) - set(" ," + full_stop)
            assert all(unicodedata.name(sign).startswith(script) for sign in signs), text
            assert {unicodedata.category(sign)[0] for sign in signs} == {"L", "M"}
            # A sign that combines never stands alone.
            assert not any(unicodedata.category(word[0]).startswith("M") for word in text.split())


def test_english_texts_are_sentences(world):
    for paths in world.rxr.splits.values():
        for item in (item for path in paths for item in path.instructions if item.tag.startswith("en")):
            assert re.fullmatch(r"([A-Z][a-z]*(,? [a-z]+)*\. ?)+", item.text), item.text


def test_words_are_few_and_none_is_rare(world):
    texts: dict[str, list[str]] = {}
    for path in world.rxr.splits["train"]:
        for item in path.instructions:
            texts.setdefault(item.tag[:2], []).append(item.text)
    assert {tag: len(found) for tag, found in texts.items()} == {"en": 1200, "hi": 1200, "te": 1200}
    for found in texts.values():
        counts = Counter(word for text in found for word in words(text))
        assert 60 <= len(counts) <= 130
        assert min(counts.values()) >= 5, [word for word, count in counts.items() if count < 5]
        assert max(len(words(text)) + len(re.findall("[,.।]", text)) for text in found) < 150
    for split in ("val_seen", "val_unseen", "test_standard"):
        held_out = {word for path in world.rxr.splits[split] for item in path.instructions for word in words(item.text)}
        assert held_out <= {word for found in texts.values() for text in found for word in words(text)}


def test_every_language_names_every_color_thing_and_room():
    names = [name for name, design in DESIGNS.items() if design.colored]
    for grammar in GRAMMARS.values():
        assert set(grammar.wordings) == set(Kind)
        assert set(grammar.rooms) == set(ROOM_TYPES)
        for name in ("doorway", *names):
            phrases = [{form for forms in grammar.things(name, color) for form in forms.values()} for color in COLORS]
            assert len(set.union(*phrases)) >= len(COLORS)  # no two colors are named alike


def test_english_differs_a_little_between_the_countries():
    assert say("en-US", Kind.STOP, "sofa") == {"Stop next to the blue couch.", "Wait by the blue couch."}
    assert say("en-IN", Kind.STOP, "sofa") == {"Stop next to the blue sofa.", "Wait by the blue sofa."}
    assert say("en-IN", Kind.STOP_IN_ROOM, "cabinet", room="kitchen") == {
        "Stop in the kitchen next to the blue cupboard."
    }


def test_hindi_colors_agree_with_their_noun():
    # Masculine in -ā: oblique -e before postpositions, direct -ā in the relative clause.
    assert say("hi-IN", Kind.STOP, "sofa") == {
        "नीले सोफ़े के पास रुकिए।",
        "नीले सोफ़े की बगल में रुकिए।",
        "जहाँ नीला सोफ़ा है, वहाँ रुकिए।",
    }
    # Feminine: -ī in both cases.
    assert say("hi-IN", Kind.STOP, "table", "yellow") == {
        "पीली मेज़ के पास रुकिए।",
        "पीली मेज़ की बगल में रुकिए।",
        "जहाँ पीली मेज़ है, वहाँ रुकिए।",
    }
    # Masculine plural with its verb; beside it a window, whose curtains keep the oblique plural's color.
    assert say("hi-IN", Kind.TO_THING, "curtain", "black") == {
        "काले पर्दों की ओर चलिए।",
        "काले पर्दों के पास जाइए।",
        "जिधर काले पर्दे हैं, उधर जाइए।",
        "काले पर्दों वाली खिड़की की ओर चलिए।",
        "काले पर्दों वाली खिड़की के पास जाइए।",
        "जिधर काले पर्दों वाली खिड़की है, उधर जाइए।",
    }
    # का agrees as colors do; colors not in -ā never change.
    assert "जिधर खिलौनों का हरा बक्सा है, उधर जाइए।" in say("hi-IN", Kind.TO_THING, "toy box", "green")
    assert "खिलौनों के हरे बक्से की ओर चलिए।" in say("hi-IN", Kind.TO_THING, "toy box", "green")
    assert say("hi-IN", Kind.THROUGH_DOOR, "doorway", "red") == {
        "लाल दरवाज़े से होकर जाइए।",
        "लाल दरवाज़े से गुज़रिए।",
    }
    assert say("hi-IN", Kind.LEAVE, "armchair", "purple", "bedroom") == {
        "सोने के कमरे से निकलकर बैंगनी आरामकुर्सी की ओर चलिए।",
        "सोने के कमरे से बाहर निकलकर बैंगनी आरामकुर्सी के पास जाइए।",
    }
    # The infinitive of a room's name stands in the oblique case with its का.
    assert say("hi-IN", Kind.START_ROOM, room="living room") == {
        "आप बैठने के कमरे में खड़े हैं।",
        "आप अभी बैठने के कमरे में हैं।",
    }


@pytest.mark.parametrize(
    ("name", "direct", "oblique"),
    [
        # Masculine, with and without an ending that changes; dictionaries give कालीन as masculine.
        ("doorway", {"नीला दरवाज़ा"}, {"नीले दरवाज़े"}),
        ("bed", {"नीला बिस्तर", "नीला पलंग"}, {"नीले बिस्तर", "नीले पलंग"}),
        ("rug", {"नीला कालीन"}, {"नीले कालीन"}),
        ("mirror", {"नीला आईना"}, {"नीले आईने"}),
        ("piano", {"नीला पियानो"}, {"नीले पियानो"}),
        # Feminine: one form.
        ("desk", {"पढ़ने की नीली मेज़"}, {"पढ़ने की नीली मेज़"}),
        ("bench", {"नीली बेंच"}, {"नीली बेंच"}),
        ("wardrobe", {"कपड़ों की नीली अलमारी"}, {"कपड़ों की नीली अलमारी"}),
        ("painting", {"नीली तस्वीर"}, {"नीली तस्वीर"}),
    ],
)
def test_hindi_nouns_have_their_gender_and_cases(name, direct, oblique):
    forms = GRAMMARS["hi-IN"].things(name, "blue")
    assert {form["thing"] for form in forms} == direct
    assert {form["thing_oblique"] for form in forms} == oblique
    assert {form["is"] for form in forms} == {"है"}


def test_telugu_nouns_take_their_endings():
    assert say("te-IN", Kind.STOP, "sofa", "red") == {
        f"{color} సోఫా {place} ఆగండి." for color in ("ఎర్ర", "ఎరుపు రంగు") for place in ("పక్కన", "దగ్గర", "ఉన్న చోట")
    }
    # The plural in -లు has the genitive -ల before postpositions and stays -లు as the subject of ఉన్న.
    assert say("te-IN", Kind.TO_THING, "curtain") == {
        "నీలం రంగు పరదాల వైపు నడవండి.",
        "నీలం రంగు పరదాల దగ్గరకు వెళ్ళండి.",
        "నీలం రంగు పరదాలు ఉన్న వైపు వెళ్ళండి.",
        "నీలం రంగు పరదాలు గల కిటికీ వైపు నడవండి.",
        "నీలం రంగు పరదాలు గల కిటికీ దగ్గరకు వెళ్ళండి.",
        "నీలం రంగు పరదాలు గల కిటికీ ఉన్న వైపు వెళ్ళండి.",
    }
    assert say("te-IN", Kind.ENTER, "table", "pink", "library") == {
        "గ్రంథాలయంలోకి వెళ్ళి గులాబీ రంగు బల్ల వైపు నడవండి.",
        "గ్రంథాలయంలోకి ప్రవేశించి గులాబీ రంగు బల్ల దగ్గరకు వెళ్ళండి.",
    }
    # గుండా governs the genitive, దాటి the accusative; neither differs from the nominative here.
    assert say("te-IN", Kind.THROUGH_DOOR, "doorway") == {
        f"నీలం రంగు {door} {through} వెళ్ళండి." for door in ("తలుపు", "ద్వారం") for through in ("గుండా", "దాటి")
    }
    # Loanwords that end in a consonant take postpositions as they are.
    assert say("te-IN", Kind.STOP, "fridge", "turquoise") == {
        f"టర్కాయిస్ రంగు ఫ్రిజ్ {place} ఆగండి." for place in ("పక్కన", "దగ్గర", "ఉన్న చోట")
    }
    assert say("te-IN", Kind.START_ROOM, room="hallway") == {"మీరు నడవలో నిలబడి ఉన్నారు.", "నడవ నుండి బయలుదేరండి."}


def test_sentences_are_joined_in_each_language():
    house = make_house(0, 0)
    clauses = [Clause(Kind.START_ROOM, room="kitchen"), Clause(Kind.THROUGH_DOOR, house.things[0])]
    clauses.append(Clause(Kind.STOP, house.things[0]))
    shapes = {
        "en-US": r"You .* in the kitchen\. [GW].* the \w+ door(way)?(, and [sw]|\. Finally, [sw]).*\.",
        "hi-IN": r"आप .*रसोई में .*। .*( और |। अंत में ).*रुकिए।",
        "te-IN": r".*వంటగది.*\. .*వెళ్ళండి\. (చివరగా )?.* ఆగండి\.",
    }
    for tag, shape in shapes.items():
        text = GRAMMARS[tag].say(np.random.default_rng(1), clauses)
        assert re.fullmatch(shape, text), text
