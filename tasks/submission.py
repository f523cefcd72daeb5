"""Leaderboard submissions on the navigation graph: writing one, merging several, checking one before the upload.

The checks say what a server would refuse, each problem with its place in the file. Formats: ``tasks/formats.py``.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.files import save_json, save_json_lines
from vln_clip.records import Episode, Prediction
from vln_clip.tasks.continuous_predictions import from_walk
from vln_clip.tasks.documents import ARRAY, LINES, Document, read_document
from vln_clip.tasks.formats import find_format
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.predictions import check_walks
from vln_clip.tasks.problems import DUPLICATE, FILE, MISSING, OTHER_FORMAT, UNKNOWN, WRONG_TYPE, Problem
from vln_clip.tasks.split import Split
from vln_clip.tasks.strangers import SplitOf
from vln_clip.tasks.submission_items import Finding, check_r2r, check_rxr
from vln_clip.tasks.submission_report import Report
from vln_clip.tasks.submission_warnings import find_warnings

__all__ = ["Report", "merge_lines", "validate_submission", "write_submission"]

NUM_NAMED = 3


def write_submission(
    path: Path,
    predictions: Sequence[Prediction],
    style: str = "r2r",
    split: Split | None = None,
    graph: Graph | None = None,
) -> None:
    """Write a submission, atomically; gzipped where the name ends in ``.gz``.

    Args:
        path: file to write.
        predictions: one per instruction.
        style: format, a row of ``formats.FORMATS``.
        split: what they answer; a format of positions needs it, and that it is of a continuous environment.
        graph: its navigation graphs; needed likewise.

    Raises:
        InputError: two predictions with one id, a format of positions for a split without positions or for ids
            that are not in it, or more steps than the challenge allows.
        ValueError: an empty trajectory, or an angle that is infinite.
    """
    ids = Counter(prediction.instr_id for prediction in predictions)
    twice = [instr_id for instr_id, count in ids.items() if count > 1]
    if twice:
        raise InputError(f"instr_id must be unique in a submission, got {twice[0]} {ids[twice[0]]} times")
    for prediction in predictions:
        if not prediction.trajectory:
            raise ValueError(f"trajectory of {prediction.instr_id} must hold at least the start, got an empty one")
    row = find_format(style)
    if row.on_graph:
        row.function("write")(path, predictions)
        return
    if split is None or split.continuous is None or graph is None:
        raise InputError(
            f"--format {style} holds positions: it is for data sets of continuous environments (r2r-ce, rxr-ce)"
        )
    episodes = {episode.instr_id: episode for episode in split.continuous.episodes}
    unknown = [prediction.instr_id for prediction in predictions if prediction.instr_id not in episodes]
    if unknown:
        raise InputError(
            f"instr_id must be of the split to be written as positions, got {len(unknown)} that are not in "
            f"{split.file} ({_some(unknown)}); is it the right split, and the right language?"
        )
    row.function("write")(path, [from_walk(walk, episodes[walk.instr_id], graph) for walk in predictions])


def write_r2r(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write R2R's format; poses whose angles are both unknown (NaN) hold the viewpoint alone."""
    items = []
    for prediction in predictions:
        poses = [
            [viewpoint]
            if heading != heading and elevation != elevation
            else [viewpoint, float(heading), float(elevation)]
            for viewpoint, heading, elevation in prediction.trajectory
        ]
        items.append({"instr_id": prediction.instr_id, "trajectory": poses})
    save_json(path, items, indent=None)


def write_rxr(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write RxR's guide format, sorted by id; turns in place leave no trace in it."""
    for prediction in predictions:
        if not prediction.instr_id.isdecimal():
            raise InputError(f"instruction_id of RxR must be a whole number, got {prediction.instr_id!r}: is it RxR?")
    rows = []
    for prediction in sorted(predictions, key=lambda prediction: int(prediction.instr_id)):
        names = [viewpoint for viewpoint, _, _ in prediction.trajectory]
        moved = [name for k, name in enumerate(names) if k == 0 or name != names[k - 1]]
        rows.append({"instruction_id": int(prediction.instr_id), "path": moved})
    save_json_lines(path, rows)


def merge_lines(paths: Sequence[Path], out: Path) -> int:
    """Merge submissions of one format in JSON lines, as RxR's per-language ones, sorted by ``instruction_id``.

    Paths are copied as they are, so positions (RxR-Habitat) are merged as well as viewpoints.

    Returns:
        The number of predictions written.

    Raises:
        InputError: a file is no such submission, an id is in two of them, or they differ in format.
    """
    merged: dict[int, object] = {}
    origin: dict[int, str] = {}
    kinds: dict[bool, str] = {}
    for path in paths:
        document = read_document(path)
        if document.problems:
            raise InputError(f"{path}: {document.problems[0]}")
        if document.layout != LINES:
            raise InputError(f"{path} must be JSON lines to be merged, but is {document.layout}; --from converts it")
        for place, item in document.items:
            where = f"{path}: {place}"
            number, walk = (item.get("instruction_id"), item.get("path")) if isinstance(item, dict) else (None, None)
            if type(number) is not int or not isinstance(walk, list) or not walk:
                raise InputError(f"{where} must be an object with instruction_id and path, got {item!r:.80}")
            if number in origin:
                raise InputError(f"{where}: instruction_id {number} must be there once, but is in {origin[number]}")
            kinds.setdefault(isinstance(walk[0], str), where)
            if len(kinds) > 1:
                raise InputError(
                    f"paths must be of one format, got viewpoints in {kinds[True]}, positions in {kinds[False]}"
                )
            merged[number], origin[number] = item, where
    save_json_lines(out, [merged[number] for number in sorted(merged)])
    return len(merged)


def validate_submission(
    path: Path, episodes: Sequence[Episode], graph: Graph, style: str = "r2r", split_of: SplitOf | None = None
) -> Report:
    """Check a submission: every id once, every trajectory from the right start along edges. Needs no goals.

    Args:
        path: submission, plain or gzipped.
        episodes: every instruction of the split.
        graph: navigation graphs of its scans.
        style: format, a row of ``formats.FORMATS`` on the graph.
        split_of: names the split that an id outside this one belongs to.

    Returns:
        The report, which holds every problem of the file.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    report: Report = find_format(style).function("validate")(path, episodes, graph, split_of)
    return report


def validate_r2r(path: Path, episodes: Sequence[Episode], graph: Graph, split_of: SplitOf | None = None) -> Report:
    """Check a submission in R2R's format."""
    return _validate(read_document(path), path, episodes, graph, split_of, check_r2r, ARRAY)


def validate_rxr(path: Path, episodes: Sequence[Episode], graph: Graph, split_of: SplitOf | None = None) -> Report:
    """Check a submission in RxR's guide format."""
    return _validate(read_document(path), path, episodes, graph, split_of, check_rxr, LINES)


def _validate(
    document: Document,
    path: Path,
    episodes: Sequence[Episode],
    graph: Graph,
    split_of: SplitOf | None,
    check: Callable[[object], Finding],
    layout: str,
) -> Report:
    """Put together what is wrong with the file, its items, its ids and its walks."""
    by_id = {episode.instr_id: episode for episode in episodes}
    problems = list(document.problems)
    if document.layout != layout and document.items:
        message = f"the file must be {layout}, but is {document.layout}: --from converts it"
        problems.append(Problem(FILE, message))
    named, chosen, found = _check_items(document, by_id, check)
    if found and all(problem.kind == OTHER_FORMAT for problem in found) and len(found) == len(document.items):
        problems.append(Problem(OTHER_FORMAT, f"every item {found[0].message}", members=tuple(p.place for p in found)))
        return Report(path, len(by_id), len(document.items), tuple(problems), tuple(document.warnings))
    rows = list(chosen)
    walks = [chosen[row] for row in rows]
    walk_problems = check_walks(walks, [by_id[walk.instr_id] for walk in walks], graph)[1]
    places = [place for place, _ in document.items]
    found += [replace(p, row=rows[p.row], place=f"{places[rows[p.row]]}") for p in walk_problems]
    problems += sorted(_strangers(found, split_of), key=lambda problem: problem.row)
    if document.items or not document.problems:
        problems += _missing(episodes, named)
    warnings = (*document.warnings, *find_warnings(document, {places[row]: chosen[row] for row in rows}, layout))
    return Report(path, len(by_id), len(document.items), tuple(problems), warnings)


def _check_items(
    document: Document, by_id: dict[str, Episode], check: Callable[[object], Finding]
) -> tuple[set[str], dict[int, Prediction], list[Problem]]:
    """Return the ids that the file names, by row the walks that can be checked, and what is wrong with the items."""
    first: dict[str, str] = {}
    chosen: dict[int, Prediction] = {}
    problems: list[Problem] = []
    for row, (place, item) in enumerate(document.items):
        prediction, name, faults = check(item)
        problems += [Problem(kind, message, place, row=row) for kind, message in faults]
        if name is None:
            continue
        if name not in by_id:
            if not any(kind == WRONG_TYPE for kind, _ in faults):  # one message about an id is enough
                problems.append(Problem(UNKNOWN, name, place, row=row))
        elif name in first:
            message = f"id {name} came before, at {first[name]}: a server scores one of the two"
            problems.append(Problem(DUPLICATE, message, place, row=row))
        elif prediction is not None:
            chosen[row] = prediction
        first.setdefault(name, place)
    return set(first), chosen, problems


def _strangers(problems: list[Problem], split_of: SplitOf | None) -> list[Problem]:
    """Turn unknown ids into messages, those of another split into one message."""
    told = []
    of_split: dict[str, list[Problem]] = {}
    for problem in problems:
        split = split_of(problem.message) if split_of is not None and problem.kind == UNKNOWN else None
        if problem.kind != UNKNOWN:
            told.append(problem)
        elif split is None:
            told.append(replace(problem, message=f"id {problem.message} is not in the split"))
        else:
            of_split.setdefault(split, []).append(problem)
    for split, members in of_split.items():
        ids = tuple(problem.message for problem in members)
        message = f"{len(ids)} ids are not of this split but of {split} ({_some(ids)}): check with --split {split}"
        told.append(Problem(UNKNOWN, message, members=ids, row=members[0].row))
    return told


def _missing(episodes: Sequence[Episode], named: set[str]) -> list[Problem]:
    """Sum up the instructions that have no prediction."""
    absent = [episode for episode in episodes if episode.instr_id not in named]
    if not absent:
        return []
    total, lacking = (Counter(episode.language for episode in part) for part in (episodes, absent))
    by_language = ", ".join(f"{tag} {count} of {total[tag]}" for tag, count in lacking.items())
    languages = f" ({by_language})" if len(total) > 1 else ""
    ids = tuple(episode.instr_id for episode in absent)
    message = f"{len(ids)} of {len(episodes)} instructions{languages} have no prediction: {_some(ids)}"
    return [Problem(MISSING, message, members=ids)]


def _some(names: Sequence[str]) -> str:
    """Return the first few names."""
    return ", ".join(names[:NUM_NAMED]) + (", …" if len(names) > NUM_NAMED else "")
