from . import complexity as complexity
from .lgmsnet import LGMSNet2D as LGMSNet2D
from .lgmsnet import LGMSNet3D as LGMSNet3D
