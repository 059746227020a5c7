"""Annotation files in the formats that tools exchange: read, and written without some images."""
