"""Data and measures: episodes, text, metrics and submissions."""
