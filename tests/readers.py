"""Every reader of files, by name."""

from tests import readers_caption, readers_data, readers_features, readers_world

CASES = readers_data.CASES | readers_features.CASES | readers_world.CASES | readers_caption.CASES
