"""The VQA program: ``python -m vln_clip.vqa train|evaluate|predict``, on the encoders and the loop of navigation."""


def cli() -> None:
    """Run the program with errors told in one sentence."""
    from vln_clip.vqa.__main__ import cli as run

    run()
