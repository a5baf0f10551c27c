from .features import stage_features as stage_features
from .foreground import (
    draw_foreground_ratios as draw_foreground_ratios,
    foreground_ratios as foreground_ratios,
)
from .panels import draw_panels as draw_panels
from .paper import draw_figures as draw_figures
from .redundancy import Redundancy as Redundancy, channel_redundancy as channel_redundancy
from .spectra import draw_redundancy as draw_redundancy, draw_spectra as draw_spectra
from .stage_maps import activation_map as activation_map, draw_stage_maps as draw_stage_maps
