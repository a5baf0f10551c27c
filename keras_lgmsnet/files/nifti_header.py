"""NIfTI headers: which of their fields count, where others disagree or are damaged.

nibabel and the NIfTI reference (`nifti1_io`), on which ITK builds, read most headers alike. Where
they do not, the rules are here.
"""

from typing import NamedTuple

import nibabel
import numpy as np

from keras_lgmsnet.files.paths import AnyPath, printable
from keras_lgmsnet.geometry import is_invertible

MAX_HEADER_BYTES = nibabel.Nifti2Header.sizeof_hdr
MILLIMETRES = {1: 1000.0, 3: 0.001}  # a metre and a micrometre; any other code means millimetres
SIZES_ALIKE = 1e-3  # relative; header fields are float32, some programs round them to 4 digits
QUATERNION_EXCESS = 0.01  # by which b² + c² + d² may exceed 1; what is beyond was never a rotation


class Placement(NamedTuple):
    """Where a file's voxels lie.

    Args:
        affine: From a voxel's indices to RAS+ millimetres, `float64` of shape `(4, 4)`; `None` if
            neither form of the header tells it.
        remark: Why not as the sform has it, if there is one that does not count.
    """

    affine: np.ndarray | None
    remark: str | None = None


def parse_header(start: bytes) -> nibabel.Nifti1Header:
    """Return the header at the start of a file, NIfTI-1 or NIfTI-2, as it is.

    Args:
        start: The file's first `MAX_HEADER_BYTES`, or all it has.

    Raises:
        ValueError: If there is none, or it says that voxels begin within it.
        nibabel.wrapstruct.WrapStructError: If it is cut short.
    """
    if start[344:347] == b"ni1" or start[4:7] == b"ni2":
        raise ValueError("it is half of a pair, .hdr and .img; save the pair as one .nii file")
    if start[344:347] == b"n+1":
        header_class = nibabel.Nifti1Header
    elif start[4:7] == b"n+2":
        header_class = nibabel.Nifti2Header
    else:
        raise ValueError(
            "it has no NIfTI header; volumes are read from .nii and .nii.gz files, to which "
            "dcm2niix converts DICOM"
        )
    header = header_class(start[: header_class.sizeof_hdr], check=False)
    offset, least = float(header["vox_offset"]), header_class.single_vox_offset
    # nibabel takes 0, and then reads the header as voxels.
    if not offset >= least or offset % 1:
        raise ValueError(
            f"its voxels must begin at byte {least} or later (vox_offset); convert it again from "
            f"its source. Received: {offset:g}"
        )
    return header


def find_affine(path: AnyPath, header: nibabel.Nifti1Header) -> Placement:
    """Return where a file's voxels lie, and mend the header for those who read it next.

    The sform counts where its voxels have the sizes in `pixdim`, as nibabel has it. Otherwise the
    qform, whose voxels have them by definition, as ITK has it: a sform of other sizes was scaled to
    an atlas, or only one of the two was changed.

    A quaternion that is longer than 1 by rounding is normalised, and any negative `pixdim[0]`
    stands for -1, as in the NIfTI reference; nibabel refuses the one and ignores the other. A
    `pixdim` of 0 tells nothing. In the header these become what they stand for.

    Args:
        path: The file, for messages.
        header: As `parse_header` returns it.

    Raises:
        ValueError: If the sform's voxels have other sizes and there is no valid qform, or the only
            form cannot be inverted.
    """
    has_qform, has_sform = (1 <= header[f"{form}form_code"] <= 5 for form in "qs")
    if not has_qform and not has_sform:
        return Placement(None)
    with np.errstate(all="ignore"):  # damaged headers hold any number
        sizes = np.abs(header["pixdim"][1:4].astype("float64"))
        sform, qform = header.get_sform(), _qform(header, sizes)
        sform_sizes = nibabel.affines.voxel_sizes(sform)
        told = sizes != 0
        agree = (np.abs(sform_sizes - sizes) <= SIZES_ALIKE * sizes)[told].all()
    remark = None
    if has_sform and agree and is_invertible(sform):
        affine = sform
        header["pixdim"][1:4] = np.where(told, sizes, sform_sizes)
    elif has_qform and is_invertible(qform):
        affine = qform
        if has_sform:
            if is_invertible(sform):
                reason = f"has voxels of {_describe(sform_sizes)}, pixdim of {_describe(sizes)}"
            else:
                reason = "cannot be inverted"
                header["sform_code"] = 0  # what is written with this header goes by the qform
            remark = f"the qform counts, since the sform {reason}"
    elif has_sform and is_invertible(sform):
        raise ValueError(
            f"{printable(path)} must have voxels of the same sizes in its sform and in pixdim; "
            "correct the wrong one, or convert it again from its source. Received: "
            f"{_describe(sform_sizes)} in the sform, {_describe(sizes)} in pixdim"
        )
    elif not has_sform and not told.all():
        raise ValueError(
            f"{printable(path)} must tell how far apart its voxels are; convert it again from its "
            f"source. Received: {sizes.tolist()} mm"
        )
    else:
        raise ValueError(
            f"{printable(path)} must have an affine that can be inverted; convert it again from "
            f"its source. Received: {(sform if has_sform else qform).tolist()}"
        )
    scale = MILLIMETRES.get(int(header["xyzt_units"]) % 8, 1.0)
    return Placement(np.diag([scale, scale, scale, 1.0]) @ affine, remark)


def _qform(header: nibabel.Nifti1Header, sizes: np.ndarray) -> np.ndarray:
    """Return the affine by the quaternion, which is mended; NaN where it is none of a rotation."""
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    fields = [f"quatern_{axis}" for axis in "bcd"]
    quaternion = np.array([header[field] for field in fields], "float64")
    square = quaternion @ quaternion
    affine = np.full((4, 4), np.nan)
    if square <= 1 + QUATERNION_EXCESS:
        if square > 1:
            quaternion /= np.sqrt(square)
            for field, value in zip(fields, quaternion, strict=True):
                header[field] = value
        real = 1 - square
        # Less than that is rounding of float32, to the reference, too.
        rotation = nibabel.quaternions.quat2mat([np.sqrt(real) if real >= 1e-7 else 0, *quaternion])
        affine[:3, :3] = rotation * (sizes * [1, 1, header["pixdim"][0]])
        affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
        affine[3] = 0, 0, 0, 1
    return affine


def _describe(sizes: np.ndarray) -> str:
    return " × ".join(f"{size:.4g}" for size in sizes)
