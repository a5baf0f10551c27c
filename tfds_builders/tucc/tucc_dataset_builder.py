"""TUCC: thyroid nodules in ultrasound cine clips."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import tensorflow_datasets as tfds

from keras_lgmsnet.files.masks import binary_mask
from keras_lgmsnet.files.pixels import MAX_BYTES, MAX_PIXELS
from tfds_builders._building import ImageBuilder
from tfds_builders._reading import Case, encode_png

ARCHIVE = "dataset.hdf5"
ARRAYS = ("image", "mask", "annot_id", "frame_num")


class Builder(ImageBuilder):
    """Streams the frames out of the publisher's HDF5 file, one by one."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {ARCHIVE} of the dataset Thyroid Ultrasound Cine-clip from "
        "https://aimi.stanford.edu/datasets/thyroid-ultrasound-cine-clip and put it there."
    )
    NUM_CLIPS = 192
    LABELS: ClassVar = {0: "tissue", 1: "nodule"}
    HOMEPAGE = "https://aimi.stanford.edu/datasets/thyroid-ultrasound-cine-clip"
    GROUP = "The patient: what `annot_id` says before its underscore."

    def _cases(self, folder: Path) -> Iterator[Case]:
        path = folder / ARCHIVE
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        with _open(path) as file, _decoding(path):
            clips = [_text(value).strip("_") for value in file["annot_id"][:]]
            frames = [_text(value).strip("_") for value in file["frame_num"][:]]
        self._check_count(f"{path} must have {self.NUM_CLIPS} clips", set(clips), self.NUM_CLIPS)
        seen = set()
        for clip, frame in zip(clips, frames, strict=True):
            if not frame.isdecimal():
                raise ValueError(f"{path} must number its frames in frame_num. Received: {frame!r}")
            id_ = f"{clip}_frame{int(frame):04d}"
            if id_ in seen:
                raise ValueError(f"{path} must hold each frame once. Received: {id_} twice")
            seen.add(id_)
            patient, _, _ = clip.partition("_")
            yield Case(id_, (path,), (path,), group=patient)

    def _generate_examples(self, cases: Sequence[Case]) -> Iterator[tuple[str, dict[str, Any]]]:
        (path,) = cases[0].images
        assert isinstance(path, Path)  # as `_cases` gave it, not one in a zip file
        with _open(path) as file:
            for index, case in enumerate(cases):  # as many as frames, in the file's order
                with _decoding(path, f"at frame {index} "):
                    pixels, mask = file["image"][index], file["mask"][index]
                mask, _ = binary_mask(mask, pixels.shape[:2], f"mask {index} in {path}")
                yield (
                    case.id,
                    {
                        "image": encode_png(pixels),
                        "segmentation_mask": encode_png(mask),
                        "id": case.id,
                        "group": case.group,
                    },
                )


@contextlib.contextmanager
def _decoding(path: Path, where: str = "") -> Iterator[None]:
    """Turn what h5py raises on a damaged file into a `ValueError` that names the file."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path} is damaged {where}({error}); download it again.") from error


def _open(path: Path) -> h5py.File:
    """Open the publisher's file, with as many frames in each array as in any other."""
    with _decoding(path):
        # The cache holds what is compressed together, so that it is decompressed once.
        file = h5py.File(path, "r", rdcc_nbytes=2**28)
        links = {name: file.get(name, getlink=True) for name in ARRAYS}
        arrays = {name: file.get(name) for name in ARRAYS if isinstance(links[name], h5py.HardLink)}
        # An external or virtual array would be read from elsewhere than this file.
        own = {
            name: array
            for name, array in arrays.items()
            if isinstance(array, h5py.Dataset) and not array.external and not array.is_virtual
        }
        shapes = {name: array.shape for name, array in own.items()}
        dtypes = {own[name].dtype for name in ("image", "mask") if name in own}
    if missing := [name for name in ARRAYS if name not in own]:
        raise ValueError(f"{path} must hold the array {missing[0]}; download it again.")
    for name, array in own.items():
        # What is decompressed at once: a chunk, or all of the two arrays that are read whole.
        whole = array.nbytes if array.ndim < 3 else math.prod(array.chunks or (0,))
        if whole > MAX_BYTES or math.prod(array.shape[1:3]) > MAX_PIXELS:
            raise ValueError(
                f"{path} must hold frames of at most {MAX_PIXELS:,} pixels, compressed by at most "
                f"{MAX_BYTES:,} bytes at a time; download it again. "
                f"Received: {name} {array.shape}, by {array.chunks}"
            )
    color = shapes["image"][3:]
    if (
        len({shape[:1] for shape in shapes.values()}) != 1
        or dtypes != {np.dtype(np.uint8)}
        or len(shapes["image"]) not in (3, 4)
        or color not in ((), (1,), (3,))
    ):
        raise ValueError(
            f"{path} must hold frames of 8 bits, as many in each array; download it again. "
            f"Received: {', '.join(f'{name} {shape}' for name, shape in shapes.items())}"
        )
    return file


def _text(value: bytes | str | np.integer) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
