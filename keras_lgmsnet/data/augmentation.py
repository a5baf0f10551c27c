"""Random changes to an image and its mask, the same on every backend."""

from dataclasses import dataclass

import cv2
import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Augmentation:
    """Random changes to an image and its mask by NumPy and OpenCV.

    The default is the published augmentation of BUSI, TNSCUI and ISIC 2018: with rotations and
    flips on, each of the square's eight symmetries is equally likely. `KVASIR` is that of
    Kvasir-SEG. Masks are moved to the nearest pixel, so they are neither blurred nor recast;
    what comes from beyond an image's border is black and unlabelled.

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
        for name in ("color_jitter", "affine", "elastic"):
            probability = getattr(self, name)
            if not 0 <= probability <= 1:
                raise ValueError(
                    f"{name} is a probability, from 0 to 1. Received: {name}={probability}"
                )

    def __call__(
        self, image: np.ndarray, segmentation_mask: np.ndarray, rng: np.random.Generator
    ) -> Pair:
        """Changes both arrays in the same random way.

        Args:
            image: RGB, `uint8`, shape `(height, width, 3)`.
            segmentation_mask: `uint8`, shape `(height, width, num_classes)`.
            rng: Source of all randomness: equal states give equal results.

        Returns:
            The changed image and mask, of the same shapes and dtypes.
        """
        height, width = image.shape[:2]
        if self.rotate:
            quarter_turns = rng.integers(4) if height == width else 2 * rng.integers(2)
            image = np.rot90(image, quarter_turns)
            segmentation_mask = np.rot90(segmentation_mask, quarter_turns)
        if self.flip:
            axes = np.flatnonzero(rng.integers(2, size=2))
            image = np.flip(image, axes)
            segmentation_mask = np.flip(segmentation_mask, axes)
        if self.color_jitter and rng.random() < self.color_jitter:
            image = _jitter_color(image, rng)
        if self.affine and rng.random() < self.affine:
            image, segmentation_mask = _affine(image, segmentation_mask, rng)
        if self.elastic and rng.random() < self.elastic:
            image, segmentation_mask = _elastic(image, segmentation_mask, rng)
        return image, segmentation_mask


# The ranges are the published ones; their libraries' arithmetic differs in details, such as the
# order of the colour changes, and the strength of the elastic change is ours.
KVASIR = Augmentation(rotate=False, color_jitter=0.5, affine=0.5, elastic=0.5)

# By the name that a recipe gives.
AUGMENTATIONS = {"rotate_flip": Augmentation(), "kvasir": KVASIR, None: None}


def _jitter_color(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pixels = image.astype("float32") / 255 * np.float32(rng.uniform(0.6, 1.6))
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    contrast, saturation = rng.uniform(0.8, 1.2), rng.uniform(0.9, 1.1)
    pixels = grey.mean() + np.float32(contrast) * (pixels - grey.mean())
    hls = cv2.cvtColor(np.clip(pixels, 0, 1), cv2.COLOR_RGB2HLS)  # hue in degrees
    hls[..., 0] = (hls[..., 0] + rng.uniform(-3.6, 3.6)) % 360
    hls[..., 2] = np.clip(hls[..., 2] * saturation, 0, 1)
    return np.rint(255 * np.clip(cv2.cvtColor(hls, cv2.COLOR_HLS2RGB), 0, 1)).astype("uint8")


def _affine(image: np.ndarray, segmentation_mask: np.ndarray, rng: np.random.Generator) -> Pair:
    height, width = image.shape[:2]
    center = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, rng.uniform(-90, 90), rng.uniform(0.5, 1.5))
    matrix[:, 2] += rng.uniform(-0.125, 0.125, size=2) * (width, height)
    rows, columns = np.mgrid[:height, :width]
    inverse = cv2.invertAffineTransform(matrix)
    sources = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ inverse.T
    return _remap(image, segmentation_mask, sources)


def _elastic(image: np.ndarray, segmentation_mask: np.ndarray, rng: np.random.Generator) -> Pair:
    height, width = image.shape[:2]
    side = min(height, width)
    # Random shifts at 8 × 8 points, smooth between them.
    shifts = np.stack(
        [
            cv2.resize(points, (width, height), interpolation=cv2.INTER_CUBIC)
            for points in rng.standard_normal((2, 8, 8), dtype="float32")
        ],
        axis=-1,
    )
    deviation = max(float(shifts.std()), 1e-12)
    shifts *= rng.uniform(0, 0.03) * side / (2 * deviation)
    rows, columns = np.mgrid[:height, :width]
    return _remap(image, segmentation_mask, np.stack([columns, rows], axis=-1) + shifts)


def _remap(image: np.ndarray, segmentation_mask: np.ndarray, sources: np.ndarray) -> Pair:
    """Fetch each pixel from its source, `(column, row)` in the last axis; beyond lies 0."""
    sources = sources.astype("float32")
    moved = cv2.remap(np.ascontiguousarray(image), sources, None, cv2.INTER_LINEAR)
    mask = cv2.remap(np.ascontiguousarray(segmentation_mask), sources, None, cv2.INTER_NEAREST)
    return moved, mask.reshape(segmentation_mask.shape)  # OpenCV drops a last axis of one
