"""LXMERT's aggregated files for pre-training: each picture with its descriptions and questions; the list of answers."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from vln_clip.envs.demo.pictures.asking import Candidate
from vln_clip.envs.demo.pictures.files import write_json
from vln_clip.tasks.vqa.answers import normalize_label, soft_scores

LXMERT = Path("lxmert")
TRAINING, MINIVAL = ("mscoco_train", "mscoco_nominival", "vgnococo"), "mscoco_minival"
ALL_ANSWERS = LXMERT / "all_ans.json"
_SHARES = (4, 1, 2)  # of the training houses, about as the public files share images
_LABELED = ("vqa", "gqa", "visual7w")
Label = dict[str, float]


class Aggregate:
    """All sentences by picture, collected from what the other files are made of.

    All pictures are of Visual Genome, too, and have more descriptions as ``vg``. Those that are not of COCO,
    whose keys are numbers, have no captions and, in place of VQA's questions with ten answers each, the same ones with
    a single answer as ``visual7w``.
    """

    def __init__(self) -> None:
        self.captions: dict[int, Sequence[str]] = {}
        self.descriptions: dict[int, Sequence[str]] = {}
        self._vqa: dict[int, list[tuple[str, str, Label]]] = defaultdict(list)
        self._gqa: dict[int, list[tuple[str, str, Label]]] = defaultdict(list)

    def add_vqa(self, question: Candidate, answers: Sequence[Mapping[str, object]]) -> None:
        """Add a question of VQA's with the answers of its annotators."""
        scores = soft_scores([str(row["answer"]) for row in answers])
        self._vqa[question.image_id].append((question.text, normalize_label(question.answer), scores))

    def add_gqa(self, question: Candidate) -> None:
        """Add a question of GQA's."""
        self._gqa[question.image_id].append((question.text, question.answer, {question.answer: 1.0}))

    def asked(self, key: str, image_id: int) -> dict[str, list[tuple[str, str, Label]]]:
        """Return the questions about a picture by source, each with its best answer and its label."""
        vqa = self._vqa.get(image_id, [])
        if key.isdigit():
            found = {"visual7w": [(text, answer, {answer: 1.0}) for text, answer, _ in vqa]}
        else:
            found = {"vqa": vqa}
        found["gqa"] = self._gqa.get(image_id, [])
        return {source: questions for source, questions in found.items() if questions}

    def entry(self, key: str, image_id: int, known: Container[str]) -> dict[str, object]:
        """Return what the files hold of a picture; labels keep the ``known`` answers."""
        asked = self.asked(key, image_id)
        sentences = {} if key.isdigit() else {"mscoco": list(self.captions[image_id])}
        sentences["vg"] = list(self.descriptions[image_id])
        sentences |= {source: [text for text, _, _ in questions] for source, questions in asked.items()}
        labels = {
            source: [{answer: score for answer, score in label.items() if answer in known} for _, _, label in questions]
            for source, questions in asked.items()
        }
        return {"img_id": key, "sentf": sentences, "labelf": labels}

    def answers(self, keys: Mapping[int, str]) -> Iterator[tuple[str, str]]:
        """Yield source and best answer of every question about some pictures, keys by number."""
        for image_id, key in keys.items():
            for source, questions in self.asked(key, image_id).items():
                yield from ((source, answer) for _, answer, _ in questions)


def houses_by_file(houses: range) -> dict[str, range]:
    """Share the training houses among the training files; the first gets what cannot be shared."""
    least = int(len(houses) >= len(TRAINING))
    sizes = [max(least, len(houses) * share // sum(_SHARES)) for share in _SHARES]
    sizes[0] = len(houses) - sum(sizes[1:])
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return {name: houses[end - size : end] for name, end, size in zip(TRAINING, ends, sizes, strict=True)}


def write_lxmert(folder: Path, aggregate: Aggregate, keys: Mapping[str, Mapping[int, str]]) -> None:
    """Write the files and the list of answers: those that are the best one of a training question.

    Args:
        folder: the data folder.
        aggregate: what is known of the pictures.
        keys: of the pictures, by their numbers, by file.
    """
    counts: Counter[str] = Counter()
    sources: dict[str, set[str]] = defaultdict(set)
    for name in TRAINING:
        for source, answer in aggregate.answers(keys[name]):
            counts[answer] += 1
            sources[answer].add(source)
    for name, of_file in keys.items():
        rows = [aggregate.entry(key, image_id, counts) for image_id, key in of_file.items()]
        write_json(folder / LXMERT / f"{name}.json", rows)
    order = sorted(counts, key=lambda answer: (-counts[answer], answer))
    rows = [{"ans": answer, "dsets": [name for name in _LABELED if name in sources[answer]]} for answer in order]
    write_json(folder / ALL_ANSWERS, rows)
