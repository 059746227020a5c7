"""The report of ``mdetr-shards stats --html``: one self-contained page with charts and images."""
