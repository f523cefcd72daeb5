"""Every reader of files, by name."""

from tests import readers_caption, readers_data, readers_features, readers_pretraining, readers_vqa, readers_world

MODULES = (readers_caption, readers_data, readers_features, readers_pretraining, readers_vqa, readers_world)
CASES = {name: case for module in MODULES for name, case in module.CASES.items()}
