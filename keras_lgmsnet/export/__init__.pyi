from .deployment import deploy as deploy
from .parent import export as export
from .promises import ACTIVATIONS as ACTIVATIONS
from .promises import FORMATS as FORMATS
from .promises import IMAGE_PROMISES as IMAGE_PROMISES
from .promises import PRECISIONS as PRECISIONS
from .promises import VOLUME_PROMISES as VOLUME_PROMISES
