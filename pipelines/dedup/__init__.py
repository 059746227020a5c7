"""The canonical image of duplicates, and the images of evaluation sets."""
