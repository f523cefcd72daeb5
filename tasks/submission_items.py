"""One item of a submission against what its server reads; stricter than reading it for our own evaluation."""

from collections.abc import Callable

from vln_clip.reading import is_finite
from vln_clip.records import Pose, Prediction
from vln_clip.tasks.predictions import found, is_annotation, parse_step
from vln_clip.tasks.problems import BARE, EMPTY, MALFORMED, NESTED, NOT_FINITE, OTHER_FORMAT, WRONG_TYPE

R2R_KEYS = ("instr_id", "trajectory")
RXR_KEYS = ("instruction_id", "path")

# What a check finds: the prediction, None where nothing can be told about it; its id, None where it has none that
# could be looked up; and kind and message of every problem.
Finding = tuple[Prediction | None, str | None, list[tuple[str, str]]]
StepFault = Callable[[object], tuple[str, str] | None]


def check_r2r(item: object) -> Finding:
    """Check an item of R2R's format: ``{"instr_id": "6_0", "trajectory": [[viewpoint, heading, elevation], ...]}``."""
    return _check(item, R2R_KEYS, RXR_KEYS, _r2r_id_fault, _r2r_step_fault)


def check_rxr(item: object) -> Finding:
    """Check an item of RxR's format: ``{"instruction_id": 26, "path": [viewpoint, ...]}``."""
    return _check(item, RXR_KEYS, R2R_KEYS, _rxr_id_fault, _rxr_step_fault)


def _check(
    item: object,
    keys: tuple[str, str],
    others: tuple[str, str],
    id_fault: Callable[[object], tuple[str, str] | None],
    step_fault: StepFault,
) -> Finding:
    """Check an item whose id and walk stand under ``keys``; with ``others`` it is of another format."""
    id_key, path_key = keys
    if not isinstance(item, dict) or id_key not in item or path_key not in item:
        if isinstance(item, dict) and item.keys() >= set(others) and not is_annotation(item):
            message = f"must have {id_key} and {path_key}, got {others[0]} and {others[1]}: --from converts the file"
            return None, None, [(OTHER_FORMAT, message)]
        named = _name(item.get(id_key)) if isinstance(item, dict) else None
        kind = OTHER_FORMAT if is_annotation(item) else MALFORMED
        return None, named, [(kind, f"must be an object with {id_key} and {path_key}, {found(item)}")]
    problems = [fault for fault in (id_fault(item[id_key]),) if fault]
    name, walk = _name(item[id_key]), item[path_key]
    if name is None:
        return None, None, problems
    if not isinstance(walk, list):
        return None, name, [*problems, (MALFORMED, f"{path_key} of {name} must be a list, got {walk!r:.80}")]
    if not walk:
        message = f"{path_key} of {name} must hold at least the start, got an empty list"
        return None, name, [*problems, (EMPTY, message)]
    poses, faults = _steps(walk, step_fault)
    problems += [(kind, f"{path_key} of {name}: {message}") for kind, message in faults]
    return (Prediction(name, tuple(poses)) if poses else None), name, problems


def _name(value: object) -> str | None:
    """Return an id as the text to look it up by."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _steps(walk: list, step_fault: StepFault) -> tuple[list[Pose], list[tuple[str, str]]]:
    """Return the poses of a walk, none where one is unreadable, and one fault of each kind with its number."""
    poses: list[Pose] = []
    faults: dict[str, list[str]] = {}
    unreadable = False
    for number, element in enumerate(walk):
        fault = step_fault(element)
        if fault is not None:
            faults.setdefault(fault[0], []).append(f"step {number} {fault[1]}, got {element!r:.80}")
        if fault is not None and fault[0] == NOT_FINITE:
            assert isinstance(element, list)
            poses.append((element[0], 0.0, 0.0))  # told; the walk can be checked all the same
            continue
        step = parse_step(element)
        unreadable |= not step
        poses += step
    told = [
        (kind, messages[0] + (f" (and {len(messages) - 1} more such steps)" if len(messages) > 1 else ""))
        for kind, messages in faults.items()
    ]
    return [] if unreadable else poses, told


def _r2r_id_fault(value: object) -> tuple[str, str] | None:
    """Say what is wrong with an R2R id."""
    if isinstance(value, str):
        return None
    if _name(value) is not None:
        message = (
            f"instr_id must be a string such as '6362_0', got the number {value!r}: the server would not find it "
            "among its ids"
        )
        return WRONG_TYPE, message
    return MALFORMED, f"instr_id must be a string such as '6362_0', got {value!r:.80}"


def _rxr_id_fault(value: object) -> tuple[str, str] | None:
    """Say what is wrong with an RxR id."""
    if isinstance(value, int) and not isinstance(value, bool):
        return None
    kind = WRONG_TYPE if _name(value) is not None else MALFORMED
    what = "a string" if isinstance(value, str) else "a float" if isinstance(value, float) else "no number"
    return kind, f"instruction_id must be an integer such as 26, got {what}: {value!r:.80}"


def _r2r_step_fault(element: object) -> tuple[str, str] | None:
    """Say what is wrong with one element of an R2R trajectory."""
    if isinstance(element, str):
        return BARE, "must be a list: the server reads the first element of each step, of a string its first letter"
    if isinstance(element, list) and element and isinstance(element[0], str):
        angles = element[1:]
        if not angles or (len(angles) == 2 and all(is_finite(angle) for angle in angles)):
            return None
        if parse_step(element):
            return (
                NESTED,
                "must hold one viewpoint: the server reads the first alone; --from makes steps of the others",
            )
        if len(angles) == 2 and all(isinstance(angle, float) for angle in angles):
            return NOT_FINITE, "must have finite angles"
    return MALFORMED, "must be [viewpoint, heading, elevation] with two numbers in radians"


def _rxr_step_fault(element: object) -> tuple[str, str] | None:
    """Say what is wrong with one element of an RxR path."""
    if isinstance(element, str):
        return None
    if isinstance(element, list) and len(element) == 3 and all(is_finite(value) for value in element):
        return MALFORMED, "must be a viewpoint id and not a position (positions are RxR-Habitat's, data set rxr-ce)"
    if parse_step(element):
        return MALFORMED, "must be a viewpoint id alone (--from writes it so)"
    return MALFORMED, "must be a viewpoint id"
