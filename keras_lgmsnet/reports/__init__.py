"""A run's outcome as one HTML page with everything inside, laid out in `page.html.jinja`."""
