"""Sentences of an image, combined into captions."""
