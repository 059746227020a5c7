"""Audits annotation files of any origin: which of their images are in evaluation sets."""
