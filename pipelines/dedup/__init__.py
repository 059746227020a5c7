"""One identity for each image, and which images evaluation sets hold out."""
