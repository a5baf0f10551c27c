"""The networks, their arithmetic, and the published names of their parameters.

Importing this folder registers the networks, so that `keras.saving.load_model` knows them.
"""

from keras_lgmsnet.models import complexity
from keras_lgmsnet.models.lgmsnet import LGMSNet2D, LGMSNet3D

__all__ = ["LGMSNet2D", "LGMSNet3D", "complexity"]
