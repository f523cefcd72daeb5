"""Captioning models: the Transformer, how it writes captions, its losses, recipes and public checkpoints."""
