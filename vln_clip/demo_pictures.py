"""The demo's pictures for the programs that learn from images: drawn with a progress bar where they are not there."""

from pathlib import Path

from vln_clip import log
from vln_clip.envs.demo.pictures import demo_pictures

COCO_FOLDERS = ("COCO/images/train2014", "COCO/images/val2014", "COCO/images/test2015")


def drawn_pictures() -> Path:
    """Return the folder of the demo's pictures, laid out like ``$VLN_CLIP_DATA``."""
    with log.progress() as bar:
        task = bar.add_task("demo pictures", total=None, status="houses", visible=False)
        return demo_pictures(
            on_progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True)
        )
