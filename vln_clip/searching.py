"""The flags of a search in place of greedy decoding, and the speaker that chooses among what it finds."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vln_clip import checkpoint
from vln_clip.agents.speaker import Speaker
from vln_clip.config import ModelConfig, from_json
from vln_clip.envs.search import MAX_EXPANSIONS
from vln_clip.errors import InputError
from vln_clip.rescoring import BOTH, Weighting
from vln_clip.setting import LoadedFollower, build_speaker, run_of

BEAM_SIZE, ALPHA = 5, 0.5
DEFAULT_SPEAKER = Path("checkpoints", "speaker", "best_val_unseen_bleu")  # in a run's folder


@dataclass(frozen=True)
class SearchFlags:
    """How walks are chosen; everything below --search is for beam alone."""

    search: Literal["greedy", "beam"] = "greedy"
    """greedy: the best action at every step; beam: state-factored search, its exploration walked and counted"""
    beam_size: int | None = None
    """walks to find per instruction (by default 5)"""
    alpha: float | None = None
    """weight of the speaker in choosing one of them, 0 to 1 (by default 0.5); the follower has the rest"""
    average: Literal["both", "speaker", "follower", "none"] | None = None
    """whose log-probability is divided by its length before they are added up (by default both)"""
    speaker: Path | None = None
    """folder of a speaker's checkpoint or its run (by default the best of the checkpoint's own run)"""
    max_expansions: int | None = None
    """most states to expand per instruction (by default 300)"""


@dataclass(frozen=True)
class Search:
    """A search as it is done: the flags with their defaults filled in."""

    beam_size: int = BEAM_SIZE
    alpha: float = ALPHA
    average: str = BOTH
    speaker: Path | None = None
    max_expansions: int = MAX_EXPANSIONS

    @property
    def name(self) -> str:
        """Return what follows the agent's name in its row."""
        return f"beam{self.beam_size}"

    @property
    def weighting(self) -> Weighting:
        """Return how follower and speaker are weighed."""
        return Weighting(self.alpha, self.average)

    @property
    def about(self) -> str:
        """Say what its row holds."""
        chosen = f"alpha {self.alpha:g}, averaged: {self.average}"
        return f"{self.name}: {chosen}, trajectories begin with the exploration of the search"

    def to_json(self) -> dict[str, Any]:
        """Return what a file made with it tells."""
        return {"search": "beam"} | asdict(self) | {"speaker": None if self.speaker is None else str(self.speaker)}


def require_search(flags: SearchFlags) -> Search | None:
    """Check the flags; return the search they ask for, None for greedy decoding."""
    given = {name: value for name, value in asdict(flags).items() if name != "search" and value is not None}
    if flags.search == "greedy":
        if given:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(f"{names} must come with --search beam; greedy decoding searches nothing")
        return None
    found = Search(**given)
    for name in ("beam_size", "max_expansions"):
        if getattr(found, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(found, name)}")
    if not 0 <= found.alpha <= 1:
        raise InputError(f"--alpha must be from 0 (the follower alone) to 1 (the speaker alone), got {found.alpha}")
    return found


def open_search(flags: SearchFlags, follower: Path, grid: bool = False) -> Search | None:
    """Check the flags and find the speaker, before any work; None for greedy decoding.

    Args:
        flags: as given.
        follower: folder of the checkpoint that is to search.
        grid: all weightings will be scored: there must be a speaker whatever alpha.
    """
    found = require_search(flags)
    if found is None:
        return None
    if found.alpha > 0 or grid:
        return replace(found, speaker=find_speaker(found.speaker, follower))
    if found.speaker is not None:
        raise InputError("--speaker must come with an --alpha above 0; 0 leaves the choice to the follower alone")
    return found


def find_speaker(wanted: Path | None, follower: Path) -> Path:
    """Return the folder of the speaker to use.

    Args:
        wanted: a speaker's checkpoint or its run; None for the speaker of the follower's run.
        follower: folder of the follower's checkpoint.
    """
    named = wanted or run_of(follower)
    if named is not None:
        for folder in (named, named / DEFAULT_SPEAKER):
            if (folder / checkpoint.FILE).is_file():
                return folder
    if wanted is not None:
        raise InputError(f"--speaker must be the folder of a speaker's checkpoint or of its run, got {wanted}")
    where = follower if named is None else named
    raise InputError(
        f"{where} holds no speaker ({DEFAULT_SPEAKER}) to choose walks with; name one with --speaker FOLDER, or leave "
        "the choice to the follower with --alpha 0"
    )


def load_speaker(folder: Path, loaded: LoadedFollower) -> Speaker:
    """Open a speaker that reads the follower's words and sees its features."""
    saved = checkpoint.load(folder)
    header = saved.header
    if header.get("stage") != "speaker":
        raise InputError(f"--speaker {folder} must be a speaker's checkpoint, but is of stage {header.get('stage')!r}")
    for key in ("features", "feature_width", "feature_fingerprints", "words"):
        if header[key] != loaded.header[key]:
            what = "words" if key == "words" else "features"
            told = "" if key == "words" else f": {header['features']} there, {loaded.header['features']} here"
            raise InputError(f"--speaker {folder} was trained on other {what} than the follower{told}; name another")
    speaker = build_speaker(loaded.setting, from_json(ModelConfig, header["model"]), header["feature_width"], seed=0)
    checkpoint.restore_weights(speaker, saved.weights, folder)
    return speaker.eval()
