from . import complexity as complexity
from .base import SegmentationNetwork as SegmentationNetwork
from .lgmsnet import LGMSNet2D as LGMSNet2D, LGMSNet3D as LGMSNet3D
from .registry import create as create, names as names
