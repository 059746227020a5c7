"""The commands of ``mdetr-shards``: one module each, with its arguments and its action."""
