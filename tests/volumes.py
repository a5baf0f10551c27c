"""A folder of volumes as the Medical Segmentation Decathlon lays it out, generated."""

import json
from pathlib import Path

import nibabel
import numpy as np

LABELS = {"0": "background", "1": "organ", "2": "tumour"}


def write_msd_folder(folder: Path, count: int, *, labelled: bool = True) -> Path:
    """Write `count` CTs of different sizes, each with a box of label 1 and, in it, one of 2."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    described = {"labels": LABELS, "modality": {"0": "CT"}, "numTraining": count}
    (folder / "dataset.json").write_text(json.dumps(described))
    affine = np.diag([-1.0, -1.5, 2.0, 1.0])  # to the left, the back and up
    for number in range(count):
        labels = np.zeros((14 + number, 12, 10), "uint8")
        if labelled:
            labels[3:9, 2:10, 2:8] = 1
            labels[4:7, 4:7, 4:7] = 2
        image = np.random.default_rng(number).normal(100.0 * labels, 20).astype("float32")
        for part, array in (("imagesTr", image), ("labelsTr", labels)):
            path = folder / part / f"case_{number:03d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return folder
