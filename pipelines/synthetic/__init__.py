"""The synthetic dataset: rendered images, and annotations about them in the published layouts."""

#: The file that marks a folder of raw files as synthetic, which have the names of published ones.
SYNTHETIC_MARK = "SYNTHETIC.txt"
