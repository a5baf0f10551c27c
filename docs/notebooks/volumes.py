# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own volumes
#
# From a folder of CT scans to a network that measures an organ in millilitres: prepare, train,
# segment, look, score. The scans are generated here, so that nothing has to be downloaded; a folder
# of yours takes their place. One minute on two cores.
#
# It needs `pip install 'keras-lgmsnet[torch,train]'`. For research use only. Not a medical device.

# %%
import os

# Keras reads it when it is imported. PyTorch compiles nothing, so short runs are quickest on it;
# "jax" and "tensorflow" take its place for long ones, where they are installed.
os.environ["KERAS_BACKEND"] = "torch"

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np

import keras_lgmsnet as kl
from keras_lgmsnet.recipe import Model, Recipe, VolumeData, VolumeTraining

folder = Path(tempfile.mkdtemp(prefix="lgmsnet-"))
print(f"All that follows is written to {folder}")

# %% [markdown]
# ## A folder of scans
#
# As the Medical Segmentation Decathlon and nnU-Net have it: `imagesTr/` with the scans, `labelsTr/`
# with a label map of the same name for each, and `dataset.json`, which names the labels and the
# kind of scan. Each generated scan is a body in air with an organ in it, in Hounsfield units, of
# voxels of 3 × 3 × 4 mm.

# %%
AFFINE = np.diag([-3.0, -3.0, 4.0, 1.0])  # axes to the patient's left, back and head


def ellipsoid(shape, center, radii):
    """Return where an ellipsoid lies in a volume; all in voxels."""
    places = np.indices(shape) - np.reshape(center, (3, 1, 1, 1))
    return ((places / np.reshape(radii, (3, 1, 1, 1))) ** 2).sum(0) < 1


def draw_scan(seed):
    """Return a scan in Hounsfield units and its label map."""
    rng = np.random.default_rng(seed)
    shape = (44, 40, 36)
    body = ellipsoid(shape, (22, 20, 18), (20, 17, 30))
    organ = ellipsoid(shape, rng.uniform((14, 16, 14), (18, 22, 22)), rng.uniform(6, 9, 3))
    scan = np.where(organ, 120.0, np.where(body, 20.0, -1000.0))
    return scan + rng.normal(0, 15, shape), organ.astype("uint8")


def write(path, array):
    """Write voxels to a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


scans = folder / "Task01_Organ"
for seed in range(8):
    scan, labels = draw_scan(seed)
    write(scans / f"imagesTr/scan_{seed}.nii.gz", scan.astype("float32"))
    write(scans / f"labelsTr/scan_{seed}.nii.gz", labels)
description = {
    "labels": {"0": "background", "1": "organ"},
    "modality": {"0": "CT"},
    "numTraining": 8,
}
(scans / "dataset.json").write_text(json.dumps(description))

# %% [markdown]
# ## Train
#
# Two of the scans are set aside for the test, two for the validation. Spacing and normalisation are
# proposed from the other four: that is printed, and kept in `fingerprint.json`. The network is
# narrow and the epochs are few, for this page; `recipes/msd_folder.py` has what a real folder
# wants.

# %%
recipe = Recipe(
    data=VolumeData(
        source="msd_folder",
        patch_size=(32, 32, 32),
        patches_per_volume=2,
        test_fraction=0.25,
        validation_fraction=0.2,
    ),
    model=Model(dims=(8, 16, 16, 16, 16)),
    training=VolumeTraining(epochs=2, warmup_epochs=0, learning_rate=0.01, validate_every=1),
)
run = kl.training.train(recipe, folder / "run", manual_dir=scans, data_dir=folder / "prepared")

# %%
json.loads((run / "fingerprint.json").read_text())

# %% [markdown]
# ## Segment a scan
#
# A scan that is in no folder, of another seed. The label map lies voxel by voxel where the scan
# lies, with the scan's own header, so any viewer shows the one over the other.

# %%
scan, truth = draw_scan(seed=100)
write(folder / "new.nii.gz", scan.astype("float32"))

(row,) = kl.inference.predict_volumes(run, folder / "new.nii.gz", folder / "seg.nii.gz")
voxel = abs(np.linalg.det(AFFINE[:3, :3])) / 1000  # a voxel's volume in ml
print(f"found: {row.volumes['organ']:.1f} ml, drawn: {truth.sum() * voxel:.1f} ml")
print(row.flags)  # in what the scan is unlike those trained on

# %% [markdown]
# ## Look at the three planes
#
# `to_canonical` turns any scan so that its axes run to the patient's right, front and head (RAS).
# As radiologists have it, the patient's right is on the left of the picture.

# %%
volume = kl.files.read_volume(folder / "new.nii.gz")
found, _ = kl.files.read_label_map(folder / "seg.nii.gz", {0: "background", 1: "organ"})
image, found, truth = (
    kl.geometry.to_canonical(array, volume.grid, interpolation="nearest")
    for array in (volume.image[..., 0], found, truth)
)
x, y, z = volume.grid.oriented().spacing  # mm

center = np.argwhere(truth).mean(0).round().astype(int)
figure, axes = plt.subplots(1, 3, figsize=(11, 4))
for ax, name, axis, aspect in zip(
    axes, ("axial", "coronal", "sagittal"), (2, 1, 0), (y / x, z / x, z / y), strict=True
):
    # The patient's right, or front, to the left; the front, or head, up.
    plane, drawn, segmented = (
        np.flip(np.take(array, center[axis], axis)).T for array in (image, truth, found)
    )
    ax.imshow(plane, cmap="gray", vmin=-160, vmax=240, aspect=aspect)
    for mask, color in ((drawn, "#00e5ff"), (segmented, "#ffb300")):
        if mask.any():
            ax.contour(mask, levels=[0.5], colors=color)
    ax.set_title(f"{name}: drawn cyan, found amber")
    ax.axis("off")

# %% [markdown]
# ## Score the run
#
# On the scans set aside, each on its own voxels. An organ that is missed scores 0 and the scan's
# diagonal.

# %%
evaluation = kl.evaluation.evaluate(run, manual_dir=scans, data_dir=folder / "prepared")
print(kl.evaluation.format_table(evaluation))
