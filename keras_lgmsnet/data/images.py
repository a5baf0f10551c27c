"""2D images: decoded once, then served to `fit` in reproducible batches."""

import contextlib
import dataclasses
import functools
import io
import json
import mmap
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
from tqdm.auto import tqdm

from keras_lgmsnet.data.augmentation import Pair
from keras_lgmsnet.data.batches import Batches, side_by_side
from keras_lgmsnet.data.prepared import has_room, prepare_dataset, remove_abandoned, write_whole

if TYPE_CHECKING:
    from tfds_builders._reading import ImageBuilder

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype="float32")
_INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "lanczos": cv2.INTER_LANCZOS4}
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype="float32")


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

    def __getitem__(self, key: Any) -> "np.ndarray | Rows":
        rows, *rest = key if isinstance(key, tuple) else (key,)
        return self.array[(self.positions[rows], *rest)]

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
            folder, `builder@content/version`. Equal ids mean equal images where what comes before
            the first `/` is equal.
    """

    ids: list[str]
    images: np.ndarray | Rows
    segmentation_masks: np.ndarray | Rows
    original_sizes: np.ndarray | None = None
    groups: list[str] | None = None
    dataset: str = ""

    def __post_init__(self) -> None:
        if self.original_sizes is None:
            sizes = np.tile(self.images.shape[1:3], (len(self.images), 1))
            object.__setattr__(self, "original_sizes", sizes)
        if self.groups is None:
            object.__setattr__(self, "groups", self.ids)

    def subset(self, ids: Iterable[str]) -> "Examples":
        """Returns the examples of the given ids, in the order of those ids; copies no image.

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


def load_examples(
    builder: str,
    image_size: tuple[int, int],
    manual_dir: Path | None = None,
    data_dir: Path | None = None,
    *,
    interpolation: str = "linear",
    progress: bool = True,
    allow_incomplete: bool = False,
) -> Examples:
    """Reads a dataset, preparing it with TensorFlow Datasets on first use.

    Masks are resized to the nearest pixel. TensorFlow is not needed.

    Images are decoded and resized once for each size and interpolation, to a file in the prepared
    copy's own folder, which goes when that goes; from then on it is only mapped into memory, which
    the system fills and frees as pages are used. The file takes `4 * height * width` bytes an
    image: 0.7 GB for ISIC 2018 at 256 × 256 pixels, 4.6 GB for TUCC. Where it cannot be written,
    or would not fit, the images are decoded into memory each time. A file cut short is replaced;
    one that is deleted is written again.

    Args:
        builder: Name of a 2D dataset in the `tfds_builders` package, such as `"isic2018_task1"`, or
            of one of its configs, such as `"busi/all"`.
        image_size: Height and width to resize to.
        manual_dir: Folder that holds the publisher's archives, read only where no prepared copy
            exists; it defaults to `downloads/manual` in `data_dir`. For `"image_folder"`, the
            folder itself, which has a prepared copy for each content it has had.
        data_dir: Folder of prepared datasets. Defaults to TensorFlow Datasets' own,
            `~/tensorflow_datasets`.
        interpolation: How images are resized: `"linear"`, as the published program does for all
            datasets but Kvasir-SEG, where it is `"lanczos"`.
        progress: Whether to show progress bars.
        allow_incomplete: Whether to read the complete cases of an archive that is short of its
            published count, prepared apart. A prepared copy is refused where the archive has come
            to hold others.

    Returns:
        Every example of the dataset.

    Raises:
        ValueError: If the builder is unknown, or the archives are incomplete or damaged.
        FileNotFoundError: If there is neither a prepared copy nor an archive.

    Example:
    ```python
    examples = load_examples("isic2018_task1", (256, 256), manual_dir=Path("~/Downloads/isic"))
    ```
    """
    prepared = prepare_dataset(
        builder,
        "images",
        manual_dir,
        data_dir,
        allow_incomplete=allow_incomplete,
        progress=progress,
    )
    examples = _read(prepared, image_size, interpolation, progress)
    return dataclasses.replace(examples, dataset=prepared.identity)


def resize_image(
    image: np.ndarray, image_size: tuple[int, int], interpolation: str = "linear"
) -> np.ndarray:
    """Resizes an image as a recipe says.

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
    """Turns 8-bit RGB images into what the network is fed.

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
        augmentation: Called as `augmentation(image, segmentation_mask, rng)`, from several
            threads at once; returns both, changed, and leaves its arguments alone. `None` changes
            nothing.
        shuffle: Whether each epoch has an order of its own; otherwise the examples' order.
        seed: Seed of order and augmentation, an integer ≥ 0.

    Example:
    ```python
    batches = ImageBatches(examples, batch_size=16, augmentation=Augmentation(), shuffle=True)
    model.fit(
        batches,
        epochs=10,
        shuffle=False,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=batches.set_epoch)],
    )
    ```
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        preprocessing: str = "imagenet",
        augmentation: Callable[..., Pair] | None = None,
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


# A file of decoded images is a NumPy array of records, image and mask, as `numpy.load` reads it;
# behind it, where `numpy.load` does not look, follow the examples' names as JSON.

_CHUNK = 32  # images held until they are written
_DECODING = "v1"  # to be changed with what is decoded, so that no older file is taken for it


def _read(
    prepared: "ImageBuilder", image_size: tuple[int, int], interpolation: str, progress: bool
) -> Examples:
    """Return the decoded images of a prepared copy, from its file, written now if need be."""
    height, width = image_size
    folder = Path(prepared.data_path)
    path = folder / f"decoded-{_DECODING}-{height}x{width}-{interpolation}.npy"
    count = prepared.info.splits["train"].num_examples
    # Not decoded yet, cut short, or not to be mapped on this file system.
    with contextlib.suppress(OSError, ValueError):
        return _map_decoded(path, count, image_size)

    def decode(file: BinaryIO, where: str) -> None:
        source = prepared.as_data_source(split="train")
        bar = tqdm(desc=f"Decoding {prepared.name} {where}", total=count, disable=not progress)
        with bar:
            _decode(source, file, image_size, interpolation, bar)

    if has_room(folder, count * 4 * height * width):
        remove_abandoned(folder)
        with contextlib.suppress(OSError):  # a quota is met only in writing
            with write_whole(path) as file:
                decode(file, "once")
            return _map_decoded(path, count, image_size)
    memory = io.BytesIO()
    decode(memory, "into memory")
    return _parse_decoded(memory.getbuffer(), count, image_size)


def _map_decoded(path: Path, count: int, image_size: tuple[int, int]) -> Examples:
    """Map a file of decoded images into memory.

    Raises:
        OSError: If there is none, or it cannot be mapped.
        ValueError: If it is not of so many images of that size, or cut short.
    """
    with open(path, "rb") as file:
        return _parse_decoded(
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), count, image_size
        )


def _parse_decoded(
    buffer: mmap.mmap | memoryview, count: int, image_size: tuple[int, int]
) -> Examples:
    record, header = _decoded_format(count, image_size)
    end = len(header) + count * record.itemsize
    if buffer[: len(header)] != header or len(buffer) < end:
        raise ValueError(f"They must be {count} images of {image_size} pixels.")
    names = json.loads(bytes(buffer[end:]))
    if not isinstance(names, dict) or names.keys() != {"ids", "groups", "original_sizes"}:
        raise ValueError("Behind the images must be their ids, groups and original sizes.")
    records = np.ndarray(count, record, buffer, offset=len(header))
    records.flags.writeable = False
    return Examples(
        names["ids"],
        records["image"],
        records["segmentation_mask"],
        groups=names["groups"],
        original_sizes=np.array(names["original_sizes"]),
    )


def _decode(
    source: Sequence[dict[str, Any]],
    file: BinaryIO,
    image_size: tuple[int, int],
    interpolation: str,
    progress: tqdm,
) -> None:
    """Decode and resize the examples of a source into a file."""
    height, width = image_size

    def read(index: int) -> tuple[np.ndarray, np.ndarray, str, str, list[int]]:
        example = source[index]
        mask = cv2.resize(
            example["segmentation_mask"], (width, height), interpolation=cv2.INTER_NEAREST
        )
        return (
            resize_image(example["image"], image_size, interpolation),
            mask,
            example["id"].decode(),
            example["group"].decode(),
            list(example["image"].shape[:2]),
        )

    file.write(_decoded_format(len(source), image_size)[1])
    names = []
    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter's lock
        for start in range(0, len(source), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(source)))
            for image, mask, *name in pool.map(read, chunk):
                file.write(image)
                file.write(mask)
                names.append(name)
                progress.update()
    columns = zip(("ids", "groups", "original_sizes"), zip(*names, strict=True), strict=True)
    file.write(json.dumps(dict(columns)).encode())


def _decoded_format(count: int, image_size: tuple[int, int]) -> tuple[np.dtype, bytes]:
    """Return the type of a record and the header of a file of so many."""
    record = np.dtype(
        [("image", "u1", (*image_size, 3)), ("segmentation_mask", "u1", (*image_size, 1))]
    )
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {
            "descr": np.lib.format.dtype_to_descr(record),
            "fortran_order": False,
            "shape": (count,),
        },
    )
    return record, header.getvalue()
