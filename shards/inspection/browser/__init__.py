"""The web server of ``mdetr-shards browse``: search over captions, and images with their boxes."""
