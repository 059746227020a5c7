"""HTML, CSS and JavaScript of the report and the browser, for jinja2."""
