"""Export: a run's network in files for deployment, each tried on the run's own held-out data.

`promises` holds what there is to choose and how closely a file must agree with the network;
`parent` is the verb, which starts `child` on TensorFlow; `writers` has the formats.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
