"""What the builders share: finding, pairing, checking and encoding the files of a dataset.

A builder derives from `ImageBuilder` (2D) or `VolumeBuilder` (3D) and lists its cases; a builder of
a user's own folder also from `FolderBuilder`. Nothing is ever extracted to disk, and no link that
leads out of a dataset's folder of files is followed. Images are read by `keras_lgmsnet.files.images`
and volumes by `keras_lgmsnet.files.nifti`, up to a size that is known before they are decoded.
Examples are encoded with OpenCV, because TensorFlow Datasets encodes arrays as images with
TensorFlow only.
"""

import dataclasses
import os
import unicodedata
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from keras_lgmsnet.files import images as image_files
from keras_lgmsnet.files import nifti as volume_files
from keras_lgmsnet.files.paths import AnyPath, opened

Found = TypeVar("Found")

IMAGE_SUFFIXES = image_files.SUFFIXES
NIFTI_SUFFIXES = volume_files.SUFFIXES
GO_ON = (
    "correct that, or set allow_incomplete=True (lgms-train --set data.allow_incomplete=true, "
    "lgms-evaluate and lgms-figures --allow-incomplete) to go on with the complete cases"
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One example's files.

    Args:
        id: Its unique name.
        images: One file, or one file a channel in 3D.
        segmentation_masks: One file, or several of which the example's mask is the union.
        group: What must stay on one side of a split: the patient, video or case if the source
            tells, otherwise the id.
    """

    id: str
    images: tuple[AnyPath, ...]
    segmentation_masks: tuple[AnyPath, ...]
    group: str


def list_files(part: AnyPath, *suffixes: str) -> dict[str, AnyPath]:
    """Return a folder's files by id: their names without the suffix, in Unicode's NFC form.

    Args:
        part: A folder, or a folder in a zip file. What lies in its subfolders is not listed, nor
            are hidden files.
        *suffixes: The endings of the files to list, whatever their case.

    Raises:
        ValueError: If two files have one id, a name is not Unicode, or a file is a link that leads
            out of the folder.
    """
    paths = [path for path in part.iterdir() if not path.name.startswith(".")]
    if isinstance(part, Path):
        for path in paths:
            check_link(path, part)
    return by_id({path: path.name for path in paths if path.is_file()}, *suffixes)


def case_files(part: Path, name: str) -> dict[str, AnyPath]:
    """Return the files of an archive that has a folder for each case, by that folder's name.

    Args:
        part: The folder that holds the cases' folders.
        name: The file's path in the case's folder, with `{}` for the case.

    Raises:
        ValueError: If a link leads out of the part, or a name is not Unicode.
    """
    paths = {case.name: case / name.format(case.name) for case in part.iterdir()}
    for path in paths.values():
        _require_text(path)
        check_link(path, part)
    return {id_: path for id_, path in sorted(paths.items()) if path.is_file()}


def by_id(names: Mapping[AnyPath, str], *suffixes: str) -> dict[str, AnyPath]:
    """Return those files whose name has one of the suffixes, by the name without it.

    Raises:
        ValueError: If two files have one id, or a name is not Unicode.
    """
    files: dict[str, AnyPath] = {}
    for path, name in sorted(names.items(), key=lambda item: item[1]):
        suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), None)
        if suffix is None:
            continue
        _require_text(path)
        id_ = unicodedata.normalize("NFC", name[: -len(suffix)])
        if id_ in files:
            raise ValueError(f"{path} and {files[id_]} have the same id; rename or remove one.")
        files[id_] = path
    return files


def walk(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted, without hidden ones.

    Raises:
        ValueError: If there is a link to a folder or to nothing, or one that leads out of the
            folder; if there is a pipe or the like; or if a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be listed: {error.strerror}") from error

    paths = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(parent) / name).is_symlink():
                raise ValueError(
                    f"{Path(parent) / name} must be a folder, not a link to one; "
                    "replace it by the folder."
                )
        paths += [Path(parent) / name for name in files if not name.startswith(".")]
    for path in paths:
        check_link(path, folder)
        if not path.is_file():  # which might be waited for without end
            raise ValueError(f"{path} cannot be read: it is no file, nor a link to one; remove it.")
    return sorted(paths)


def check_link(path: Path, folder: Path) -> None:
    """Raise a `ValueError` if a link leads from the folder to this path outside it."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"{path} must be in {folder}, not a link to elsewhere; replace it by what it links "
            f"to. Received: a link to {target}"
        )


def read_image(path: AnyPath) -> tuple[bytes, tuple[int, ...]]:
    """Read an image, see `keras_lgmsnet.image_files.read_image`.

    Args:
        path: The file, or the file in a zip file.

    Returns:
        The image as JPEG or PNG of 8 bits: the file's bytes where every decoder takes them for the
        same pixels, otherwise a PNG. And its shape, `(height, width)` if it is grey, or
        `(height, width, 3)`.

    Raises:
        ValueError: If the file is unreadable, damaged or refused.
    """
    content = read_bytes(path)
    with image_files.decoding(path):
        image, plain = image_files.decode_image(content)
        shape = (image.height, image.width, *((3,) if image.mode == "RGB" else ()))
        return content if plain else encode_png(image_files.to_8_bits(image)), shape


def read_mask(path: AnyPath, shape: tuple[int, int], *, two_valued: bool = False) -> np.ndarray:
    """Read a mask file; the arguments and the result are those of `binary_mask`.

    Formats and palettes are those of `keras_lgmsnet.image_files.read_image`, without DICOM, whose
    values depend on a window. `two_valued` does not apply to JPEGs, whose compression makes further
    values.

    Raises:
        ValueError: If the file is unreadable or no mask of that shape.
    """
    content = read_bytes(path)
    if image_files.is_dicom(content):
        raise ValueError(
            f"{path} must be {', '.join(image_files.FORMATS)}; convert it. Received: DICOM"
        )
    with image_files.decoding(path):
        pixels = np.asarray(image_files.decode_image(content)[0])
    lossy = content.startswith(b"\xff\xd8\xff")
    return binary_mask(pixels, shape, str(path), two_valued=two_valued and not lossy)


def binary_mask(
    pixels: np.ndarray, shape: tuple[int, int], source: str, *, two_valued: bool = False
) -> np.ndarray:
    """Turn a mask's pixels into 0 and 1.

    Foreground is what is brighter than 127; in a mask of 0 and 1 only, what is 1. A mask of more
    than 8 bits holds 0 and 1, 0 and 255, or 0 and 65535, only.

    Args:
        pixels: `uint8`, grey, or with three channels that are grey; or grey of any other type.
        shape: Height and width of the mask's image.
        source: What to call the mask in an error.
        two_valued: Whether to refuse a mask that holds more than two values: they might be further
            classes, which a threshold would silently merge.

    Returns:
        0 or 1, `uint8`, of the given shape.

    Raises:
        ValueError: If the mask has another size, colours, or values that leave open what is
            foreground.
    """
    # The compression of a JPEG may tint grey a little.
    if pixels.ndim == 3 and np.ptp(pixels[..., :3], axis=-1).max(initial=0) <= 8:
        pixels = pixels[..., 0]
    if pixels.shape != shape:
        raise ValueError(
            f"{source} must be a grey image of its image's height and width, {shape}. "
            f"Received: {pixels.shape}"
        )
    if pixels.dtype == np.uint8:
        values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
        threshold_will_do = not two_valued and values[-1] > 127
    else:
        values = np.unique(pixels)
        threshold_will_do = False
    if not any({*values} <= {0, full} for full in (1, 255, 65535)) and not threshold_will_do:
        raise ValueError(
            f"{source} must hold 0 and 255, or 0 and 1, only. "
            f"Received: {', '.join(map(str, values[:5]))}{' …' if len(values) > 5 else ''}"
        )
    return (pixels > (0 if values[-1] == 1 else 127)).astype(np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode grey or RGB pixels of 8 bits as PNG."""
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def read_bytes(path: AnyPath, limit: int = image_files.MAX_BYTES) -> bytes:
    """Return a file's content.

    Args:
        path: The file, or the file in a zip file.
        limit: The most bytes that it may have, to be known before they are read.

    Raises:
        ValueError: If it is too long or cannot be read, because of the file system or of a damaged
            zip file.
    """
    with opened(path) as file:
        if isinstance(path, zipfile.Path):
            size = path.root.getinfo(path.at).file_size
        else:
            size = path.stat().st_size
        if size > limit:
            raise ValueError(
                f"{path} must have at most {limit:,} bytes, uncompressed. Received: {size:,}"
            )
        # With the size, because zipfile inflates all there is when it is told none.
        return file.read(size)


def _require_text(path: AnyPath) -> None:
    """Raise a `ValueError` if a name is none in Unicode, as ids are."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{image_files.printable(path)} must have a name in UTF-8; rename it. "
            f"Received: {os.fsencode(path.name)!r}"
        ) from error
