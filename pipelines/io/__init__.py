"""Raw files and images: opened, unpacked, sliced."""
