"""Boxes and polygons."""
