"""Policies: follower, speaker, scripted baselines and back-translation."""
