"""Furniture designs: a few boxes, cylinders and ellipsoids each, so that a thing looks like its name."""

from dataclasses import dataclass

from vln_clip.envs.demo.palette import BOOKS, FABRIC, GLOW, LEAVES, PICTURE, PLAIN, WOOD

BOX, CYLINDER, ELLIPSOID = range(3)

# (shape, x0, y0, z0, x1, y1, z1, color, material): metres, x along the wall, y away from it, z up.
# The color "main" is the thing's own, "light" a lighter one of it, others are palette.NEUTRALS.
Piece = tuple[int, float, float, float, float, float, float, str, int]


@dataclass(frozen=True)
class Design:
    """Size and pieces of a thing.

    Attributes:
        width_m: extent along the wall.
        depth_m: extent away from the wall.
        pieces: solids in the frame of the thing, its back at y = 0.
        colored: whether instructions name its color.
        hung: hangs on a wall and takes no floor.
        flat: lies on the floor and can be walked over.
        center: stands free where the room is large.
        fixed_color: the only color it comes in.
        outer: hangs on outer walls only.
    """

    width_m: float
    depth_m: float
    pieces: tuple[Piece, ...]
    colored: bool = True
    hung: bool = False
    flat: bool = False
    center: bool = False
    fixed_color: str | None = None
    outer: bool = False

    @property
    def bottom_m(self) -> float:
        """Return the height of its lowest point."""
        return min(piece[3] for piece in self.pieces)

    @property
    def top_m(self) -> float:
        """Return the height of its highest point."""
        return max(piece[6] for piece in self.pieces)


def _legs(width: float, depth: float, top: float, color: str = "wood", inset: float = 0.05) -> tuple[Piece, ...]:
    """Return four table legs."""
    xs, ys = (-width / 2 + inset, width / 2 - inset - 0.06), (inset, depth - inset - 0.06)
    return tuple((BOX, x, y, 0.0, x + 0.06, y + 0.06, top, color, WOOD) for x in xs for y in ys)


def _doors(width: float, depth: float, low: float, high: float, count: int) -> tuple[Piece, ...]:
    """Return knobs and dark gaps on the front of a cupboard."""
    step = width / count
    edges = [-width / 2 + k * step for k in range(1, count)]
    gaps: list[Piece] = [
        (BOX, x - 0.01, depth - 0.01, low, x + 0.01, depth + 0.005, high, "dark", PLAIN) for x in edges
    ]
    starts = [-width / 2 + (k + 0.8) * step for k in range(count)]
    middle = (low + high) / 2
    knobs: list[Piece] = [
        (BOX, x, depth, middle - 0.05, x + 0.04, depth + 0.03, middle + 0.05, "metal", PLAIN) for x in starts
    ]
    return (*gaps, *knobs)


DESIGNS: dict[str, Design] = {
    "sofa": Design(
        2.0,
        0.9,
        (
            (BOX, -1.0, 0.0, 0.08, 1.0, 0.9, 0.4, "main", FABRIC),
            (BOX, -1.0, 0.0, 0.4, 1.0, 0.28, 0.95, "main", FABRIC),
            (BOX, -1.0, 0.28, 0.4, -0.8, 0.9, 0.66, "main", FABRIC),
            (BOX, 0.8, 0.28, 0.4, 1.0, 0.9, 0.66, "main", FABRIC),
            (BOX, -0.78, 0.28, 0.4, -0.02, 0.86, 0.52, "light", FABRIC),
            (BOX, 0.02, 0.28, 0.4, 0.78, 0.86, 0.52, "light", FABRIC),
        ),
    ),
    "armchair": Design(
        0.9,
        0.85,
        (
            (BOX, -0.45, 0.0, 0.08, 0.45, 0.85, 0.42, "main", FABRIC),
            (BOX, -0.45, 0.0, 0.42, 0.45, 0.25, 1.05, "main", FABRIC),
            (BOX, -0.45, 0.25, 0.42, -0.27, 0.85, 0.66, "main", FABRIC),
            (BOX, 0.27, 0.25, 0.42, 0.45, 0.85, 0.66, "main", FABRIC),
            (BOX, -0.25, 0.25, 0.42, 0.25, 0.8, 0.54, "light", FABRIC),
        ),
    ),
    "bed": Design(
        1.6,
        2.0,
        (
            (BOX, -0.85, 0.0, 0.0, 0.85, 0.1, 1.25, "main", PLAIN),
            (BOX, -0.8, 0.1, 0.12, 0.8, 2.0, 0.34, "darkwood", WOOD),
            (BOX, -0.78, 0.1, 0.34, 0.78, 0.75, 0.56, "white", FABRIC),
            (BOX, -0.82, 0.75, 0.3, 0.82, 2.02, 0.62, "main", FABRIC),
            (BOX, -0.65, 0.18, 0.56, -0.08, 0.58, 0.72, "light", FABRIC),
            (BOX, 0.08, 0.18, 0.56, 0.65, 0.58, 0.72, "light", FABRIC),
        ),
    ),
    "table": Design(
        1.3,
        0.9,
        (
            (BOX, -0.65, 0.0, 0.7, 0.65, 0.9, 0.77, "main", PLAIN),
            (BOX, -0.62, 0.03, 0.52, 0.62, 0.87, 0.7, "main", PLAIN),
            *_legs(1.3, 0.9, 0.52, "main"),
            (CYLINDER, -0.1, 0.35, 0.77, 0.1, 0.55, 0.98, "white", PLAIN),
            (ELLIPSOID, -0.16, 0.29, 0.95, 0.16, 0.61, 1.25, "light", LEAVES),
        ),
        center=True,
    ),
    "desk": Design(
        1.4,
        0.7,
        (
            (BOX, -0.7, 0.0, 0.7, 0.7, 0.7, 0.76, "main", PLAIN),
            (BOX, -0.7, 0.0, 0.0, -0.3, 0.66, 0.7, "main", PLAIN),
            (BOX, 0.64, 0.0, 0.0, 0.7, 0.66, 0.7, "main", PLAIN),
            (BOX, -0.28, 0.12, 0.84, 0.32, 0.16, 1.24, "screen", PLAIN),
            (BOX, -0.02, 0.1, 0.76, 0.06, 0.2, 0.84, "metal", PLAIN),
            (BOX, -0.2, 0.32, 0.76, 0.24, 0.5, 0.79, "dark", PLAIN),
        ),
    ),
    "chair": Design(
        0.48,
        0.5,
        (
            (BOX, -0.24, 0.02, 0.42, 0.24, 0.5, 0.48, "main", PLAIN),
            (BOX, -0.24, 0.02, 0.48, 0.24, 0.08, 1.0, "main", PLAIN),
            *_legs(0.48, 0.5, 0.42, "main", 0.02),
        ),
    ),
    "bench": Design(
        1.3,
        0.45,
        (
            (BOX, -0.65, 0.0, 0.38, 0.65, 0.45, 0.5, "main", PLAIN),
            (BOX, -0.65, 0.0, 0.5, 0.65, 0.06, 0.95, "main", PLAIN),
            (BOX, -0.6, 0.04, 0.0, -0.5, 0.42, 0.38, "main", PLAIN),
            (BOX, 0.5, 0.04, 0.0, 0.6, 0.42, 0.38, "main", PLAIN),
        ),
    ),
    "wardrobe": Design(
        1.2,
        0.6,
        ((BOX, -0.6, 0.0, 0.0, 0.6, 0.6, 2.05, "main", PLAIN), *_doors(1.2, 0.6, 0.08, 1.98, 2)),
    ),
    "cabinet": Design(
        1.0,
        0.45,
        ((BOX, -0.5, 0.0, 0.05, 0.5, 0.45, 1.65, "main", PLAIN), *_doors(1.0, 0.45, 0.1, 1.6, 2)),
    ),
    "dresser": Design(
        1.2,
        0.5,
        (
            (BOX, -0.6, 0.0, 0.05, 0.6, 0.5, 1.1, "main", PLAIN),
            *((BOX, -0.56, 0.5, z, 0.56, 0.51, z + 0.02, "dark", PLAIN) for z in (0.38, 0.72)),
            (CYLINDER, -0.4, 0.15, 1.1, -0.2, 0.35, 1.36, "light", PLAIN),
        ),
    ),
    "bookshelf": Design(
        1.2,
        0.38,
        (
            (BOX, -0.6, 0.0, 0.0, 0.6, 0.1, 2.1, "main", PLAIN),
            (BOX, -0.6, 0.0, 0.0, -0.5, 0.38, 2.1, "main", PLAIN),
            (BOX, 0.5, 0.0, 0.0, 0.6, 0.38, 2.1, "main", PLAIN),
            *((BOX, -0.6, 0.0, z, 0.6, 0.38, z + 0.12, "main", PLAIN) for z in (0.0, 0.5, 1.0, 1.5, 1.98)),
            (BOX, -0.48, 0.1, 0.12, 0.46, 0.3, 0.4, "cream", BOOKS),
            (BOX, -0.48, 0.1, 0.62, 0.3, 0.3, 0.92, "cream", BOOKS),
            (BOX, -0.3, 0.1, 1.12, 0.48, 0.3, 1.4, "cream", BOOKS),
        ),
    ),
    "fridge": Design(
        0.8,
        0.7,
        (
            (BOX, -0.4, 0.0, 0.05, 0.4, 0.66, 1.9, "main", PLAIN),
            (BOX, -0.4, 0.66, 0.05, 0.4, 0.7, 1.2, "main", PLAIN),
            (BOX, -0.4, 0.66, 1.24, 0.4, 0.7, 1.9, "main", PLAIN),
            (BOX, 0.28, 0.7, 0.7, 0.32, 0.74, 1.12, "metal", PLAIN),
            (BOX, 0.28, 0.7, 1.3, 0.32, 0.74, 1.6, "metal", PLAIN),
        ),
    ),
    "counter": Design(
        1.8,
        0.62,
        (
            (BOX, -0.9, 0.0, 0.0, 0.9, 0.6, 0.86, "main", PLAIN),
            (BOX, -0.92, 0.0, 0.86, 0.92, 0.63, 0.92, "cream", PLAIN),
            *_doors(1.8, 0.6, 0.08, 0.82, 3),
            (BOX, -0.9, 0.0, 1.45, 0.9, 0.34, 2.1, "main", PLAIN),
            *_doors(1.8, 0.34, 1.48, 2.06, 3),
        ),
    ),
    "stove": Design(
        0.7,
        0.62,
        (
            (BOX, -0.35, 0.0, 0.0, 0.35, 0.62, 0.9, "white", PLAIN),
            (BOX, -0.26, 0.62, 0.2, 0.26, 0.63, 0.6, "screen", PLAIN),
            *(
                (CYLINDER, x, y, 0.9, x + 0.22, y + 0.22, 0.92, "dark", PLAIN)
                for x in (-0.28, 0.06)
                for y in (0.1, 0.36)
            ),
            (BOX, -0.35, 0.0, 1.6, 0.35, 0.45, 1.75, "metal", PLAIN),
            (BOX, -0.12, 0.0, 1.75, 0.12, 0.22, 2.55, "metal", PLAIN),
        ),
        colored=False,
    ),
    "bathtub": Design(
        1.7,
        0.8,
        (
            (BOX, -0.85, 0.0, 0.0, 0.85, 0.1, 0.62, "main", PLAIN),
            (BOX, -0.85, 0.7, 0.0, 0.85, 0.8, 0.62, "main", PLAIN),
            (BOX, -0.85, 0.0, 0.0, -0.75, 0.8, 0.62, "main", PLAIN),
            (BOX, 0.75, 0.0, 0.0, 0.85, 0.8, 0.62, "main", PLAIN),
            (BOX, -0.75, 0.1, 0.0, 0.75, 0.7, 0.42, "glass", PLAIN),
            (CYLINDER, 0.6, 0.36, 0.6, 0.68, 0.44, 0.95, "metal", PLAIN),
        ),
    ),
    "sink": Design(
        0.8,
        0.5,
        (
            (BOX, -0.4, 0.0, 0.0, 0.4, 0.48, 0.72, "main", PLAIN),
            (BOX, -0.42, 0.0, 0.72, 0.42, 0.5, 0.88, "white", PLAIN),
            (CYLINDER, -0.04, 0.06, 0.88, 0.04, 0.14, 1.12, "metal", PLAIN),
            *_doors(0.8, 0.48, 0.06, 0.68, 2),
        ),
    ),
    "toilet": Design(
        0.45,
        0.68,
        (
            (BOX, -0.22, 0.0, 0.38, 0.22, 0.2, 0.85, "white", PLAIN),
            (CYLINDER, -0.14, 0.2, 0.0, 0.14, 0.55, 0.3, "white", PLAIN),
            (CYLINDER, -0.2, 0.14, 0.3, 0.2, 0.68, 0.44, "white", PLAIN),
        ),
        colored=False,
    ),
    "lamp": Design(
        0.5,
        0.5,
        (
            (CYLINDER, -0.16, 0.09, 0.0, 0.16, 0.41, 0.04, "dark", PLAIN),
            (CYLINDER, -0.02, 0.23, 0.04, 0.02, 0.27, 1.3, "dark", PLAIN),
            (CYLINDER, -0.25, 0.0, 1.25, 0.25, 0.5, 1.75, "main", PLAIN),
        ),
    ),
    "plant": Design(
        0.7,
        0.7,
        (
            (CYLINDER, -0.2, 0.15, 0.0, 0.2, 0.55, 0.42, "cream", PLAIN),
            (CYLINDER, -0.17, 0.18, 0.42, 0.17, 0.52, 0.43, "soil", PLAIN),
            (CYLINDER, -0.03, 0.32, 0.42, 0.03, 0.38, 0.95, "darkwood", WOOD),
            (ELLIPSOID, -0.35, 0.0, 0.75, 0.3, 0.66, 1.3, "main", LEAVES),
            (ELLIPSOID, -0.26, 0.08, 1.05, 0.35, 0.7, 1.7, "main", LEAVES),
        ),
        fixed_color="green",
    ),
    "piano": Design(
        1.5,
        0.65,
        (
            (BOX, -0.75, 0.0, 0.0, 0.75, 0.36, 1.3, "main", PLAIN),
            (BOX, -0.75, 0.36, 0.55, 0.75, 0.65, 0.72, "main", PLAIN),
            (BOX, -0.68, 0.4, 0.72, 0.68, 0.63, 0.74, "white", BOOKS),
            (BOX, -0.75, 0.58, 0.0, -0.67, 0.65, 0.55, "main", PLAIN),
            (BOX, 0.67, 0.58, 0.0, 0.75, 0.65, 0.55, "main", PLAIN),
        ),
        fixed_color="black",
    ),
    "toy box": Design(
        1.0,
        0.6,
        (
            (BOX, -0.5, 0.0, 0.0, 0.5, 0.6, 0.7, "main", PLAIN),
            (BOX, -0.52, 0.0, 0.7, 0.52, 0.08, 1.3, "light", PLAIN),
            (ELLIPSOID, -0.3, 0.2, 0.65, 0.0, 0.5, 0.95, "cream", PLAIN),
            (ELLIPSOID, 0.05, 0.15, 0.65, 0.35, 0.45, 0.95, "light", PLAIN),
        ),
    ),
    "television": Design(
        1.5,
        0.45,
        (
            (BOX, -0.75, 0.0, 0.0, 0.75, 0.42, 0.5, "darkwood", WOOD),
            (BOX, -0.7, 0.12, 0.58, 0.7, 0.2, 1.4, "screen", PLAIN),
            (BOX, -0.2, 0.1, 0.5, 0.2, 0.3, 0.58, "dark", PLAIN),
        ),
        colored=False,
    ),
    "rug": Design(
        2.2,
        1.6,
        (
            (BOX, -1.1, 0.0, 0.0, 1.1, 1.6, 0.012, "main", FABRIC),
            (BOX, -0.9, 0.2, 0.012, 0.9, 1.4, 0.018, "light", FABRIC),
            (BOX, -0.75, 0.35, 0.018, 0.75, 1.25, 0.022, "main", FABRIC),
        ),
        flat=True,
    ),
    "curtain": Design(
        1.7,
        0.12,
        (
            (BOX, -0.55, 0.0, 0.9, 0.55, 0.03, 2.1, "glass", GLOW),
            (BOX, -0.02, 0.03, 0.9, 0.02, 0.05, 2.1, "white", PLAIN),
            (BOX, -0.85, 0.0, 0.2, -0.35, 0.12, 2.3, "main", FABRIC),
            (BOX, 0.35, 0.0, 0.2, 0.85, 0.12, 2.3, "main", FABRIC),
            (BOX, -0.95, 0.02, 2.28, 0.95, 0.1, 2.36, "darkwood", WOOD),
        ),
        hung=True,
        outer=True,
    ),
    "painting": Design(
        1.2,
        0.06,
        (
            (BOX, -0.6, 0.0, 1.1, 0.6, 0.04, 2.05, "darkwood", WOOD),
            (BOX, -0.54, 0.04, 1.16, 0.54, 0.06, 1.99, "main", PICTURE),
        ),
        hung=True,
    ),
    "mirror": Design(
        0.9,
        0.05,
        (
            (BOX, -0.45, 0.0, 0.95, 0.45, 0.04, 2.05, "main", PLAIN),
            (BOX, -0.31, 0.04, 1.09, 0.31, 0.05, 1.91, "glass", GLOW),
        ),
        hung=True,
    ),
    "clock": Design(
        0.6,
        0.08,
        (
            (BOX, -0.3, 0.0, 1.5, 0.3, 0.05, 2.1, "darkwood", WOOD),
            (BOX, -0.22, 0.05, 1.58, 0.22, 0.06, 2.02, "white", PLAIN),
            (BOX, -0.01, 0.06, 1.8, 0.01, 0.07, 2.0, "dark", PLAIN),
            (BOX, 0.0, 0.06, 1.79, 0.14, 0.07, 1.81, "dark", PLAIN),
        ),
        colored=False,
        hung=True,
    ),
}
