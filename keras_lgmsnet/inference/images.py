"""Prediction of images: from a run directory and image files to masks, overlays and a table."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from keras_lgmsnet.data.image_fingerprint import Fingerprint, measure
from keras_lgmsnet.data.images import preprocess, resize_image
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, draw_outlines
from keras_lgmsnet.files.images import SUFFIXES, decoding, load_image
from keras_lgmsnet.files.paths import printable
from keras_lgmsnet.files.pixels import DecodedImage, to_rgb
from keras_lgmsnet.files.writing import atomic_write, write_json
from keras_lgmsnet.inference.inputs import (
    MARKER,
    list_files,
    place_beside,
    require_output_folder,
)
from keras_lgmsnet.inference.predictor import FilePrediction, Predictor, read_recipe_of
from keras_lgmsnet.inference.windows import sigmoid, sliding_window
from keras_lgmsnet.kinds import IMAGES
from keras_lgmsnet.metrics import THRESHOLD
from keras_lgmsnet.recipe.schema import Data, ImageRecipe

TILES_PER_STEP = 4


@dataclass(frozen=True, kw_only=True)
class Prediction(FilePrediction):
    """What became of one image file; a row of `results.csv`.

    Args:
        path: The image file.
        name: Its pictures are `masks/NAME.png`, `overlays/NAME.png` and `probabilities/NAME.png`.
        lesion_share: Predicted pixels in all pixels, 0 to 1; `None` if the file was not read.
        flags: In what the image differs from those trained on, and what was decided in reading it;
            `None` if the former is not known and nothing was decided.
        error: Why the file was not predicted, in one sentence; `None` if it was.
    """

    lesion_share: float | None = None

    @property
    def found(self) -> str:
        """The lesion's share in words, of a file that was read: `"lesion 12.5 % of the image"`."""
        if not self.lesion_share:
            return "no lesion found"
        return f"lesion {100 * self.lesion_share:.3g} % of the image"


def predict_images(
    run_directory: str | Path,
    images: str | Path | Iterable[str | Path],
    output: str | Path,
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
    - `lgms-predict.json`: the run, the method, the bits of the images trained on, the versions.

    NAME is the file's own without its suffix, below its path in the folder that was given; where
    that is taken already, `-2`, `-3` and so on are added. The mask of one image can be written to a
    file instead, such as `seg.png`, with `seg_overlay.png`, if asked for `seg_probabilities.png`,
    and `seg.json` beside it, which tells what `results.csv` and `lgms-predict.json` would.

    Args:
        run_directory: What `lgms-train` wrote; only `recipe.json`, `model.keras` and
            `fingerprint.json` are read.
        images: Image files, see `keras_lgmsnet.files.read_image`, and folders, which are looked
            through as by `find_files`, earlier outputs left out. Files of more than 8 bits that do
            not say how many they use are scaled as those trained on; where there were none, each by
            what it uses, which is flagged, as is that floats and partly negative integers are
            scaled each by its own least and largest value.
        output: The directory to write, absent or empty; or, of one image, a file that ends in
            `.png` and does not exist yet.
        tiles: By default an image is resized as for training and its probabilities are resized
            back linearly. With `tiles`, tiles of the size trained on go over the image as it is,
            for images with more detail than the network saw at a time.
        overlap: Smallest share of its side that a tile has in common with the next, in [0, 1).
        probabilities: Whether to write the probabilities.

    Returns:
        The rows of `results.csv`, in the order of the images.

    Raises:
        ValueError: If a file of the run is damaged, the network is none for 2D images of one class
            or returns numbers that are not finite, several images are to go to one file, or
            `output` is named like another image or a scan, such as `seg.jpg`.
        OSError: If `run_directory` is no trained run, an image or folder does not exist, a folder
            holds no image, or `output` is in use or cannot be written to.

    Example:
    ```python
    for row in predict_images("runs/isic", ["scans", "photo.jpg"], "predicted"):
        print(row.path, row.lesion_share, row.flags, row.error)
    ```
    """
    run_directory, output = Path(run_directory), Path(output)
    recipe: ImageRecipe = read_recipe_of(IMAGES, run_directory)
    fingerprint = (
        Fingerprint.read(run_directory) if (run_directory / "fingerprint.json").exists() else None
    )
    files = list_files(images, _ImagePredictor.unit, SUFFIXES, (".png",))
    is_file = output.name.lower().endswith(".png")
    lay_out = _beside if is_file else _inside
    outputs = lay_out(output, files, probabilities)
    predictor = _ImagePredictor(
        run_directory, recipe.data, fingerprint, outputs, overlap=overlap if tiles else None
    )
    if not is_file:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / MARKER, predictor.description)
    return predictor.predict_files(files, None if is_file else output / "results.csv")


class _Outputs(NamedTuple):
    """Where to write what is predicted of one image; `None` is not written."""

    mask: Path
    overlay: Path
    probabilities: Path | None = None
    description: Path | None = None


class _ImagePredictor(Predictor[np.ndarray, Prediction]):
    """A network for images of any size, and where to write what it predicts of each.

    `overlap` is that of tiles, `None` without tiles.
    """

    unit = "image"
    network_input = "images"
    row_class = Prediction

    def __init__(
        self,
        run_directory: Path,
        data: Data,
        fingerprint: Fingerprint | None,
        outputs: Mapping[Path, _Outputs],
        *,
        overlap: float | None,
    ) -> None:
        method: dict[str, Any] = {"resized_to": data.image_size}
        if overlap is not None:
            method = {"tile_size": data.image_size, "overlap": overlap, "weighting": "gaussian"}
        super().__init__(run_directory, (*data.image_size, 3), 1, method)
        self.data = data
        self.fingerprint = fingerprint
        self.description |= {"bits": fingerprint and fingerprint.bits, "threshold": THRESHOLD}
        self.outputs = outputs
        self.overlap = overlap

    def read(self, path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
        decoded = load_image(path)
        trained_on = None if self.fingerprint is None else self.fingerprint.bits
        with decoding(path):
            image = to_rgb(decoded, trained_on)
        told = _describe_scale(decoded, trained_on)
        if self.fingerprint is None:
            return image, (told,) if told else None
        deviations = self.fingerprint.deviations(measure(self._resize(image), image.shape[:2]))
        return image, (*deviations, told) if told else tuple(deviations)

    def predict(self, path: Path, image: np.ndarray, row: Prediction) -> Prediction:
        outputs = self.outputs[path]
        probability = self._probability(image)
        mask = probability > THRESHOLD
        lesion_share = float(mask.mean())
        _write_png(outputs.mask, 255 * mask.astype("uint8"))
        _write_png(outputs.overlay, _overlay(image, mask)[..., ::-1])  # OpenCV's BGR
        if outputs.probabilities is not None:
            _write_png(outputs.probabilities, np.rint(65535 * probability).astype("uint16"))
        if outputs.description is not None:
            write_json(
                outputs.description,
                {
                    "image": printable(path.absolute()),
                    "lesion_share": lesion_share,
                    "unlike_the_training_images": row.flags,
                    **self.description,
                },
            )
        return dataclasses.replace(row, lesion_share=lesion_share)

    def measures(self, row: Prediction) -> dict[str, str]:
        return {"lesion_share": "" if row.lesion_share is None else f"{row.lesion_share:.6f}"}

    def _probability(self, image: np.ndarray) -> np.ndarray:
        """Return the probability of every pixel, float32 of the image's height and width."""
        if self.overlap is None:
            probability = self._predict_batch(self._resize(image)[None])[0, ..., 0]
            probability = resize_image(probability, image.shape[:2])
        else:
            probability = sliding_window(
                self._predict_batch,
                image,
                self.data.image_size,
                overlap=self.overlap,
                batch_size=TILES_PER_STEP,
            )[..., 0]
        if not np.isfinite(probability).all():
            raise ValueError(
                f"The network {self.network_path} returns numbers that are not "
                "finite: train it again."
            )
        return probability

    def _predict_batch(self, images: np.ndarray) -> np.ndarray:
        logits = self.network.predict_on_batch(preprocess(images, self.data.preprocessing))
        return sigmoid(np.asarray(logits))

    def _resize(self, image: np.ndarray) -> np.ndarray:
        return resize_image(image, self.data.image_size, self.data.interpolation)


def _inside(
    directory: Path, files: Mapping[Path, str], probabilities: bool
) -> dict[Path, _Outputs]:
    """Return where to write in a directory, which must be new, for each image by its name."""
    require_output_folder(directory, ".png")
    return {
        path: _Outputs(
            directory / "masks" / f"{name}.png",
            directory / "overlays" / f"{name}.png",
            directory / "probabilities" / f"{name}.png" if probabilities else None,
        )
        for path, name in files.items()
    }


def _beside(mask: Path, files: Mapping[Path, str], probabilities: bool) -> dict[Path, _Outputs]:
    """Return where to write besides a mask, none of which may exist, for the one image."""
    endings = [".json", "_overlay.png"]
    if probabilities:
        endings.append("_probabilities.png")
    paths = place_beside(mask, len(files), _ImagePredictor.unit, ".png", endings)
    mask, description, overlay, *others = paths
    return dict.fromkeys(files, _Outputs(mask, overlay, next(iter(others), None), description))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, png = cv2.imencode(".png", pixels)
    with atomic_write(path) as temporary:
        temporary.write_bytes(png.tobytes())


def _describe_scale(image: DecodedImage, trained_on: int | None) -> str | None:
    """Return in words what was decided on a scale that a file does not declare, if anything."""
    if image.has_own_scale:
        return (
            "its values, floats or partly negative, are scaled by its own least and largest value"
        )
    used = image.undeclared_bits
    if used and not trained_on:
        return f"the file does not say how many bits it uses, taken to be {used}"
    if used and trained_on and used > trained_on:
        return f"{used} bits are in use, in training {trained_on}"
    return None


def _overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the image with the mask's outline."""
    overlay = image.copy()
    thickness = max(1, round(max(mask.shape) / 400))
    draw_outlines(overlay, mask[..., None], PREDICTION_COLOR, thickness)
    return overlay
