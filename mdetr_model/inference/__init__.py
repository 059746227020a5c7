"""Grounds one caption in one image."""
