"""Grounds one caption in one image, and draws the result."""
