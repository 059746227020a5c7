"""The HTML templates of the page."""
