"""What an export is promised to keep, by its precision, and what there is to choose."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


# The precisions of each format.
FORMATS = {
    "saved_model": ("float32",),
    "tflite": ("float32", "float16", "dynamic", "int8"),
    "onnx": ("float32",),
}


PRECISIONS = FORMATS["tflite"]


# Those of each rank: the masks of an image's classes may overlap, a voxel has one class.
_ACTIVATIONS = {2: ("none", "sigmoid"), 3: ("none", "softmax")}


ACTIVATIONS = tuple(dict.fromkeys(_ACTIVATIONS[2] + _ACTIVATIONS[3]))


@dataclass(frozen=True)
class Promise:
    """How far the files of a precision agree with the Keras network, at least.

    Args:
        measure: The value of a file's "agreement" that is held to it.
        limit: The largest that is allowed.
        words: The same for a reader.
        least_iou: Mean IoU that the network itself must reach: one that finds nothing has nothing
            to lose, and the promise would mean nothing.
    """

    measure: str
    limit: float
    words: str
    least_iou: float = 0.0

    def is_kept(self, agreement: dict[str, Any]) -> bool:
        """Say whether an agreement is within the limit, and free of infinities and NaN."""
        measured = agreement[self.measure], agreement["max_probability_difference"]
        return all(map(math.isfinite, measured)) and measured[0] <= self.limit


_IOU_LOSS = Promise("iou_loss", 0.01, "≤ 1.0 point of mean IoU lost", least_iou=0.1)


# By the rank of the network and the precision. A volume's instance norms magnify rounding.
PROMISES = {
    2: {
        "float32": Promise("max_probability_difference", 1e-4, "every probability within 1e-4"),
        "float16": Promise("changed_pixels", 1e-3, "≤ 0.1 % of the pixels changed"),
        "dynamic": _IOU_LOSS,
        "int8": _IOU_LOSS,
    },
    3: {
        "float32": Promise("max_probability_difference", 1e-3, "every probability within 1e-3"),
        "float16": Promise("changed_pixels", 1e-3, "≤ 0.1 % of the voxels changed"),
        "dynamic": _IOU_LOSS,
    },
}
