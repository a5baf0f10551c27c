"""Headers whose fields disagree or are damaged, beside SimpleITK's and nibabel's reading.

By design, three kinds of headers are read otherwise than by one of the two:

- The sform's voxels have other sizes than `pixdim`: nibabel takes the sform, ITK the sizes of
  `pixdim`; here, the qform, or else the file is refused.
- Both forms have the same sizes but are turned otherwise: ITK takes the one or the other by their
  codes; here as in nibabel, the sform.
- The sform is sheared, as of a tilted gantry: ITK refuses it; here it is read as in nibabel.
"""

import gzip
import itertools
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from keras_lgmsnet.files.nifti import read_label_map, read_volume, write_label_map
from keras_lgmsnet.files.volume import Volume
from tests.helpers.grids import DIRECTIONS

pytestmark = pytest.mark.no_backend

VALUES = np.random.default_rng(0).integers(0, 1000, (5, 4, 3), "int16")
CLASSES = (nibabel.Nifti1Image, nibabel.Nifti2Image)


def save(
    path: Path,
    header: nibabel.Nifti1Header,
    values: np.ndarray = VALUES,
    offset: float | None = None,
) -> Path:
    """Save a header as it is, which nibabel would mend, with values."""
    header = header.copy()
    header.set_data_dtype(values.dtype)
    for number, side in enumerate((values.ndim, *values.shape)):
        header["dim"][number] = side
    header["vox_offset"] = header.single_vox_offset if offset is None else offset
    header["magic"] = header.single_magic
    extension = bytes(header.single_vox_offset - header.sizeof_hdr)
    path.write_bytes(header.binaryblock + extension + values.tobytes("F"))
    return path


def header_of(
    qform: np.ndarray | None = None,
    sform: np.ndarray | None = None,
    *,
    image_class: type[nibabel.Nifti1Image] = nibabel.Nifti1Image,
    codes: tuple[int, int] = (1, 2),
    **fields,
) -> nibabel.Nifti1Header:
    header = image_class.header_class()
    header.set_data_shape(VALUES.shape)
    if qform is not None:
        header.set_qform(qform, codes[0])
    if sform is not None:
        header.set_sform(sform, codes[1])
    header.set_xyzt_units("mm")
    for name, value in fields.items():
        header[name] = value
    return header


def affine_of(sizes, rotation=(0.2, -0.3, 0.1), offset=(3, -40, 7)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(rotation).as_matrix() @ np.diag(sizes)
    affine[:3, 3] = offset
    return affine


TRUE = affine_of((0.5078125, 0.5078125, 1.2))


@pytest.mark.parametrize("image_class", CLASSES)
@pytest.mark.parametrize("code", [1, 4])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (0.5078125, 0.5078125, 1), (0.509, 0.5078125, 1.2)])
def test_a_sform_of_other_sizes_gives_way_to_the_qform(
    sizes: tuple, code: int, image_class: type, tmp_path: Path
) -> None:
    header = header_of(TRUE, affine_of(sizes), codes=(1, code), image_class=image_class)
    volume = read_volume(save(tmp_path / "a.nii", header))
    np.testing.assert_allclose(volume.affine, TRUE, atol=1e-5)
    assert re.fullmatch(
        r"the qform counts, since the sform has voxels of .*, pixdim of 0\.5078 × 0\.5078 × 1\.2",
        volume.remark,
    )
    assert volume.grid.voxel_volume == pytest.approx(0.5078125**2 * 1.2 / 1000, rel=1e-5)
    # The scan's header is passed on as it is, and read alike.
    write_label_map(tmp_path / "b.nii", np.ones(VALUES.shape, "uint8"), volume)
    _, affine = read_label_map(tmp_path / "b.nii", {1: "organ"})
    np.testing.assert_array_equal(affine, volume.affine)
    np.testing.assert_array_equal(
        nibabel.load(tmp_path / "b.nii").affine, nibabel.load(tmp_path / "a.nii").affine
    )


def test_sizes_that_differ_by_rounding_do_not_count(tmp_path: Path) -> None:
    sform = affine_of((0.508, 0.508, 1.2005), rotation=(0, 0, 1))
    volume = read_volume(save(tmp_path / "a.nii", header_of(TRUE, sform)))
    np.testing.assert_allclose(volume.affine, sform, atol=1e-5)
    assert volume.remark is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"qform_code": -1},
        {"qform_code": 9},
        {"qform_code": 1, "quatern_b": 1, "quatern_c": 1},
        {"qform_code": 1, "quatern_b": np.nan},
        {"qform_code": 1, "qoffset_x": np.inf},
    ],
    ids=str,
)
def test_a_sform_of_other_sizes_alone_is_refused(fields: dict, tmp_path: Path) -> None:
    header = header_of(None, affine_of((1, 1, 1)), pixdim=[1, 2, 2, 2, 0, 0, 0, 0], **fields)
    save(tmp_path / "a.nii", header)
    message = r"a\.nii must have voxels of the same sizes in its sform and in pixdim; correct .*"
    message += "Received: 1 × 1 × 1 in the sform, 2 × 2 × 2 in pixdim"
    with pytest.raises(ValueError, match=message):
        read_volume(tmp_path / "a.nii")
    with pytest.raises(ValueError, match=message):  # where labels lie is compared, too
        read_label_map(tmp_path / "a.nii", {0: "background"})


def test_a_sform_that_cannot_be_inverted_gives_way_to_the_qform(tmp_path: Path) -> None:
    header = header_of(TRUE, np.diag([0, 0, 0, 1]))
    volume = read_volume(save(tmp_path / "a.nii", header))
    np.testing.assert_allclose(volume.affine, TRUE, atol=1e-5)
    assert volume.remark == "the qform counts, since the sform cannot be inverted"


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_what_is_written_beside_a_scan_of_a_damaged_sform_goes_by_the_qform(
    value: float, tmp_path: Path
) -> None:
    header = header_of(TRUE, TRUE)
    header["srow_y"] = value
    volume = read_volume(save(tmp_path / "a.nii", header))
    write_label_map(tmp_path / "b.nii", np.ones(VALUES.shape, "uint8"), volume)
    np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii").affine, TRUE, atol=1e-5)


# b, c, d of a turn by 180° about an axis between y and z: its first component is 0.
TURN = np.array([0, np.sqrt(0.5), np.sqrt(0.5)])


@pytest.mark.parametrize("image_class", CLASSES)
@pytest.mark.parametrize("excess", [0, 1e-8, 6.4e-7, 1e-3, 9e-3])
def test_a_quaternion_longer_than_1_is_normalised(
    excess: float, image_class: type, tmp_path: Path
) -> None:
    b, c, d = TURN * np.sqrt(1 + excess)
    header = header_of(image_class=image_class, qform_code=1, quatern_b=b, quatern_c=c, quatern_d=d)
    volume = read_volume(save(tmp_path / "a.nii", header))
    expected = [[-1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-6)
    write_label_map(tmp_path / "b.nii", np.ones(VALUES.shape, "uint8"), volume)
    _, affine = read_label_map(tmp_path / "b.nii", {1: "organ"})
    np.testing.assert_allclose(affine, expected, atol=1e-6)
    np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii").affine, expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.8, 30, np.nan, np.inf])
def test_what_is_no_quaternion_of_a_rotation_is_refused(value: float, tmp_path: Path) -> None:
    header = header_of(qform_code=1, quatern_b=value, quatern_c=0.8)
    save(tmp_path / "a.nii", header)
    with pytest.raises(ValueError, match=r"a\.nii must have an affine that can be inverted"):
        read_volume(tmp_path / "a.nii")


def test_an_undefined_unit_means_millimetres(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii", header_of(TRUE, xyzt_units=7 + 24)))
    np.testing.assert_allclose(volume.affine, TRUE, atol=1e-5)


@pytest.mark.parametrize(
    ("offset", "image_class"),
    [
        *itertools.product([0, 348, 351, -352], CLASSES),
        (352.5, nibabel.Nifti1Image),
        (np.nan, nibabel.Nifti1Image),
        (352, nibabel.Nifti2Image),
    ],
)
def test_voxels_within_the_header_are_refused(
    offset: float, image_class: type, tmp_path: Path
) -> None:
    header = header_of(TRUE, image_class=image_class)
    save(tmp_path / "a.nii", header, offset=offset)
    least = header.single_vox_offset
    message = (
        rf"a\.nii is not a readable NIfTI file: its voxels must begin at byte {least} or later"
    )
    with pytest.raises(ValueError, match=message):
        read_volume(tmp_path / "a.nii")


def test_half_of_a_pair_is_refused(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(VALUES, np.eye(4)).to_filename(tmp_path / "a.hdr")
    with pytest.raises(ValueError, match=r"a\.hdr is .* half of a pair, .* save the pair as one"):
        read_volume(tmp_path / "a.hdr")


@pytest.mark.parametrize("compressed", [True, False])
def test_nifti_2_is_read_and_written(compressed: bool, tmp_path: Path) -> None:
    nifti = nibabel.Nifti2Image(VALUES, TRUE)
    nifti.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"an extension"))
    content = nifti.to_bytes()
    (tmp_path / "a.nii").write_bytes(gzip.compress(content) if compressed else content)
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.image[..., 0], VALUES)
    np.testing.assert_array_equal(volume.affine, TRUE)
    labels = (VALUES > 500).astype("uint8")
    write_label_map(tmp_path / "b.nii.gz", labels, volume)
    written = nibabel.load(tmp_path / "b.nii.gz")
    assert isinstance(written, nibabel.Nifti2Image)
    assert [extension.get_content() for extension in written.header.extensions]
    mask, affine = read_label_map(tmp_path / "b.nii.gz", {0: "background", 1: "organ"})
    np.testing.assert_array_equal(mask, labels)
    np.testing.assert_array_equal(affine, TRUE)


@st.composite
def headers(draw: st.DrawFn) -> nibabel.Nifti1Header:
    """Headers with either form or both, scaled otherwise, permuted, with longer quaternions."""
    sizes = np.array(draw(st.tuples(*[st.floats(0.3, 8)] * 3)))
    affine = np.eye(4)
    affine[:3, :3] = (
        Rotation.from_rotvec(draw(st.tuples(*[st.floats(-3, 3)] * 3))).as_matrix()
        @ draw(st.sampled_from(DIRECTIONS))
        @ np.diag(sizes)
    )
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    scales = draw(
        st.sampled_from([(1, 1, 1), (1, 1, 1.0004), (2, 2, 2), (1, 1, 1.01), (0.5, 1, 3)])
    )
    codes = draw(st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 4), (0, 4), (0, 0), (-1, 2)]))
    header = header_of(
        affine,
        affine @ np.diag([*scales, 1]),
        image_class=draw(st.sampled_from(CLASSES)),
        xyzt_units=draw(st.sampled_from([0, 1, 2, 3, 10])),
    )
    header["pixdim"][1:4] = sizes
    # Of a rotation by nearly 180°, a quaternion of another length is another rotation: two readers
    # that take different forms, where there are two, would disagree.
    quaternion = [float(header[f"quatern_{axis}"]) for axis in "bcd"]
    if min(codes) <= 0 or 1 - np.square(quaternion).sum() > 0.05:
        length = draw(st.sampled_from([1, 1 + 1e-7, 1 + 1e-4, 1 - 1e-4]))
        for axis, component in zip("bcd", quaternion, strict=True):
            header[f"quatern_{axis}"] = component * length
    header["pixdim"][0] *= draw(st.sampled_from([1, 1, 0.5]))
    header["qform_code"], header["sform_code"] = codes
    return header


sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_by_itk(path: Path) -> np.ndarray | None:
    """Return a file's affine in RAS, or `None` where ITK refuses it."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) @ np.diag(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def read_or_refuse(path: Path) -> Volume | None:
    try:
        return read_volume(path)
    except ValueError as error:
        if path.name in str(error):
            return None
        raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volumes")


@settings(deadline=None, max_examples=150)
@given(headers())
def test_geometry_is_itks_or_refused(folder: Path, header: nibabel.Nifti1Header) -> None:
    path = save(folder / "a.nii", header)
    volume, expected = read_or_refuse(path), read_by_itk(path)
    if volume is None:  # without a form that has the sizes
        assert header["qform_code"] <= 0
    elif expected is not None:
        affine = volume.affine
        scale = np.abs(expected[:3, :3]).max()
        np.testing.assert_allclose(affine[:3, :3], expected[:3, :3], atol=2e-3 * scale)
        np.testing.assert_allclose(affine[:3, 3], expected[:3, 3], rtol=1e-5, atol=1e-3 * scale)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]),
    st.sampled_from("<>"),
    st.sampled_from([(0, 0), (1, 0), (0.5, -24), (np.nan, 0), (1e-3, 1e3), (1, np.nan), (3e38, 0)]),
    st.sampled_from([(5, 4, 3), (5, 4, 3, 2), (5, 4, 3, 1), (5, 4, 3, 1, 1), (5, 1, 1)]),
    st.integers(0, 2**32 - 1),
)
def test_voxels_are_nibabels_or_refused(
    folder: Path, dtype: str, order: str, scaling: tuple, shape: tuple, seed: int
) -> None:
    values = np.random.default_rng(seed).uniform(0, 120, shape).astype(order + dtype)
    header = nibabel.Nifti1Header(endianness=order)
    header.set_sform(TRUE, 1)
    header["pixdim"][1:4] = 0.5078125, 0.5078125, 1.2
    header["scl_slope"], header["scl_inter"] = scaling
    path = save(folder / "b.nii", header, values)
    volume = read_or_refuse(path)
    if volume is None:
        assert not np.isfinite(scaling[1]) or scaling[0] > 1e38
        return
    image = volume.image
    with np.errstate(over="ignore"):
        expected = np.asanyarray(nibabel.load(path).dataobj).astype("float32")
    np.testing.assert_array_equal(image.ravel(), expected.ravel())
    assert image.shape == (*shape, 1)[:4]
