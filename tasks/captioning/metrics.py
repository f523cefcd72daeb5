"""The metrics of image captioning: BLEU, METEOR, ROUGE-L, CIDEr and SPICE, each from 0 to 1 (CIDEr to 10).

They are pycocoevalcap's, which is optional (``pip install "vln-clip[caption]"``); CIDEr is our own, equal to it and
always there. Java is optional, too: without it METEOR and SPICE are left out, and captions are split by
``words.split_words`` in place of the Penn Treebank tokenizer. What was left out, and why, stands in the scores.
"""

import importlib
import io
import logging
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from vln_clip.errors import InputError, unknown_name
from vln_clip.tasks.captioning.cider import score_texts
from vln_clip.tasks.captioning.words import join_words

logger = logging.getLogger(__name__)

BLEU = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
METEOR, ROUGE, CIDER, SPICE = "METEOR", "ROUGE-L", "CIDEr", "SPICE"
METRICS = (*BLEU, METEOR, ROUGE, CIDER, SPICE)
PTB, OWN, AUTO = TOKENIZERS = ("ptb", "own", "auto")
LIBRARY = "pycocoevalcap"
INSTALL = 'install it: pip install "vln-clip[caption]"'
NO_JAVA = "it needs Java, which does not run here; install a Java runtime (java must be found in PATH)"
PTB_CLASS = "edu.stanford.nlp.process.PTBTokenizer"
SPICE_JAR = Path("lib") / "stanford-corenlp-3.6.0.jar"
NO_CORENLP = f"it needs Stanford CoreNLP 3.6.0; fetch it once, online: python -m {LIBRARY}.spice.get_stanford_models"
JAVA_WAIT_S = 60

Texts = dict[int, list[str]]
Scored = tuple[dict[str, float], dict[str, np.ndarray]]


@dataclass(frozen=True)
class CaptionScores:
    """Scores of the captions of a split.

    Attributes:
        metrics: mean or corpus value by name; BLEU, METEOR, ROUGE-L and SPICE from 0 to 1, CIDEr from 0 to 10.
        by_image: (N,) float64 values by metric, in the order of ``image_ids``.
        image_ids: that were scored, ascending.
        tokenizer: that split the captions: ``ptb`` or ``own``.
        absent: why a metric that was wanted is not there, by name.
        num_without_references: captions of images that have no references; they are not scored.
        num_empty: captions without a word; they score 0.
    """

    metrics: dict[str, float]
    by_image: dict[str, np.ndarray]
    image_ids: tuple[int, ...]
    tokenizer: str
    absent: dict[str, str]
    num_without_references: int
    num_empty: int


class _AbsentError(Exception):
    """A metric cannot be computed here; the message says why."""


def score_captions(
    captions: Mapping[int, str],
    references: Mapping[int, Sequence[str]],
    wanted: Sequence[str] = METRICS,
    tokenizer: str = AUTO,
) -> CaptionScores:
    """Score one caption per image.

    Args:
        captions: by image id, as text.
        references: by image id, as people wrote them. Images without any are not scored.
        wanted: metrics; ``("CIDEr",)`` needs neither library nor Java.
        tokenizer: ``ptb`` (Java), ``own``, or ``auto``: ``ptb`` where Java and the library are there.

    Raises:
        InputError: an image with references has no caption, or ``ptb`` cannot run.
    """
    _require_known(wanted, tokenizer)
    image_ids = sorted(image_id for image_id, texts in references.items() if texts)
    _require_complete(captions, image_ids)
    used, texts, groups = _tokenize(
        tokenizer, {i: captions[i] for i in image_ids}, {i: references[i] for i in image_ids}
    )
    metrics: dict[str, float] = {}
    by_image: dict[str, np.ndarray] = {}
    absent: dict[str, str] = {}
    for names, compute in _COMPUTED:
        if not set(names) & set(wanted):
            continue
        try:
            found, found_by_image = compute(groups, texts)
        except _AbsentError as error:
            absent |= {name: str(error) for name in names if name in wanted}
            continue
        metrics |= {name: found[name] for name in names if name in wanted}
        by_image |= {name: found_by_image[name] for name in names if name in wanted}
    _report(absent)
    num_empty = sum(not text[0] for text in texts.values())
    num_others = len(captions.keys() - set(image_ids))
    return CaptionScores(metrics, by_image, tuple(image_ids), used, absent, num_others, num_empty)


def has_java() -> bool:
    """Return whether Java runs; on some systems a program of that name only tells how to install it."""
    program = shutil.which("java")
    if program is None:
        return False
    try:
        subprocess.run([program, "-version"], check=True, capture_output=True, timeout=JAVA_WAIT_S)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _require_known(wanted: Sequence[str], tokenizer: str) -> None:
    for name in wanted:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    if tokenizer not in TOKENIZERS:
        raise unknown_name("tokenizer of captions", tokenizer, TOKENIZERS)


def _require_complete(captions: Mapping[int, str], image_ids: Sequence[int]) -> None:
    """Check that there is something to score, and every image has a caption."""
    if not image_ids:
        raise InputError("captions can only be scored against references, but no image has any; name another split")
    lacking = [image_id for image_id in image_ids if image_id not in captions]
    if lacking:
        raise InputError(
            f"every image with references must have a caption, but {len(lacking):,} of {len(image_ids):,} have none, "
            f"the first {lacking[0]}"
        )


def _report(absent: Mapping[str, str]) -> None:
    """Say what is left out, each reason once for all calls."""
    for reason in dict.fromkeys(absent.values()):
        _tell(", ".join(name for name in absent if absent[name] == reason), reason)


@cache
def _tell(names: str, reason: str) -> None:
    logger.warning("%s left out: %s", names, reason)


# Splitting into words.


def _tokenize(
    tokenizer: str, captions: Mapping[int, str], references: Mapping[int, Sequence[str]]
) -> tuple[str, Texts, Texts]:
    """Return the tokenizer used, the captions (one per image) and the references, as words joined by spaces."""
    # Lines are what the Java tokenizer counts by, so no caption may hold one.
    groups = {i: [" ".join(text.split()) for text in [captions[i], *references[i]]] for i in captions}
    if tokenizer == OWN:
        used, split = OWN, {i: join_words(texts) for i, texts in groups.items()}
    else:
        try:
            used, split = PTB, _ptb(groups)
        except _AbsentError as error:
            if tokenizer == PTB:
                raise InputError(f"captions cannot be split by the Penn Treebank tokenizer: {error}") from None
            logger.warning(
                "captions are split by our own tokenizer: the Penn Treebank tokenizer is left out, %s", error
            )
            used, split = OWN, {i: join_words(texts) for i, texts in groups.items()}
    own = {i: texts[:1] for i, texts in split.items()}
    others = {i: [text for text in texts[1:] if text] for i, texts in split.items()}
    empty = [i for i, texts in others.items() if not texts]
    if empty:
        raise InputError(f"references must have words, but image {empty[0]} has none with any (of {len(empty):,} such)")
    return used, own, others


def _ptb(groups: Mapping[int, Sequence[str]]) -> Texts:
    """Split texts by the library's Java tokenizer; its own wrapper writes beside its code and to standard error."""
    library = _library("tokenizer.ptbtokenizer")
    if not has_java():
        raise _AbsentError(NO_JAVA)
    jar = Path(str(library.__file__)).with_name(library.STANFORD_CORENLP_3_4_1_JAR)
    texts = [text for group in groups.values() for text in group]
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), PTB_CLASS, "-preserveLines", "-lowerCase"]
    given = "".join(f"{text}\n" for text in texts).encode()
    try:
        found = subprocess.run(command, input=given, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise _AbsentError(f"its Java program failed: {error}") from None
    lines = found.split("\n")[:-1]
    if len(lines) != len(texts):
        raise _AbsentError(f"its Java program made {len(lines):,} lines of {len(texts):,}")
    dropped = set(library.PUNCTUATIONS)
    words = iter(" ".join(word for word in line.split() if word not in dropped) for line in lines)
    return {i: [next(words) for _ in group] for i, group in groups.items()}


# Metrics: each takes references and captions by image id, in ascending order of ids.


def _library(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"{LIBRARY}.{module}")
    except ImportError as error:
        missing = (error.name or LIBRARY).partition(".")[0]
        raise _AbsentError(f"the package {missing} is not there; {INSTALL}") from None


def _cider(references: Texts, captions: Texts) -> Scored:
    mean, scores = score_texts([texts[0] for texts in captions.values()], list(references.values()))
    return {CIDER: mean}, {CIDER: scores}


def _bleu(references: Texts, captions: Texts) -> Scored:
    with redirect_stdout(io.StringIO()):  # it prints lengths
        totals, scores = _library("bleu.bleu").Bleu(len(BLEU)).compute_score(references, captions)
    by_image = {name: np.array(values) for name, values in zip(BLEU, scores, strict=True)}
    return {name: float(total) for name, total in zip(BLEU, totals, strict=True)}, by_image


def _rouge(references: Texts, captions: Texts) -> Scored:
    mean, scores = _library("rouge.rouge").Rouge().compute_score(references, captions)
    return {ROUGE: float(mean)}, {ROUGE: scores}


def _meteor(references: Texts, captions: Texts) -> Scored:
    library = _library("meteor.meteor")
    if not has_java():
        raise _AbsentError(NO_JAVA)
    # Three bars part the texts of its protocol.
    references, captions = (
        {i: [text.replace("|||", " ") for text in texts] for i, texts in given.items()}
        for given in (references, captions)
    )
    scorer = library.Meteor()
    try:
        total, scores = scorer.compute_score(references, captions)
    except (OSError, ValueError) as error:  # its process has ended
        raise _AbsentError(f"its Java program failed: {error}") from None
    finally:
        if scorer.lock.locked():  # after an error or Ctrl-C its end would wait for this lock for ever
            scorer.lock.release()
    return {METEOR: total}, {METEOR: np.array(scores)}


def _spice(references: Texts, captions: Texts) -> Scored:
    library = _library("spice.spice")
    if not has_java():
        raise _AbsentError(NO_JAVA)
    if not (Path(str(library.__file__)).parent / SPICE_JAR).is_file():
        raise _AbsentError(NO_CORENLP)  # the library would fetch 400 MB, unasked
    try:
        mean, scores = library.Spice().compute_score(references, captions)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise _AbsentError(f"its Java program failed: {error}") from None
    return {SPICE: float(mean)}, {SPICE: np.array([score["All"]["f"] for score in scores])}


_COMPUTED: tuple[tuple[tuple[str, ...], Callable[[Texts, Texts], Scored]], ...] = (
    (BLEU, _bleu),
    ((METEOR,), _meteor),
    ((ROUGE,), _rouge),
    ((CIDER,), _cider),
    ((SPICE,), _spice),
)
