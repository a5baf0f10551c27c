"""Images and their masks in memory: resized, preprocessed, and served to `fit` in batches."""

import dataclasses
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from keras_lgmsnet.data.augmentation import Augment
from keras_lgmsnet.data.batches import Batches, side_by_side

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype="float32")
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype="float32")
_INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "lanczos": cv2.INTER_LANCZOS4}


class Rows:
    """Some rows of an array, in an order of their own, copied only when they are fetched.

    Indexed, iterated over and converted like the array that it stands for. A single row is a
    view; `numpy.asarray` copies all.

    Args:
        array: What the rows are of.
        positions: Integers, one a row.

    Example:
    ```python
    rows = Rows(images, np.array([5, 0]))
    rows[0]  # images[5]
    ```
    """

    def __init__(self, array: np.ndarray, positions: np.ndarray) -> None:
        self.array = array
        self.positions = positions
        self.shape = (len(positions), *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        return self.array[(self.positions[rows], *rest)]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.array[position] for position in self.positions)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Rows become an array only by being copied. Received: copy=False")
        return np.asarray(self.array[self.positions], dtype)


@dataclass(frozen=True, eq=False)
class Examples:
    """Images and masks, decoded and of one size, in memory or in a file mapped into it.

    Args:
        ids: One unique name an example.
        images: RGB, `uint8`, shape `(examples, height, width, 3)`; not to be written to.
        segmentation_masks: 0 or 1, `uint8`, shape `(examples, height, width, 1)`; likewise.
        original_sizes: Height and width of each image before it was resized, shape
            `(examples, 2)`; by default the images' own.
        groups: The patient, video or case of every example; by default its id.
        dataset: Which copy of which dataset they are of, `builder/config/version`; of a user's own
            folder, `builder@content/version`, and how it was read if that was asked for. Equal ids
            mean equal images where what comes before the first `/` is equal.
        bits: By how many bits in use those images were scaled to 8 bits whose files have more and
            do not say how many; `None` if there were none.
        pixels_between: How many pixels of an example's mask lay between black and white in its
            file, so that a threshold decided on them; by id, without those that had none.
        own_scale: The ids of images of floats or partly negative integers, each of which was scaled
            to 8 bits by its own least and largest value.
    """

    ids: list[str]
    images: np.ndarray | Rows
    segmentation_masks: np.ndarray | Rows
    original_sizes: np.ndarray = field(default_factory=lambda: np.empty((0, 2), int))
    groups: list[str] = field(default_factory=list)
    dataset: str = ""
    bits: int | None = None
    pixels_between: Mapping[str, int] = field(default_factory=dict)
    own_scale: Collection[str] = ()

    def __post_init__(self) -> None:
        if not len(self.original_sizes):
            sizes = np.tile(self.images.shape[1:3], (len(self.images), 1))
            object.__setattr__(self, "original_sizes", sizes)
        if not self.groups:
            object.__setattr__(self, "groups", self.ids)

    def subset(self, ids: Iterable[str]) -> "Examples":
        """Return the examples of the given ids, in the order of those ids; copies no image.

        Raises:
            ValueError: If an id is unknown.
        """
        ids = list(ids)
        positions = {id_: position for position, id_ in enumerate(self.ids)}
        unknown = [id_ for id_ in ids if id_ not in positions]
        if unknown:
            raise ValueError(
                f"Ids must be among the {len(self.ids)} loaded examples. Received: {unknown[0]!r}"
            )
        chosen = np.array([positions[id_] for id_ in ids], dtype=int)
        return dataclasses.replace(
            self,
            ids=ids,
            images=_rows(self.images, chosen),
            segmentation_masks=_rows(self.segmentation_masks, chosen),
            groups=[self.groups[position] for position in chosen],
            original_sizes=self.original_sizes[chosen],
        )


def describe_one_sided(segmentation_masks: Iterable[np.ndarray]) -> str | None:
    """Return `"empty"` or `"full"` if all masks are, otherwise `None`.

    Args:
        segmentation_masks: Masks of 0 and 1 of any shape, read as far as it takes.
    """
    has_background = has_foreground = False
    for mask in segmentation_masks:
        has_background |= not mask.all()
        has_foreground |= bool(mask.any())
        if has_background and has_foreground:
            break
    return {(True, False): "empty", (False, True): "full"}.get((has_background, has_foreground))


def describe_pixels_between(examples: Examples) -> str | None:
    """Return in a sentence how much of the masks a threshold decided on, if anything."""
    counts = [examples.pixels_between.get(id_, 0) for id_ in examples.ids]
    if not (total := sum(counts)):
        return None
    share = total / examples.original_sizes.prod(axis=1).sum()
    return (
        f"In {np.count_nonzero(counts)} of {len(counts)} masks, {total:,} pixels ({share:.2%} of "
        "all) lay between black and white: data.mask_threshold decided on them."
    )


def describe_own_scales(examples: Examples) -> str | None:
    """Return in a sentence how many images were scaled each by its own values, if any."""
    if not (count := len(set(examples.own_scale).intersection(examples.ids))):
        return None
    return (
        f"{count} of {len(examples.ids)} images are of floats or partly negative: each is scaled "
        "by its own least and largest value."
    )


def resize_image(
    image: np.ndarray, image_size: tuple[int, int], interpolation: str = "linear"
) -> np.ndarray:
    """Resize an image as a recipe says.

    Args:
        image: Any type that OpenCV knows, shape `(height, width)` or `(height, width, channels)`.
        image_size: Height and width to resize to.
        interpolation: `"linear"` or `"lanczos"`.

    Returns:
        An image of the same type.
    """
    height, width = image_size
    return cv2.resize(image, (width, height), interpolation=_INTERPOLATIONS[interpolation])


def preprocess(images: np.ndarray, preprocessing: str = "imagenet") -> np.ndarray:
    """Turn 8-bit RGB images into what the network is fed.

    - `"imagenet"`: `(image / 255 − mean) / std` with ImageNet's mean and standard deviation of
      each channel.
    - `"published"`: what the published program computes, literally: the channels in blue, green,
      red order meet the mean and standard deviation of red, green, blue, and the result is
      divided by 255 once more.

    Args:
        images: RGB, `uint8`, shape `(..., 3)`.
        preprocessing: `"imagenet"` or `"published"`.

    Returns:
        `float32` array of the same shape.

    Raises:
        ValueError: If the preprocessing is unknown.
    """
    _check_preprocessing(preprocessing)
    pixels = images.reshape(1, -1, 3)  # as OpenCV takes them
    if preprocessing == "published":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.LUT(pixels, _preprocessed_values(preprocessing)).reshape(images.shape)


@functools.cache
def _preprocessed_values(preprocessing: str) -> np.ndarray:
    """Return what becomes of each 8-bit value in each channel, shape `(1, 256, 3)`."""
    values = np.arange(256, dtype="float32")[:, None]
    normalized = (values / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return (normalized / 255 if preprocessing == "published" else normalized)[None]


class ImageBatches(Batches):
    """Batches of images for `fit`, `evaluate` and `predict`, see `Batches`.

    Each is a pair: preprocessed images, `float32` of shape `(batch, height, width, 3)`, and
    segmentation masks, `float32` 0 or 1 of shape `(batch, height, width, 1)`.

    Args:
        examples: What to serve. The last batch may be smaller than the others.
        batch_size: Examples in a batch.
        preprocessing: `"imagenet"` or `"published"`, see `preprocess`.
        augmentation: Changes image and mask, called from several threads at once; `None` changes
            nothing.
        shuffle: Whether each epoch has an order of its own; otherwise the examples' order.
        seed: Seed of order and augmentation, an integer ≥ 0.

    Example:
    ```python
    batches = ImageBatches(examples, batch_size=16, augmentation=Augmentation(), shuffle=True)
    images, segmentation_masks = batches[0]
    ```
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        preprocessing: str = "imagenet",
        augmentation: Augment | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(len(examples.ids), batch_size, shuffle=shuffle, seed=seed)
        _check_preprocessing(preprocessing)
        self.examples = examples
        self.preprocessing = preprocessing
        self.augmentation = augmentation

    def _make(self, epoch: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image_shape = self.examples.images.shape[1:]
        mask_shape = self.examples.segmentation_masks.shape[1:]
        images = np.empty((len(positions), *image_shape), "float32")
        segmentation_masks = np.empty((len(positions), *mask_shape), "float32")

        def fill(row: int) -> None:
            position = positions[row]
            image = self.examples.images[position]
            segmentation_mask = self.examples.segmentation_masks[position]
            if self.augmentation is not None:
                # From 1, because NumPy seeds [a, b] and [a, b, 0] alike.
                rng = np.random.default_rng([self.seed, epoch, 1 + position])
                image, segmentation_mask = self.augmentation(image, segmentation_mask, rng)
            images[row] = preprocess(image, self.preprocessing)
            segmentation_masks[row] = segmentation_mask

        side_by_side(fill, range(len(positions)))
        return images, segmentation_masks


def _check_preprocessing(preprocessing: str) -> None:
    if preprocessing not in ("imagenet", "published"):
        raise ValueError(
            f'The preprocessing must be "imagenet" or "published". Received: {preprocessing=}'
        )


def _rows(array: np.ndarray | Rows, positions: np.ndarray) -> Rows:
    if isinstance(array, Rows):
        return Rows(array.array, array.positions[positions])
    return Rows(array, positions)
