"""HTML, CSS and JavaScript of `mdetr play`, for jinja2."""
