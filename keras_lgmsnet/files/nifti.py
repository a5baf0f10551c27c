"""NIfTI files: volumes read with all that their header tells, and written into the same space.

The one reader of volumes and label maps: what `lgms-predict` reads and what the dataset builders
prepare are the same voxels. nibabel decodes, after the header was checked, up to a size that is
known before anything is inflated.
"""

import contextlib
import gzip
import io
import itertools
import logging
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np

from keras_lgmsnet.files.nifti_header import MAX_HEADER_BYTES, Placement, find_affine, parse_header
from keras_lgmsnet.files.paths import AnyPath, opened, printable
from keras_lgmsnet.files.volume import Volume
from keras_lgmsnet.files.writing import atomic_write
from keras_lgmsnet.geometry import MAX_VOXELS, Grid
from keras_lgmsnet.tolerances import LABEL_ROUNDING

SUFFIXES = (".nii.gz", ".nii")
ONE_CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net's name of such a file: its case and its number
MAX_EXTRA_BYTES = 2**24  # before and after the voxels
LARGEST = 1e30  # of voxels; beyond are marks of missing ones, and sums in float32 overflow
LEAST_CONTRAST = 1e-5  # of what 99 % of a channel's values span to what all of them do
SAMPLES = 100_000  # voxels of a channel that this is measured on
_QUIET = logging.Logger(__name__, logging.CRITICAL)  # nibabel tells what it mends in a header


def read_volume(path: str | AnyPath) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 image. Its content tells whether it is compressed, not its name.

    Args:
        path: A file, or the file in a zip file, of 3 axes, or 4 with channels last; further axes of
            1 are dropped.

    Raises:
        ValueError: If the file is unreadable, has other than 3 or 4 axes, more than `MAX_VOXELS`
            voxels, voxels that are not finite numbers or so far from all others that these could
            not be told apart, or no usable affine, see `nifti_header.find_affine`.

    Example:
    ```python
    volume = read_volume("scan.nii.gz")
    volume.grid.spacing, volume.grid.orientation  # (0.7, 0.7, 5.0), "LPS"
    ```
    """
    voxels, (affine, remark), header = _read_nifti(path)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite
        voxels = voxels.astype(np.float32, copy=False)
    image = voxels if voxels.ndim == 4 else voxels[..., None]
    for channel in np.moveaxis(image, -1, 0):
        _require_usable(path, channel)
    if affine is None:
        raise ValueError(
            f"{printable(path)} must tell its orientation and position; convert it again from its "
            "source. Received: no affine (qform_code and sform_code are 0)"
        )
    return Volume(image, affine, header, remark)


def read_channels(paths: Sequence[AnyPath]) -> Volume:
    """Read a scan whose channels are in a file each, or in one.

    Args:
        paths: The files in the order of the channels.

    Returns:
        The scan, with the header of the first file.

    Raises:
        ValueError: As `read_volume` raises, or if a file's voxels lie elsewhere than the first's.

    Example:
    ```python
    volume = read_channels([Path("case_0000.nii.gz"), Path("case_0001.nii.gz")])
    ```
    """
    channels = [read_volume(path) for path in paths]
    first = channels[0]
    for path, channel in zip(paths, channels, strict=True):
        require_same_grid(path, channel.image.shape[:3], channel.affine, first.grid)
    if len(channels) == 1:
        return first
    image = np.concatenate([channel.image for channel in channels], axis=-1)
    remarks = (channel.remark for channel in channels)
    return Volume(image, first.affine, first.header, next(filter(None, remarks), None))


def read_label_map(
    path: str | AnyPath, labels: Mapping[int, str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a NIfTI label map.

    Args:
        path: A file, or the file in a zip file, of 3 axes; further axes of 1 are dropped.
        labels: The labels that it may hold, from 0 to 255. Floats and scaled integers may miss them
            by `LABEL_ROUNDING`.

    Returns:
        Labels, `uint8` of shape `(x, y, z)`, and the affine, or `None` if the file has none.

    Raises:
        ValueError: If the file is unreadable, has other than 3 axes or an unknown label.

    Example:
    ```python
    segmentation_mask, affine = read_label_map("label.nii.gz", {0: "background", 1: "liver"})
    ```
    """
    voxels, (affine, _), _ = _read_nifti(path)
    if voxels.ndim != 3:
        raise ValueError(f"{printable(path)} must have 3 axes. Received: shape {voxels.shape}")
    with np.errstate(invalid="ignore"):  # what does not fit is found below
        mask = np.rint(voxels).astype(np.uint8)
        known = np.isin(mask, list(labels)) & (np.abs(mask - voxels) <= LABEL_ROUNDING)
    if not known.all():
        raise ValueError(
            f"{printable(path)} must hold the labels {', '.join(map(str, labels))} only. "
            f"Received: {voxels[~known][0]}"
        )
    return mask, affine


def require_same_grid(
    path: AnyPath, shape: tuple[int, ...], affine: np.ndarray | None, expected: Grid
) -> None:
    """Raise a `ValueError` unless a file's voxels lie where those of its scan lie.

    Args:
        path: The file, for messages.
        shape: Its voxels along each axis.
        affine: Where they lie; `None` if it does not tell.
        expected: Where those of its scan lie.
    """
    if shape != expected.shape:
        raise ValueError(
            f"{printable(path)} must have its image's size, {expected.shape}. Received: {shape}"
        )
    if affine is None:
        return
    corners = [[*corner, 1] for corner in itertools.product(*((0, side - 1) for side in shape))]
    offset = np.linalg.norm((np.array(corners) @ (affine - expected.affine).T)[:, :3], axis=-1)
    if offset.max() > min(expected.spacing) / 2:
        raise ValueError(
            f"{printable(path)} must lie where its image lies, to half a voxel; correct its "
            f"affine. Received: {offset.max():.1f} mm away"
        )


def write_label_map(path: str | Path, labels: np.ndarray, like: Volume) -> None:
    """Write a label map into a scan's space, atomically.

    Orientation, position, spacing, units and all else in the scan's header stay; what is about its
    values (type, scaling, window, intent) becomes that of labels.

    Args:
        path: Where to write; compressed if it ends in `.gz`.
        labels: `uint8` of shape `(x, y, z)`, on the scan's own grid.
        like: The scan.

    Raises:
        ValueError: If the path ends in none of `SUFFIXES`, or the labels have another shape or
            dtype.

    Example:
    ```python
    scan = read_volume("scan.nii.gz")
    write_label_map("seg.nii.gz", (scan.image[..., 0] > 300).astype("uint8"), scan)
    ```
    """
    _write(Path(path), labels, like, "uint8", "label")


def write_map(path: str | Path, values: np.ndarray, like: Volume) -> None:
    """Write numbers, such as probabilities, into a scan's space, atomically.

    Args:
        path: Where to write; compressed if it ends in `.gz`.
        values: `float32` of shape `(x, y, z)`, on the scan's own grid.
        like: The scan, whose header is passed on as by `write_label_map`.

    Raises:
        ValueError: If the path ends in none of `SUFFIXES`, or the values have another shape or
            dtype.
    """
    _write(Path(path), values, like, "float32", "none")


class _Nifti(NamedTuple):
    """What a file holds: voxels of 3 axes or 4, where they lie, and its header."""

    voxels: np.ndarray
    placement: Placement
    header: nibabel.Nifti1Header


def _read_nifti(path: str | AnyPath) -> _Nifti:
    path = Path(path) if isinstance(path, str) else path
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise ValueError(f"{printable(path)} is not a file.")
    with opened(path) as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if compressed else file
        with _decoding(path):
            start = stream.read(MAX_HEADER_BYTES)
            header = parse_header(start)
        placement = find_affine(path, header)
        with _decoding(path):
            header.check_fix(_QUIET)
            given, dtype = header.get_data_shape(), header.get_data_dtype()
        # Checked before the voxels are decompressed, or memory taken for them.
        shape = _without_trailing_axes(given)
        if len(shape) not in (3, 4) or min(shape) < 1 or dtype.kind not in "iuf":
            raise ValueError(
                f"{printable(path)} must hold numbers along 3 axes, or 4 with channels last. "
                f"Received: shape {given} of {dtype}"
            )
        if math.prod(shape) > MAX_VOXELS:
            raise ValueError(
                f"{printable(path)} must have at most {MAX_VOXELS:,} voxels; crop or resample it. "
                f"Received: shape {shape}"
            )
        size = math.prod(shape) * dtype.itemsize
        with _decoding(path):
            content = io.BytesIO()
            content.write(header.binaryblock + start[header.sizeof_hdr :])
            # To the end of the file, where gzip and zip keep their check sums.
            while chunk := stream.read(2**20):
                content.write(chunk)
                if content.tell() > size + MAX_EXTRA_BYTES:
                    raise ValueError(f"it has more than the {size} bytes that its header tells")
            available = content.tell() - header.get_data_offset()
            if available < size:
                raise ValueError(f"it has {available} of the {size} bytes that its header tells")
            nifti = _image_class(header).from_stream(content)
            with np.errstate(all="ignore"):  # scaling may overflow, which is found afterwards
                voxels = np.asanyarray(nifti.dataobj)
    return _Nifti(voxels.reshape(shape), placement, nifti.header)


def _without_trailing_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of 1 behind the third, which some programs write."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _image_class(header: nibabel.Nifti1Header) -> type[nibabel.Nifti1Image]:
    is_second = isinstance(header, nibabel.Nifti2Header)
    return nibabel.Nifti2Image if is_second else nibabel.Nifti1Image


def _require_usable(path: str | AnyPath, channel: np.ndarray) -> None:
    """Raise a `ValueError` unless a channel can be resampled and normalised.

    By a fill or a broken voxel far off, which blends with its neighbours where the volume is
    resampled, all others would become one value once their mean is 0 and their deviation 1.
    """
    lowest, highest = float(channel.min()), float(channel.max())
    if not math.isfinite(highest - lowest):
        raise ValueError(
            f"{printable(path)} must hold finite voxels only; correct them. "
            f"Received: {np.count_nonzero(~np.isfinite(channel))} that are NaN or infinite"
        )
    step = max(1, round((channel.size / SAMPLES) ** (1 / 3)))
    values = np.unique(channel[::step, ::step, ::step])
    outermost = 1 + len(values) // 200
    inner = values[outermost:-outermost]
    is_lost = len(inner) > 20 and inner[-1] - inner[0] < LEAST_CONTRAST * (highest - lowest)
    usual = float(np.median(values))
    furthest = max(lowest, highest, key=lambda value: abs(value - usual))
    if is_lost or abs(furthest) > LARGEST:
        raise ValueError(
            f"{printable(path)} must hold no value beside which all others are lost; replace it by "
            f"one of theirs. Received: {furthest:.5g} among values such as {usual:.5g}"
        )


@contextlib.contextmanager
def _decoding(path: AnyPath) -> Iterator[None]:
    """Turn what gzip and nibabel raise on damaged files into a `ValueError` that names the file."""
    try:
        yield
    except (
        EOFError,
        OSError,
        OverflowError,
        ValueError,
        zlib.error,
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
    ) as error:
        raise ValueError(f"{printable(path)} is not a readable NIfTI file: {error}") from error


def _write(path: Path, voxels: np.ndarray, like: Volume, dtype: str, intent: str) -> None:
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(
            f"A volume's file must end in {' or '.join(SUFFIXES)}. Received: {printable(path)}"
        )
    if voxels.shape != like.image.shape[:3] or voxels.dtype != dtype:
        raise ValueError(
            f"What is written beside a scan must be {dtype} of its shape, {like.image.shape[:3]}. "
            f"Received: {voxels.dtype} of {voxels.shape}"
        )
    header = like.header.copy()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header.set_intent(intent)
    header["cal_min"] = header["cal_max"] = 0  # the window to show it in
    nifti = _image_class(header)(voxels, header.get_best_affine(), header)
    with atomic_write(path) as temporary:
        nifti.to_filename(temporary)
