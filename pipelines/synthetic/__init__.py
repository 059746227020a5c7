"""The synthetic dataset: rendered images, and annotations about them in the published layouts."""
