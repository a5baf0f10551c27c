"""Evaluation: a run's network scored on what it held out, or on a dataset it never saw.

`runs` is the verb; `selection` says which examples may be scored, `images` and `volumes` score
them, `score_tables` compares and prints the scores.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
