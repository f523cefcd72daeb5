"""The words of questions, answers and captions: nouns of things, rooms, what is easily taken for what."""

from dataclasses import dataclass

from vln_clip.envs.demo.palette import COLORS, ROOM_TYPES

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
PLACES = ("left", "middle", "right")
YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Noun:
    """How a thing is called.

    Attributes:
        one: singular; the plural of what has no singular.
        many: plural.
        others: other words for it.
        mass: whether it has no singular.
    """

    one: str
    many: str
    others: tuple[str, ...] = ()
    mass: bool = False

    def with_article(self, color: str | None = None) -> str:
        """Return "a sofa", "an orange sofa", "red curtains"."""
        words = f"{color} {self.one}" if color else self.one
        return words if self.mass else with_article(words)

    @property
    def verb(self) -> str:
        """Return "is" or "are"."""
        return "are" if self.mass else "is"


def with_article(words: str) -> str:
    """Return "a room", "an office"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


NOUNS: dict[str, Noun] = {
    "doorway": Noun("doorway", "doorways", ("door", "door frame")),
    "sofa": Noun("sofa", "sofas", ("couch",)),
    "armchair": Noun("armchair", "armchairs", ("chair", "arm chair")),
    "bed": Noun("bed", "beds"),
    "table": Noun("table", "tables", ("dining table",)),
    "desk": Noun("desk", "desks", ("table",)),
    "chair": Noun("chair", "chairs", ("seat",)),
    "bench": Noun("bench", "benches", ("seat",)),
    "wardrobe": Noun("wardrobe", "wardrobes", ("closet", "cabinet")),
    "cabinet": Noun("cabinet", "cabinets", ("cupboard",)),
    "dresser": Noun("dresser", "dressers", ("drawers",)),
    "bookshelf": Noun("bookshelf", "bookshelves", ("bookcase", "shelf")),
    "fridge": Noun("fridge", "fridges", ("refrigerator",)),
    "counter": Noun("counter", "counters", ("kitchen counter", "cabinets")),
    "stove": Noun("stove", "stoves", ("oven",)),
    "bathtub": Noun("bathtub", "bathtubs", ("tub", "bath")),
    "sink": Noun("sink", "sinks", ("basin",)),
    "toilet": Noun("toilet", "toilets"),
    "lamp": Noun("lamp", "lamps", ("floor lamp", "light")),
    "plant": Noun("plant", "plants", ("tree", "potted plant")),
    "piano": Noun("piano", "pianos"),
    "toy box": Noun("toy box", "toy boxes", ("toy chest", "box")),
    "television": Noun("television", "televisions", ("tv",)),
    "rug": Noun("rug", "rugs", ("carpet", "mat")),
    "curtain": Noun("curtains", "curtains", ("curtain", "window"), mass=True),
    "painting": Noun("painting", "paintings", ("picture",)),
    "mirror": Noun("mirror", "mirrors"),
    "clock": Noun("clock", "clocks"),
}

_GROUPS = (
    ("cabinet", "wardrobe", "fridge", "dresser"),
    ("table", "desk"),
    ("sofa", "armchair"),
    ("armchair", "chair"),
    ("bench", "chair"),
    ("bench", "sofa"),
    ("sink", "counter", "cabinet"),
    ("counter", "dresser", "stove"),
    ("painting", "mirror"),
)
# What could be meant by, or taken for, a thing: where both are seen, nothing is asked about either.
LOOKALIKES: dict[str, frozenset[str]] = {
    name: frozenset(other for group in _GROUPS if name in group for other in group if other != name) for name in NOUNS
}

FIXED_COLOR = ("plant", "piano")  # everybody knows their color
ROOMS = tuple(ROOM_TYPES)
# Floors and walls in a pale color of the name: nobody knows whether they count.
PALE: dict[str, tuple[str, ...]] = {
    "kitchen": ("yellow",),
    "bedroom": ("purple", "pink"),
    "bathroom": ("blue", "turquoise"),
    "dining room": ("pink", "orange"),
    "office": ("green",),
    "playroom": ("pink", "blue", "turquoise"),
}
# Black is left out: shadows, screens and lamp poles are dark.
BRIGHT = tuple(color for color in COLORS if color != "black")

ROOM_WORDS: dict[str, tuple[str, ...]] = {
    "living room": ("lounge", "livingroom"),
    "hallway": ("hall", "corridor"),
    "office": ("study",),
    "playroom": ("kids room", "nursery"),
    "bathroom": ("restroom",),
    "library": ("study",),
}
COLOR_WORDS: dict[str, tuple[str, ...]] = {
    "turquoise": ("teal", "cyan"),
    "purple": ("violet",),
    "pink": ("magenta",),
    "blue": ("dark blue",),
}
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("on left", "left side"),
    "middle": ("center", "in middle"),
    "right": ("on right", "right side"),
}
FLOOR_WORDS: dict[str, tuple[str, ...]] = {"tile": ("tiles", "stone"), "wood": ("wooden", "hardwood"), "carpet": ()}
# What annotators say by mistake.
COLOR_SLIPS: dict[str, tuple[str, ...]] = {
    "red": ("orange", "pink"),
    "orange": ("red", "yellow"),
    "yellow": ("orange", "gold"),
    "green": ("turquoise", "blue"),
    "turquoise": ("blue", "green"),
    "blue": ("purple", "turquoise"),
    "purple": ("blue", "pink"),
    "pink": ("purple", "red"),
    "black": ("gray", "brown"),
}
