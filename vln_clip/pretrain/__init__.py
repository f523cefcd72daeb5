"""Pre-training of CLIP-ViL_p and its fine-tuning on VQA, GQA and SNLI-VE: ``python -m vln_clip.pretrain``.

The command line (``__main__``), what a run is (``config``, ``recipes``), what it reads (``data``), its models
(``model``), its stages (``pretraining``, ``finetuning``), their order (``recipe``) and how trained models are used
(``using``). Model and data of one batch are ``vln_clip.tasks.pretraining``.
"""


def cli() -> None:
    """Run the program with errors told in one sentence."""
    from vln_clip.pretrain.__main__ import cli as run

    run()
