"""Detection datasets: names of classes as captions, with all boxes of a class in an image."""
