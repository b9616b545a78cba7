"""Runs: configuration, training, run directories, opening, scoring and publishing models."""
