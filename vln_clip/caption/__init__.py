"""The captioning program: ``python -m vln_clip.caption train|evaluate|caption``, on the encoders of navigation."""


def cli() -> None:
    """Run the program with errors told in one sentence."""
    from vln_clip.caption.__main__ import cli as run

    run()
