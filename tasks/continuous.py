"""Episodes of continuous environments: the files of R2R-CE and RxR-CE, and their ground-truth walks.

Positions and headings are turned into Matterport's frame when they are read (``habitat``). ``continuous_graph`` puts
episodes onto the navigation graphs, so that agents that walk those can be scored on them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from vln_clip.errors import InputError, unknown_name
from vln_clip.reading import is_finite
from vln_clip.tasks.habitat import heading_of_rotation, to_matterport
from vln_clip.tasks.json_members import JsonMembers
from vln_clip.tasks.scripts import script_fault

LANGUAGES = ("en", "hi", "te", "zh")
DATASETS = ("r2r-ce", "rxr-ce")
Position = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class ContinuousEpisode:
    """One instruction to follow in a continuous environment. Metres and radians, Matterport's frame.

    Attributes:
        instr_id: unique id: ``episode_id`` in R2R-CE, ``instruction_id`` in RxR-CE.
        episode_id: id in the file.
        trajectory_id: id of the path, shared by its instructions; R2R's and RxR's ``path_id``.
        scan: building.
        start_m: where the agent stands, on the floor.
        heading_rad: start heading, [0, 2π).
        instruction: the text.
        language: tag without region, such as ``en``.
        goal_m: on the floor; None where it is hidden.
        reference_m: (n, 3) float64, the path from start to goal on the floor; None where it is hidden.
        geodesic_m: length of the shortest way from start to goal on the floor, where the file tells.
    """

    instr_id: str
    episode_id: str
    trajectory_id: str
    scan: str
    start_m: Position
    heading_rad: float
    instruction: str
    language: str
    goal_m: Position | None
    reference_m: np.ndarray | None
    geodesic_m: float | None


@dataclass(frozen=True)
class ContinuousSplit:
    """A split as read.

    Attributes:
        episodes: in the file's order.
        file: where it was read from.
        sha256: hash of the unpacked file.
        goal_hidden: no episode has a goal, as in test splits.
    """

    episodes: list[ContinuousEpisode]
    file: Path
    sha256: str
    goal_hidden: bool

    @property
    def scans(self) -> list[str]:
        """Return the scans used, sorted."""
        return sorted({episode.scan for episode in self.episodes})


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """How a shortest-path agent walked an episode: (n, 3) positions on the floor, and its actions (m,)."""

    position_m: np.ndarray
    actions: np.ndarray


def read_continuous(file: Path, dataset: str) -> ContinuousSplit:
    """Read and check a file of episodes, plain or gzipped.

    Args:
        file: its members are ``episodes`` and, ignored, others such as ``instruction_vocab``.
        dataset: ``"r2r-ce"`` or ``"rxr-ce"``.

    Raises:
        InputError: unknown data set, missing or damaged file, malformed episode (file, episode and field are named).
    """
    if dataset not in DATASETS:
        raise unknown_name("dataset", dataset, DATASETS)
    members = JsonMembers(file)
    episodes: list[ContinuousEpisode] = []
    for key in members:
        if key == "episodes":
            episodes = list(_episodes(members, dataset))
        else:
            members.value()
    if not episodes:
        raise InputError(f"file {file} must hold at least one episode under 'episodes', got none")
    hidden = [episode for episode in episodes if episode.goal_m is None]
    if hidden and len(hidden) < len(episodes):
        raise InputError(
            f"{file}: all episodes or none must have goals, got {len(hidden)} of {len(episodes)} without, "
            f"e.g. episode {hidden[0].episode_id}"
        )
    return ContinuousSplit(episodes, file, members.content.sha256, bool(hidden))


def read_ground_truth(file: Path) -> dict[str, GroundTruth]:
    """Read the walks of a ``*_gt.json.gz`` file by ``episode_id``.

    No program reads them: they are for those who compare their agents with the shortest continuous way.

    Raises:
        InputError: missing or damaged file, or a malformed walk; the message names file, episode and field.
    """
    members = JsonMembers(file)
    walks = {}
    for episode_id in members:
        fields = _Fields(f"{file}: episode {episode_id}", members.value())
        actions = fields.get("actions", "a list of whole numbers from 0", _is_actions)
        walks[episode_id] = GroundTruth(fields.positions("locations"), np.array(actions, np.int64))
    return walks


def _episodes(members: JsonMembers, dataset: str) -> Iterator[ContinuousEpisode]:
    """Yield the episodes of a file, each checked."""
    seen = set()
    for index, item in enumerate(members.elements()):
        where = f"{members.file}: episode at position {index}"
        episode_id = str(_Fields(where, item).get("episode_id", "a number or a string", _is_id))
        episode = _episode(_Fields(f"{members.file}: episode {episode_id}", item), dataset)
        if episode.instr_id in seen:
            name = "episode_id" if dataset == "r2r-ce" else "instruction_id"
            raise InputError(f"{where}: {name} must be unique, got {episode.instr_id} again; is it a file of guides?")
        seen.add(episode.instr_id)
        fault = script_fault(episode.instruction, episode.language)
        if fault is not None:
            raise InputError(f"{where} (episode {episode_id}): {fault}")
        yield episode


def _episode(fields: "_Fields", dataset: str) -> ContinuousEpisode:
    """Check one episode."""
    instruction = _Fields(f"{fields.where}: instruction", fields.get("instruction", "an object", _is_object))
    multilingual = dataset == "rxr-ce"
    owner, name = (instruction, "instruction_id") if multilingual else (fields, "episode_id")
    tag = instruction.get("language", f"a tag of {', '.join(LANGUAGES)}", _is_language) if multilingual else "en"
    rotation = fields.get("start_rotation", "a quaternion [x, y, z, w]", _is_quaternion)
    try:
        heading_rad = heading_of_rotation(rotation)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"{fields.where}: start_{error}") from None
    goal = fields.goal()
    # A test file may hold the start, or nothing, in place of the path.
    reference = None if goal is None else fields.positions("reference_path")
    return ContinuousEpisode(
        str(owner.get(name, "a number or a string", _is_id)),
        str(fields.values["episode_id"]),
        str(fields.get("trajectory_id", "a number or a string", _is_id)),
        PurePosixPath(str(fields.get("scene_id", "the path of a scene such as mp3d/SCAN/SCAN.glb", _is_word))).stem,
        _position(fields.get("start_position", "[x, y, z]", is_position)),
        heading_rad,
        str(instruction.get("instruction_text", "a text", lambda value: isinstance(value, str))),
        str(tag).split("-")[0],
        goal,
        reference,
        fields.geodesic_m(),
    )


class _Fields:
    """The fields of a JSON object; errors name where it stands and the field."""

    def __init__(self, where: str, value: object):
        self.where = where
        if not isinstance(value, dict):
            raise InputError(f"{where} must be an object, got {value!r:.60}")
        self.values = value

    def get(self, name: str, what: str, rule: Callable[[object], bool]) -> object:
        """Return a field that must be there and obey a rule."""
        if name not in self.values:
            raise InputError(f"{self.where}: field {name!r} is missing")
        if not rule(self.values[name]):
            raise InputError(f"{self.where}: {name} must be {what}, got {self.values[name]!r:.80}")
        return self.values[name]

    def positions(self, name: str) -> np.ndarray:
        """Return a list of positions with at least one, (n, 3) in Matterport's frame."""
        return to_matterport(self.get(name, "a list of [x, y, z] with at least one", _is_positions))  # type: ignore[arg-type]

    def goal(self) -> Position | None:
        """Return the goal's position; None where ``goals`` is missing, null or empty, as in test splits."""
        if not self.values.get("goals"):
            return None
        goals = self.get("goals", "a list of objects", lambda value: isinstance(value, list))
        first = _Fields(f"{self.where}: goals[0]", goals[0])  # type: ignore[index]
        return _position(first.get("position", "[x, y, z]", is_position))

    def geodesic_m(self) -> float | None:
        """Return ``info.geodesic_distance`` where it is there."""
        info = self.values.get("info")
        length_m = info.get("geodesic_distance") if isinstance(info, dict) else None
        return float(length_m) if length_m is not None and is_finite(length_m) else None


def is_position(value: object) -> bool:
    """Return whether a JSON value is [x, y, z] with finite numbers."""
    return isinstance(value, list) and len(value) == 3 and all(is_finite(number) for number in value)


def _is_positions(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(is_position(position) for position in value)


def _is_quaternion(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(is_finite(number) for number in value)


def _is_actions(value: object) -> bool:
    return isinstance(value, list) and all(type(action) is int and 0 <= action < 1 << 31 for action in value)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""


def _is_word(value: object) -> bool:
    return isinstance(value, str) and PurePosixPath(value).stem != ""


def _is_language(value: object) -> bool:
    return isinstance(value, str) and value.split("-")[0] in LANGUAGES


def _position(value: object) -> Position:
    """Return a checked position in Matterport's frame."""
    x, y, z = to_matterport(value).tolist()  # type: ignore[arg-type]
    return x, y, z
