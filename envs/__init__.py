"""Worlds: batched navigation, samplers, the renderer and the generated demo world."""
