"""Reading caption annotations: COCO's ``captions_*.json`` and Karpathy's ``dataset_coco.json`` (specification 6.4).

Every field that is used is checked. Captions without a word are left out and counted in a warning. Words are the
``tokens`` of Karpathy's file; in COCO's they are split as the evaluation does without Java (``words.split_words``).
"""

import logging
import sys
from collections.abc import Container, Iterator, Sequence
from pathlib import Path, PurePosixPath

from vln_clip.errors import InputError, unknown_name
from vln_clip.limits import MAX_CAPTION_CHARS
from vln_clip.reading import read_json
from vln_clip.tasks.captioning.records import CaptionedImage
from vln_clip.tasks.captioning.vocabulary import is_word
from vln_clip.tasks.captioning.words import split_words

logger = logging.getLogger(__name__)

FOLDER = Path("COCO") / "annotations"
KARPATHY_FILE = "dataset_coco.json"
COCO_FILES = {"train": "captions_train2014.json", "val": "captions_val2014.json"}
TRAIN, RESTVAL, VAL, TEST = KARPATHY_SPLITS = ("train", "restval", "val", "test")


def find_file(data: Path, split: str) -> Path:
    """Return the file of a data folder that holds a split: Karpathy's where it is there, else COCO's.

    Raises:
        InputError: neither is there.
    """
    karpathy = data / FOLDER / KARPATHY_FILE
    if karpathy.is_file():
        return karpathy
    if split not in COCO_FILES:
        raise InputError(f"split {split!r} of captions is one of Karpathy's, but file {karpathy} does not exist")
    coco = data / FOLDER / COCO_FILES[split]
    if not coco.is_file():
        raise InputError(f"captions of split {split!r} must be in {karpathy} or {coco}, but neither exists")
    return coco


def read_annotations(path: Path, split: str = "") -> list[CaptionedImage]:
    """Read a caption file of either format, told by its content.

    Args:
        path: the file, packed or not.
        split: name for the pictures of a COCO file, which does not tell one.

    Returns:
        Every picture in the file's order, those without captions too.

    Raises:
        InputError: missing or malformed file, an annotation of a picture that is not listed, ids that occur twice.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list) or not content["images"]:
        raise InputError(f"file {path} must be a JSON object with a list 'images' that is not empty")
    coco = isinstance(content.get("annotations"), list)
    found = _read_coco(path, content, split) if coco else [_karpathy(*item) for item in _items(path, content, "images")]
    _require_unique(path, found)
    _report(path, found, len(content["annotations"]) if coco else _count_sentences(content))
    return found


def select(images: Sequence[CaptionedImage], split: str, train_only: bool = False) -> list[CaptionedImage]:
    """Return the pictures of a split; ``restval`` is training data unless ``train_only``.

    Raises:
        InputError: there is no picture of that split; the message names those that are there.
    """
    wanted = {TRAIN, RESTVAL} if split == TRAIN and not train_only else {split}
    found = [image for image in images if image.split in wanted]
    if not found:
        raise unknown_name("split of captions", split, sorted({image.split for image in images}))
    return found


def require_features(images: Sequence[CaptionedImage], keys: Container[str], store: str) -> None:
    """Check that every picture has features.

    Args:
        images: of which captions are to be learned or made.
        keys: of the store; anything with a fast ``in``.
        store: its name, for the message.

    Raises:
        InputError: some have none; the message counts them and names the first.
    """
    absent = [image.image for image in images if image.image not in keys]
    if absent:
        raise InputError(
            f"features {store} must hold every captioned image, but {len(absent):,} of {len(images):,} are not there, "
            f"the first {absent[0]!r:.80}; extract their grids, too"
        )


def _read_coco(path: Path, content: dict, split: str) -> list[CaptionedImage]:
    """Join the two lists of a COCO file."""
    names: dict[int, str] = {}
    for where, item in _items(path, content, "images"):
        image_id = _integer(where, item, "id")
        if image_id in names:
            raise InputError(f"{where}: image ids must be unique, got {image_id} again")
        names[image_id] = _key(where, item, "file_name")
    captions: dict[int, list[str]] = {image_id: [] for image_id in names}
    seen: set[int] = set()
    for where, item in _items(path, content, "annotations"):
        image_id, annotation_id = _integer(where, item, "image_id"), _integer(where, item, "id")
        if image_id not in captions:
            raise InputError(f"{where}: image_id must be the id of an image of the file, got {image_id}")
        if annotation_id in seen:
            raise InputError(f"{where}: annotation ids must be unique, got {annotation_id} again")
        seen.add(annotation_id)
        captions[image_id].append(_caption(where, item, "caption"))
    found = []
    for image_id, texts in captions.items():
        kept = [(text, words) for text in texts if (words := tuple(map(sys.intern, split_words(text))))]
        texts_kept, words_kept = tuple(text for text, _ in kept), tuple(words for _, words in kept)
        found.append(CaptionedImage(names[image_id], image_id, split, texts_kept, words_kept))
    return found


def _karpathy(where: str, item: dict) -> CaptionedImage:
    """Check one picture of Karpathy's file; Flickr's files of the same kind have no ``cocoid``."""
    if item.get("split") not in KARPATHY_SPLITS:
        raise InputError(f"{where}: split must be one of {', '.join(KARPATHY_SPLITS)}, got {item.get('split')!r:.40}")
    image_id = _integer(where, item, "cocoid" if "cocoid" in item else "imgid")
    sentences = item.get("sentences")
    if not isinstance(sentences, list):
        raise InputError(f"{where}: sentences must be a list, got {sentences!r:.40}")
    captions, words = [], []
    for number, sentence in enumerate(sentences):
        place = f"{where}: sentence {number}"
        if not isinstance(sentence, dict):
            raise InputError(f"{place} must be an object with 'tokens' and 'raw', got {sentence!r:.40}")
        raw, tokens = _caption(place, sentence, "raw"), _tokens(place, sentence.get("tokens"))
        if tokens:
            captions.append(raw)
            words.append(tokens)
    return CaptionedImage(_key(where, item, "filename"), image_id, item["split"], tuple(captions), tuple(words))


def _tokens(where: str, tokens: object) -> tuple[str, ...]:
    """Check the words of a sentence; a word with white space inside could not be told apart in a caption."""
    if not isinstance(tokens, list) or not all(map(is_word, tokens)):
        raise InputError(f"{where}: tokens must be a list of words without white space, got {tokens!r:.60}")
    if sum(map(len, tokens)) > MAX_CAPTION_CHARS:
        raise InputError(f"{where}: tokens must have at most {MAX_CAPTION_CHARS:,} characters together, got more")
    return tuple(map(sys.intern, tokens))


def _items(path: Path, content: dict, name: str) -> Iterator[tuple[str, dict]]:
    """Yield where each object of a list stands, and the object."""
    for number, item in enumerate(content[name]):
        where = f"{path}: {name} {number}"
        if not isinstance(item, dict):
            raise InputError(f"{where} must be an object, got {item!r:.60}")
        yield where, item


def _integer(where: str, item: dict, name: str) -> int:
    value = item.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InputError(f"{where}: {name} must be a whole number from 0 to 2^63, got {value!r:.40}")
    return value


def _key(where: str, item: dict, name: str) -> str:
    """Return the key of a picture's file name."""
    value = item.get(name)
    key = PurePosixPath(value).stem if isinstance(value, str) else ""
    if not key or not key.isprintable():
        raise InputError(f"{where}: {name} must be the name of an image file, got {value!r:.60}")
    return key


def _caption(where: str, item: dict, name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or len(value) > MAX_CAPTION_CHARS:
        what = f"{len(value):,} characters" if isinstance(value, str) else repr(value)[:60]
        raise InputError(f"{where}: {name} must be a text of at most {MAX_CAPTION_CHARS:,} characters, got {what}")
    return value


def _count_sentences(content: dict) -> int:
    return sum(len(item["sentences"]) for item in content["images"])


def _require_unique(path: Path, images: Sequence[CaptionedImage]) -> None:
    """Check ids and keys: features and results are found by them."""
    for name in ("image_id", "image"):
        seen = set()
        for image in images:
            value = getattr(image, name)
            if value in seen:
                raise InputError(f"file {path}: images must have different ids and file names, got {value!r:.80} twice")
            seen.add(value)


def _report(path: Path, images: Sequence[CaptionedImage], num_written: int) -> None:
    """Tell how many captions were left out; a file in which no caption has a word is an error."""
    num_kept = sum(len(image.captions) for image in images)
    if num_written and not num_kept:
        raise InputError(f"file {path} must hold captions, but none of its {num_written:,} has a word")
    if num_kept < num_written:
        logger.warning("%s: left out %d of %d captions, which have no word", path, num_written - num_kept, num_written)
