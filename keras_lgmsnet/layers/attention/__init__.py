"""Layers that attend: what a token becomes depends on others, of all the image or a part of it."""
