"""Readers of raw datasets, a module or package for each dataset."""
