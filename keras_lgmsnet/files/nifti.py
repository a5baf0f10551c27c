"""NIfTI files: volumes read with all that their header tells, and written into the same space.

The one reader of volumes and label maps: what `lgms-predict` reads and what the dataset builders
prepare are the same voxels. nibabel decodes, after the header was checked, up to a size that is
known before anything is inflated.
"""

import contextlib
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import nibabel
import numpy as np

from keras_lgmsnet.files.paths import AnyPath, opened, printable
from keras_lgmsnet.files.volume import Volume
from keras_lgmsnet.files.writing import atomic_write
from keras_lgmsnet.geometry import MAX_VOXELS, is_invertible

SUFFIXES = (".nii.gz", ".nii")
HEADER_BYTES = 348
MAX_EXTRA_BYTES = 2**24  # before and after the voxels
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}  # files that tell no unit mean millimetres


def read_volume(path: str | AnyPath) -> Volume:
    """Read a NIfTI image. Its content tells whether it is compressed, not its name.

    Args:
        path: A file, or the file in a zip file, of 3 axes, or 4 with channels last.

    Raises:
        ValueError: If the file is unreadable, has other than 3 or 4 axes, more than `MAX_VOXELS`
            voxels, voxels that are not finite numbers, or no usable affine.

    Example:
    ```python
    volume = read_volume("scan.nii.gz")
    volume.grid.spacing, volume.grid.orientation  # (0.7, 0.7, 5.0), "LPS"
    ```
    """
    nifti, voxels = _read_nifti(path)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite
        voxels = voxels.astype(np.float32, copy=False)
    if not np.isfinite(voxels).all():
        raise ValueError(
            f"{printable(path)} must hold finite voxels only; correct them. "
            f"Received: {np.count_nonzero(~np.isfinite(voxels))} that are NaN or infinite"
        )
    affine = _affine(nifti)
    if affine is None:
        raise ValueError(
            f"{printable(path)} must tell its orientation and position; convert it again from its "
            "source. Received: no affine (qform_code and sform_code are 0)"
        )
    return Volume(voxels if voxels.ndim == 4 else voxels[..., None], affine, nifti.header)


def read_label_map(
    path: str | AnyPath, labels: Mapping[int, str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a NIfTI label map.

    Args:
        path: A file, or the file in a zip file.
        labels: The labels that it may hold, from 0 to 255.

    Returns:
        Labels, `uint8` of shape `(x, y, z)`, and the affine, or `None` if the file has none.

    Raises:
        ValueError: If the file is unreadable, has other than 3 axes or an unknown label.

    Example:
    ```python
    segmentation_mask, affine = read_label_map("label.nii.gz", {0: "background", 1: "liver"})
    ```
    """
    nifti, voxels = _read_nifti(path)
    if voxels.ndim != 3:
        raise ValueError(f"{printable(path)} must have 3 axes. Received: shape {voxels.shape}")
    with np.errstate(invalid="ignore"):  # what does not fit is found below
        mask = voxels.astype(np.uint8)
    known = np.isin(mask, list(labels)) & (mask == voxels)
    if not known.all():
        raise ValueError(
            f"{printable(path)} must hold the labels {', '.join(map(str, labels))} only. "
            f"Received: {voxels[~known][0]}"
        )
    return mask, _affine(nifti)


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


def _read_nifti(path: str | AnyPath) -> tuple[nibabel.Nifti1Image, np.ndarray]:
    path = Path(path) if isinstance(path, str) else path
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise ValueError(f"{printable(path)} is not a file.")
    with opened(path) as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if compressed else file
        with _decoding(path):
            start = stream.read(HEADER_BYTES)
            if start[344:347] != b"n+1":
                raise ValueError(
                    "it has no NIfTI-1 header; volumes are read from .nii and .nii.gz files, to "
                    "which dcm2niix converts DICOM"
                )
            header = nibabel.Nifti1Header(start)
            shape, dtype = header.get_data_shape(), header.get_data_dtype()
        # Checked before the voxels are decompressed, or memory taken for them.
        if len(shape) not in (3, 4) or min(shape) < 1 or dtype.kind not in "iuf":
            raise ValueError(
                f"{printable(path)} must hold numbers along 3 axes, or 4 with channels last. "
                f"Received: shape {shape} of {dtype}"
            )
        if math.prod(shape) > MAX_VOXELS:
            raise ValueError(
                f"{printable(path)} must have at most {MAX_VOXELS:,} voxels; crop or resample it. "
                f"Received: shape {shape}"
            )
        # nibabel would take a distance of 0 for 1 mm.
        distances = nibabel.Nifti1Header(start, check=False)["pixdim"][1:4]
        if header["qform_code"] and not header["sform_code"] and not distances.all():
            raise ValueError(
                f"{printable(path)} must tell how far apart its voxels are; convert it again from "
                f"its source. Received: {distances.tolist()} mm"
            )
        size = math.prod(shape) * dtype.itemsize
        with _decoding(path):
            content = io.BytesIO()
            content.write(start)
            # To the end of the file, where gzip and zip keep their check sums.
            while chunk := stream.read(2**20):
                content.write(chunk)
                if content.tell() > size + MAX_EXTRA_BYTES:
                    raise ValueError(f"it has more than the {size} bytes that its header tells")
            available = content.tell() - header.get_data_offset()
            if available < size:
                raise ValueError(f"it has {available} of the {size} bytes that its header tells")
            nifti = nibabel.Nifti1Image.from_stream(content)
            voxels = np.asanyarray(nifti.dataobj)
    if not is_invertible(nifti.affine):
        raise ValueError(
            f"{printable(path)} must have an affine that can be inverted; convert it again from "
            f"its source. Received: {nifti.affine.tolist()}"
        )
    return nifti, voxels


def _affine(nifti: nibabel.Nifti1Image) -> np.ndarray | None:
    """Return the affine in millimetres, or `None` if the file has none."""
    header = nifti.header
    if not header["qform_code"] and not header["sform_code"]:
        return None
    unit, _ = header.get_xyzt_units()
    return np.diag([*[MILLIMETRES.get(unit, 1.0)] * 3, 1.0]) @ nifti.affine


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
    nifti = nibabel.Nifti1Image(voxels, header.get_best_affine(), header)
    with atomic_write(path) as temporary:
        nifti.to_filename(temporary)
