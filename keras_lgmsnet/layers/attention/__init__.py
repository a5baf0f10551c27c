"""Attention within parts of an image: along its axes, in windows, in patches."""
