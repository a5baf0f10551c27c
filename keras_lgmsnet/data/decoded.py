"""Decoded images, kept in a file beside a dataset's prepared copy."""

import contextlib
import dataclasses
import io
import json
import mmap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
from tqdm.auto import tqdm

from keras_lgmsnet.data.builders import prepare_dataset
from keras_lgmsnet.data.cache import has_room, remove_abandoned, write_whole

if TYPE_CHECKING:
    from tfds_builders._building import ImageBuilder
from keras_lgmsnet.data.images import Examples, resize_image


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
    """Read a dataset, preparing it with TensorFlow Datasets on first use.

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
