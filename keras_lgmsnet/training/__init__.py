"""Training: from a recipe to a run directory.

`loop` is the verb, for one run; `several` trains several, and `rehearsal` tells what one would do.
A `task` is what differs between `images` and `volumes`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
