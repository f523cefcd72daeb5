"""What a demo world is made of: sizes, counts and the seed."""

from dataclasses import dataclass

# Raise it whenever the same configuration would give other bytes: it is part of the cache's name.
GENERATOR_VERSION = 3


@dataclass(frozen=True)
class DemoConfig:
    """Configuration of a generated world.

    Attributes:
        seed: seed of everything.
        num_train_houses: houses of train and val_seen.
        num_unseen_houses: houses of val_unseen.
        num_test_houses: houses of test.
        face_px: edge of a skybox face, even.
        num_train_paths: labelled paths of train.
        num_val_seen_paths: paths of val_seen.
        num_val_unseen_paths: paths of val_unseen.
        num_test_paths: paths of test.
    """

    seed: int = 0
    num_train_houses: int = 40
    num_unseen_houses: int = 8
    num_test_houses: int = 3
    face_px: int = 96
    num_train_paths: int = 600
    num_val_seen_paths: int = 100
    num_val_unseen_paths: int = 320
    num_test_paths: int = 60

    def __post_init__(self) -> None:
        for name in ("num_train_houses", "num_unseen_houses", "num_test_houses"):
            _check_at_least(name, getattr(self, name), 1 if name == "num_train_houses" else 0)
        for name in ("seed", "num_train_paths", "num_val_seen_paths", "num_val_unseen_paths", "num_test_paths"):
            _check_at_least(name, getattr(self, name), 0)
        if self.face_px < 8 or self.face_px % 2:
            raise ValueError(f"face_px must be an even number of at least 8, got {self.face_px}")

    @property
    def num_houses(self) -> int:
        """Return the number of houses of all splits."""
        return self.num_train_houses + self.num_unseen_houses + self.num_test_houses


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
