"""2D images: read once, then served to `fit` in reproducible batches."""

import importlib
import math
import pkgutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from tqdm.auto import tqdm

import tfds_builders
from keras_lgmsnet.data.augmentation import Augmentation

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype="float32")
_INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "lanczos": cv2.INTER_LANCZOS4}
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype="float32")


@dataclass(frozen=True, eq=False)
class Examples:
    """Images and masks in memory, decoded and of one size.

    Args:
        ids: One unique name an example.
        images: RGB, `uint8`, shape `(examples, height, width, 3)`.
        segmentation_masks: 0 or 1, `uint8`, shape `(examples, height, width, 1)`.
        original_sizes: Height and width of each image before it was resized, shape
            `(examples, 2)`; by default the images' own.
        groups: The patient, video or case of every example; by default its id.
        dataset: Which copy of which dataset they are of, `builder/config/version`; of a user's own
            folder, `builder@content/version`. Equal ids mean equal images where what comes before
            the first `/` is equal.
    """

    ids: list[str]
    images: np.ndarray
    segmentation_masks: np.ndarray
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
        """Returns the examples of the given ids, in the order of those ids.

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
        chosen = [positions[id_] for id_ in ids]
        return Examples(
            ids,
            self.images[chosen],
            self.segmentation_masks[chosen],
            groups=[self.groups[position] for position in chosen],
            original_sizes=self.original_sizes[chosen],
            dataset=self.dataset,
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
    """Reads a dataset into memory, preparing it with TensorFlow Datasets on first use.

    Masks are resized to the nearest pixel. TensorFlow is not needed.

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
    source, dataset = _data_source(builder, manual_dir, data_dir, progress, allow_incomplete)
    height, width = image_size
    images = np.empty((len(source), height, width, 3), dtype="uint8")
    segmentation_masks = np.empty((len(source), height, width, 1), dtype="uint8")
    original_sizes = np.empty((len(source), 2), dtype=int)

    def read(index: int) -> tuple[str, str]:
        example = source[index]
        original_sizes[index] = example["image"].shape[:2]
        images[index] = resize_image(example["image"], image_size, interpolation)
        segmentation_masks[index, ..., 0] = cv2.resize(
            example["segmentation_mask"], (width, height), interpolation=cv2.INTER_NEAREST
        )
        return example["id"].decode(), example["group"].decode()

    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter's lock
        names = list(
            tqdm(
                pool.map(read, range(len(source))),
                desc=f"Reading {builder}",
                total=len(source),
                unit="image",
                disable=not progress,
            )
        )
    ids, groups = map(list, zip(*names, strict=True))
    return Examples(ids, images, segmentation_masks, original_sizes, groups, dataset)


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
    if preprocessing == "published":
        images = images[..., ::-1]
    normalized = (images.astype("float32") / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return normalized / 255 if preprocessing == "published" else normalized


class ImageBatches(keras.utils.PyDataset):
    """Batches for `fit`, `evaluate` and `predict`, with reproducible order and augmentation.

    The order depends on `(seed, epoch)` and the augmentation of an example on `(seed, epoch,
    position of the example)` alone, so training resumed at an epoch sees what uninterrupted
    training sees. Two things are left to the caller of `fit`: `shuffle=False`, or Keras changes
    the order of the batches by a random state of its own, and `set_epoch` as a callback, because
    Keras does not tell a dataset its epoch.

    Each batch is a pair: preprocessed images, `float32` of shape `(batch, height, width, 3)`, and
    segmentation masks, `float32` 0 or 1 of shape `(batch, height, width, 1)`.

    Args:
        examples: What to serve. The last batch may be smaller than the others.
        batch_size: Examples in a batch.
        preprocessing: `"imagenet"` or `"published"`, see `preprocess`.
        augmentation: Called as `augmentation(image, segmentation_mask, rng)`; returns both,
            changed, and leaves its arguments alone. `None` changes nothing.
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
        augmentation: Augmentation | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        # One worker: with more, Keras carries batches fetched ahead over into the next epoch.
        super().__init__(workers=1)
        if not examples.ids:
            raise ValueError("There must be at least one example to serve. Received: none")
        if batch_size < 1:
            raise ValueError(f"The batch size must be at least 1. Received: {batch_size=}")
        if seed < 0:
            raise ValueError(f"The seed must not be negative. Received: {seed=}")
        _check_preprocessing(preprocessing)
        self.examples = examples
        self.batch_size = batch_size
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Chooses the epoch, counted from 0, whose order and augmentation the batches have.

        Counting Keras's own `on_epoch_begin` calls instead would be wrong: before the first
        epoch `fit` begins another to infer shapes, on some backends and for some models.

        Args:
            epoch: The epoch that is about to begin.
            logs: Ignored; lets the method serve as a callback's `on_epoch_begin`.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.examples.ids) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        positions = np.arange(len(self.examples.ids))
        if self.shuffle:
            positions = np.random.default_rng([self.seed, self.epoch]).permutation(positions)
        positions = positions[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.examples.images[positions]
        segmentation_masks = self.examples.segmentation_masks[positions]
        if self.augmentation is not None:
            for row, position in enumerate(positions):
                # From 1, because NumPy seeds [a, b] and [a, b, 0] alike.
                rng = np.random.default_rng([self.seed, self.epoch, 1 + position])
                images[row], segmentation_masks[row] = self.augmentation(
                    self.examples.images[position], self.examples.segmentation_masks[position], rng
                )
        return preprocess(images, self.preprocessing), segmentation_masks.astype("float32")


def _check_preprocessing(preprocessing: str) -> None:
    if preprocessing not in ("imagenet", "published"):
        raise ValueError(
            f'The preprocessing must be "imagenet" or "published". Received: {preprocessing=}'
        )


def _data_source(
    name_and_config: str,
    manual_dir: Path | None,
    data_dir: Path | None,
    progress: bool,
    allow_incomplete: bool,
) -> tuple[Sequence[dict[str, Any]], str]:
    """Returns what reads the examples, and the identity of the copy that they are read from."""
    name, _, config = name_and_config.partition("/")
    modules = pkgutil.iter_modules(tfds_builders.__path__)
    known = sorted(module.name for module in modules if module.ispkg)  # a folder each
    if name not in known:
        raise ValueError(
            f"The dataset builder must be one of {', '.join(known)}. Received: builder={name!r}"
        )
    # Takes seconds to import, which generated data need not pay.
    import tensorflow_datasets as tfds

    from tfds_builders._reading import FolderBuilder, ImageBuilder

    (tfds.enable_progress_bar if progress else tfds.disable_progress_bar)()
    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    if not issubclass(module.Builder, ImageBuilder):
        raise ValueError(f"The dataset must be of 2D images. Received: {name}, which has volumes")
    if issubclass(module.Builder, FolderBuilder):
        if config or manual_dir is None:
            raise ValueError(
                f"{name} reads a folder of your own, which must be given as the folder to read: "
                f"--manual-dir FOLDER. Received: builder={name_and_config!r}, {manual_dir=}"
            )
        config = module.Config(folder=str(manual_dir))
    elif config and config not in module.Builder.builder_configs:
        raise ValueError(
            f"The config of {name} must be one of "
            f"{', '.join(module.Builder.builder_configs) or 'none'}. Received: {config!r}"
        )
    builder = module.Builder(
        data_dir=data_dir, config=config or None, allow_incomplete=allow_incomplete
    )
    manual_dir = Path(manual_dir or builder.data_dir_root / "downloads/manual").expanduser()
    if not builder.data_path.exists():
        if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
            raise FileNotFoundError(
                f"{name} is neither prepared in {builder.data_dir_root} nor downloaded to "
                f"{manual_dir}. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
            file_format="array_record",
        )
    elif builder.info.file_format.value != "array_record":
        raise ValueError(
            f"The prepared copy must be in the array_record format to be read without TensorFlow; "
            f"delete it or choose another data_dir. "
            f"Received: {builder.data_path} in the {builder.info.file_format.value} format"
        )
    elif allow_incomplete:
        builder.require_current(manual_dir)
    return builder.as_data_source(split="train"), builder.identity
