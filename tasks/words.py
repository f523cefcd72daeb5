"""The vocabulary of a data set: the public one where there is one, else built from its training split."""

import logging
from collections.abc import Sequence
from pathlib import Path

from vln_clip import files
from vln_clip.errors import InputError
from vln_clip.paths import cache_dir
from vln_clip.tasks.datasets import ALL_LANGUAGES, Dataset, read_split
from vln_clip.tasks.split import Split
from vln_clip.tasks.stored import StoredSplit
from vln_clip.tasks.storing import FOLDER
from vln_clip.tasks.text import Vocabulary

logger = logging.getLogger(__name__)

TRAIN = "train"


def load_vocabulary(
    dataset: Dataset, data: Path, languages: Sequence[str], tokenizer: str, train: Split | None = None
) -> Vocabulary:
    """Read the public vocabulary, or build one from the training split by the same rule.

    Several languages get a tag each, so that a speaker can be told which one to write.
    """
    path = None if dataset.vocabulary is None else data / dataset.vocabulary
    if path is not None and path.is_file() and tokenizer == dataset.tokenizer:
        return Vocabulary.read(path)
    if train is None:
        language = languages[0] if len(languages) == 1 else ALL_LANGUAGES
        train = read_split(dataset.name, TRAIN, data, language=language)
    tags = tuple(languages) if len(languages) > 1 else ()
    if isinstance(train, StoredSplit):
        vocabulary = _kept_vocabulary(train, tokenizer, tags)
    else:
        texts = (episode.instruction for episode in train.episodes)
        vocabulary = Vocabulary.build(texts, tokenizer=tokenizer, languages=tags)
    if not dataset.generated:
        where = "" if path is None else f"{path} is not there: "
        logger.info("%sbuilt a vocabulary of %d words from the training split", where, vocabulary.size)
    return vocabulary


def _kept_vocabulary(train: StoredSplit, tokenizer: str, tags: Sequence[str]) -> Vocabulary:
    """Return the vocabulary of a large split from the cache; counting its words takes minutes."""
    empty = Vocabulary((), tokenizer, tags)
    path = cache_dir() / FOLDER / f"{train.stored.key}-words-{empty.digest[:16]}.json"
    if path.is_file():
        files.mark_used(path)
        try:
            return Vocabulary.read(path)
        except InputError:  # only a cache
            logger.warning("%s is damaged and is made anew", path)
    logger.info("counting the words of %s, once", train.file)
    vocabulary = Vocabulary.build(train.stored.instructions(), tokenizer=tokenizer, languages=tags)
    vocabulary.write(path)
    return vocabulary
