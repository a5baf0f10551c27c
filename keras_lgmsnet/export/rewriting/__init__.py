"""Layers as exports compute them: `flat` in two dimensions, by the `rules` for each type."""
