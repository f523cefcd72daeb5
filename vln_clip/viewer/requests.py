"""What the live server is asked for, checked field by field before anything happens with it."""

import json
import math
from dataclasses import dataclass, fields
from typing import Any

from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError

MAX_BODY_BYTES = 64 * 1024
MAX_INSTRUCTION = 4000  # characters
MAX_ACTIONS = 200
MAX_QUERY = 200  # characters


class RefusalError(Exception):
    """An answer other than what was asked for: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class WalkRequest:
    """Where and by which words to walk; see ``tracing.trace_instruction``."""

    scan: str
    start: str
    heading: float
    instruction: str
    language: str
    actions: tuple[int, ...]
    finish: bool

    @classmethod
    def parse(cls, body: bytes, tables: NavTables, languages: tuple[str, ...]) -> "WalkRequest":
        """Read the body of a request.

        Args:
            body: JSON.
            tables: graphs of the buildings that can be walked in.
            languages: that the agent has learned.

        Raises:
            RefusalError: 422 where a field is missing, unknown, of another type or out of range; 404 where there is no
                such building or viewpoint.
        """
        content = _read_json(body)
        names = [field.name for field in fields(cls)]
        if set(content) != set(names):
            wrong = ", ".join(sorted(set(content) ^ set(names)))
            raise RefusalError(
                422, f"a walk needs the fields {', '.join(names)} and no others; missing or unknown: {wrong}"
            )
        scan, start = _text(content, "scan", 200), _text(content, "start", 200)
        require_viewpoint(tables, scan, start)
        language = _text(content, "language", 20)
        if language not in languages:
            raise RefusalError(422, f"language must be one of {', '.join(languages)}")
        finish = content["finish"]
        if not isinstance(finish, bool):
            raise RefusalError(422, "finish must be true or false")
        instruction = _text(content, "instruction", MAX_INSTRUCTION).strip()
        if not instruction:
            raise RefusalError(422, "instruction must hold at least one word")
        return cls(scan, start, _heading(content["heading"]), instruction, language, _actions(content), finish)


def require_viewpoint(tables: NavTables, scan: str, viewpoint_id: str) -> None:
    """Raise a refusal unless a building has a viewpoint; what was asked for is not repeated."""
    if scan not in tables.scans:
        raise RefusalError(404, "there is no such building here")
    try:
        tables.index(scan, viewpoint_id)
    except InputError:
        raise RefusalError(404, f"building {scan} has no such viewpoint") from None


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusalError(422, "the body must be JSON") from None
    if not isinstance(content, dict):
        raise RefusalError(422, "the body must be one JSON object")
    return content


def _text(content: dict[str, Any], name: str, longest: int) -> str:
    value = content[name]
    if not isinstance(value, str) or len(value) > longest or any("\ud800" <= c <= "\udfff" for c in value):
        raise RefusalError(422, f"{name} must be a text of at most {longest} characters")
    return value


def _heading(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e6:  # NaN fails, too
        return float(value) % (2 * math.pi)
    raise RefusalError(422, "heading must be a finite number of radians")


def _actions(content: dict[str, Any]) -> tuple[int, ...]:
    values = content["actions"]
    if (
        not isinstance(values, list)
        or len(values) > MAX_ACTIONS
        or not all(type(value) is int and 0 <= value < MAX_ACTIONS for value in values)
    ):
        raise RefusalError(422, f"actions must be a list of at most {MAX_ACTIONS} numbers of candidates, from 0")
    return tuple(values)
