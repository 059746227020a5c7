"""Grounding of one caption in one image, and its drawing."""
