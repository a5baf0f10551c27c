"""Random changes to an image and its mask, the same on every backend."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """The published augmentation: rotations by multiples of 90° and flips.

    With both on, each of the square's eight symmetries is equally likely. Pixels are only moved,
    so masks are neither blurred nor recast. An image that is not square keeps its shape: it is
    rotated by 0° or 180° only.

    Args:
        rotate: Whether to rotate by a random multiple of 90°.
        flip: Whether to flip along each axis with probability ½.

    Example:
    ```python
    augment = Augmentation(rotate=False)
    image, segmentation_mask = augment(image, segmentation_mask, np.random.default_rng(41))
    ```
    """

    rotate: bool = True
    flip: bool = True

    def __call__(
        self, image: np.ndarray, segmentation_mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Applies one random symmetry to both arrays.

        Args:
            image: Array of shape `(height, width, ...)`.
            segmentation_mask: Array of the same height and width.
            rng: Source of all randomness: equal states give equal results.

        Returns:
            The moved image and mask, as views of the arguments, with their dtypes.
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
        return image, segmentation_mask
