"""Reads raw files in their published layouts, without any code of the pipeline."""
