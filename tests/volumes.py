"""Small datasets of volumes for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_lgmsnet.data.volumes import VolumeSource

IDENTITY = np.eye(4)


def make_source(
    folder: Path,
    images: Sequence[np.ndarray],
    label_maps: Sequence[np.ndarray],
    *,
    affine: np.ndarray | Sequence[np.ndarray] = IDENTITY,
    channels: Sequence[str] = ("CT",),
) -> VolumeSource:
    """Returns a dataset of the given volumes, `(x, y, z)` or with channels, named volume0 on."""
    affines = np.broadcast_to(affine, (len(images), 4, 4))
    ids = [f"volume{number}" for number in range(len(images))]
    return VolumeSource(
        ids=ids,
        groups=ids,
        dataset="test/1.0.0",
        labels={0: "background", 1: "organ", 2: "tumour"},
        channels=list(channels),
        examples=[
            {
                "image": np.asarray(image, "float32").reshape(*image.shape[:3], -1),
                "segmentation_mask": np.asarray(labels, "uint8")[..., None],
                "affine": np.asarray(of_volume, "float32"),
            }
            for image, labels, of_volume in zip(images, label_maps, affines, strict=True)
        ],
        folder=folder,
    )
