"""The items of RxR-Habitat's and R2R-CE's prediction files: reading them, and what can be wrong with one alone."""

import json
from collections.abc import Iterator
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.reading import check_value, is_finite, loads
from vln_clip.tasks.continuous import is_position
from vln_clip.tasks.continuous_predictions import MAX_STEPS
from vln_clip.tasks.problems import MALFORMED, Problem

REPEATED, WRONG_STOP, TOO_LONG = "repeated positions", "wrong stops", "too many steps"


def read_lines(text: str) -> Iterator[tuple[str, object]]:
    """Yield place and value of each line; a line that is no JSON comes as the error."""
    for number, line in enumerate(text.split("\n")[: -1 if text.endswith("\n") else None], start=1):
        try:
            yield f"line {number}", loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", InputError(f"must be one JSON object, but: {error}")


def read_members(text: str, path: Path) -> list[tuple[str, object]]:
    """Return the members of R2R-CE's object, those with the same key too, of which JSON readers keep the last.

    ``path`` names the file in the ``InputError`` of a text that is no such object.
    """
    outermost: list[tuple[str, object]] = []

    def keep(members: list[tuple[str, object]]) -> dict:
        nonlocal outermost
        outermost = members  # objects inside come first, the outermost last
        return dict(members)

    try:
        value = json.loads(text, object_pairs_hook=keep)
        check_value([value, *map(list, outermost)], text)  # of members with the same key, all
    except (ValueError, RecursionError) as error:
        raise InputError(f"file {path} must be JSON, but: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"file {path} must be a JSON object of episodes, got {type(value).__name__} {value!r:.60}")
    return outermost


def line_problems(line: object, where: str) -> Iterator[Problem]:
    """Yield what is wrong with one line of RxR-Habitat's file, whatever the split."""
    if isinstance(line, InputError):
        yield Problem(MALFORMED, f"{where}: {line}")
        return
    if not isinstance(line, dict) or "instruction_id" not in line or "path" not in line:
        yield Problem(MALFORMED, f"{where} must be an object with instruction_id and path, got {line!r:.80}")
        return
    if instruction_id_of(line) is None:
        yield Problem(MALFORMED, f"{where}: instruction_id must be a whole number, got {line['instruction_id']!r:.80}")
    positions = line["path"]
    if not isinstance(positions, list) or not positions:
        yield Problem(MALFORMED, f"{where}: path must be a list that begins with the start, got {positions!r:.80}")
        return
    bad = next((k for k, position in enumerate(positions) if not is_position(position)), None)
    if bad is not None:
        yield Problem(MALFORMED, f"{where}: path[{bad}] must be three finite numbers, got {positions[bad]!r:.80}")
        return
    again = next((k for k in range(1, len(positions)) if positions[k] == positions[k - 1]), None)
    if again is not None:
        message = f"{where}: path[{again}] must differ from the position before it, got {positions[again]!r:.80} again"
        yield Problem(REPEATED, message)
    if len(positions) > MAX_STEPS + 1:
        message = f"{where}: path must have at most {MAX_STEPS + 1} positions, got {len(positions)}"
        yield Problem(TOO_LONG, message)


def state_problems(states: object, where: str) -> Iterator[Problem]:
    """Yield what is wrong with the states of one episode of R2R-CE's file, whatever the split."""
    if not isinstance(states, list) or not states:
        yield Problem(MALFORMED, f"{where} must be a list that begins with the initial state, got {states!r:.80}")
        return
    faults = ((k, fault) for k, state in enumerate(states) if (fault := _state_fault(state)) is not None)
    first = next(faults, None)
    if first is not None:
        yield Problem(MALFORMED, f"{where}: state {first[0]} {first[1]}")
        return
    early = next((k for k, state in enumerate(states[:-1]) if state["stop"]), None)
    if early is not None:
        yield Problem(WRONG_STOP, f"{where}: stop must be true in the last state only, got it in state {early}")
    if not states[-1]["stop"] and len(states) <= MAX_STEPS:
        message = f"{where}: the last state must stop, or be that of step {MAX_STEPS}, got {len(states) - 1} steps"
        yield Problem(WRONG_STOP, message)
    if len(states) == 1 and states[0]["stop"]:
        yield Problem(WRONG_STOP, f"{where}: the initial state must not stop; stopping at once is a second state")
    if len(states) > MAX_STEPS + 1:
        message = f"{where} must have the initial state and at most {MAX_STEPS} more, got {len(states)}"
        yield Problem(TOO_LONG, message)


def _state_fault(state: object) -> str | None:
    """Return what is wrong with the types of one state."""
    if not isinstance(state, dict):
        return f"must be an object, got {state!r:.80}"
    for name, what, rule in (
        ("position", "[x, y, z] of finite numbers", is_position),
        ("heading", "a finite number of radians", is_finite),
        ("stop", "true or false", lambda value: isinstance(value, bool)),
    ):
        if name not in state:
            return f"lacks {name!r}"
        if not rule(state[name]):
            return f"must have {name} {what}, got {state[name]!r:.80}"
    return None


def instruction_id_of(line: object) -> int | None:
    """Return the id of a line, None where it has no proper one."""
    value = line.get("instruction_id") if isinstance(line, dict) else None
    return value if type(value) is int and value >= 0 else None
