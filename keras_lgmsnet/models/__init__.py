"""The networks."""

from keras_lgmsnet.models.lgmsnet import LGMSNet2D, LGMSNet3D

__all__ = ["LGMSNet2D", "LGMSNet3D"]
