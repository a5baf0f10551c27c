"""From a scan to its labels, voxel by voxel, by the network of a run."""

from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.geometry import (
    Grid,
    foreground_box,
    from_canonical,
    to_canonical,
    weights_from_canonical,
)
from keras_lgmsnet.inference.windows import Segmentation, segment_volume
from keras_lgmsnet.recipe.schema import VolumeData

if TYPE_CHECKING:
    import keras


@overload
def segment_scan(
    network: "keras.Model",
    image: np.ndarray,
    grid: Grid,
    fingerprint: VolumeFingerprint,
    data: VolumeData,
    *,
    mirror: bool = ...,
    confidence: Literal[False] = ...,
    progress: str | None = ...,
) -> np.ndarray: ...


@overload
def segment_scan(
    network: "keras.Model",
    image: np.ndarray,
    grid: Grid,
    fingerprint: VolumeFingerprint,
    data: VolumeData,
    *,
    mirror: bool = ...,
    confidence: Literal[True],
    progress: str | None = ...,
) -> Segmentation: ...


@overload
def segment_scan(
    network: "keras.Model",
    image: np.ndarray,
    grid: Grid,
    fingerprint: VolumeFingerprint,
    data: VolumeData,
    *,
    mirror: bool = ...,
    confidence: bool,
    progress: str | None = ...,
) -> np.ndarray | Segmentation: ...


def segment_scan(
    network: "keras.Model",
    image: np.ndarray,
    grid: Grid,
    fingerprint: VolumeFingerprint,
    data: VolumeData,
    *,
    mirror: bool = False,
    confidence: bool = False,
    progress: str | None = None,
) -> np.ndarray | Segmentation:
    """Segment a scan on its own grid.

    It is oriented, resampled, normalised and cropped as the network was trained, and segmented in
    windows; what is cropped away is background. The probabilities are interpolated linearly back
    onto the scan's voxels before the largest is chosen, so that an outline is as fine as the scan.
    Logits would not do: where the network is sure of the background, theirs are so large that
    borders move.

    Args:
        network: From windows to logits.
        image: As it was read from its file, shape `(x, y, z, channels)`.
        grid: Where its voxels lie.
        fingerprint: The run's.
        data: That of the run's recipe: its window and overlap, and whether it crops.
        mirror: Whether to average over mirror images, as `segment_volume` does.
        confidence: Whether to return the probability of each label, too.
        progress: What to call what is done, to tell its progress; by default nothing is told.

    Returns:
        The label of every voxel, `uint8` of shape `(x, y, z)`; with `confidence`, a pair of them
        and their probabilities, `float32` of the same shape, 1 where the scan was cropped.

    Raises:
        ValueError: If the image has other channels than the volumes trained on.

    Example:
    ```python
    volume = read_volume("scan.nii.gz")
    labels = segment_scan(network, volume.image, volume.grid, fingerprint, recipe.data)
    write_label_map("segmentation.nii.gz", labels, volume)
    ```
    """
    spacing = fingerprint.spacing
    canonical = fingerprint.normalize(to_canonical(image, grid, spacing))
    box = foreground_box(canonical) if data.crop_foreground else (slice(None),) * 3
    resampling, region = weights_from_canonical(grid, spacing, box)
    segmented = segment_volume(
        network,
        canonical[box],
        data.patch_size,
        overlap=data.overlap,
        mirror=mirror,
        resampling=resampling,
        confidence=confidence,
        progress=progress,
    )
    if isinstance(segmented, np.ndarray):
        return _on_scan(segmented, region, grid, elsewhere=0)
    return Segmentation(
        _on_scan(segmented.labels, region, grid, elsewhere=0),
        _on_scan(segmented.confidence, region, grid, elsewhere=1),
    )


def _on_scan(
    values: np.ndarray, region: tuple[slice, ...], grid: Grid, elsewhere: int
) -> np.ndarray:
    """Return values of a region of the oriented scan on its own grid, with `elsewhere` around."""
    whole = np.full(grid.oriented().shape, elsewhere, values.dtype)
    whole[region] = values
    return from_canonical(whole, grid, interpolation="nearest")
