"""Random changes to an image or a volume and its mask, the same on every backend."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Pair = tuple[np.ndarray, np.ndarray]

# Called as `augment(image, segmentation_mask, rng)`: returns both, changed, and leaves its
# arguments alone.
Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], Pair]


@dataclass(frozen=True)
class Augmentation:
    """Random changes to an image and its mask by NumPy and OpenCV.

    The default is the published augmentation of BUSI, TNSCUI and ISIC 2018: with rotations and
    flips on, each of the square's eight symmetries is equally likely. `KVASIR` is that of
    Kvasir-SEG. Masks are moved to the nearest pixel, so they are neither blurred nor recast;
    what comes from beyond an image's border is black and unlabelled. Affine and elastic changes
    are made as one: each pixel is fetched from the image once, so that an image that undergoes
    both is blurred once, and what lies beyond a border in between is not lost.

    Args:
        rotate: Whether to rotate by a random multiple of 90°; an image that is not square keeps
            its shape and is rotated by 0° or 180° only.
        flip: Whether to flip along each axis with probability ½.
        color_jitter: Probability of a change of brightness (factor 0.6 to 1.6), contrast (0.8 to
            1.2), saturation (0.9 to 1.1) and hue (up to a hundredth of the circle).
        affine: Probability of a scaling by 0.5 to 1.5, a shift by up to 12.5 % of each side and
            a rotation by up to 90°, about the centre.
        elastic: Probability of a smooth distortion by up to about 3 % of the shorter side.

    Raises:
        ValueError: If a probability is not between 0 and 1.

    Example:
    ```python
    augment = Augmentation(rotate=False, color_jitter=0.5)
    image, segmentation_mask = augment(image, segmentation_mask, np.random.default_rng(41))
    ```
    """

    rotate: bool = True
    flip: bool = True
    color_jitter: float = 0.0
    affine: float = 0.0
    elastic: float = 0.0

    def __post_init__(self) -> None:
        _require_probabilities(self, "color_jitter", "affine", "elastic")

    def __call__(
        self, image: np.ndarray, segmentation_mask: np.ndarray, rng: np.random.Generator
    ) -> Pair:
        """Change both arrays in the same random way.

        Args:
            image: RGB, `uint8`, shape `(height, width, 3)`.
            segmentation_mask: `uint8`, shape `(height, width, num_classes)`.
            rng: Source of all randomness: equal states give equal results.

        Returns:
            The changed image and mask, of the same shapes and dtypes.
        """
        height, width = image.shape[:2]
        if self.rotate:
            quarter_turns = int(rng.integers(4) if height == width else 2 * rng.integers(2))
            image = _rotate(image, quarter_turns)
            segmentation_mask = np.rot90(segmentation_mask, quarter_turns)
        if self.flip:
            axes = _axes(rng.integers(2, size=2))
            image = _flip(image, axes)
            segmentation_mask = np.flip(segmentation_mask, axes)
        if self.color_jitter and rng.random() < self.color_jitter:
            image = _jitter_color(image, rng)
        inverse = shifts = None
        if self.affine and rng.random() < self.affine:
            inverse = _inverse_affine(height, width, rng)
        if self.elastic and rng.random() < self.elastic:
            shifts = _elastic_shifts(height, width, rng)
        if inverse is None and shifts is None:
            return image, segmentation_mask
        sources = _grid(height, width)
        if shifts is not None:
            sources = sources + shifts
        if inverse is not None:
            sources = cv2.transform(sources, inverse)
        return _fetch(image, segmentation_mask, sources)


@dataclass(frozen=True)
class VolumeAugmentation:
    """Random changes to a volume and its labels by NumPy.

    The defaults are the published ones. Labels are moved, never recast. The intensities of all
    channels change alike.

    Args:
        flip: Probability, for each axis, of a flip along it.
        rotate: Probability of a rotation by 90°, 180° or 270° in a plane of two axes, each equally
            likely. In a plane of unequal sides it is 180°, so that the volume keeps its shape.
        scale: Probability of a multiplication by 0.9 to 1.1.
        shift: Probability of an addition of −0.1 to 0.1.

    Raises:
        ValueError: If a probability is not between 0 and 1.

    Example:
    ```python
    augment = VolumeAugmentation(flip=0.5)
    image, segmentation_mask = augment(image, segmentation_mask, np.random.default_rng(41))
    ```
    """

    flip: float = 0.2
    rotate: float = 0.2
    scale: float = 0.1
    shift: float = 0.1

    def __post_init__(self) -> None:
        _require_probabilities(self, "flip", "rotate", "scale", "shift")

    def __call__(
        self, image: np.ndarray, segmentation_mask: np.ndarray, rng: np.random.Generator
    ) -> Pair:
        """Change both arrays in the same random way.

        Args:
            image: `float32`, shape `(x, y, z, channels)`.
            segmentation_mask: Labels of any dtype, shape `(x, y, z)`.
            rng: Source of all randomness: equal states give equal results.

        Returns:
            The changed image and labels, of the same shapes and dtypes.
        """
        flip, (rotate, scale, shift) = rng.random(3) < self.flip, rng.random(3)
        plane = [(0, 1), (0, 2), (1, 2)][rng.integers(3)]
        quarter_turns = int(rng.integers(1, 4))
        factor, offset = rng.uniform(0.9, 1.1), rng.uniform(-0.1, 0.1)
        axes = _axes(flip)
        image, segmentation_mask = np.flip(image, axes), np.flip(segmentation_mask, axes)
        if rotate < self.rotate:
            if image.shape[plane[0]] != image.shape[plane[1]]:
                quarter_turns = 2
            image = np.rot90(image, quarter_turns, plane)
            segmentation_mask = np.rot90(segmentation_mask, quarter_turns, plane)
        if scale < self.scale:
            image = image * np.float32(factor)
        if shift < self.shift:
            image = image + np.float32(offset)
        return image, segmentation_mask


def _axes(flipped: np.ndarray) -> tuple[int, ...]:
    """Return the positions of what is true, or not 0."""
    return tuple(np.flatnonzero(flipped).tolist())


def _require_probabilities(augmentation: Any, *names: str) -> None:
    for name in names:
        probability = getattr(augmentation, name)
        if not 0 <= probability <= 1:
            raise ValueError(
                f"{name} is a probability, from 0 to 1. Received: {name}={probability}"
            )


# The ranges are the published ones; their libraries' arithmetic differs in details, such as the
# order of the colour changes, and the strength of the elastic change is ours.
KVASIR = Augmentation(rotate=False, color_jitter=0.5, affine=0.5, elastic=0.5)

# By the name that a recipe gives.
AUGMENTATIONS: dict[str | None, Augmentation | None] = {
    "rotate_flip": Augmentation(),
    "kvasir": KVASIR,
    None: None,
}
VOLUME_AUGMENTATIONS: dict[str | None, VolumeAugmentation | None] = {
    "flip_rotate_intensity": VolumeAugmentation(),
    None: None,
}


# OpenCV turns an RGB image ten times as fast as NumPy, but no mask of more than four classes.


def _rotate(image: np.ndarray, quarter_turns: int) -> np.ndarray:
    codes = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
    return cv2.rotate(image, codes[quarter_turns - 1]) if quarter_turns else image


def _flip(image: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return cv2.flip(image, -1 if len(axes) == 2 else axes[0]) if axes else image


def _jitter_color(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    brightness = rng.uniform(0.6, 1.6)
    contrast, saturation = rng.uniform(0.8, 1.2), rng.uniform(0.9, 1.1)
    hue = rng.uniform(-3.6, 3.6)  # degrees
    # Brightness and contrast, about the mean grey, map each of the 256 values by one line.
    grey = np.dot(cv2.mean(image)[:3], (0.299, 0.587, 0.114)) / 255
    values = brightness * (grey + contrast * (np.linspace(0, 1, 256) - grey))
    hls = cv2.cvtColor(cv2.LUT(image, np.clip(values, 0, 1).astype("float32")), cv2.COLOR_RGB2HLS)
    # OpenCV takes a hue beyond the circle's end, but none below its start.
    hls = cv2.transform(hls, np.array([[1, 0, 0, 360 + hue], [0, 1, 0, 0], [0, 0, saturation, 0]]))
    np.minimum(hls[..., 2], 1, out=hls[..., 2])
    return cv2.convertScaleAbs(cv2.cvtColor(hls, cv2.COLOR_HLS2RGB), alpha=255)


def _inverse_affine(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the matrix that leads from a pixel, `(column, row)`, to its source."""
    center = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, rng.uniform(-90, 90), rng.uniform(0.5, 1.5))
    shift = rng.uniform(-0.125, 0.125, size=2) * (width, height)
    matrix[:, 2] = matrix[:, 2] + shift
    return cv2.invertAffineTransform(matrix)


def _elastic_shifts(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw how far each pixel's source is from it: at 8 × 8 points, smooth between them."""
    columns, rows = rng.standard_normal((2, 8, 8), dtype="float32")
    points = np.stack((columns, rows), axis=-1)
    shifts = cv2.resize(points, (width, height), interpolation=cv2.INTER_CUBIC)
    deviation = max(float(shifts.std()), 1e-12)
    return shifts * np.float32(rng.uniform(0, 0.03) * min(height, width) / (2 * deviation))


@functools.lru_cache(maxsize=1)  # images of one size follow each other
def _grid(height: int, width: int) -> np.ndarray:
    """Return each pixel's own place, `(column, row)`, shape `(height, width, 2)`."""
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype("float32")
    grid.flags.writeable = False
    return grid


_NO_SECOND_MAP: Any = None  # OpenCV's types know no `None` here, though OpenCV does


def _fetch(image: np.ndarray, segmentation_mask: np.ndarray, sources: np.ndarray) -> Pair:
    """Fetch each pixel from its source, `(column, row)` in the last axis; beyond lies 0."""
    moved = cv2.remap(image, sources, _NO_SECOND_MAP, cv2.INTER_LINEAR)
    mask = np.ascontiguousarray(segmentation_mask)
    mask = cv2.remap(mask, sources, _NO_SECOND_MAP, cv2.INTER_NEAREST)
    return moved, mask.reshape(segmentation_mask.shape)  # OpenCV drops a last axis of one
