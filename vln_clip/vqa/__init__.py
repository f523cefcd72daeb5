"""The VQA program: ``python -m vln_clip.vqa train|evaluate|predict|zeroshot``, on the encoders of navigation."""


def cli() -> None:
    """Run the program with errors told in one sentence."""
    from vln_clip.vqa.__main__ import cli as run

    run()
