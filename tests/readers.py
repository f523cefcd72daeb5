"""Every reader of files, by name."""

from tests import readers_data, readers_features, readers_vqa, readers_world

CASES = readers_data.CASES | readers_features.CASES | readers_vqa.CASES | readers_world.CASES
