"""The files of a dataset: found, checked, read and encoded.

Nothing is ever extracted to disk, and no link that leads out of a dataset's folder is followed.
Images are decoded by `keras_lgmsnet.files.images`, up to a size that is known beforehand. They are
encoded with OpenCV, because TensorFlow Datasets encodes arrays as images with TensorFlow only.
"""

import dataclasses
import os
import re
import struct
import unicodedata
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from keras_lgmsnet.files.images import decode_image, decoding
from keras_lgmsnet.files.paths import AnyPath, printable, read_bytes
from keras_lgmsnet.files.pixels import MAX_BYTES, to_8_bits


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
            check_link(part / path.name, part)
    return by_id({path: path.name for path in paths if path.is_file()}, *suffixes)


def case_files(part: Path, name: str) -> dict[str, Path]:
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
        if not path.is_file():  # a pipe, say, which would be waited for without end
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


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a publisher's zip file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, holds files outside itself, or is compressed otherwise than
            publishers do.
    """
    try:
        archive = zipfile.ZipFile(path)
    # A NotImplementedError is a newer version of the format, a ValueError a name's encoding.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ValueError(f"{path} is damaged ({error}); download it again.") from error
    for member in archive.infolist():
        name = member.filename
        if PurePosixPath(name).is_absolute() or ".." in re.split(r"[/\\]", name):
            raise ValueError(
                f"{path} is not the published archive: it holds a file outside itself; download it "
                f"again. Received: {name!r}"
            )
        # Of these only, zipfile inflates no more than it is asked for.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{path} is not the published archive: it must be compressed by deflation, if at "
                f"all; download it again. Received: {name!r}, compressed by method "
                f"{member.compress_type}"
            )
    return archive


class EncodedImage(NamedTuple):
    """An image as JPEG or PNG of 8 bits.

    Args:
        content: The JPEG or PNG.
        shape: Height and width.
        is_grey: Whether it has one channel, not three.
        has_own_scale: Whether it was scaled by its own least and largest value.
    """

    content: bytes
    shape: tuple[int, int]
    is_grey: bool
    has_own_scale: bool


def read_encoded(path: AnyPath, bits: int | None = None) -> EncodedImage:
    """Read an image as `keras_lgmsnet.files.images.read_image` does, to be stored.

    Args:
        path: The file, or the file in a zip file.
        bits: As `read_image` takes them.

    Returns:
        The file's bytes where every decoder takes them for the same pixels, otherwise a PNG.

    Raises:
        ValueError: If the file is unreadable, damaged or refused.
    """
    content = read_bytes(path, MAX_BYTES)
    with decoding(path):
        image = decode_image(content)
        encoded = content if image.plain else encode_png(to_8_bits(image, bits))
    height, width, *channels = image.pixels.shape
    return EncodedImage(encoded, (height, width), not channels, image.has_own_scale)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode grey or RGB pixels of 8 bits as PNG."""
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def _require_text(path: AnyPath) -> None:
    """Raise a `ValueError` if a name is none in Unicode, as ids are."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{printable(path)} must have a name in UTF-8; rename it. "
            f"Received: {os.fsencode(path.name)!r}"
        ) from error
