"""Comparison: the runs of several networks beside one another, as the paper's tables have them.

`runs` is the verb; `contestants` reads runs and checks that they can be compared, `sizes` tells
what their networks cost, `unseen` scores them on another dataset, `differences` and `changes`
compare them, `tables` tells what was found. `charts` and `pictures` draw it, and `page` shows all,
with `advice`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
