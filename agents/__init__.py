"""Policies: follower, speaker and scripted baselines."""
