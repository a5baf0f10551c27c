from .features import STAGES as STAGES
from .features import stage_features as stage_features
from .paper import draw_figures as draw_figures
from .redundancy import Redundancy as Redundancy
from .redundancy import channel_redundancy as channel_redundancy
