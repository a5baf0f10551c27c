from .loading import load_recipe as load_recipe
from .loading import override as override
from .schema import Data as Data
from .schema import Model as Model
from .schema import Recipe as Recipe
from .schema import Training as Training
from .schema import VolumeData as VolumeData
from .schema import VolumeTraining as VolumeTraining
