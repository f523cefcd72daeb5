"""WebDataset shards: tar files whose members belong together by name, an image with a caption in .txt or .json.

Members are listed once, by their headers; an image is later read by its offset. Nothing is unpickled: members of
other kinds are passed over.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.features.images import EXTENSIONS
from vln_clip.limits import MAX_CAPTION_CHARS, MAX_WHOLE_BYTES
from vln_clip.reading import decode, parse_json
from vln_clip.tasks.pretraining.places import read_part
from vln_clip.tasks.pretraining.records import Member, Pair
from vln_clip.tasks.vqa.questions import shown

SUFFIX = ".tar"
_TEXT, _JSON, _CAPTION = ".txt", ".json", "caption"
_BLOCK_BYTES = 512
_MOST_TEXT_BYTES = 1 << 20


def find_shards(place: Path) -> list[Path]:
    """Return the shards that a path means: itself, or those in the folder, by name.

    Raises:
        InputError: the folder has none.
    """
    if not place.is_dir():
        return [place]
    found = sorted(place.glob(f"*{SUFFIX}"))
    if not found:
        raise InputError(f"folder {place} must have shards (*{SUFFIX}), got none")
    return found


def read_shard(path: Path) -> Iterator[Pair]:
    """Yield the image and the caption of every sample.

    Raises:
        InputError: the file is missing, packed, damaged or cut off, or a sample has no image or no caption.
    """
    sample: dict[str, Member] = {}
    name = ""
    for member_name, member in _members(path):
        stem, ending = _split(member_name)
        if stem != name and sample:
            yield _pair(path, name, sample)
            sample = {}
        name = stem
        if ending in sample:
            raise InputError(f"shard {path}: members must have different names, got {shown(member_name)} again")
        sample[ending] = member
    if sample:
        yield _pair(path, name, sample)


def _members(path: Path) -> Iterator[tuple[str, Member]]:
    """Yield name and place of every file in a shard."""
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                if info.isreg() and not info.issparse():
                    yield info.name, Member(path, info.offset_data, info.size)
            end = archive.offset
    except FileNotFoundError:
        raise InputError(f"shard {path} does not exist") from None
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, RecursionError, MemoryError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(
            f"shard {path} must be a whole tar file, not packed, but: {reason:.160}; unpack it (gunzip) or get it again"
        ) from None
    # A damaged header ends the list without a word; a whole file ends in a block of zeros.
    if end + _BLOCK_BYTES > path.stat().st_size or any(read_part(path, end, _BLOCK_BYTES)):
        raise InputError(f"shard {path} is damaged or cut off at byte {end:,}; get it again")


def _split(name: str) -> tuple[str, str]:
    """Return a member's name up to the first dot of its last part, and the rest in lower case."""
    folder, slash, file = name.rpartition("/")
    stem, dot, ending = file.partition(".")
    return folder + slash + stem, (dot + ending).lower()


def _pair(path: Path, name: str, sample: dict[str, Member]) -> Pair:
    """Return one sample."""
    where = f"shard {path}, sample {shown(name)}"
    image = next((sample[ending] for ending in EXTENSIONS if ending in sample), None)
    if image is None or not (_TEXT in sample or _JSON in sample):
        raise InputError(
            f"{where} must have an image ({', '.join(EXTENSIONS)}) and its caption ({_TEXT} or {_JSON}), got "
            f"{', '.join(sorted(sample))[:80]}"
        )
    if _TEXT in sample:
        caption: object = decode(_content(sample[_TEXT], where), path)
    else:
        content = parse_json(_content(sample[_JSON], where), path)
        caption = content.get(_CAPTION) if isinstance(content, dict) else None
    if not isinstance(caption, str) or len(caption) > MAX_CAPTION_CHARS:
        what = f"{len(caption):,} characters" if isinstance(caption, str) else shown(caption)
        raise InputError(f"{where}: its caption must be a text of at most {MAX_CAPTION_CHARS:,} characters, got {what}")
    if image.size_bytes > MAX_WHOLE_BYTES:
        raise InputError(f"{where}: its image must have at most {MAX_WHOLE_BYTES:,} bytes, got {image.size_bytes:,}")
    key = f"{path}:{name}".encode(errors="backslashreplace").decode()  # names can be of any bytes
    return Pair(key, caption.strip(), None, image)


def _content(member: Member, where: str) -> bytes:
    """Return the content of a small member."""
    if member.size_bytes > _MOST_TEXT_BYTES:
        raise InputError(
            f"{where}: its caption must have at most {_MOST_TEXT_BYTES:,} bytes, got {member.size_bytes:,}"
        )
    return read_part(member.shard, member.offset, member.size_bytes)
