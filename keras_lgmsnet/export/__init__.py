"""Export: from a run directory to files for deployment, each proven equal on the run's images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
