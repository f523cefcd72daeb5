"""The data sets by name: where their files lie, which languages they speak, how they are read.

Reading does not need the navigation graphs; ``place_on_graph`` checks the paths against them afterwards.
"""

from dataclasses import dataclass
from pathlib import Path

from vln_clip.errors import InputError, unknown_name
from vln_clip.records import Episode
from vln_clip.registry import resolve
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.split import Split, place_on_graph, split_name

ALL_LANGUAGES = "all"
RXR_LANGUAGES = ("en", "hi", "te")


@dataclass(frozen=True)
class Dataset:
    """What distinguishes one data set from another.

    Attributes:
        name: as on the command line.
        folder: of its files, inside the data folder.
        reader: ``module:function`` of ``(dataset, name, number, data, languages, keep_empty) -> Split``.
        files: name of a split's file, ``{split}`` in it.
        languages: of its instructions.
        tokenizer: that its words are made with by default.
        vocabulary: public vocabulary file inside the data folder, None where there is none.
        tests: splits without goals; the first is what a run submits.
        aug_paths: file of unlabelled paths inside ``folder``.
        generated: part of the demo world.
        submission: format of the leaderboard's files.
        max_tokens: usual limit of an instruction, special words included.
        winding: its paths are not the shortest ones, so neither are those that take the place of unlabelled ones.
        other_folders: public names that ``folder`` may have as well.
    """

    name: str
    folder: str
    reader: str
    files: str
    languages: tuple[str, ...] = ("en",)
    tokenizer: str = "unicode"
    vocabulary: str | None = None
    tests: tuple[str, ...] = ()
    aug_paths: str = "aug_paths.json"
    generated: bool = False
    submission: str = "r2r"
    max_tokens: int = 80
    winding: bool = False
    other_folders: tuple[str, ...] = ()

    @property
    def is_multilingual(self) -> bool:
        """Return whether results are to be told language by language."""
        return len(self.languages) > 1

    @property
    def world(self) -> str:
        """Return which viewpoints and pictures it uses: ``demo``, or ``r2r`` for Matterport3D's."""
        return "demo" if self.generated else "r2r"

    def file_name(self, split: str) -> str:
        """Return the name of a split's file inside ``folder``."""
        return self.files.format(split=PUBLIC_NAMES.get(split, split) if self.folder == "RxR" else split)

    def file(self, split: str, data: Path) -> Path:
        """Return the file of a split, packed or not; where there is none, where it belongs."""
        places = [data / folder / self.file_name(split) for folder in (self.folder, *self.other_folders)]
        for usual in places:
            other = usual.with_suffix("") if usual.suffix == ".gz" else usual.with_name(f"{usual.name}.gz")
            for file in (usual, other):
                if file.is_file():
                    return file
        return places[0]


PUBLIC_SPLITS = ("train", "val_seen", "val_unseen")
# RxR's test files are called otherwise than its splits.
PUBLIC_NAMES = {"test_standard": "test_standard_public", "test_challenge": "test_challenge_public"}
_R2R, _RXR, _CONTINUOUS = (
    f"vln_clip.tasks.{place}" for place in ("r2r:read_split", "rxr:read_split", "continuous_split:read_split")
)
_WORDS = "R2R/train_vocab.txt"
_RXR_TESTS = ("test_standard", "test_challenge")
_RXR_FILES, _RXR_AUG = "rxr_{split}_guide.jsonl.gz", "aug_paths.jsonl.gz"

DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("r2r", "R2R", _R2R, "R2R_{split}.json", ("en",), "english", _WORDS, ("test",)),
        Dataset("xl-r2r", "XL-R2R", _R2R, "R2R_{split}_zh.json", ("zh",)),
        Dataset("r4r", "R4R", _R2R, "R4R_{split}.json", ("en",), "english", _WORDS, max_tokens=160, winding=True),
        Dataset(
            "rxr",
            "RxR",
            _RXR,
            _RXR_FILES,
            RXR_LANGUAGES,
            tests=_RXR_TESTS,
            aug_paths=_RXR_AUG,
            submission="rxr",
            max_tokens=160,
            winding=True,
        ),
        Dataset(
            "r2r-ce",
            "R2R-CE",
            _CONTINUOUS,
            "{split}/{split}.json.gz",
            ("en",),
            "english",
            _WORDS,
            ("test",),
            submission="r2r-ce",
            other_folders=("R2R_VLNCE_v1-3", "R2R_VLNCE_v1-3_preprocessed"),
        ),
        Dataset(
            "rxr-ce",
            "RxR-CE",
            _CONTINUOUS,
            "{split}/{split}_guide.json.gz",
            RXR_LANGUAGES,
            tests=_RXR_TESTS[1:],
            submission="rxr-habitat",
            max_tokens=160,
            winding=True,
            other_folders=("RxR_VLNCE_v0",),
        ),
        Dataset("demo", "R2R", _R2R, "R2R_{split}.json", ("en",), "english", _WORDS, ("test",), generated=True),
        Dataset(
            "demo-rxr",
            "RxR",
            _RXR,
            _RXR_FILES,
            RXR_LANGUAGES,
            tests=_RXR_TESTS[:1],
            aug_paths=_RXR_AUG,
            generated=True,
            submission="rxr",
            max_tokens=160,
            winding=True,
        ),
    )
}


def find_dataset(name: str) -> Dataset:
    """Return a data set by name; an unknown one is an ``InputError`` with a suggestion."""
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    return DATASETS[name]


def require_language(dataset: str, language: str) -> tuple[str, ...]:
    """Return the languages that ``--language`` means: one of the data set's, or all of them.

    Raises:
        InputError: the data set does not speak it.
    """
    languages = find_dataset(dataset).languages
    if language == ALL_LANGUAGES:
        return languages
    if language not in languages:
        raise InputError(
            f"--language of the data set {dataset} must be one of {', '.join((*languages, ALL_LANGUAGES))}, got "
            f"{language!r}"
        )
    return (language,)


def load_episodes(
    dataset: str,
    split: str,
    data: Path,
    graph: Graph | None = None,
    keep_empty: bool = False,
    language: str = ALL_LANGUAGES,
) -> list[Episode]:
    """Read a split and, where a graph is given, place its paths on it.

    Args:
        dataset: a row of ``DATASETS``.
        split: name, or path of a file where it holds a ``/``; ``@N`` behind it takes N paths of it.
        data: data folder.
        graph: navigation graphs; None leaves viewpoints unchecked and endpoint-only paths as they are.
        keep_empty: it is a file of unlabelled paths, whose instructions are never read: episodes without a word are
            kept, and paths of start and goal alone are filled in on the graph.
        language: one of the data set's, or ``all``.

    Returns:
        The episodes, one per instruction.
    """
    read = read_split(dataset, split, data, keep_empty, language)
    return read.episodes if graph is None else place_on_graph(read, graph, fill_in=keep_empty).episodes


def read_split(dataset: str, split: str, data: Path, keep_empty: bool = False, language: str = ALL_LANGUAGES) -> Split:
    """Read and check a split without a graph; arguments as in ``load_episodes``.

    A file whose paths all have one viewpoint hides its goals: that is how public test splits are written, and no
    path to learn or score from would look so. The rule is applied to the whole file, before ``@N`` and the language.

    Raises:
        InputError: unknown data set, split or language, missing or malformed file; the message names file and field.
    """
    found = find_dataset(dataset)
    languages = require_language(dataset, language)
    name, number = split_name(split)
    return resolve("reader", {dataset: found.reader}, dataset)(found, name, number, data, languages, keep_empty)


def split_file(dataset: Dataset, split: str, data: Path, remedy: str) -> Path:
    """Return the file of a split: a path where the name holds a ``/``, else the data set's own.

    Args:
        dataset: whose.
        split: name or path, without ``@N``.
        data: data folder.
        remedy: how to get a public split that is not there.

    Raises:
        InputError: unknown split (nearest name suggested), or a file that is not there.
    """
    if "/" in split:
        return Path(split)
    file = dataset.file(split, data)
    if file.is_file():
        return file
    if split not in PUBLIC_SPLITS and split not in dataset.tests:
        raise unknown_name("split", split, known_splits(dataset, data))
    if dataset.generated:
        remedy = "build the demo world: python -m vln_clip.data --dataset demo"
    raise InputError(f"file {file} of split {split!r} is missing; {remedy}, or set VLN_CLIP_DATA to its data folder")


def known_splits(dataset: Dataset, data: Path) -> list[str]:
    """Return the names of the splits in a data folder, after the public ones."""
    public = [*PUBLIC_SPLITS, *dataset.tests]
    if "/" in dataset.files:  # a folder for each
        places = (data / folder for folder in (dataset.folder, *dataset.other_folders))
        folders = sorted({folder.name for place in places for folder in place.glob("*/")})
        here = [name for name in folders if dataset.file(name, data).is_file()]
    else:
        before, _, after = dataset.files.partition("{split}")
        names = {file.name.removesuffix(".gz") for file in (data / dataset.folder).glob(f"{before}*")}
        after = after.removesuffix(".gz")
        found = (name[len(before) : -len(after)] for name in sorted(names) if name.endswith(after))
        splits = {public_name: split for split, public_name in PUBLIC_NAMES.items()}
        here = [splits.get(name, name) for name in found]
    return [*public, *(name for name in here if name not in public)]
