from .loading import load_recipe as load_recipe, override as override
from .schema import (
    Data as Data,
    Model as Model,
    Recipe as Recipe,
    Training as Training,
    VolumeData as VolumeData,
    VolumeTraining as VolumeTraining,
)
from .study import study_of_networks as study_of_networks
