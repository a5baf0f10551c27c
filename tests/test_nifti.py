"""NIfTI files: read with their space, and written into it.

What is refused is tested in `test_bad_volumes.py`, by way of the builders.
"""

import gzip
import re
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from keras_lgmsnet.files.nifti import read_label_map, read_volume, write_label_map, write_map
from keras_lgmsnet.files.volume import Volume

pytestmark = pytest.mark.no_backend

RNG = np.random.default_rng(0)
VALUES = RNG.integers(-1000, 1000, (5, 4, 3), dtype="int16")
OBLIQUE = np.array([[0, -0.5, 1, 9], [0.9, 0, 0.1, -7], [0, 0.6, 2, 3], [0, 0, 0, 1]])
LABELS = {0: "background", 1: "spleen", 7: "aorta"}


def save(path: Path, values: np.ndarray, affine: np.ndarray = OBLIQUE, **fields) -> Path:
    """Save a scan with something in every field of the header that a writer may lose."""
    header = nibabel.Nifti1Image(values, affine).header
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=2)
    header.set_xyzt_units("mm", "sec")
    header.set_intent("z score", name="z")
    header.set_dim_info(0, 1, 2)
    header["descrip"], header["aux_file"] = b"a scanner", b"a file"
    header["cal_min"], header["cal_max"] = -175, 250
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"an extension"))
    for name, value in fields.items():
        header[name] = value
    nibabel.Nifti1Image(values, None, header).to_filename(path)
    return path


def test_a_scan_is_read_as_nibabel_reads_it(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii.gz", VALUES))
    assert volume.image.dtype == "float32"
    np.testing.assert_array_equal(volume.image, VALUES[..., None])
    expected = nibabel.load(tmp_path / "a.nii.gz")
    assert volume.affine.dtype == "float64"
    np.testing.assert_array_equal(volume.affine, expected.affine)
    assert volume.grid.shape == VALUES.shape
    assert volume.grid.spacing == pytest.approx(expected.header.get_zooms(), rel=1e-6)


def test_content_tells_what_is_compressed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", VALUES)
    (tmp_path / "b.nii").write_bytes(path.read_bytes())
    (tmp_path / "c.nii.gz").write_bytes(gzip.decompress(path.read_bytes()))
    for name in ("b.nii", "c.nii.gz"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).image[..., 0], VALUES)


def test_values_are_scaled(tmp_path: Path) -> None:
    content = bytearray(nibabel.Nifti1Image(VALUES, OBLIQUE).to_bytes())
    struct.pack_into("<ff", content, 112, 0.5, -24)
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_array_equal(
        read_volume(tmp_path / "a.nii").image[..., 0], VALUES.astype("float32") / 2 - 24
    )


@pytest.mark.parametrize(
    ("shape", "channels"), [((5, 4, 3), 1), ((5, 4, 3, 1), 1), ((5, 4, 3, 2), 2)]
)
def test_channels_are_the_last_axis(shape: tuple, channels: int, tmp_path: Path) -> None:
    values = RNG.random(shape, "float32")
    image = read_volume(save(tmp_path / "a.nii", values)).image
    np.testing.assert_array_equal(image, values.reshape(5, 4, 3, channels))


@pytest.mark.parametrize("further", [(1,), (1, 1), (1, 1, 1)])
def test_trailing_axes_of_1_are_dropped(further: tuple, tmp_path: Path) -> None:
    values = VALUES.reshape(*VALUES.shape, *further)
    image = read_volume(save(tmp_path / "a.nii", values)).image
    np.testing.assert_array_equal(image, VALUES[..., None])
    mask, _ = read_label_map(save(tmp_path / "b.nii", values // 2000 + 1), {0: "a", 1: "b"})
    np.testing.assert_array_equal(mask, VALUES // 2000 + 1)
    flat = RNG.random((5, 4, 1, 1), "float32")
    np.testing.assert_array_equal(read_volume(save(tmp_path / "c.nii", flat)).image, flat)


CLASSES = RNG.integers(0, 3, (5, 4, 3))
THREE = {0: "background", 1: "organ", 2: "tumour"}


@pytest.mark.parametrize("factor", [0.99999994, 1.00000006, 1.002, 0.998])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_that_miss_integers_by_rounding_are_read(
    dtype: str, factor: float, tmp_path: Path
) -> None:
    save(tmp_path / "a.nii", (CLASSES * factor).astype(dtype))
    mask, _ = read_label_map(tmp_path / "a.nii", THREE)
    assert mask.dtype == "uint8"
    np.testing.assert_array_equal(mask, CLASSES)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_labels_that_nibabel_scaled_are_read(dtype: str, tmp_path: Path) -> None:
    nifti = nibabel.Nifti1Image(CLASSES.astype("float64"), OBLIQUE)
    nifti.set_data_dtype(dtype)
    nifti.to_filename(tmp_path / "a.nii")
    assert np.asanyarray(nibabel.load(tmp_path / "a.nii").dataobj).max() != 2  # by rounding
    mask, _ = read_label_map(tmp_path / "a.nii", THREE)
    np.testing.assert_array_equal(mask, CLASSES)


@pytest.mark.parametrize(
    "value", [0.9882, 1.006, 0.5, 1.7, 255.9, -0.0051, 257.0, np.nan, np.inf, -np.inf, 3e38]
)
def test_labels_that_miss_integers_by_more_are_refused(value: float, tmp_path: Path) -> None:
    labels = CLASSES.astype("float32")
    labels[2, 1, 1] = value
    save(tmp_path / "a.nii", labels)
    message = r"a\.nii must hold the labels 0, 1, 2 only\. "
    with pytest.raises(ValueError, match=message + re.escape(f"Received: {np.float32(value)}")):
        read_label_map(tmp_path / "a.nii", THREE)


@pytest.mark.parametrize(
    ("far", "width"), [(-1024, 0.003), (-3.4e38, 100), (3.4e38, 100), (1e20, 100), (-1e9, 0.1)]
)
@pytest.mark.parametrize("voxels", [1, 300])
def test_values_beside_which_all_others_are_lost_are_refused(
    voxels: int, far: float, width: float, tmp_path: Path
) -> None:
    values = RNG.uniform(0, width, (12, 11, 10)).astype("float32")
    values.ravel()[:voxels] = far
    save(tmp_path / "a.nii", values)
    message = r"a\.nii must hold no value beside which all others are lost; replace it .*"
    with pytest.raises(ValueError, match=message + re.escape(f"Received: {far:.5g} among values")):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("far", [-1024, 3e4, 1e6])
def test_values_far_off_are_read_where_others_can_be_told_apart(far: float, tmp_path: Path) -> None:
    values = RNG.uniform(0, 300, (12, 11, 10)).astype("float32")
    values[0, 0, 0] = far
    np.testing.assert_array_equal(read_volume(save(tmp_path / "a.nii", values)).image[0, 0, 0], far)
    few = np.zeros((12, 11, 10), "float32")
    few[0, 0, 0] = far
    np.testing.assert_array_equal(read_volume(save(tmp_path / "a.nii", few)).image[..., 0], few)


@pytest.mark.parametrize(
    ("unit", "millimetres"), [("unknown", 1), ("mm", 1), ("meter", 1000), ("micron", 0.001)]
)
def test_the_affine_is_in_millimetres(unit: str, millimetres: float, tmp_path: Path) -> None:
    nifti = nibabel.Nifti1Image(VALUES, OBLIQUE)
    nifti.header.set_xyzt_units(unit)
    nifti.to_filename(tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine[:3], millimetres * OBLIQUE[:3], rtol=1e-6)
    write_label_map(tmp_path / "b.nii", np.zeros(VALUES.shape, "uint8"), volume)
    written = nibabel.load(tmp_path / "b.nii")
    assert written.header.get_xyzt_units()[0] == unit
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "a.nii").affine)


class TestWriting:
    @pytest.fixture(params=["a.nii.gz", "a.nii"])
    def scan(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        return save(tmp_path / request.param, VALUES)

    def check_space(self, path: Path, scan: Path, values: np.ndarray) -> nibabel.Nifti1Image:
        """Check that all of the header that is not about values is the scan's."""
        written, expected = nibabel.load(path), nibabel.load(scan)
        np.testing.assert_array_equal(np.asanyarray(written.dataobj), values)
        assert np.asanyarray(written.dataobj).dtype == values.dtype  # not scaled
        np.testing.assert_array_equal(written.affine, expected.affine)
        for form in ("qform", "sform"):
            affine, code = getattr(written, f"get_{form}")(coded=True)
            expected_affine, expected_code = getattr(expected, f"get_{form}")(coded=True)
            assert code == expected_code
            np.testing.assert_array_equal(affine, expected_affine)
        about_values = {"dim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter"}
        about_values |= {"intent_code", "intent_name", "cal_min", "cal_max"}
        for name in set(expected.header) - about_values:
            np.testing.assert_array_equal(written.header[name], expected.header[name], name)
        assert [extension.get_content() for extension in written.header.extensions] == [
            extension.get_content() for extension in expected.header.extensions
        ]
        assert written.header["cal_max"] == written.header["cal_min"] == 0
        is_compressed = path.read_bytes()[:2] == b"\x1f\x8b"
        assert is_compressed == path.name.endswith(".gz")
        return written

    @pytest.mark.parametrize("name", ["seg.nii.gz", "seg.nii"])
    def test_labels_lie_where_the_scan_lies(self, name: str, scan: Path, tmp_path: Path) -> None:
        labels = RNG.choice(np.uint8([0, 1, 7, 255]), VALUES.shape)
        write_label_map(tmp_path / name, labels, read_volume(scan))
        written = self.check_space(tmp_path / name, scan, labels)
        assert written.header.get_intent()[0] == "label"
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([scan.name, name])

    def test_maps_lie_where_the_scan_lies(self, scan: Path, tmp_path: Path) -> None:
        values = RNG.random(VALUES.shape, "float32")
        write_map(tmp_path / "b.nii.gz", values, read_volume(scan))
        written = self.check_space(tmp_path / "b.nii.gz", scan, values)
        assert written.header.get_intent()[0] == "none"

    @pytest.mark.parametrize("codes", [(0, 1), (3, 0), (4, 4)])
    def test_either_form_of_an_affine_will_do(self, codes: tuple, tmp_path: Path) -> None:
        qform_code, sform_code = codes
        scan = save(tmp_path / "a.nii", VALUES, qform_code=qform_code, sform_code=sform_code)
        write_label_map(tmp_path / "b.nii", np.ones(VALUES.shape, "uint8"), read_volume(scan))
        self.check_space(tmp_path / "b.nii", scan, np.ones(VALUES.shape, "uint8"))

    def test_one_channel_becomes_three_axes(self, tmp_path: Path) -> None:
        scan = save(tmp_path / "a.nii", VALUES[..., None])
        write_label_map(tmp_path / "b.nii", np.ones(VALUES.shape, "uint8"), read_volume(scan))
        written = self.check_space(tmp_path / "b.nii", scan, np.ones(VALUES.shape, "uint8"))
        assert written.shape == VALUES.shape

    def test_scaling_and_byte_order_of_the_scan_are_left_behind(self, tmp_path: Path) -> None:
        nifti = nibabel.Nifti1Image(VALUES, OBLIQUE, nibabel.Nifti1Header(endianness=">"))
        content = bytearray(nifti.to_bytes())
        struct.pack_into(">ff", content, 112, 0.5, -24)
        (tmp_path / "a.nii").write_bytes(content)
        volume = read_volume(tmp_path / "a.nii")
        assert volume.image.min() == VALUES.min() / 2 - 24
        write_label_map(tmp_path / "b.nii", np.full(VALUES.shape, 7, "uint8"), volume)
        labels, affine = read_label_map(tmp_path / "b.nii", LABELS)
        assert (labels == 7).all()
        np.testing.assert_array_equal(affine, volume.affine)

    @pytest.mark.parametrize(
        ("name", "labels", "message"),
        [
            ("b.png", np.zeros(VALUES.shape, "uint8"), r"must end in .nii.gz or .nii. .*b\.png"),
            ("b.nii", np.zeros((5, 4), "uint8"), r"uint8 of its shape, \(5, 4, 3\).* of \(5, 4\)"),
            ("b.nii", np.zeros(VALUES.shape), r"uint8 of its shape, .* Received: float64"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, name: str, labels: np.ndarray, message: str, scan: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=message):
            write_label_map(tmp_path / name, labels, read_volume(scan))
        assert [path.name for path in tmp_path.iterdir()] == [scan.name]

    def test_what_was_there_stays_if_writing_fails(
        self, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(nifti: nibabel.Nifti1Image, path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))

        volume: Volume = read_volume(scan)
        (tmp_path / "b.nii").write_bytes(b"before")
        monkeypatch.setattr(nibabel.Nifti1Image, "to_filename", full)
        with pytest.raises(OSError, match=r"No space left"):
            write_label_map(tmp_path / "b.nii", np.zeros(VALUES.shape, "uint8"), volume)
        assert (tmp_path / "b.nii").read_bytes() == b"before"
        assert len(list(tmp_path.iterdir())) == 2


def test_labels_without_affine_are_read(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", np.ones((2, 2, 2), "float64"), qform_code=0, sform_code=0)
    labels, affine = read_label_map(tmp_path / "a.nii", LABELS)
    assert labels.dtype == "uint8"
    assert labels.shape == (2, 2, 2)
    assert affine is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.nii", r"absent\.nii cannot be read: .*No such file"),
        ("folder.nii", r"folder\.nii is not a file"),
        (
            "text.nii",
            r"text\.nii is not a readable NIfTI file: it has no NIfTI header; .* dcm2niix",
        ),
        (
            "slice.dcm",
            r"slice\.dcm is not a readable NIfTI file: it has no NIfTI header; .* dcm2niix",
        ),
    ],
)
def test_what_is_no_volume(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "text.nii").write_text("no volume")
    (tmp_path / "slice.dcm").write_bytes(bytes(128) + b"DICM" + bytes(1000))
    with pytest.raises(ValueError, match=message):
        read_volume(tmp_path / name)
