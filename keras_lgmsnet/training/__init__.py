"""Training: from a recipe to a run directory.

`loop` is the verb, `rehearsal` tells what it would do; a `task` is what differs between `images`
and `volumes`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
