"""Datasets to train and evaluate on: prepared once, then decoded, split, augmented and batched.

What users hand in is read in `keras_lgmsnet.files`, by the builders in `tfds_builders`.
"""
