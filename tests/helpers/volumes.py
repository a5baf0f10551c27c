"""Small datasets of volumes for tests."""

import json
from collections.abc import Container, Sequence
from pathlib import Path

import nibabel
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
    """Return a dataset of the given volumes, `(x, y, z)` or with channels, named volume0 on."""
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
                "affine": np.asarray(volume_affine, "float32"),
            }
            for image, labels, volume_affine in zip(images, label_maps, affines, strict=True)
        ],
        folder=folder,
    )


def write_msd_folder(folder: Path, count: int, *, unlabelled: Container[int] = ()) -> Path:
    """Write a folder as the Decathlon has them: CTs with a box of label 1 and one of 2 in it."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    names = {"0": "background", "1": "organ", "2": "tumour"}
    described = {"labels": names, "modality": {"0": "CT"}, "numTraining": count}
    (folder / "dataset.json").write_text(json.dumps(described))
    affine = np.diag([-1.0, -1.5, 2.0, 1.0])  # to the left, the back and up
    for number in range(count):
        labels = np.zeros((14 + number, 12, 10), "uint8")
        if number not in unlabelled:
            labels[3:9, 2:10, 2:8] = 1
            labels[4:7, 4:7, 4:7] = 2
        image = np.random.default_rng(number).normal(100.0 * labels, 20).astype("float32")
        for part, array in (("imagesTr", image), ("labelsTr", labels)):
            path = folder / part / f"case_{number:03d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return folder
