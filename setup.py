"""Packaging: maps the top-level folders into the one import name ``vln_clip``."""

from setuptools import find_packages, setup

MOUNTED = ("envs", "agents", "tasks", "connectivity")


def packages() -> list[str]:
    """List every package; the mounted folders are listed once, not through their symlinks."""
    own = ("caption", "datafolder", "encoders", "features", "pretrain", "sources", "viewer", "vqa")
    names = ["vln_clip", *(f"vln_clip.{name}" for name in own)]
    for folder in MOUNTED:
        names += [f"vln_clip.{folder}"] + [f"vln_clip.{folder}.{name}" for name in find_packages(folder)]
    return names


setup(
    packages=packages(),
    package_dir={"vln_clip": "vln_clip"} | {f"vln_clip.{folder}": folder for folder in MOUNTED},
    package_data={
        "vln_clip": ["py.typed"],
        "vln_clip.encoders": ["clip_demo.safetensors"],
        "vln_clip.viewer": ["web/*"],
    },
)
