"""The published files that recipes read: their catalog, and their download."""
