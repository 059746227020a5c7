"""``mdetr report``: one page, and a few lines of text, about a trained and evaluated model."""
