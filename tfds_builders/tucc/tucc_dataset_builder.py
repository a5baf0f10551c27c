"""TUCC: thyroid nodules in ultrasound cine clips."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import tensorflow_datasets as tfds

from tfds_builders._reading import Case, ImageBuilder, binary_mask, encode_png

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
        with _open(path) as file:
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

    def _generate_examples(self, cases: list[Case]) -> Iterator[tuple[str, dict[str, Any]]]:
        (path,) = cases[0].images
        with _open(path) as file:
            for index, case in enumerate(cases):  # as many as frames, in the file's order
                try:
                    pixels, mask = file["image"][index], file["mask"][index]
                except OSError as error:
                    raise ValueError(
                        f"{path} cannot be read at frame {index}: {error}; download it again."
                    ) from error
                mask = binary_mask(mask, pixels.shape[:2], f"mask {index} in {path}")
                yield (
                    case.id,
                    {
                        "image": encode_png(pixels[..., ::-1] if pixels.ndim == 3 else pixels),
                        "segmentation_mask": encode_png(mask),
                        "id": case.id,
                        "group": case.group,
                    },
                )


def _open(path: Path) -> h5py.File:
    """Opens the publisher's file, with as many frames in each array as in any other."""
    try:
        # The cache holds what is compressed together, so that it is decompressed once.
        file = h5py.File(path, "r", rdcc_nbytes=2**28)
    except OSError as error:
        raise ValueError(f"{path} is damaged ({error}); download it again.") from error
    shapes = {}
    for name in ARRAYS:
        link, array = file.get(name, getlink=True), file.get(name)
        # An external or virtual array would be read from elsewhere than this file.
        if (
            not isinstance(link, h5py.HardLink)
            or not isinstance(array, h5py.Dataset)
            or array.external
            or array.is_virtual
        ):
            raise ValueError(f"{path} must hold the array {name}; download it again.")
        shapes[name] = array.shape
    images, masks = file["image"], file["mask"]
    if len({shape[:1] for shape in shapes.values()}) != 1 or not (
        images.dtype == masks.dtype == np.uint8
        and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3)))
    ):
        raise ValueError(
            f"{path} must hold frames of 8 bits, as many in each array; download it again. "
            f"Received: {', '.join(f'{name} {shape}' for name, shape in shapes.items())}"
        )
    return file


def _text(value: bytes | str | np.integer) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
