"""Is a file what the table of sources says? Its hash where one is known, its structure and counts always."""

import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vln_clip.connectivity.graphs import SUFFIX, load_graph
from vln_clip.encoders.weights import file_sha256
from vln_clip.errors import InputError
from vln_clip.features.formats import SUFFIXES, format_of, parse_tsv_line, read_rows, stem_of
from vln_clip.features.locate import file_stem
from vln_clip.limits import MAX_LINE_BYTES
from vln_clip.reading import GZIP_MAGIC, read_bytes
from vln_clip.sources.table import ARCHIVE, FEATURES, FOLLOWER, GRAPH, GUIDE, ROWS, SPLIT, VOCABULARY, Source
from vln_clip.tasks import r2r, rxr
from vln_clip.tasks.r2r_files import KNOWN_VERSION, OTHER_VERSION, UNKNOWN_VERSION
from vln_clip.tasks.text import Vocabulary

# How pages begin; vocabularies begin with <PAD>.
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")


@dataclass(frozen=True)
class Finding:
    """What a file turned out to be.

    Attributes:
        counts: what it holds, in words.
        sha256: of its content; of splits unpacked. Empty for features, which are too large to be hashed in passing.
        version: one of ``r2r_files``'; empty where no hash is known to compare with.
        doubt: what speaks against its being the public file, empty if nothing does.
    """

    counts: str
    sha256: str
    version: str = ""
    doubt: str = ""

    def describe(self) -> str:
        """Return counts and version in one line."""
        if self.version == KNOWN_VERSION:
            return f"{self.counts}, known version"
        if not self.sha256:
            return self.counts
        version = {
            OTHER_VERSION: "the other public version, not the one that recorded results used",
            UNKNOWN_VERSION: "no known version",
        }.get(self.version, "no hash is known to compare with")
        return f"{self.counts}, {version}: sha256 {self.sha256}"


def find_present(source: Source, data: Path) -> Path | None:
    """Return the file of the data folder that serves as a source's, packed or in another format, None without one."""
    usual = data / source.name
    if source.folder == FEATURES:
        stems = (file_stem(source.encoder), stem_of(usual))
        others = [usual.with_name(f"{stem}{suffix}") for stem in stems for suffix in SUFFIXES]
    else:
        plain = usual.name.removesuffix(".gz")
        others = [usual.with_name(plain), usual.with_name(f"{plain}.gz")]
    return next((file for file in (usual, *others) if file.is_file()), None)


def check(file: Path, source: Source, must_be_public: bool = False) -> Finding:
    """Check a file.

    Args:
        file: whose last name is that of the source, packed or in another format.
        source: what it should be.
        must_be_public: whatever would be a ``doubt`` is refused. Of splits several versions circulate, so only
            their number of paths is held against them.

    Raises:
        InputError: the structure is wrong; the message names file and place.
    """
    refuse_web_page(file)
    finding = _CHECKS[source.kind](file, source, must_be_public)
    if must_be_public and finding.doubt:
        raise InputError(f"file {file}: {finding.doubt}")
    return finding


def hash_doubt(file: Path, source: Source, sha256: str) -> str:
    """Return how a file's hash differs from the known one, empty where it does not or none is known."""
    if source.sha256 in (None, sha256):
        return ""
    size = f"{source.num_bytes:,} bytes with " if source.num_bytes is not None else ""
    return f"expected {size}sha256 {source.sha256}, found {file.stat().st_size:,} bytes with sha256 {sha256}"


def refuse_web_page(file: Path) -> None:
    """Raise ``InputError`` for an empty file and for a page in place of a file."""
    with file.open("rb") as stream:
        head = stream.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        raise InputError(f"file {file} must hold data, got an empty one")
    if head.startswith(WEB_PAGE):
        raise InputError(f"file {file} is a web page: the link is dead, or its server asks for a login or a click")


def _split(file: Path, source: Source, must_be_public: bool) -> Finding:
    items, sha256, num_bytes = r2r.read_items(file)
    num_instructions = sum(len(item["instructions"]) for item in items)
    counts = f"{len(items):,} paths, {num_instructions:,} instructions"
    if not source.sha256:
        return Finding(counts, sha256)
    if sha256 == source.sha256:
        return Finding(counts, sha256, KNOWN_VERSION)
    doubt = "" if len(items) == source.num_paths else f"expected {source.num_paths:,} paths, found {len(items):,}"
    return Finding(counts, sha256, OTHER_VERSION if num_bytes == source.other_num_bytes else UNKNOWN_VERSION, doubt)


def _hashed(file: Path, source: Source, must_be_public: bool, count: Callable[[Path], str]) -> Finding:
    """Check a file of which there is one version; a foreign one need not be understood before it is refused."""
    sha256 = file_sha256(file)
    doubt = hash_doubt(file, source, sha256)
    if doubt and must_be_public:
        raise InputError(f"file {file}: {doubt}")
    version = "" if source.sha256 is None else UNKNOWN_VERSION if doubt else KNOWN_VERSION
    return Finding(count(file), sha256, version, doubt)


def _vocabulary(file: Path, source: Source, must_be_public: bool) -> Finding:
    return _hashed(file, source, must_be_public, lambda path: f"{Vocabulary.read(path).size:,} words with <BOS>")


def _graph(file: Path, source: Source, must_be_public: bool) -> Finding:
    return _hashed(file, source, must_be_public, count_graph)


def count_graph(file: Path) -> str:
    """Check a file of the connectivity folder and say what it holds."""
    if not file.name.endswith(SUFFIX):
        scans = read_bytes(file).split()
        if not scans or not all(scan.isalnum() for scan in scans):
            raise InputError(f"file {file} must list the names of scans, got {scans[:3]!r:.80}")
        return f"{len(scans)} scans"
    graph = load_graph(file, file.name.removesuffix(SUFFIX))
    return f"{len(graph.viewpoint_ids):,} viewpoints"


def _guide(file: Path, source: Source, must_be_public: bool) -> Finding:
    def count(path: Path) -> str:
        guides = rxr.read_guides(path, keep_empty=True)
        languages = Counter(episode.language for episode in guides.episodes)
        return f"{len(guides.places):,} paths, {len(guides.episodes):,} instructions ({tell_languages(languages)})"

    return _hashed(file, source, must_be_public, count)


def _follower(file: Path, source: Source, must_be_public: bool) -> Finding:
    def count(path: Path) -> str:
        return f"{sum(1 for _ in rxr.read_followers(path)):,} demonstrations"

    return _hashed(file, source, must_be_public, count)


def _rows(file: Path, source: Source, must_be_public: bool) -> Finding:
    """Check the first row, and that the last one has its line end; the rest is the matter of ``features verify``."""
    if format_of(file) == "tsv" and not _is_packed(file):
        with file.open("rb") as stream:
            _, features = parse_tsv_line(f"{file} line 1", stream.readline(MAX_LINE_BYTES))
            stream.seek(-1, 2)
            if stream.read() != b"\n":
                raise InputError(f"file {file} must end with a whole row, got one that is cut off")
        width = features.shape[1]
    else:
        first = next(read_rows(file), None)
        if first is None:
            raise InputError(f"file {file} must hold features of at least one viewpoint, got none")
        width = first[1].shape[1]
    return Finding(f"{file.stat().st_size:,} bytes, 36 views of {width} columns", "")


def _is_packed(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _archive(file: Path, source: Source, must_be_public: bool) -> Finding:
    def count(path: Path) -> str:
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise InputError(f"file {path} must be a whole zip archive, but: {error}") from None
        if damaged is not None:
            raise InputError(f"file {path} must be a whole zip archive, but {damaged!r} in it is damaged")
        return f"{len(names)} members (left packed)"

    return _hashed(file, source, must_be_public, count)


def counted(number: int, noun: str) -> str:
    """Return ``1 scan`` or ``2 scans``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def tell_languages(counts: Counter[str]) -> str:
    """Return ``en 3, hi 2``: the most frequent first."""
    return ", ".join(f"{language} {count:,}" for language, count in counts.most_common())


_CHECKS: dict[str, Callable[[Path, Source, bool], Finding]] = {
    SPLIT: _split,
    VOCABULARY: _vocabulary,
    GRAPH: _graph,
    GUIDE: _guide,
    FOLLOWER: _follower,
    ROWS: _rows,
    ARCHIVE: _archive,
}
