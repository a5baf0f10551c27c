from .deployment import deploy as deploy
from .parent import export as export
from .promises import ACTIVATIONS as ACTIVATIONS
from .promises import FORMATS as FORMATS
from .promises import PRECISIONS as PRECISIONS
from .promises import PROMISES as PROMISES
