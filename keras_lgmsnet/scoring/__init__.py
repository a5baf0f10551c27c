"""Scores: pure numbers about masks, and how far they can be trusted.

`surface` has distances such as HD95, `regions` the scores of volumes, `significance` intervals and
tests. The scores of an image's pixels are in `keras_lgmsnet.metrics`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
