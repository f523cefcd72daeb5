"""Leaderboard submissions of RxR-Habitat and R2R-CE: checking their files.

The leaderboards give no error logs, so a check names everything that is wrong and where it stands in the file. What
the files hold, ``continuous_predictions`` says and writes.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from vln_clip.tasks.continuous import Position, is_position
from vln_clip.tasks.continuous_items import instruction_id_of, line_problems, read_lines, read_members, state_problems
from vln_clip.tasks.documents import read_text
from vln_clip.tasks.habitat import to_matterport
from vln_clip.tasks.problems import DUPLICATE, MALFORMED, MISSING, TELEPORT, UNKNOWN, WRONG_START, Problem
from vln_clip.tasks.submission_report import Report
from vln_clip.tasks.submission_warnings import about, unsorted_warning

START_TOLERANCE_M = 0.5  # the simulator may settle an agent a little apart; wrong episodes and frames are metres off
MAX_STEP_M = 0.3  # seen from above: both challenges step 0.25 m forward, and stairs rise
Starts = Mapping[str, Position]


def validate_rxr_habitat(path: Path, instruction_ids: Collection[str], starts: Starts | None = None) -> Report:
    """Check RxR-Habitat's JSON lines: every instruction once, paths of finite positions that all differ.

    Args:
        path: submission, plain or gzipped.
        instruction_ids: of the whole split, all languages.
        starts: start of each, Matterport's frame; None leaves starts unchecked.

    Returns:
        The report, whose messages name the lines.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    document, text = read_text(path)
    problems, warnings = list(document.problems), list(document.warnings)
    wanted = dict.fromkeys(instruction_ids)
    if text is None:
        return Report(path, len(wanted), 0, tuple(problems), tuple(warnings))
    seen: set[str] = set()
    numbers: list[tuple[str, int]] = []
    teleports: list[str] = []
    lines = list(read_lines(text))
    for where, line in lines:
        faults = list(line_problems(line, where))
        problems += faults
        if isinstance(line, dict) and all(fault.kind != MALFORMED for fault in faults):
            teleports += _teleports(line["path"], f"{where}: path")
        instruction_id = instruction_id_of(line)
        if instruction_id is None:
            continue
        numbers.append((where, instruction_id))
        problems += _id_problems(str(instruction_id), where, "instruction_id", wanted, seen)
        position = _first(line, "path")
        problems += _start_problems(str(instruction_id), where, position, starts)
    problems += _missing(wanted, seen, "instruction_id")
    warnings += [warning for warning in (unsorted_warning(numbers), _teleport_warning(teleports)) if warning]
    return Report(path, len(wanted), len(lines), tuple(problems), tuple(warnings))


def validate_r2r_ce(path: Path, episode_ids: Collection[str], starts: Starts | None = None) -> Report:
    """Check R2R-CE's JSON object: every episode once, states that are whole, a stop only at the end, at most 500 steps.

    Args:
        path: submission, plain or gzipped.
        episode_ids: of the whole split.
        starts: start of each, Matterport's frame; None leaves starts unchecked.

    Returns:
        The report, whose messages name episode and state, both counted from 0.

    Raises:
        InputError: the file as a whole is missing, not JSON or no object.
    """
    document, text = read_text(path)
    problems, warnings = list(document.problems), list(document.warnings)
    wanted = dict.fromkeys(episode_ids)
    if text is None:
        return Report(path, len(wanted), 0, tuple(problems), tuple(warnings))
    seen: set[str] = set()
    teleports: list[str] = []
    members = read_members(text, path)
    for number, (episode_id, states) in enumerate(members):
        where = f"item {number} (episode {episode_id})"
        faults = list(state_problems(states, where))
        problems += faults
        if isinstance(states, list) and all(fault.kind != MALFORMED for fault in faults):
            teleports += _teleports([state["position"] for state in states], f"{where}: state")
        problems += _id_problems(episode_id, where, "episode_id", wanted, seen)
        first = states[0] if isinstance(states, list) and states else None
        position = first.get("position") if isinstance(first, dict) else None
        problems += _start_problems(episode_id, where, position, starts)
    problems += _missing(wanted, seen, "episode_id")
    warning = _teleport_warning(teleports)
    warnings += [] if warning is None else [warning]
    return Report(path, len(wanted), len(members), tuple(problems), tuple(warnings))


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


def _teleports(positions: list, where: str) -> list[str]:
    """Return the places of the positions, in Habitat's frame, that lie more than a step from the one before."""
    level_m = np.array(positions, np.float64)[:, [0, 2]]  # (T, 2), from above
    apart_m = np.linalg.norm(level_m[1:] - level_m[:-1], axis=1)
    return [f"{where}[{k + 1}], {apart_m[k]:.2f} m" for k in np.flatnonzero(apart_m > MAX_STEP_M).tolist()]


def _teleport_warning(places: list[str]) -> Problem | None:
    text = f"steps are longer than {MAX_STEP_M:g} m, but the simulator goes 0.25 m at a time: was a graph walked?"
    return about(TELEPORT, places, text)
