"""What a demo world is made of: sizes, counts and the seed."""

import dataclasses
from dataclasses import dataclass

# Raise it whenever the same configuration would give other bytes: it is part of the cache's name.
GENERATOR_VERSION = 6


@dataclass(frozen=True)
class DemoConfig:
    """Configuration of a generated world.

    Attributes:
        seed: seed of everything.
        num_train_houses: houses of train and val_seen.
        num_unseen_houses: houses of val_unseen.
        num_test_houses: houses of test.
        face_px: edge of a skybox face, even.
        num_train_paths: labelled R2R paths of train, 0 for none (as everywhere below).
        num_val_seen_paths: R2R paths of val_seen.
        num_val_unseen_paths: R2R paths of val_unseen.
        num_test_paths: R2R paths of test.
        num_rxr_train_paths: labelled RxR paths of train.
        num_rxr_val_seen_paths: RxR paths of val_seen.
        num_rxr_val_unseen_paths: RxR paths of val_unseen.
        num_rxr_test_paths: RxR paths of test_standard.
        num_rxr_aug_paths: unlabelled RxR paths at most; fewer where the training houses hold fewer clear ones.
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
    num_rxr_train_paths: int = 600
    num_rxr_val_seen_paths: int = 60
    num_rxr_val_unseen_paths: int = 150
    num_rxr_test_paths: int = 40
    num_rxr_aug_paths: int = 3000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name != "face_px":
                _check_at_least(field.name, getattr(self, field.name), int(field.name == "num_train_houses"))
        if self.face_px < 8 or self.face_px % 2:
            raise ValueError(f"face_px must be an even number of at least 8, got {self.face_px}")

    @property
    def num_houses(self) -> int:
        """Return the number of houses of all splits."""
        return self.num_train_houses + self.num_unseen_houses + self.num_test_houses


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
