from .images import Prediction as Prediction, predict_images as predict_images
from .scans import segment_scan as segment_scan
from .volumes import VolumePrediction as VolumePrediction, predict_volumes as predict_volumes
from .windows import (
    Segmentation as Segmentation,
    mirrored as mirrored,
    segment_volume as segment_volume,
    sliding_window as sliding_window,
)
