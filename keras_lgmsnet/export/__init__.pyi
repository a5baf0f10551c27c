from .deployment import deploy as deploy
from .parent import export as export
from .promises import (
    ACTIVATIONS as ACTIVATIONS,
    FORMATS as FORMATS,
    IMAGE_PROMISES as IMAGE_PROMISES,
    PRECISIONS as PRECISIONS,
    VOLUME_PROMISES as VOLUME_PROMISES,
    Promise as Promise,
)
