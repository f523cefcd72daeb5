"""The work behind ``python -m vln_clip.data``: fetching, verifying and listing what a data folder holds."""
