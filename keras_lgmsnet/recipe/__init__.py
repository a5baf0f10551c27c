"""Recipes: everything that decides a training run.

Fields are declared in `schema`; `study` has several of them; `loading` finds, runs and overrides
recipes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
