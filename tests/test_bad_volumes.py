"""Bad volumes in a folder of the user's own, kind by kind.

Each kind is refused in one sentence that names the file, or read as documented.
"""

import gzip
import json
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.helpers.refusals import cut, refused
from tfds_builders import _testing as testing
from tfds_builders.msd_folder import msd_folder_dataset_builder as msd_folder

pytestmark = pytest.mark.no_backend


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "own" / part).mkdir(parents=True)
    for number, name in enumerate("ab"):
        path = f"{name}.nii.gz"
        testing.write_volume(tmp_path / "own/imagesTr" / path, testing.voxels(number))
        testing.write_volume(tmp_path / "own/labelsTr" / path, testing.label_map(number))
    description = {"labels": {"0": "background", "1": "organ", "2": "lesion"}, "numTraining": 2}
    (tmp_path / "own/dataset.json").write_text(json.dumps(description))
    return tmp_path / "own"


def prepare_volumes(folder: Path) -> list[str]:
    config = msd_folder.Config(folder=str(folder))
    builder = msd_folder.Builder(data_dir=folder.parent / "data", config=config)
    builder.download_and_prepare(file_format="array_record")
    return sorted(example["id"].decode() for example in builder.as_data_source("train"))


def nifti(volume: np.ndarray, *fields: tuple[int, str, float], extra: int = 0) -> bytes:
    """A volume with fields of its header changed and surplus bytes at its end."""
    content = bytearray(nibabel.Nifti1Image(volume, testing.AFFINE).to_bytes())
    for offset, layout, value in fields:
        struct.pack_into(layout, content, offset, value)
    return gzip.compress(bytes(content) + bytes(extra))


SHAPE = (5, 5, 6)
ZEROS = np.zeros(SHAPE, "int16")
FLOATS = np.zeros(SHAPE, "float32")
NOT_NIFTI = r"b\.nii\.gz is not a readable NIfTI file: "
REFUSED_VOLUMES = {
    "empty file": (b"", NOT_NIFTI),
    "text": (b"<html>Log in</html>" * 40, NOT_NIFTI),
    "truncated gzip": (cut(nifti(testing.voxels(1))), NOT_NIFTI + "Compressed file ended"),
    "truncated within": (
        gzip.compress(cut(gzip.decompress(nifti(ZEROS)))),
        NOT_NIFTI + r"it has \d+ of the 300 bytes that its header tells",
    ),
    "header alone": (gzip.compress(bytes(348)), NOT_NIFTI),
    "gzip bomb": (nifti(ZEROS, extra=2**25), NOT_NIFTI + "it has more than the 300 bytes"),
    "too many voxels": (
        nifti(ZEROS, (42, "<h", 30_000), (44, "<h", 30_000)),
        r"b\.nii\.gz must have at most 536,870,912 voxels; .* Received: shape \(30000, 30000, 6\)",
    ),
    "negative side": (nifti(ZEROS, (42, "<h", -5)), r"b\.nii\.gz must hold numbers along 3 axes"),
    "voxels far behind": (nifti(ZEROS, (108, "<f", 1e30)), NOT_NIFTI + "it has -"),
    "unknown type": (nifti(ZEROS, (70, "<h", 999)), NOT_NIFTI),
    "colours": (
        nifti(np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        r"b\.nii\.gz must hold numbers along 3 axes",
    ),
    "complex": (nifti(ZEROS.astype("complex64")), r"b\.nii\.gz must hold numbers along 3 axes"),
    "2 axes": (nifti(ZEROS[0]), r"b\.nii\.gz must hold numbers .* Received: shape \(5, 6\)"),
    "5 axes": (nifti(ZEROS[..., None, None].repeat(2, -1)), r"b\.nii\.gz must hold numbers along"),
    "time series": (
        nifti(ZEROS[..., None].repeat(2, -1)),
        r"b\.nii\.gz must have as many channels as dataset\.json names, 1\.",
    ),
    "NaN": (nifti(FLOATS + np.float32(np.nan)), r"b\.nii\.gz must hold finite voxels only"),
    "Inf": (nifti(FLOATS + np.float32(np.inf)), r"b\.nii\.gz must hold finite voxels only"),
    "no affine": (
        nifti(ZEROS, (252, "<h", 0), (254, "<h", 0)),
        r"b\.nii\.gz must tell its orientation and position",
    ),
    "singular affine": (
        nifti(ZEROS, *((offset, "<f", 0) for offset in range(280, 296, 4))),
        r"b\.nii\.gz must have an affine that can be inverted",
    ),
    "spacing of zero": (
        nifti(ZEROS, (252, "<h", 1), (254, "<h", 0), (80, "<f", 0)),
        r"b\.nii\.gz must tell how far apart its voxels are; .* Received: \[0\.0, ",
    ),
    "affine of NaN": (
        nifti(ZEROS, (280, "<f", np.nan)),
        r"b\.nii\.gz must have an affine that can be inverted",
    ),
}
REFUSED_LABELS = {
    "label that is not declared": (nifti(ZEROS + np.int16(3)), "hold the labels 0, 1, 2 only.*: 3"),
    "negative label": (nifti(ZEROS - np.int16(1)), "hold the labels 0, 1, 2 only.*: -1"),
    "NaN": (nifti(FLOATS + np.float32(np.nan)), "hold the labels 0, 1, 2 only.*: nan"),
    "another shape": (nifti(ZEROS[1:]), r"its image's size, \(5, 5, 6\). Received: \(4, 5, 6\)"),
    "elsewhere": (nifti(ZEROS, (292, "<f", 50)), r"lie where its image lies, .* mm away"),
    "4 axes": (nifti(ZEROS[..., None].repeat(2, -1)), r"have 3 axes. Received: shape \(5, 5, 6, 2"),
}


@pytest.mark.parametrize("kind", REFUSED_VOLUMES)
def test_volumes_that_are_refused(kind: str, volumes: Path) -> None:
    content, message = REFUSED_VOLUMES[kind]
    (volumes / "imagesTr/b.nii.gz").write_bytes(content)
    with refused("imagesTr/" + message):
        prepare_volumes(volumes)


@pytest.mark.parametrize("kind", REFUSED_LABELS)
def test_label_maps_that_are_refused(kind: str, volumes: Path) -> None:
    content, message = REFUSED_LABELS[kind]
    (volumes / "labelsTr/b.nii.gz").write_bytes(content)
    with refused(r"labelsTr/b\.nii\.gz must .*" + message):
        prepare_volumes(volumes)


DESCRIPTION = r"dataset\.json "
REFUSED_DESCRIPTIONS = {
    "empty": (b"", DESCRIPTION + "cannot be read as JSON"),
    "cut short": (b'{"labels": {"0": "a"', DESCRIPTION + "cannot be read as JSON"),
    "not UTF-8": (b'{"labels": "\xff"}', DESCRIPTION + "cannot be read as JSON: 'utf-8' codec"),
    "deeply nested": (b"[" * 100_000, DESCRIPTION + "cannot be read as JSON: .*recursion"),
    "too long": (b" " * (2**24 + 1), DESCRIPTION + "must have at most 16,777,216 bytes"),
    "a number": (b"1", DESCRIPTION + "must hold an object with the object labels"),
    "no labels": (b"{}", DESCRIPTION + "must hold an object with the object labels"),
    "empty labels": (b'{"labels": {}}', DESCRIPTION + "must give each label an integer"),
    "channels as a number": (
        b'{"labels": {"0": "a"}, "modality": 1}',
        DESCRIPTION + "must name the channels in modality by an object. Received: 1",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_DESCRIPTIONS)
def test_descriptions_that_are_refused(kind: str, volumes: Path) -> None:
    content, message = REFUSED_DESCRIPTIONS[kind]
    (volumes / "dataset.json").write_bytes(content)
    with refused(message):
        prepare_volumes(volumes)


def test_a_folder_named_as_the_description_is_refused(volumes: Path) -> None:
    (volumes / "dataset.json").unlink()
    (volumes / "dataset.json").mkdir()
    with refused(r"dataset\.json cannot be read: .*Is a directory"):
        prepare_volumes(volumes)


READ_VOLUMES = {
    "scaled": nifti(ZEROS, (112, "<f", 0.5), (116, "<f", -3)),
    "surplus bytes": nifti(ZEROS, extra=1000),
    "not compressed": gzip.decompress(nifti(ZEROS)),
    "spacing of zero, which the affine knows better": nifti(ZEROS, (80, "<f", 0)),
}


@pytest.mark.parametrize("kind", READ_VOLUMES)
def test_volumes_that_are_read(kind: str, volumes: Path) -> None:
    (volumes / "imagesTr/b.nii.gz").write_bytes(READ_VOLUMES[kind])
    assert prepare_volumes(volumes) == ["a", "b"]


def test_a_description_with_a_byte_order_mark_is_read(volumes: Path) -> None:
    path = volumes / "dataset.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert prepare_volumes(volumes) == ["a", "b"]
