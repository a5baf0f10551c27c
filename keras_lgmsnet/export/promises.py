"""What there is to choose of an export, what its files are promised to keep, how they are tried."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_lgmsnet.kinds import KINDS, Kind

# The formats of exports, with the precisions that each has.
FORMATS = {
    "saved_model": ("float32",),
    "tflite": ("float32", "float16", "dynamic", "int8"),
    "onnx": ("float32",),
}
# All precisions that there are.
PRECISIONS = FORMATS["tflite"]


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

# What the files of runs on images promise, by precision; one that is absent is not offered.
IMAGE_PROMISES = {
    "float32": Promise("max_probability_difference", 1e-4, "every probability within 1e-4"),
    "float16": Promise("changed_pixels", 1e-3, "≤ 0.1 % of the pixels changed"),
    "dynamic": _IOU_LOSS,
    "int8": _IOU_LOSS,
}
# The same of runs on volumes. Instance norms, which many networks have there, magnify rounding.
VOLUME_PROMISES = {
    "float32": Promise("max_probability_difference", 1e-3, "every probability within 1e-3"),
    "float16": Promise("changed_pixels", 1e-3, "≤ 0.1 % of the voxels changed"),
    "dynamic": _IOU_LOSS,
}


@dataclass(frozen=True, eq=False)
class Terms:
    """What differs between exports of runs on images and on volumes.

    Args:
        activations: What may follow the logits, and how the output is to be read then.
        promises: By precision, what files are promised to keep.
        max_examples: The most that files are compared with the network on.
        batch_size: How many of them at once.
        subject: What people have that is to be segmented, in the words of the model card.
        f1_name: What the F1 score is called there.
    """

    activations: Mapping[str, str]
    promises: Mapping[str, Promise]
    max_examples: int
    batch_size: int
    subject: str
    f1_name: str


_IMAGE_TERMS = Terms(
    activations={
        "none": "A pixel belongs to a class where its logit is above 0; `1 / (1 + exp(-logit))` is "
        "the probability.",
        "sigmoid": "A pixel belongs to a class where its probability is above 0.5.",
    },
    promises=IMAGE_PROMISES,
    max_examples=256,
    batch_size=8,
    subject="image",
    f1_name="F1",
)
_VOLUME_TERMS = Terms(
    activations={
        "none": "A voxel belongs to the class of its highest logit; the softmax over the classes "
        "gives their probabilities.",
        "softmax": "A voxel belongs to its most probable class.",
    },
    promises=VOLUME_PROMISES,
    max_examples=32,
    batch_size=1,
    subject="scan",
    f1_name="Dice",
)


def terms_for(kind: Kind) -> Terms:
    """Return the terms of exports of runs on this kind of data."""
    return kind.choose(images=_IMAGE_TERMS, volumes=_VOLUME_TERMS)


# What may follow the logits of an export.
ACTIVATIONS = tuple(
    dict.fromkeys(activation for kind in KINDS for activation in terms_for(kind).activations)
)
