"""Leaderboard submissions of RxR-Habitat and R2R-CE: checking and reading back their files.

The leaderboards give no error logs, so a check names everything that is wrong and where it stands in the file. What
the files hold, ``continuous_predictions`` says and writes.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError
from vln_clip.tasks.continuous import Position, is_position
from vln_clip.tasks.continuous_items import instruction_id_of, line_problems, read_lines, read_members, state_problems
from vln_clip.tasks.habitat import to_matterport
from vln_clip.tasks.problems import DUPLICATE, MALFORMED, MISSING, UNKNOWN, WRONG_START, Problem
from vln_clip.tasks.submission import Report

UNSORTED = "ids out of order"
START_TOLERANCE_M = 0.5  # the simulator may settle an agent a little apart; wrong episodes and frames are metres off
Starts = Mapping[str, Position]


def validate_rxr_habitat(path: Path, instruction_ids: Collection[str], starts: Starts | None = None) -> Report:
    """Check RxR-Habitat's JSON lines: every instruction once, sorted, paths of finite positions that all differ.

    Args:
        path: submission, plain or gzipped.
        instruction_ids: of the whole split, all languages.
        starts: start of each, Matterport's frame; None leaves starts unchecked.

    Returns:
        The report, whose messages name the lines.

    Raises:
        InputError: the file is missing, truncated or no text.
    """
    problems: list[Problem] = []
    wanted = dict.fromkeys(instruction_ids)
    seen: set[str] = set()
    previous = -1
    lines = list(read_lines(path))
    for where, line in lines:
        problems += line_problems(line, where)
        instruction_id = instruction_id_of(line)
        if instruction_id is None:
            continue
        if instruction_id < previous:
            problems.append(Problem(UNSORTED, f"{where}: ids must grow, got {instruction_id} after {previous}"))
        previous = max(previous, instruction_id)
        problems += _id_problems(str(instruction_id), where, "instruction_id", wanted, seen)
        position = _first(line, "path")
        problems += _start_problems(str(instruction_id), where, position, starts)
    problems += _missing(wanted, seen, "instruction_id")
    return Report(path, len(wanted), len(lines), tuple(problems))


def validate_r2r_ce(path: Path, episode_ids: Collection[str], starts: Starts | None = None) -> Report:
    """Check R2R-CE's JSON object: every episode once, states that are whole, a stop only at the end, at most 500 steps.

    Args:
        path: submission, plain or gzipped.
        episode_ids: of the whole split.
        starts: start of each, Matterport's frame; None leaves starts unchecked.

    Returns:
        The report, whose messages name episode and state, both counted from 0.

    Raises:
        InputError: the file as a whole is missing, truncated, not JSON or no object.
    """
    problems: list[Problem] = []
    wanted = dict.fromkeys(episode_ids)
    seen: set[str] = set()
    members = read_members(path)
    for number, (episode_id, states) in enumerate(members):
        where = f"item {number} (episode {episode_id})"
        problems += state_problems(states, where)
        problems += _id_problems(episode_id, where, "episode_id", wanted, seen)
        first = states[0] if isinstance(states, list) and states else None
        position = first.get("position") if isinstance(first, dict) else None
        problems += _start_problems(episode_id, where, position, starts)
    problems += _missing(wanted, seen, "episode_id")
    return Report(path, len(wanted), len(members), tuple(problems))


def read_rxr_habitat(path: Path) -> dict[str, np.ndarray]:
    """Return the positions of each instruction, (n, 3) in Matterport's frame; the first malformed line is an error."""
    paths = {}
    for where, line in read_lines(path):
        _require_none(path, line_problems(line, where))
        instruction_id = str(line["instruction_id"])  # type: ignore[index]
        if instruction_id in paths:
            raise InputError(f"{path}: {where}: instruction_id must be unique, got {instruction_id} again")
        paths[instruction_id] = to_matterport(line["path"])  # type: ignore[index]
    return paths


def read_r2r_ce(path: Path) -> dict[str, np.ndarray]:
    """Return the positions of each episode, (T, 3) in Matterport's frame; the first malformed one is an error."""
    paths = {}
    for number, (episode_id, states) in enumerate(read_members(path)):
        where = f"item {number} (episode {episode_id})"
        _require_none(path, state_problems(states, where))
        if episode_id in paths:
            raise InputError(f"{path}: {where}: episode_id must be unique, got it again")
        paths[episode_id] = to_matterport([state["position"] for state in states])  # type: ignore[attr-defined]
    return paths


def _first(line: object, name: str) -> object:
    values = line.get(name) if isinstance(line, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _id_problems(instr_id: str, where: str, name: str, wanted: Mapping[str, None], seen: set[str]) -> Iterator[Problem]:
    """Yield a problem of an id that is unknown or came before; note it as seen."""
    if instr_id not in wanted:
        yield Problem(UNKNOWN, f"{where}: {name} {instr_id} is not in the split")
    elif instr_id in seen:
        yield Problem(DUPLICATE, f"{where}: {name} {instr_id} came before")
    seen.add(instr_id)


def _missing(wanted: Mapping[str, None], seen: set[str], name: str) -> Iterator[Problem]:
    return (Problem(MISSING, f"{name} {instr_id} has no prediction") for instr_id in wanted if instr_id not in seen)


def _start_problems(instr_id: str, where: str, position: object, starts: Starts | None) -> Iterator[Problem]:
    """Yield a problem where a path begins elsewhere than its episode."""
    start = None if starts is None else starts.get(instr_id)
    if start is None or not is_position(position):
        return
    apart_m = float(np.linalg.norm(to_matterport(position) - np.array(start)))  # type: ignore[arg-type]
    if apart_m > START_TOLERANCE_M:
        message = f"{where} must begin within {START_TOLERANCE_M:g} m of the episode's start, got {apart_m:.2f} m"
        yield Problem(WRONG_START, f"{message}; is it in Habitat's frame, whose y is up?")


def _require_none(path: Path, problems: Iterator[Problem]) -> None:
    """Raise the first problem."""
    for problem in problems:
        if problem.kind == MALFORMED:
            raise InputError(f"{path}: {problem.message}")
