"""Prediction: from a run directory and image files to masks, overlays and a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm.auto import tqdm

from keras_lgmsnet.data.image_fingerprint import Fingerprint, measure
from keras_lgmsnet.data.images import preprocess, resize_image
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, draw_outlines
from keras_lgmsnet.files.images import SUFFIXES, read_image
from keras_lgmsnet.files.paths import printable
from keras_lgmsnet.files.writing import (
    atomic_write,
    require_unused,
    require_writable,
    write_csv,
    write_json,
)
from keras_lgmsnet.inference.inputs import (
    MARKER,
    describe,
    list_files,
    require_folder_name,
    sentence,
    table_row,
)
from keras_lgmsnet.inference.windows import sigmoid, sliding_window
from keras_lgmsnet.metrics import THRESHOLD
from keras_lgmsnet.recipe.schema import Data
from keras_lgmsnet.run import load_network
from keras_lgmsnet.run_directory import read_recipe, require_network

TILES_PER_STEP = 4


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What became of one image file; a row of `results.csv`.

    Args:
        path: The image file.
        name: Its pictures are `masks/NAME.png`, `overlays/NAME.png` and `probabilities/NAME.png`.
        lesion_share: Predicted pixels in all pixels, 0 to 1; `None` if the file was not read.
        flags: In what the image differs from those trained on; `None` if that is not known.
        error: Why the file was not read, in one sentence; `None` if it was.
    """

    path: str
    name: str
    lesion_share: float | None = None
    flags: tuple[str, ...] | None = None
    error: str | None = None

    @property
    def found(self) -> str:
        """The lesion's share in words, of a file that was read: `"lesion 12.5 % of the image"`."""
        if not self.lesion_share:
            return "no lesion found"
        return f"lesion {100 * self.lesion_share:.3g} % of the image"


def predict_images(
    run_directory: str | Path,
    images: str | Path | Iterable[str | Path],
    output_directory: str | Path,
    *,
    tiles: bool = False,
    overlap: float = 0.5,
    probabilities: bool = False,
) -> list[Prediction]:
    """Segment image files with the best network of a run.

    Every output has the size of its image, upright. A file that cannot be read is noted and does
    not stop the others. The output directory holds

    - `masks/NAME.png`: 255 where the probability is above 0.5, else 0;
    - `overlays/NAME.png`: the image with the mask's outline;
    - `probabilities/NAME.png`, if asked for: 16-bit grey, 65535 for a probability of 1;
    - `results.csv`: one row a file: path, name, status (`predicted` or `failed`), lesion share,
      flags (what is unlike the images trained on, in words, or `not checked`) and error; written
      after an interruption, too;
    - `lgms-predict.json`: the run, the method, the versions.

    NAME is the file's own without its suffix, below its path in the folder that was given; where
    that is taken already, `-2`, `-3` and so on are added.

    Args:
        run_directory: What `lgms-train` wrote; only `recipe.json`, `model.keras` and
            `fingerprint.json` are read.
        images: Image files, see `keras_lgmsnet.image_files.read_image`, and folders, which are
            looked through as by `find_files`, earlier outputs left out.
        output_directory: Where to write; absent or empty.
        tiles: By default an image is resized as for training and its probabilities are resized
            back linearly. With `tiles`, tiles of the size trained on go over the
            image as it is, for images with more detail than the network saw at a time.
        overlap: Smallest share of its side that a tile has in common with the next, in [0, 1).
        probabilities: Whether to write the probabilities.

    Returns:
        The rows of `results.csv`, in the order of the images.

    Raises:
        ValueError: If a file of the run is damaged, the network is none for 2D images of one class
            or returns numbers that are not finite, or `output_directory` is named like an image or
            a scan, such as `seg.png`.
        OSError: If `run_directory` is no trained run, an image or folder does not exist, a folder
            holds no image, or `output_directory` is in use or cannot be written to.

    Example:
    ```python
    for row in predict("runs/isic", ["scans", "photo.jpg"], "predicted"):
        print(row.path, row.lesion_share, row.flags, row.error)
    ```
    """
    run_directory, output_directory = Path(run_directory), Path(output_directory)
    recipe = read_recipe(run_directory)
    if recipe.kind.rank != 2:
        raise ValueError(
            f"Images need a run on images. Received: {run_directory}, which is on volumes: see "
            "volume_prediction.predict_volumes"
        )
    data = recipe.data
    network_path = require_network(run_directory)
    fingerprint = (
        Fingerprint.read(run_directory) if (run_directory / "fingerprint.json").exists() else None
    )
    files = list_files(images, "image", SUFFIXES, (".png",))
    require_unused(output_directory)
    require_folder_name(output_directory)
    require_writable(output_directory)
    network = _Network(network_path, data, overlap if tiles else None)

    output_directory.mkdir(parents=True, exist_ok=True)
    write_json(
        output_directory / MARKER,
        {**describe(run_directory, network.method), "threshold": THRESHOLD},
    )
    rows: list[Prediction] = []
    try:
        for path, name in tqdm(files.items(), desc="Predicting", unit="image", disable=None):
            try:
                image = read_image(path)
            except (OSError, ValueError) as error:
                rows.append(Prediction(path=printable(path), name=name, error=sentence(error)))
                continue
            probability = network.probabilities(image)
            mask = probability > THRESHOLD
            _write_png(output_directory / "masks" / f"{name}.png", 255 * mask.astype("uint8"))
            overlay = _overlay(image, mask)[..., ::-1]  # OpenCV's BGR
            _write_png(output_directory / "overlays" / f"{name}.png", overlay)
            if probabilities:
                values = np.rint(65535 * probability).astype("uint16")
                _write_png(output_directory / "probabilities" / f"{name}.png", values)
            flags = None
            if fingerprint is not None:
                statistics = measure(
                    resize_image(image, data.image_size, data.interpolation), image.shape[:2]
                )
                flags = tuple(fingerprint.deviations(statistics))
            rows.append(
                Prediction(
                    path=printable(path), name=name, lesion_share=float(mask.mean()), flags=flags
                )
            )
    finally:
        if rows:
            write_csv(output_directory / "results.csv", [_table_row(row) for row in rows])
    return rows


class _Network:
    """A run's network, for images of any size; `overlap` is that of tiles, `None` without tiles."""

    def __init__(self, path: Path, data: Data, overlap: float | None) -> None:
        self.path = path
        self.data = data
        self.overlap = overlap
        self.network = load_network(path.parent)
        sides_and_channels = self.network.input_shape[1:]
        expected = (*data.image_size, 3)
        if (
            len(sides_and_channels) != 3
            or any(
                given not in (None, side)
                for given, side in zip(sides_and_channels, expected, strict=True)
            )
            or self.network.output_shape[-1] != 1
        ):
            raise ValueError(
                f"Prediction needs a network from images of shape {expected}, as the recipe has "
                f"them, to one class. Received: {path}, from {self.network.input_shape} to "
                f"{self.network.output_shape}"
            )

    @property
    def method(self) -> dict[str, Any]:
        """What happens to an image, in words for a file."""
        if self.overlap is None:
            return {"resized_to": self.data.image_size}
        return {
            "tile_size": self.data.image_size,
            "overlap": self.overlap,
            "weighting": "gaussian",
        }

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Return the probability of every pixel, float32 of the image's height and width."""
        if self.overlap is None:
            resized = resize_image(image, self.data.image_size, self.data.interpolation)
            probability = self._predict(resized[None])[0, ..., 0]
            probability = resize_image(probability, image.shape[:2])
        else:
            probability = sliding_window(
                self._predict,
                image,
                self.data.image_size,
                overlap=self.overlap,
                batch_size=TILES_PER_STEP,
            )[..., 0]
        if not np.isfinite(probability).all():
            raise ValueError(
                f"The network {self.path} returns numbers that are not finite: train it again."
            )
        return probability

    def _predict(self, images: np.ndarray) -> np.ndarray:
        logits = self.network.predict_on_batch(preprocess(images, self.data.preprocessing))
        return sigmoid(np.asarray(logits))


def _overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    overlay = image.copy()
    thickness = max(1, round(max(mask.shape) / 400))
    draw_outlines(overlay, mask[..., None], PREDICTION_COLOR, thickness)
    return overlay


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, png = cv2.imencode(".png", pixels)
    with atomic_write(path) as temporary:
        temporary.write_bytes(png)


def _table_row(row: Prediction) -> dict[str, str]:
    share = "" if row.lesion_share is None else f"{row.lesion_share:.6f}"
    return table_row(row, lesion_share=share)
