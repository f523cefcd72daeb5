"""The demo world: generated furnished houses in the public file formats."""
