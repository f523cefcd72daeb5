"""What a set of demo pictures is made of: sizes, counts and the seed."""

import dataclasses
from dataclasses import dataclass

# Raise it whenever the same configuration would give other bytes: it is part of the cache's name.
PICTURES_VERSION = 3


@dataclass(frozen=True)
class PicturesConfig:
    """Configuration of the demo pictures with questions and captions; the houses are those of ``DemoConfig``.

    Attributes:
        seed: seed of everything; the same seed gives the houses of the demo world of that seed.
        num_train_houses: houses of train2014.
        num_val_houses: houses of val2014; the captions' val split takes the first half, their test split the others.
        num_test_houses: houses of test2015, which shows no answers and no captions.
        pictures_per_house: pictures at most; a house that has fewer good views gives fewer.
        questions_per_picture: about how many questions a picture has on average.
        gqa_per_picture: about how many questions in the manner of GQA a picture has on average.
        descriptions_per_picture: at most so many for pre-training beside the captions, as Visual Genome has them: two
            thirds of LXMERT's sentences describe.
        hypotheses_per_picture: about how many hypotheses of SNLI-VE's kind.
        width_px: width of a picture, even.
        height_px: its height, even.
    """

    seed: int = 0
    num_train_houses: int = 40
    num_val_houses: int = 8
    num_test_houses: int = 3
    pictures_per_house: int = 48
    questions_per_picture: int = 6
    gqa_per_picture: int = 8
    descriptions_per_picture: int = 24
    hypotheses_per_picture: int = 9
    width_px: int = 256
    height_px: int = 192

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = 0 if field.name in ("seed", "num_test_houses") else 2 if field.name == "num_val_houses" else 1
            if getattr(self, field.name) < least:
                raise ValueError(f"{field.name} must be at least {least}, got {getattr(self, field.name)}")
        for name in ("width_px", "height_px"):
            if getattr(self, name) < 32 or getattr(self, name) % 2:
                raise ValueError(f"{name} must be an even number of at least 32, got {getattr(self, name)}")
        if self.pictures_per_house > 1000:
            raise ValueError(f"pictures_per_house must be at most 1000, got {self.pictures_per_house}")

    @property
    def num_houses(self) -> int:
        """Return the number of houses of all splits."""
        return self.num_train_houses + self.num_val_houses + self.num_test_houses

    def houses_of(self, split: str) -> range:
        """Return the numbers of the houses of a split: train2014, val2014 or test2015."""
        last_val = self.num_train_houses + self.num_val_houses
        return {
            "train2014": range(self.num_train_houses),
            "val2014": range(self.num_train_houses, last_val),
            "test2015": range(last_val, self.num_houses),
        }[split]
