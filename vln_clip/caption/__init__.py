"""The captioning program: ``python -m vln_clip.caption train|evaluate|caption|retrieve|score``, on the encoders."""


def cli() -> None:
    """Run the program with errors told in one sentence."""
    from vln_clip.caption.__main__ import cli as run

    run()
