"""Layers that attend: what a token becomes depends on all others, or on those of its window."""
