from .images import Prediction as Prediction
from .images import predict_images as predict_images
from .scans import segment_scan as segment_scan
from .volumes import VolumePrediction as VolumePrediction
from .volumes import predict_volumes as predict_volumes
from .windows import mirrored as mirrored
from .windows import segment_volume as segment_volume
from .windows import sliding_window as sliding_window
