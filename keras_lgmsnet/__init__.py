"""LGMSNet for Keras 3: light medical image segmentation on TensorFlow, JAX and PyTorch.

Names are imported on first use, so `import keras_lgmsnet` does not import Keras: a command line
can still choose the backend.

Example:
```python
import keras_lgmsnet as kl

model = kl.LGMSNet2D(input_shape=(256, 256, 3), num_classes=1)
model.fit(dataset)
```
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_lgmsnet import (
        benchmark,
        checkpoints,
        complexity,
        demo,
        deployment,
        evaluation,
        export,
        export_benchmark,
        figures,
        geometry,
        inference,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        prediction,
        recipe,
        redundancy,
        surface,
        training,
        volume_files,
        volume_prediction,
    )
    from keras_lgmsnet.models import LGMSNet2D, LGMSNet3D

__version__ = "0.1.0"

# What everything that is made for people to look at begins with.
NOTICE = "For research use only. Not a medical device."

_MODELS = ("LGMSNet2D", "LGMSNet3D")

__all__ = [
    "NOTICE",
    "LGMSNet2D",
    "LGMSNet3D",
    "__version__",
    "benchmark",
    "checkpoints",
    "complexity",
    "demo",
    "deployment",
    "evaluation",
    "export",
    "export_benchmark",
    "figures",
    "geometry",
    "inference",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "prediction",
    "recipe",
    "redundancy",
    "surface",
    "training",
    "volume_files",
    "volume_prediction",
]


def __getattr__(name: str) -> Any:
    if name in _MODELS:
        return getattr(importlib.import_module("keras_lgmsnet.models"), name)
    if name in __all__:
        return importlib.import_module(f"keras_lgmsnet.{name}")
    raise AttributeError(f"module 'keras_lgmsnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if "keras" in sys.modules:
    # The backend is chosen: register the networks, so that `keras.saving.load_model` knows them.
    importlib.import_module("keras_lgmsnet.models")
