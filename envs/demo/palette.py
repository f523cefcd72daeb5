"""Colors, materials and room types of the demo world: what the words of its instructions look like."""

from dataclasses import dataclass

# Names that instructions use; each is one saturated hue (or black), far from the pale walls and floors.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (205, 25, 30),
    "orange": (245, 125, 10),
    "yellow": (245, 215, 25),
    "green": (35, 150, 45),
    "turquoise": (15, 190, 185),
    "blue": (25, 65, 205),
    "purple": (115, 35, 165),
    "pink": (250, 105, 180),
    "black": (26, 26, 28),
}
# Colors of parts that instructions never name.
NEUTRALS: dict[str, tuple[int, int, int]] = {
    "wood": (150, 112, 76),
    "darkwood": (96, 68, 48),
    "white": (236, 236, 232),
    "cream": (228, 220, 200),
    "metal": (158, 162, 168),
    "dark": (60, 60, 64),
    "glass": (176, 208, 232),
    "soil": (84, 64, 52),
    "leaf": (60, 112, 52),
    "screen": (38, 44, 56),
}

# Materials of parts; walls take the wall of the room they face.
PLAIN, WOOD, WALL, GLOW, BOOKS, PICTURE, FABRIC, LEAVES = range(8)
PLANKS, TILES, CHECKER, CARPET, STONE = range(5)  # floors
PAINT, STRIPES, TILED, WAINSCOT = range(4)  # walls


@dataclass(frozen=True)
class RoomType:
    """How rooms of a kind look and what stands in them.

    Attributes:
        floor: floor material.
        floor_rgb: first and second floor color, 0..255.
        wall: wall material.
        wall_rgb: wall color, 0..255.
        furniture: names in ``furniture.DESIGNS``, the first ones always placed where they fit.
    """

    floor: int
    floor_rgb: tuple[tuple[int, int, int], tuple[int, int, int]]
    wall: int
    wall_rgb: tuple[int, int, int]
    furniture: tuple[str, ...]


_HANGINGS = ("curtain", "painting")
ROOM_TYPES: dict[str, RoomType] = {
    "hallway": RoomType(
        STONE,
        ((196, 188, 174), (178, 170, 158)),
        WAINSCOT,
        (226, 222, 212),
        ("cabinet", "plant", "bench", "painting", "lamp", "mirror", "painting", "clock"),
    ),
    "living room": RoomType(
        PLANKS,
        ((190, 158, 120), (174, 142, 106)),
        PAINT,
        (232, 220, 194),
        ("sofa", "rug", "television", "bookshelf", "armchair", *_HANGINGS, "lamp", "plant", "piano", "table"),
    ),
    "kitchen": RoomType(
        CHECKER,
        ((222, 222, 216), (112, 116, 120)),
        TILED,
        (236, 232, 186),
        ("counter", "fridge", "stove", "table", "cabinet", "painting", "chair", "plant", "chair"),
    ),
    "bedroom": RoomType(
        CARPET,
        ((176, 160, 190), (168, 152, 184)),
        STRIPES,
        (214, 202, 228),
        ("bed", "wardrobe", "curtain", "dresser", "lamp", "rug", "painting", "armchair", "plant"),
    ),
    "bathroom": RoomType(
        TILES,
        ((206, 226, 232), (160, 186, 196)),
        TILED,
        (186, 218, 226),
        ("bathtub", "sink", "toilet", "cabinet", "curtain", "mirror", "rug", "plant"),
    ),
    "dining room": RoomType(
        PLANKS,
        ((134, 92, 64), (118, 80, 56)),
        WAINSCOT,
        (232, 196, 176),
        ("table", "cabinet", *_HANGINGS, "chair", "chair", "chair", "plant", "lamp", "cabinet"),
    ),
    "office": RoomType(
        CARPET,
        ((134, 142, 148), (126, 134, 140)),
        PAINT,
        (196, 216, 192),
        ("desk", "bookshelf", "chair", "painting", "cabinet", "lamp", "curtain", "plant", "sofa"),
    ),
    "library": RoomType(
        PLANKS,
        ((104, 74, 56), (90, 64, 48)),
        STRIPES,
        (190, 176, 150),
        ("bookshelf", "bookshelf", "armchair", "rug", "lamp", "bookshelf", "desk", "curtain", "painting"),
    ),
    "playroom": RoomType(
        CHECKER,
        ((236, 200, 208), (196, 222, 236)),
        PAINT,
        (246, 226, 234),
        ("toy box", "rug", "bench", "curtain", "bookshelf", "painting", "wardrobe", "armchair"),
    ),
}
