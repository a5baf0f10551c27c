"""Inference: a run's network on images and scans of any size.

`images` and `volumes` are the verbs, from files to files; `scans` and `windows` compute.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
