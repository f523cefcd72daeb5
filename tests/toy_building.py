"""A building of a painted sky: panoramas whose colors are directions, at poses turned and tilted each another way."""

import math

import numpy as np
from PIL import Image

from vln_clip.envs.building.frames import equirectangular_rays, tilted_rotation
from vln_clip.scenes import main

HEADER = "image,x_m,y_m,z_m,heading_deg,pitch_deg,roll_deg"
# Three places in a row.
ROWS = ("a.png,0,0,1.5,0,0,0", "b.png,2,0,1.5,123,10,-5", "c.png,4.5,0,1.5,270,-20,8")


def direction_colors(rays):
    """Paint a direction, so that a picture shows where it looks: red grows to the east, green to the north, blue up."""
    unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return np.round(127.5 + 120 * unit).astype(np.uint8)


def write_building(folder, rows=ROWS, header=HEADER, width_px=256):
    """Write panoramas of the painted sky at the poses of the rows; returns their folder and the table."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    table = folder / "poses.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    for row in rows:
        cells = dict(zip(header.split(","), row.split(","), strict=True))
        angles = [math.radians(float(cells.get(f"{name}_deg", 0))) for name in ("heading", "pitch", "roll")]
        picture = direction_colors(equirectangular_rays(width_px) @ tilted_rotation(*angles).T)
        Image.fromarray(picture).save(folder / "photos" / cells["image"])
    return folder / "photos", table


def build(folder, photos, table, *flags):
    words = ["--panoramas", photos, "--poses", table, "--out", folder / "data", "--scan", "home", "--workers", 1]
    main(["build", *map(str, [*words, *flags])])
    return folder / "data"


def expected_view(heading, elevation, size_px=40, vfov=1.0):
    """Paint a view from the definition of heading and elevation, not with the code under test."""
    forward = np.array([math.sin(heading) * math.cos(elevation), math.cos(heading) * math.cos(elevation), 0.0])
    forward[2] = math.sin(elevation)
    right = np.array([math.cos(heading), -math.sin(heading), 0.0])
    ramp = ((np.arange(size_px) + 0.5) / size_px * 2 - 1) * math.tan(vfov / 2)
    rays = forward + ramp[None, :, None] * right - ramp[:, None, None] * np.cross(right, forward)
    return direction_colors(rays).astype(int)
