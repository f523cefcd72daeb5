"""Which data set ``--dataset`` means. Nothing heavy is imported here: programs ask before they import the rest."""

from vln_clip.errors import unknown_name
from vln_clip.log import logger
from vln_clip.paths import data_dir
from vln_clip.tasks.datasets import DATASETS

AUTO = "auto"


def find_dataset(name: str) -> str:
    """Turn ``auto`` into ``r2r`` where the data folder holds it, else ``demo``, and say which."""
    if name not in (AUTO, *DATASETS):
        raise unknown_name("--dataset", name, (AUTO, *DATASETS))
    if name != AUTO:
        return name
    if (data_dir() / "R2R" / "R2R_train.json").is_file() and (data_dir() / "connectivity").is_dir():
        logger.info("data set: r2r, found in %s (--dataset demo takes the demo world)", data_dir())
        return "r2r"
    logger.info(
        "data set: demo, the world this package generates (real R2R: put R2R/ and connectivity/ into %s, or set "
        "VLN_CLIP_DATA to the folder that has them; the README says where to get them)",
        data_dir().absolute(),
    )
    return "demo"
