from .images import read_image as read_image
from .nifti import (
    read_channels as read_channels,
    read_label_map as read_label_map,
    read_volume as read_volume,
    write_label_map as write_label_map,
    write_map as write_map,
)
from .volume import Volume as Volume
