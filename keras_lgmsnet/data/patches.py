"""Volumes prepared for the network once, then served to `fit` in patches."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lgmsnet.data.augmentation import Augment, Pair
from keras_lgmsnet.data.batches import Batches, side_by_side
from keras_lgmsnet.data.volume_fingerprint import FURTHEST, VolumeFingerprint
from keras_lgmsnet.data.volumes import VolumeExample, VolumeSource
from keras_lgmsnet.geometry import foreground_box, to_canonical
from keras_lgmsnet.process.progress import track

_PREPARATION = "v1"  # to be changed with what is kept, so that no older file is taken for it


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """A volume as the network is trained on it, in a file mapped into memory.

    Args:
        image: Normalised, `float16`, shape `(x, y, z, channels)`; the axes are RAS.
        segmentation_mask: Labels, `uint8`, shape `(x, y, z)`.
        labelled: Positions of the labelled voxels in `segmentation_mask.ravel()`, `uint32`.
    """

    image: np.ndarray
    segmentation_mask: np.ndarray
    labelled: np.ndarray


class PreparedVolumes(Mapping[str, PreparedVolume]):
    """Prepared volumes by id, each mapped into memory when it is asked for.

    A mapped file counts as open as long as it is used, and systems allow a process a few hundred of
    them.

    Args:
        ids: The volumes' ids.
        map_volume: Returns a volume, called as `map_volume(id)`.
        unkept: Those that have no file to be mapped again, by id.
    """

    def __init__(
        self,
        ids: Iterable[str],
        map_volume: Callable[[str], PreparedVolume],
        unkept: Mapping[str, PreparedVolume],
    ) -> None:
        self._ids = dict.fromkeys(ids)
        self._map_volume = map_volume
        self._unkept = unkept

    def __getitem__(self, id_: str) -> PreparedVolume:
        if id_ not in self._ids:
            raise KeyError(id_)
        return self._unkept[id_] if id_ in self._unkept else self._map_volume(id_)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def prepare_volumes(
    source: VolumeSource,
    ids: Iterable[str],
    fingerprint: VolumeFingerprint,
    *,
    crop_foreground: bool = True,
    progress: bool = True,
) -> PreparedVolumes:
    """Orient, resample, normalise and crop volumes, each once.

    What becomes of a volume is written to a file in the prepared copy's own folder, which goes when
    that goes; from then on it is only mapped into memory, which the system fills and frees as pages
    are used. A file takes 3 bytes a voxel of one channel, and 4 a labelled one; each way of reading
    has a folder of its own there. Where it cannot be written, or would not fit, a temporary file
    takes its place.

    Args:
        source: The dataset.
        ids: Which volumes.
        fingerprint: Says how: its spacing and its normalisation.
        crop_foreground: Whether to keep the `foreground_box` only.
        progress: Whether to tell the progress.

    Returns:
        The volumes by id.

    Raises:
        ValueError: If an id is unknown, or a volume too large at that spacing.
        OSError: If there is no room for a temporary file either.

    Example:
    ```python
    fingerprint = VolumeFingerprint.of_volumes(source, splits["train"], recipe.data)
    volumes = prepare_volumes(source, source.ids, fingerprint)
    volumes[source.ids[0]].image.shape
    ```
    """
    spacing = fingerprint.spacing
    ends = fingerprint.intensity_windows or FURTHEST
    settings = json.dumps([spacing, fingerprint.normalization, ends, crop_foreground])
    digest = hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()
    name = f"volumes-{_PREPARATION}-{'x'.join(f'{side:.3g}' for side in spacing)}mm-{digest}"

    def prepare(example: VolumeExample) -> tuple[np.ndarray, ...]:
        image = to_canonical(example.image, example.grid, spacing)
        segmentation_mask = to_canonical(
            example.segmentation_mask, example.grid, spacing, interpolation="nearest"
        )
        image = fingerprint.normalize(image)
        if crop_foreground:
            box = foreground_box(image)
            image, segmentation_mask = image[box], segmentation_mask[box]
        labelled = np.flatnonzero(segmentation_mask).astype("uint32")
        return image.astype("float16"), labelled, segmentation_mask

    def map_volume(id_: str) -> PreparedVolume:
        image, labelled, segmentation_mask = source.compute_once(name, id_, prepare)
        return PreparedVolume(image, segmentation_mask, labelled)

    ids, unkept = list(ids), {}  # those that found no room in the prepared copy's folder
    for id_ in track(ids, label="Preparing volumes", unit="volume", shown=progress):
        volume = map_volume(id_)
        if not source.path(name, id_).exists():
            unkept[id_] = volume
    return PreparedVolumes(ids, map_volume, unkept)


def cut_patch(volume: PreparedVolume, center: Sequence[int], patch_size: Sequence[int]) -> Pair:
    """Return the patch of a volume around a voxel, moved where it would leave the volume.

    Where the volume is smaller than a patch, it is centred in it and continued by its outermost
    voxels, image and labels, as sliding windows continue it.

    Args:
        volume: The volume.
        center: Position of the voxel.
        patch_size: Sides of the patch in voxels.

    Returns:
        The image, `float32` of shape `(*patch_size, channels)`, and the labels, `uint8` of shape
        `patch_size`.
    """
    sides, margins = [], []
    for middle, side, patch_side in zip(
        center, volume.segmentation_mask.shape, patch_size, strict=True
    ):
        start = np.clip(middle - patch_side // 2, 0, max(0, side - patch_side))
        sides.append(slice(start, start + patch_side))
        missing = max(0, patch_side - side)
        margins.append((missing // 2, missing - missing // 2))
    region = tuple(sides)
    image = volume.image[region].astype("float32")
    segmentation_mask = volume.segmentation_mask[region]
    if np.any(margins):
        image = np.pad(image, [*margins, (0, 0)], mode="edge")
        segmentation_mask = np.pad(segmentation_mask, margins, mode="edge")
    return image, segmentation_mask


class PatchBatches(Batches):
    """Batches of patches for `fit`, see `Batches`; an example is a volume.

    Each is a pair: images, `float32` of shape `(patches, *patch_size, channels)`, and labels,
    `int32` of shape `(patches, *patch_size)`, where `patches` is the number of volumes times
    `patches_per_volume`.

    Like the published program (MONAI's `RandCropByPosNegLabel`), it draws the centre of a positive
    patch among all labelled voxels alike, so that large organs are drawn more often than small
    ones, and that of a negative one among the unlabelled, see `cut_patch`. A volume without labels
    gives negative patches only.

    Args:
        volumes: The prepared volumes by id.
        ids: Which of them to serve, each epoch in an order of its own.
        patch_size: Sides of a patch in voxels.
        batch_size: Volumes in a batch. The last batch may have fewer.
        patches_per_volume: Patches drawn from a volume in an epoch.
        positive_fraction: Probability that a patch is positive, 0 to 1.
        augmentation: Changes image and labels, called from several threads at once; `None`
            changes nothing.
        seed: Seed of order, patches and augmentation, an integer ≥ 0.

    Raises:
        ValueError: If there is no volume, or an argument is out of range.

    Example:
    ```python
    batches = PatchBatches(
        volumes, splits["train"], (96, 96, 96), batch_size=1, augmentation=VolumeAugmentation()
    )
    images, labels = batches[0]
    ```
    """

    def __init__(
        self,
        volumes: Mapping[str, PreparedVolume],
        ids: Sequence[str],
        patch_size: Sequence[int],
        batch_size: int,
        *,
        patches_per_volume: int = 4,
        positive_fraction: float = 0.5,
        augmentation: Augment | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            len(ids),
            batch_size,
            shuffle=True,
            seed=seed,
            images_per_example=patches_per_volume,
        )
        if len(patch_size) != 3 or min(patch_size) < 1:
            raise ValueError(
                f"The patch size must have three sides of at least 1. Received: {patch_size=}"
            )
        if patches_per_volume < 1:
            raise ValueError(
                f"There must be at least 1 patch of each volume. Received: {patches_per_volume=}"
            )
        if not 0 <= positive_fraction <= 1:
            raise ValueError(
                f"The positive fraction must lie between 0 and 1. Received: {positive_fraction=}"
            )
        self.volumes = volumes
        self.ids = list(ids)
        self.patch_size = tuple(patch_size)
        self.patches_per_volume = patches_per_volume
        self.positive_fraction = positive_fraction
        self.augmentation = augmentation

    def _make(self, epoch: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        num_patches = len(positions) * self.patches_per_volume
        num_channels = self.volumes[self.ids[0]].image.shape[-1]
        images = np.empty((num_patches, *self.patch_size, num_channels), "float32")
        segmentation_masks = np.empty((num_patches, *self.patch_size), "int32")

        def fill(row: int) -> None:
            volume_row, patch = divmod(row, self.patches_per_volume)
            position = positions[volume_row]
            # From 1, because NumPy seeds [a, b] and [a, b, 0] alike.
            rng = np.random.default_rng([self.seed, epoch, 1 + position, 1 + patch])
            image, segmentation_mask = self._draw(self.volumes[self.ids[position]], rng)
            if self.augmentation is not None:
                image, segmentation_mask = self.augmentation(image, segmentation_mask, rng)
            images[row] = image
            segmentation_masks[row] = segmentation_mask

        side_by_side(fill, range(num_patches))
        return images, segmentation_masks

    def _draw(self, volume: PreparedVolume, rng: np.random.Generator) -> Pair:
        """Return a patch of a volume, its image as `float32`."""
        if rng.random() < self.positive_fraction and len(volume.labelled):
            center = volume.labelled[rng.integers(len(volume.labelled))]
        else:
            center = _draw_unlabelled(volume, rng)
        position = np.unravel_index(center, volume.segmentation_mask.shape)
        return cut_patch(volume, position, self.patch_size)


def _draw_unlabelled(volume: PreparedVolume, rng: np.random.Generator) -> int:
    """Draw an unlabelled voxel; any where nearly all are labelled."""
    labels = volume.segmentation_mask.reshape(-1)
    candidates = rng.integers(len(labels), size=100)
    unlabelled = candidates[labels[candidates] == 0]
    return unlabelled[0] if len(unlabelled) else candidates[0]
