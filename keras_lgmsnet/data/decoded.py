"""A dataset's images and masks: decoded and resized once, to a file beside its prepared copy."""

import dataclasses
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from keras_lgmsnet.data.builders import prepare_dataset
from keras_lgmsnet.data.cache import Chunks, NoFileError, compute_once
from keras_lgmsnet.data.images import Examples, resize_image
from keras_lgmsnet.kinds import IMAGES
from keras_lgmsnet.process.progress import track

if TYPE_CHECKING:
    from tfds_builders._building import SegmentationBuilder

_DECODING = "v2"  # to be changed with what is kept, so that no older file is taken for it
_CHUNK = 32  # images held until they are written


def load_examples(
    builder: str,
    image_size: tuple[int, int],
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    *,
    interpolation: str = "linear",
    progress: bool = True,
    allow_incomplete: bool = False,
    mask_threshold: int | None = None,
) -> Examples:
    """Read a dataset, preparing it with TensorFlow Datasets on first use.

    Masks are resized to the nearest pixel. TensorFlow is needed only to prepare more than a
    gigabyte.

    Images are decoded and resized once for each size and interpolation, to a file in the prepared
    copy's own folder, which goes when that goes; from then on it is only mapped into memory, which
    the system fills and frees as pages are used. The file takes `4 * height * width` bytes an
    image: 0.7 GB for ISIC 2018 at 256 × 256 pixels, 4.6 GB for TUCC. Where it cannot be written,
    or would not fit, the images are decoded each time, to a temporary file or else into memory. A
    file cut short is replaced; one that is deleted is written again.

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
        progress: Whether to tell the progress.
        allow_incomplete: Whether to read the complete cases of an archive that is short of its
            published count, prepared apart. A prepared copy is refused where the archive has come
            to hold others.
        mask_threshold: For `"image_folder"`, above which value, from 0 to 254 of 255, a mask of
            more than two values is foreground, which is refused otherwise. The folder has a
            prepared copy for each threshold.

    Returns:
        Every example of the dataset.

    Raises:
        ValueError: If the builder is unknown or takes no `mask_threshold`, or the archives are
            incomplete or damaged.
        FileNotFoundError: If there is neither a prepared copy nor an archive.

    Example:
    ```python
    examples = load_examples("isic2018_task1", (256, 256), manual_dir=Path("~/Downloads/isic"))
    ```
    """
    prepared = prepare_dataset(
        builder,
        IMAGES,
        manual_dir,
        data_dir,
        allow_incomplete=allow_incomplete,
        mask_threshold=mask_threshold,
        progress=progress,
    )
    examples = _read(prepared, image_size, interpolation, progress)
    return dataclasses.replace(
        examples,
        dataset=prepared.identity,
        bits=prepared.info.metadata.get("bits"),
        pixels_between=prepared.info.metadata.get("pixels_between", {}),
        own_scale=prepared.info.metadata.get("own_scale", ()),
    )


def _read(
    prepared: "SegmentationBuilder",
    image_size: tuple[int, int],
    interpolation: str,
    progress: bool,
) -> Examples:
    """Return the decoded images of a prepared copy, from their file, written now if need be."""
    height, width = image_size
    path = Path(prepared.data_path) / f"decoded-{_DECODING}-{height}x{width}-{interpolation}.npy"
    count = prepared.info.splits["train"].num_examples
    record = np.dtype(
        [("image", "u1", (height, width, 3)), ("segmentation_mask", "u1", (height, width, 1))]
    )
    filled = _Names([], [], [])

    def decode() -> Iterator[np.ndarray]:
        return _decode(prepared, record, interpolation, filled, progress)

    try:
        records, *names = compute_once(
            path,
            lambda: [Chunks((count,), record, decode), *filled],
            fits=lambda arrays: (
                len(arrays) == 1 + len(filled)
                and (arrays[0].shape, arrays[0].dtype) == ((count,), record)
            ),
        )
    except NoFileError:
        records = np.fromiter(itertools.chain.from_iterable(decode()), record, count)
        records.flags.writeable = False
        names = [np.array(column) for column in filled]
    ids, groups, original_sizes = names
    return Examples(
        ids.tolist(),
        records["image"],
        records["segmentation_mask"],
        groups=groups.tolist(),
        original_sizes=original_sizes,
    )


class _Names(NamedTuple):
    """What is kept with the images, and known once they are decoded: see `Examples`."""

    ids: list[str]
    groups: list[str]
    original_sizes: list[tuple[int, int]]


def _decode(
    prepared: "SegmentationBuilder",
    record: np.dtype,
    interpolation: str,
    names: _Names,
    progress: bool,
) -> Iterator[np.ndarray]:
    """Decode and resize the images of a prepared copy.

    Args:
        prepared: The prepared copy.
        record: Type of a record, an image and its mask.
        interpolation: How images are resized.
        names: Filled while the images are decoded.
        progress: Whether to tell the progress.

    Yields:
        The records in order, some at a time.
    """
    for column in names:
        column.clear()  # of an earlier attempt that could not be written
    source = prepared.as_data_source(split="train")
    height, width = record["image"].shape[:2]

    def fill(row: np.void, index: int) -> tuple[str, str, tuple[int, int]]:
        example = source[index]
        image, segmentation_mask = example["image"], example["segmentation_mask"]
        row["image"] = resize_image(image, (height, width), interpolation)
        row["segmentation_mask"][..., 0] = cv2.resize(
            segmentation_mask, (width, height), interpolation=cv2.INTER_NEAREST
        )
        return example["id"].decode(), example["group"].decode(), image.shape[:2]

    done = track(label=f"Decoding {prepared.name}", unit="image", total=len(source), shown=progress)
    with ThreadPoolExecutor() as pool, done:  # OpenCV decodes outside the interpreter's lock
        for start in range(0, len(source), _CHUNK):
            records = np.empty(min(_CHUNK, len(source) - start), record)
            for id_, group, original_size in pool.map(fill, records, itertools.count(start)):
                names.ids.append(id_)
                names.groups.append(group)
                names.original_sizes.append(original_size)
                done.update()
            yield records
