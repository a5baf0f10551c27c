"""Datasets for TensorFlow Datasets: one folder each, as `tfds new` lays it out."""
