"""Draws the README's picture, of generated images: nothing of a patient.

    python docs/pictures/draw.py runs/quickstart docs/pictures/segmentations.png

It needs the quickstart's run, and shows images that it was validated on.
"""

import csv
import sys
import tempfile
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
from PIL import Image

import keras_lgmsnet as kl
from keras_lgmsnet.data.synthetic import generate
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, TRUTH_COLOR

QUANTILES = {"best": 1, "upper quarter": 0.75, "median": 0.5, "lower quarter": 0.25}


def main(run_directory: str, output: str) -> None:
    """Draw images of several quantiles of the IoU: each as it is, with truth and prediction."""
    with open(Path(run_directory) / "per_image.csv", encoding="utf-8") as file:
        ious = {row["id"]: float(row["iou"]) for row in csv.DictReader(file)}
    examples = generate(160, (96, 96))  # as the recipe has it
    images = dict(zip(examples.ids, examples.images, strict=True))
    truths = dict(zip(examples.ids, examples.segmentation_masks[..., 0], strict=True))
    ranked = sorted((id_ for id_ in ious if truths[id_].any()), key=ious.__getitem__)
    shown = {name: ranked[round(share * (len(ranked) - 1))] for name, share in QUANTILES.items()}
    predictions = predict(run_directory, {id_: images[id_] for id_ in shown.values()})

    figure, axes = plt.subplots(3, len(shown), figsize=(8, 6.4), layout="constrained")
    for column, (name, id_) in zip(axes.T, shown.items(), strict=True):
        column[0].set_title(f"{name}, IoU {ious[id_]:.2f}", fontsize=10)
        for panel in column:
            panel.imshow(images[id_], interpolation="bicubic")
            panel.set(xticks=[], yticks=[])
        for panel, mask, color in (
            (column[1], truths[id_], TRUTH_COLOR),
            (column[2], predictions[id_], PREDICTION_COLOR),
        ):
            panel.contour(mask, [0.5], colors=[color], linewidths=1.5)
    for panel, name in zip(axes[:, 0], ("image", "truth", "prediction"), strict=True):
        panel.set_ylabel(name, fontsize=10)
    figure.savefig(output, dpi=100)
    # In full colour, the greys of speckle take several times the bytes.
    Image.open(output).convert("RGB").quantize(64).save(output, optimize=True)


def predict(run_directory: str, images: dict) -> dict:
    """Return the mask that the run's network predicts of each image, 0 or 1."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{id_}.png" for id_ in images]
        for path in paths:
            cv2.imwrite(str(path), images[path.stem])
        kl.inference.predict_images(run_directory, paths, Path(folder) / "predicted")
        masks = {id_: Path(folder) / "predicted" / "masks" / f"{id_}.png" for id_ in images}
        return {id_: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0 for id_, path in masks.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
