"""The answers that a model chooses from, and the public files that hold such lists.

No list is shipped: one is read from a file, or built from annotations. Index 0 is an answer like any other in
LXMERT's list (the empty text, what is left of "the"); MMF's has ``<unk>`` there, which is never a prediction.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.files import save_json
from vln_clip.reading import decode, parse_json, read_bytes
from vln_clip.tasks.vqa.answers import normalize_label
from vln_clip.tasks.vqa.questions import Question, shown

UNKNOWN = "<unk>"
MORE_THAN = 8  # an answer of VQA's vocabulary is that of more questions of train and val than this
FORMS = (
    "a list of answers (label2ans), an object answer: index (ans2label), openvqa's [ans2ix, ix2ans], LXMERT's list of "
    "objects with ans and dsets, or a text file with one answer per line"
)


class AnswerVocabulary:
    """Answers and their indices.

    Attributes:
        answers: every answer, its position being its index.
        unknown: index of ``<unk>``, to be left out before the best answer is taken; None where there is none.
    """

    def __init__(self, answers: Sequence[str]):
        self.answers = tuple(answers)
        self.indices = {answer: index for index, answer in enumerate(self.answers)}
        if not self.answers or len(self.indices) != len(self.answers):
            twice = [answer for answer, count in Counter(self.answers).items() if count > 1]
            found = f"{shown(twice[0])} more than once" if twice else "no answer at all"
            raise InputError(f"a vocabulary of answers must hold at least one, and each once, got {found}")
        self.unknown = self.indices.get(UNKNOWN)

    def __len__(self) -> int:
        return len(self.answers)

    def index(self, answer: str) -> int | None:
        """Return the index of an answer, None where it is not in the vocabulary."""
        return self.indices.get(answer)

    @classmethod
    def build(
        cls,
        questions: Iterable[Question],
        more_than: int = MORE_THAN,
        normalize: Callable[[str], str] = normalize_label,
    ) -> "AnswerVocabulary":
        """Build the vocabulary of annotated questions: the most frequent answers first, ties by name.

        Args:
            questions: with ``answer``; those of test splits are passed over. VQA's list is that of train and val.
            more_than: an answer must be that of more questions than this; 0 for GQA, whose list has all answers.
            normalize: applied to each answer; ``str`` for GQA, whose list has them as they stand.

        Raises:
            InputError: no answer is so frequent.
        """
        counts = Counter(question.answer for question in questions if question.answer is not None)
        normalized: Counter[str] = Counter()
        for answer, count in counts.items():
            normalized[normalize(answer)] += count
        chosen = sorted((-count, answer) for answer, count in normalized.items() if count > more_than)
        if not chosen:
            raise InputError(
                f"answers of a vocabulary must be those of more than {more_than} questions, but none of the "
                f"{len(normalized):,} answers is; lower the threshold or give a file of answers"
            )
        return cls([answer for _, answer in chosen])

    @classmethod
    def read(cls, path: Path) -> "AnswerVocabulary":
        """Read a file of answers; which of the public forms it has, its content tells.

        Raises:
            InputError: the file is missing or damaged, has another form, or holds an answer twice.
        """
        content = read_bytes(path)
        begin = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if begin in (b"[", b"{") or path.name.endswith((".json", ".json.gz")):
            answers = _answers(parse_json(content, path), path)
        else:
            answers = _lines(decode(content, path), path)
        try:
            return cls(answers)
        except InputError as error:
            raise InputError(f"file {path}: {error}") from None

    def write(self, path: Path) -> None:
        """Write the answers as a list in JSON, LXMERT's ``label2ans``."""
        save_json(path, list(self.answers), indent=None)


def _lines(text: str, path: Path) -> list[str]:
    """Return the answers of a text file; ``<unk>`` comes before them where it is not among them, as in MMF."""
    answers = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    for number, answer in enumerate(answers, 1):
        if not answer.strip() or not answer.isprintable():
            raise InputError(f"file {path} must hold one answer per line, but line {number} is {shown(answer)}")
    return answers if UNKNOWN in answers else [UNKNOWN, *answers]


def _answers(value: object, path: Path) -> list[str]:
    """Return the answers that a JSON file holds, in their order."""
    if isinstance(value, list) and value:
        if all(isinstance(answer, str) for answer in value):
            return value
        if len(value) == 2 and all(isinstance(part, dict) for part in value) and "ans" not in value[0]:
            return _both_ways(value[0], value[1], path)
        if all(isinstance(item, dict) and isinstance(item.get("ans"), str) for item in value):
            return [item["ans"] for item in value]
    if isinstance(value, dict) and value and all(type(index) is int for index in value.values()):
        return _by_index(value, path)
    raise InputError(f"file {path} must hold answers in a known form, got {shown(value)}; known are {FORMS}")


def _by_index(indices: dict[str, int], path: Path) -> list[str]:
    """Return the answers of an object answer: index."""
    ordered = sorted(indices, key=indices.__getitem__)
    for number, answer in enumerate(ordered):
        if indices[answer] != number:
            raise InputError(
                f"file {path} must number its {len(ordered):,} answers from 0 without a gap, but {shown(answer)} has "
                f"{shown(indices[answer])} in place of {number}; are these answers and their indices?"
            )
    return ordered


def _both_ways(indices: dict[str, object], answers: dict[str, object], path: Path) -> list[str]:
    """Return the answers of openvqa's pair of objects, which must be the inverse of each other."""
    if not indices or not all(type(index) is int for index in indices.values()):
        raise InputError(f"file {path} must hold answers in a known form, got {shown(indices)}; known are {FORMS}")
    ordered = _by_index(indices, path)  # type: ignore[arg-type]
    if {str(number): answer for number, answer in enumerate(ordered)} != answers:
        raise InputError(
            f"file {path} must hold an object answer: index and its inverse index: answer, but the two do not agree; "
            "take the file as it was published"
        )
    return ordered
