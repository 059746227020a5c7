"""Converts published checkpoints."""
