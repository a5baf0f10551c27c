"""The networks, by name in `registry`, their arithmetic, and their parameters' published names.

One file a network; `base` is what they share.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
