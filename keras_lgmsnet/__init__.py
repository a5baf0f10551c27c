"""Medical image segmentation with LGMSNet and others on TensorFlow, JAX and PyTorch.

Names are imported on first use, so `import keras_lgmsnet` does not import Keras: a command line
can still choose the backend. `__init__.pyi` lists them; what is not listed in a folder's
`__init__.pyi` (or imported in its `__init__.py`) is not for users of the package.

Example:
```python
import keras_lgmsnet as kl

model = kl.LGMSNet2D(input_shape=(256, 256, 3), num_classes=1)
model.fit(dataset)
```
"""

import lazy_loader
import wrapt

from keras_lgmsnet.serialization import register

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# As soon as Keras is there, imported before or after, `keras.saving.load_model` knows the classes.
wrapt.register_post_import_hook(register, "keras")
