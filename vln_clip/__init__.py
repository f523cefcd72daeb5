"""Vision-and-language navigation with CLIP: environments, agents, encoders and programs."""

__version__ = "0.1.0"
