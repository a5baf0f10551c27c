"""Draws the README's picture, of generated images and a generated scan: nothing of a patient.

    python docs/pictures/draw.py runs/quickstart docs/pictures/segmentations.png

It needs the quickstart's run, of which it shows images that were validated on, and trains on
generated scans, which takes half an hour, to show one that was set aside.
"""

import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib.pyplot as plt
import nibabel
import numpy as np
from PIL import Image
from scipy import ndimage

import keras_lgmsnet as kl
from keras_lgmsnet.data.synthetic import generate
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR
from keras_lgmsnet.drawing.volumes import label_color
from keras_lgmsnet.recipe import load_recipe, override

QUANTILES = {"best": 1, "median": 0.5, "lower quarter": 0.25}
LABELS = ("background", "liver", "kidney", "spine")
SHAPE = (64, 56, 40)  # to the patient's right, to the front, to the head
SPACING = 5  # mm
PLANES = {"axial": (2, 19), "coronal": (1, 16)}
SCANS = 16


class Column(NamedTuple):
    """An image, or a plane of a scan, with the labels in it."""

    title: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    colors: Mapping[int, tuple[float, float, float]]


def main(run_directory: str, output: str) -> None:
    """Draw images and planes, a column each: as it is, with the truth, with the prediction."""
    with tempfile.TemporaryDirectory() as folder:
        columns = [*segmented_images(Path(run_directory), Path(folder))]
        columns += segmented_scan(Path(folder))
    figure, axes = plt.subplots(3, len(columns), figsize=(9, 5.6), layout="constrained")
    for panels, column in zip(axes.T, columns, strict=True):
        panels[0].set_title(column.title, fontsize=9)
        for panel, labels in zip(panels, (None, column.truth, column.prediction), strict=True):
            panel.imshow(column.image, cmap="gray", interpolation="bicubic")
            panel.set(xticks=[], yticks=[])
            for label, color in column.colors.items() if labels is not None else ():
                panel.contour(labels == label, [0.5], colors=[color], linewidths=1.5)
    for panel, name in zip(axes[:, 0], ("image", "truth", "prediction"), strict=True):
        panel.set_ylabel(name, fontsize=10)
    figure.savefig(output, dpi=110)
    # In full colour, the greys of speckle take several times the bytes.
    Image.open(output).convert("RGB").quantize(96).save(output, optimize=True)


def segmented_images(run_directory: Path, folder: Path) -> Iterator[Column]:
    """Return images of several quantiles of the quickstart's validation IoU."""
    with open(run_directory / "per_image.csv", encoding="utf-8") as file:
        ious = {row["id"]: float(row["iou"]) for row in csv.DictReader(file)}
    examples = generate(160, (96, 96))  # as the recipe has it
    images = dict(zip(examples.ids, examples.images, strict=True))
    truths = dict(zip(examples.ids, examples.segmentation_masks[..., 0], strict=True))
    ranked = sorted((id_ for id_ in ious if truths[id_].any()), key=ious.__getitem__)
    shown = {name: ranked[round(share * (len(ranked) - 1))] for name, share in QUANTILES.items()}
    paths = [folder / f"{id_}.png" for id_ in shown.values()]
    for path in paths:
        cv2.imwrite(str(path), images[path.stem])
    kl.inference.predict_images(run_directory, paths, folder / "predicted")
    for name, id_ in shown.items():
        mask = cv2.imread(str(folder / "predicted" / "masks" / f"{id_}.png"), cv2.IMREAD_GRAYSCALE)
        title = f"{name} of the images\nIoU {ious[id_]:.2f}"
        yield Column(title, images[id_], truths[id_], mask > 0, {1: PREDICTION_COLOR})


def segmented_scan(folder: Path) -> Iterator[Column]:
    """Train on generated scans; return planes of one that was set aside."""
    write_scans(folder / "scans")
    changes = {
        "data.patch_size": "32,32,32",
        "data.patches_per_volume": "4",
        "model.dims": "8,16,32,64,64",
        "training.epochs": "80",
        "training.warmup_epochs": "2",
        "training.validate_every": "40",
    }
    recipe = override(
        load_recipe("msd_folder"), [f"{key}={value}" for key, value in changes.items()]
    )
    run = kl.training.train(
        recipe, folder / "run", manual_dir=folder / "scans", data_dir=folder / "data"
    )
    id_ = json.loads((run / "splits.json").read_text())["test"][0]
    scan = folder / "scans" / "imagesTr" / f"{id_}.nii.gz"
    kl.inference.predict_volumes(run, scan, folder / "seg.nii.gz")
    dice = json.loads((run / "metrics.json").read_text())["means"]["dice"]
    paths = (scan, folder / "scans" / "labelsTr" / scan.name, folder / "seg.nii.gz")
    volume, truth, prediction = (np.asarray(nibabel.load(path).dataobj) for path in paths)
    volume = np.clip((volume + 160) / 400, 0, 1)
    colors = {label: label_color(label) for label in range(1, len(LABELS))}
    for name, (axis, plane) in PLANES.items():
        # The patient's right is left, and the front, or the head, is up.
        shown = (np.flip(array.take(plane, axis)).T for array in (volume, truth, prediction))
        yield Column(f"scan, {name}\nDice of {len(LABELS) - 1} organs {dice:.2f}", *shown, colors)


def write_scans(folder: Path) -> None:
    """Write CT-like scans of a trunk, with a liver, kidneys and a spine, as the Decathlon has."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    described = {
        "labels": {str(label): name for label, name in enumerate(LABELS)},
        "modality": {"0": "CT"},
        "numTraining": SCANS,
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    for number in range(SCANS):
        image, labels = generate_scan(np.random.default_rng(number))
        for part, array in (("imagesTr", image), ("labelsTr", labels)):
            path = folder / part / f"scan_{number:02d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, affine), path)


def generate_scan(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return Hounsfield units and labels; positions are shares of the trunk, from its middle."""
    places = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    # Every scan is another body: its shape is bent, and its organs are moved and resized.
    x, y, z = (
        place + 2 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), 6) for place in places
    )

    def ellipsoid(middle: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        middle = np.add(middle, rng.uniform(-0.04, 0.04, 3))
        radii = np.multiply(radii, rng.uniform(0.88, 1.12, 3))
        axes = zip((x, y, z), middle, radii, strict=True)
        return sum(((axis - centre) / radius) ** 2 for axis, centre, radius in axes) < 1

    trunk = (x / 0.9) ** 2 + (y / 0.85) ** 2 < 1
    inside = (x / 0.78) ** 2 + (y / 0.7) ** 2 < 1
    labels = np.zeros(SHAPE, "uint8")
    liver = ellipsoid((0.35, 0.1, 0.25), (0.42, 0.5, 0.5))
    labels[liver & inside & ~ellipsoid((0.0, -0.3, 0.0), (0.25, 0.3, 1.0))] = 1
    for side in (1, -1):
        labels[ellipsoid((0.36 * side, -0.38, -0.2), (0.14, 0.14, 0.32))] = 2
    labels[(x / 0.13) ** 2 + ((y + 0.55) / 0.17) ** 2 < 1] = 3
    image = np.where(trunk, -100.0, -1000.0)  # fat, air
    image[inside] = 30 + 40 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), 3)[inside]
    image[ellipsoid((-0.35, 0.25, 0.35), (0.22, 0.25, 0.25)) & inside] = -20  # a stomach
    for label, units in ((1, 110.0), (2, 170.0), (3, 320.0)):
        image[labels == label] = units
    image = ndimage.gaussian_filter(image, 0.6) + rng.normal(0, 18, SHAPE)
    return image.astype("float32"), labels


if __name__ == "__main__":
    main(*sys.argv[1:])
