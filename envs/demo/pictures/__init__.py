"""Demo pictures with questions and captions: views of the houses of the demo world in the formats of VQA v2 and COCO.

Views (``views``), what they show (``seen``), questions (``asking``, ``balance``) and ten answers each (``annotators``),
captions (``captions``), their words (``words``), files (``files``) and cache (``build``).
"""

from vln_clip.envs.demo.pictures.build import build_pictures, demo_pictures, demo_pictures_folder
from vln_clip.envs.demo.pictures.config import PicturesConfig

__all__ = ["PicturesConfig", "build_pictures", "demo_pictures", "demo_pictures_folder"]
