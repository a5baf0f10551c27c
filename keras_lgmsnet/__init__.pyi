from . import (
    benchmark as benchmark,
    checkpoints as checkpoints,
    comparison as comparison,
    demo as demo,
    evaluation as evaluation,
    export as export,
    figures as figures,
    files as files,
    geometry as geometry,
    inference as inference,
    layers as layers,
    losses as losses,
    metrics as metrics,
    models as models,
    optimizers as optimizers,
    recipe as recipe,
    scoring as scoring,
    training as training,
)
from .about import NOTICE as NOTICE, __version__ as __version__
from .models import LGMSNet2D as LGMSNet2D, LGMSNet3D as LGMSNet3D
from .process.memory import keep_freed_memory as keep_freed_memory
