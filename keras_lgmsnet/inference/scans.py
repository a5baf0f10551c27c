"""From a scan to its labels, voxel by voxel, by the network of a run."""

from typing import TYPE_CHECKING

import numpy as np

from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.geometry import (
    Grid,
    foreground_box,
    from_canonical,
    to_canonical,
    weights_from_canonical,
)
from keras_lgmsnet.inference.windows import require_labels_shape, segment_volume
from keras_lgmsnet.recipe.schema import VolumeData

if TYPE_CHECKING:
    import keras


def segment_scan(
    network: "keras.Model",
    image: np.ndarray,
    grid: Grid,
    fingerprint: VolumeFingerprint,
    data: VolumeData,
    *,
    mirror: bool = False,
    confidence_out: np.ndarray | None = None,
    progress: str | None = None,
) -> np.ndarray:
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
        confidence_out: Filled with the probability of every voxel's label, 1 where the scan was
            cropped: `float32` of the labels' shape. By default it is not kept.
        progress: What to call the progress bar, shown on terminals only; by default there is none.

    Returns:
        The label of every voxel, `uint8` of shape `(x, y, z)`.

    Raises:
        ValueError: If the image has other channels than the volumes trained on, or
            `confidence_out` another shape than the labels.

    Example:
    ```python
    volume = read_volume("scan.nii.gz")
    labels = segment_scan(network, volume.image, volume.grid, fingerprint, recipe.data)
    write_label_map("segmentation.nii.gz", labels, volume)
    ```
    """
    require_labels_shape(confidence_out, grid.shape)
    spacing = fingerprint.spacing
    canonical = fingerprint.normalize(to_canonical(image, grid, spacing))
    box = foreground_box(canonical) if data.crop_foreground else (slice(None),) * 3
    resampling, region = weights_from_canonical(grid, spacing, box)
    labels = np.zeros(grid.oriented().shape, "uint8")
    confidence = None if confidence_out is None else np.ones(labels.shape, "float32")
    labels[region] = segment_volume(
        network,
        canonical[box],
        data.patch_size,
        overlap=data.overlap,
        mirror=mirror,
        resampling=resampling,
        confidence_out=None if confidence is None else confidence[region],
        progress=progress,
    )
    if confidence_out is not None and confidence is not None:
        confidence_out[...] = from_canonical(confidence, grid, interpolation="nearest")
    return from_canonical(labels, grid, interpolation="nearest")
