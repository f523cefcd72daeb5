"""One picture and the captions that people wrote for it. Axes of this package: ``S`` captions per image."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CaptionedImage:
    """A picture of an annotation file.

    Attributes:
        image: key of its features, the file's name without ending (``COCO_val2014_000000393267``).
        image_id: as result files name it.
        split: ``train``, ``restval``, ``val`` or ``test`` in Karpathy's file, else the name that the reader was given.
        captions: as they were written, none of them empty; () where the file hides them.
        words: of each caption.
    """

    image: str
    image_id: int
    split: str
    captions: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
