from . import (
    benchmark as benchmark,
)
from . import (
    checkpoints as checkpoints,
)
from . import (
    demo as demo,
)
from . import (
    evaluation as evaluation,
)
from . import (
    export as export,
)
from . import (
    figures as figures,
)
from . import (
    files as files,
)
from . import (
    geometry as geometry,
)
from . import (
    inference as inference,
)
from . import (
    layers as layers,
)
from . import (
    losses as losses,
)
from . import (
    metrics as metrics,
)
from . import (
    models as models,
)
from . import (
    optimizers as optimizers,
)
from . import (
    recipe as recipe,
)
from . import (
    scoring as scoring,
)
from . import (
    training as training,
)
from .about import NOTICE as NOTICE
from .about import __version__ as __version__
from .models import LGMSNet2D as LGMSNet2D
from .models import LGMSNet3D as LGMSNet3D
