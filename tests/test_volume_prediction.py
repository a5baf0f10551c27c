"""Prediction of volumes: label maps in the scans' own space, and whatever is in folders."""

import csv
import dataclasses
import gzip
import json
from pathlib import Path

import click.testing
import keras
import nibabel
import numpy as np
import pytest
import scipy.ndimage
from scipy.spatial.transform import Rotation

from keras_lgmsnet.cli.predict import predict as lgms_predict
from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.inference.volumes import predict_volumes
from keras_lgmsnet.recipe.schema import Data, Recipe, VolumeData

SIDE = 32
RECIPE = Recipe(data=VolumeData(source="btcv", patch_size=(SIDE,) * 3, overlap=0.25))
FINGERPRINT = VolumeFingerprint(
    num_volumes=2,
    channels=("CT",),
    labels=("background", "organ", "tumour"),
    spacing=(1.5, 1.25, 2.0),
    normalization="window",
    intensity_windows=((-100, 300),),
    ranges={
        **{f"spacing along {axis} in mm": (0.5, 5) for axis in "xyz"},
        **{f"size along {axis} in mm": (2, 100) for axis in "xyz"},
        **{f"CT percentile {percentile}": (-100, 300) for percentile in (5, 50, 95)},
    },
)
ORGAN, TUMOUR = 140, 300  # Hounsfield units
# The axes point to the head, the left and the back, each turned by up to 20°.
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = (
    Rotation.from_rotvec([0.2, -0.3, 0.1]).as_matrix()
    @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    @ np.diag([2.5, 0.9, 0.8])
)
OBLIQUE[:3, 3] = [30, 55, -70]
SHAPE = (21, 50, 47)


def write_run(
    folder: Path, num_classes: int = 3, channels: int = 1, fill: float = 1.0, **changes
) -> Path:
    """A run whose network finds an organ above 60 HU, and a tumour above 220 HU."""
    image = keras.Input((SIDE, SIDE, SIDE, channels))
    layer = keras.layers.Conv3D(num_classes, 1, kernel_initializer="zeros")
    network = keras.Model(image, layer(image))
    weights = fill * np.array([[0, 20, 60], [0, -8, -40]], "float32")[:, :num_classes]
    kernel = np.zeros((1, 1, 1, channels, num_classes), "float32")
    kernel[0, 0, 0, 0] = weights[0]
    layer.set_weights([kernel, weights[1]])
    folder.mkdir(parents=True)
    network.save(folder / "model.keras")
    write_json(folder / "recipe.json", {"recipe": RECIPE.to_dict(), "backend": "torch"})
    dataclasses.replace(FINGERPRINT, **changes).write(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


def positions(shape: tuple, affine: np.ndarray) -> np.ndarray:
    return nibabel.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


def patient(shape: tuple = SHAPE, affine: np.ndarray = OBLIQUE) -> tuple[np.ndarray, np.ndarray]:
    """A scan of water with an organ, and a tumour in it to the right; and its label map."""
    at = positions(shape, affine)
    centre = at.reshape(-1, 3).mean(axis=0)
    image = np.zeros(shape, "float32")
    image[np.linalg.norm(at - centre, axis=-1) < 14] = ORGAN
    image[np.linalg.norm(at - centre - [7, 2, -1], axis=-1) < 6] = TUMOUR
    return image, np.searchsorted([ORGAN, TUMOUR], image, side="right").astype("uint8")


def save(
    path: Path, image: np.ndarray | None = None, affine: np.ndarray = OBLIQUE, **fields
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = patient()[0] if image is None else image
    nifti = nibabel.Nifti1Image(image, affine)
    for name, value in fields.items():
        nifti.header[name] = value
    nifti.to_filename(path)
    return path


def read(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def dice(mask: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.sum(mask & other) / (np.sum(mask) + np.sum(other))


def test_labels_lie_where_the_structures_lie(run: Path, tmp_path: Path) -> None:
    image, truth = patient()
    scan = save(tmp_path / "scan.nii.gz", image, descrip=b"oblique", xyzt_units=2, cal_max=250)
    (row,) = predict_volumes(run, scan, tmp_path / "seg.nii.gz")
    assert written(tmp_path) == ["scan.nii.gz", "seg.json", "seg.nii.gz"]
    found, expected = nibabel.load(tmp_path / "seg.nii.gz"), nibabel.load(scan)
    labels = read(tmp_path / "seg.nii.gz")
    assert labels.dtype == "uint8"
    assert labels.shape == image.shape
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert nibabel.aff2axcodes(found.affine) == ("S", "L", "P")
    for name in ("qform_code", "sform_code", "pixdim", "descrip", "xyzt_units"):
        np.testing.assert_array_equal(found.header[name], expected.header[name])
    at = positions(image.shape, OBLIQUE)
    for label, name in enumerate(("organ", "tumour"), start=1):
        mask, true_mask = labels == label, truth == label
        assert dice(mask, true_mask) > 0.85
        centres = at[mask].mean(axis=0), at[true_mask].mean(axis=0)
        np.testing.assert_allclose(*centres, atol=0.5)  # mm
        volume = mask.sum() * 2.5 * 0.9 * 0.8 / 1000
        assert row.volumes[name] == round(volume, 3)
    # In a viewer that honours the affine, the tumour is to the right of the organ.
    canonical = np.asarray(nibabel.as_closest_canonical(found).dataobj)
    right = [np.nonzero(canonical == label)[0].mean() for label in (1, 2)]
    assert right[1] > right[0] + 3


@pytest.mark.parametrize("spacing", [None, (0.7, 0.8, 4.0)])
def test_without_resampling_labels_are_exact(spacing, tmp_path: Path) -> None:
    affine = np.diag([-1, -1, 1, 1]) @ np.diag([*(spacing or FINGERPRINT.spacing), 1])
    image, truth = patient((33, 40, 20), affine)
    run = write_run(tmp_path / "run", spacing=spacing or FINGERPRINT.spacing)
    predict_volumes(run, save(tmp_path / "a.nii", image, affine), tmp_path / "b.nii")
    np.testing.assert_array_equal(read(tmp_path / "b.nii"), truth)


def test_what_is_told_beside_the_labels(run: Path, tmp_path: Path) -> None:
    scan = save(tmp_path / "scan.nii.gz")
    output = tmp_path / "deep" / "seg.nii.gz"
    (row,) = predict_volumes(run, [scan], output, overlap=0, mirror=True)
    described = json.loads((tmp_path / "deep" / "seg.json").read_text())
    assert "Not a medical device" in described["notice"]
    assert described["scan"] == str(scan)
    assert described["run_directory"] == str(run)
    assert described["labels"] == {"0": "background", "1": "organ", "2": "tumour"}
    assert described["volumes_ml"] == row.volumes
    assert described["shape"] == list(SHAPE)
    assert described["spacing_mm"] == pytest.approx([2.5, 0.9, 0.8])
    assert described["orientation"] == "SLP"
    assert described["unlike_the_training_volumes"] == []
    assert described["method"] == {
        "network_spacing_mm": [1.5, 1.25, 2.0],
        "window_size": [SIDE] * 3,
        "overlap": 0,
        "weighting": "gaussian",
        "mirror": True,
    }
    assert set(described["versions"]) == {"keras_lgmsnet", "keras"}


def test_confidence_is_the_probability_of_the_label(run: Path, tmp_path: Path) -> None:
    affine = np.diag([*FINGERPRINT.spacing, 1])
    image, truth = patient((20, 30, 20), affine)
    scan = save(tmp_path / "scan.nii", image, affine)
    predict_volumes(run, scan, tmp_path / "seg.nii", confidence=True)
    assert written(tmp_path) == ["scan.nii", "seg.json", "seg.nii", "seg_confidence.nii"]
    confidence = nibabel.load(tmp_path / "seg_confidence.nii")
    np.testing.assert_array_equal(confidence.affine, affine)
    assert confidence.get_data_dtype() == "float32"
    share = np.clip((image + 100) / 400, 0, 1)
    logits = np.stack([0 * share, 20 * share - 8, 60 * share - 40])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
    expected = np.take_along_axis(probabilities, truth[None].astype(int), axis=0)[0]
    # Around what is brighter than the darkest, the scan was cropped: that is background.
    (box,) = scipy.ndimage.find_objects(truth > 0, max_label=1)
    cropped = np.ones(image.shape)
    cropped[box] = expected[box]
    np.testing.assert_allclose(confidence.get_fdata(), cropped, atol=1e-5)


def test_one_channel_of_four_axes(run: Path, tmp_path: Path) -> None:
    image, _ = patient()
    predict_volumes(run, save(tmp_path / "a.nii", image[..., None]), tmp_path / "four.nii")
    predict_volumes(run, save(tmp_path / "b.nii", image), tmp_path / "three.nii")
    np.testing.assert_array_equal(read(tmp_path / "four.nii"), read(tmp_path / "three.nii"))


SMALL = np.full((5, 4, 3), ORGAN, "int16")


class TestFolders:
    def test_files_and_folders(self, run: Path, tmp_path: Path) -> None:
        for name in ("b/1.nii.gz", "a/1.nii", "2.NII.GZ", "a/.hidden.nii", "2.json/x.nii"):
            save(tmp_path / "in" / name.lower(), SMALL)
        (tmp_path / "in/2.nii.gz").rename(tmp_path / "in/2.NII.GZ")
        (tmp_path / "in/notes.txt").write_text("no scan")
        again = save(tmp_path / "more/2.nii", SMALL)
        rows = predict_volumes(
            run, [tmp_path / "in", again, again], tmp_path / "out", confidence=True
        )
        names = ["2", "2.json_/x", "a/1", "b/1", "2-2"]
        assert [row.name for row in rows] == names
        assert written(tmp_path / "out") == sorted(
            [
                "lgms-predict.json",
                "results.csv",
                "segmentations/2.json_",
                "confidence/2.json_",
                *(f"confidence/{name}.nii.gz" for name in names),
                *(
                    f"segmentations/{name}.{suffix}"
                    for name in names
                    for suffix in ("json", "nii.gz")
                ),
            ]
        )
        for name in names:
            assert (read(tmp_path / "out/segmentations" / f"{name}.nii.gz") == 1).all()
        # Earlier outputs are no scans.
        (tmp_path / "out").rename(tmp_path / "in/out")
        assert len(predict_volumes(run, tmp_path / "in", tmp_path / "again")) == 4

    def test_table(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "bad.nii").write_text("no volume")
        scans = [save(tmp_path / "a.nii", SMALL, np.diag([2, 2, 2, 1])), tmp_path / "bad.nii"]
        predict_volumes(run, scans, tmp_path / "out")
        with open(tmp_path / "out/results.csv", newline="", encoding="utf-8") as file:
            good, bad = csv.DictReader(file)
        assert good == {
            "path": str(scans[0]),
            "name": "a",
            "status": "predicted",
            "organ, ml": "0.480",
            "tumour, ml": "0.000",
            "flags": "",
            "error": "",
        }
        assert (bad["status"], bad["organ, ml"], bad["flags"]) == ("failed", "", "")
        assert "bad.nii is not a readable NIfTI file" in bad["error"]

    def test_unreadable_scans_do_not_stop_the_rest(self, run: Path, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        good = save(folder / "good.nii.gz", SMALL)
        (folder / "truncated.nii.gz").write_bytes(good.read_bytes()[:-20])
        (folder / "text.nii").write_text("no volume")
        (folder / "link.nii").symlink_to("nowhere")
        save(folder / "nan.nii", np.full((2, 2, 2), np.nan, "float32"))
        save(folder / "channels.nii", np.zeros((2, 2, 2, 2), "float32"))
        content = bytearray(gzip.decompress(good.read_bytes()))
        content[252:256] = bytes(4)  # qform_code and sform_code
        (folder / "nowhere.nii").write_bytes(content)
        save(folder / "vast.nii", SMALL, np.diag([1e4, 1e4, 1e4, 1]))
        rows = {row.name: row for row in predict_volumes(run, folder, tmp_path / "out")}
        assert rows.pop("good").volumes["organ"] > 0
        messages = {
            "truncated": "is not a readable NIfTI file: Compressed file ended",
            "text": "is not a readable NIfTI file",
            "link": "cannot be read",
            "nan": "must hold finite voxels only",
            "channels": "does not fit the network: The image must be of shape (x, y, z, 1)",
            "nowhere": "must tell its orientation and position",
            "vast": "does not fit the network: At a spacing of 1.5 × 1.25 × 2 mm, the volume must",
        }
        assert set(rows) == set(messages)
        for name, message in messages.items():
            assert rows[name].error.startswith(str(folder / name))
            assert message in rows[name].error
            assert "\n" not in rows[name].error
            assert rows[name].volumes is rows[name].flags is None
        assert written(tmp_path / "out/segmentations") == ["good.json", "good.nii.gz"]
        assert not (tmp_path / "out/confidence").exists()


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory) -> Path:
    run = write_run(tmp_path_factory.mktemp("runs") / "run", channels=2)
    ranges = {
        name.replace("CT", channel): ends
        for channel in ("T1", "T2")
        for name, ends in FINGERPRINT.ranges.items()
    }
    windows = ((-100, 300),) * 2
    fingerprint = dataclasses.replace(
        FINGERPRINT, channels=("T1", "T2"), intensity_windows=windows, ranges=ranges
    )
    fingerprint.write(run)
    return run


class TestFilesOfOneChannel:
    """nnU-Net's `NAME_0000`, `NAME_0001` …, which training reads as one scan."""

    AFFINE = np.diag([2, 2, 2, 1])
    T1, T2 = SMALL, SMALL + 7

    def save_channels(self, folder: Path, name: str, suffix: str = ".nii.gz") -> list[Path]:
        return [
            save(folder / f"{name}_{number:04d}{suffix}", image, self.AFFINE)
            for number, image in enumerate([self.T1, self.T2])
        ]

    def test_they_are_one_scan(self, two_channels: Path, tmp_path: Path) -> None:
        self.save_channels(tmp_path / "in/deep", "case")
        self.save_channels(tmp_path / "in", "case", ".NII")
        stacked = np.stack([self.T1, self.T2], axis=-1)
        save(tmp_path / "in/stacked.nii", stacked, self.AFFINE)
        rows = predict_volumes(two_channels, tmp_path / "in", tmp_path / "out")
        names = ["case", "stacked", "deep/case"]
        assert [(row.name, row.error) for row in rows] == [(name, None) for name in names]
        assert rows[0].volumes["organ"] > 0
        assert rows[0].volumes == rows[1].volumes == rows[2].volumes
        labels = [read(tmp_path / f"out/segmentations/{name}.nii.gz") for name in names]
        for other in labels[1:]:
            np.testing.assert_array_equal(labels[0], other)

    def test_of_one_scan_they_may_be_named_alone(self, two_channels: Path, tmp_path: Path) -> None:
        files = self.save_channels(tmp_path, "case")
        (row,) = predict_volumes(two_channels, reversed(files), tmp_path / "seg.nii.gz")
        assert (row.path, row.error) == (str(files[0]), None)
        assert read(tmp_path / "seg.nii.gz").shape == SMALL.shape

    def test_their_name_is_taken(self, two_channels: Path, tmp_path: Path) -> None:
        self.save_channels(tmp_path / "in", "case")
        save(tmp_path / "in/Case.nii", np.stack([self.T1, self.T2], axis=-1), self.AFFINE)
        rows = predict_volumes(two_channels, tmp_path / "in", tmp_path / "out")
        assert [row.name for row in rows] == ["Case", "case_0000"]

    def test_one_alone_is_told_what_it_lacks(self, two_channels: Path, tmp_path: Path) -> None:
        files = self.save_channels(tmp_path, "case")
        (row,) = predict_volumes(two_channels, files[1], tmp_path / "out")
        assert "case_0001.nii.gz does not fit the network: " in row.error
        assert "channels T1, T2; of several files, one a channel, give all, named" in row.error

    def test_they_must_lie_in_one_place(self, two_channels: Path, tmp_path: Path) -> None:
        files = self.save_channels(tmp_path, "case")
        save(files[1], self.T2, np.diag([2, 2, 3, 1]))
        (row,) = predict_volumes(two_channels, files, tmp_path / "out")
        assert "case_0001.nii.gz must lie where its image lies, to half a voxel" in row.error

    def test_numbered_scans_of_one_channel_stay_apart(self, run: Path, tmp_path: Path) -> None:
        self.save_channels(tmp_path / "in", "case")
        rows = predict_volumes(run, tmp_path / "in", tmp_path / "out")
        assert [row.name for row in rows] == ["case_0000", "case_0001"]


def test_scan_outside_the_training_range_is_flagged(run: Path, tmp_path: Path) -> None:
    like, thick = predict_volumes(
        run,
        [
            save(tmp_path / "like.nii", SMALL, np.diag([2, 2, 2, 1])),
            save(tmp_path / "thick.nii", SMALL, np.diag([2, 2, 8, 1])),
        ],
        tmp_path / "out",
    )
    assert like.flags == ()
    assert thick.flags[0] == "voxels are 8 mm apart along z, in training 0.5 to 5"


def test_a_scan_that_lies_elsewhere_than_its_sform_has_it_is_flagged(
    run: Path, tmp_path: Path
) -> None:
    nifti = nibabel.Nifti1Image(SMALL, np.diag([2, 2, 2, 1]))
    nifti.set_qform(nifti.affine, 1)
    nifti.header["srow_x"] *= 2
    nifti.header["vox_offset"] = 352
    (tmp_path / "scan.nii").write_bytes(nifti.header.binaryblock + bytes(4) + SMALL.tobytes("F"))
    (row,) = predict_volumes(run, tmp_path / "scan.nii", tmp_path / "out")
    assert row.flags == (
        "the qform counts, since the sform has voxels of 4 × 2 × 2, pixdim of 2 × 2 × 2",
    )


class TestRefusals:
    """What is refused before anything is written."""

    @pytest.fixture
    def scan(self, tmp_path: Path) -> Path:
        return save(tmp_path / "a.nii", SMALL)

    @pytest.mark.parametrize("taken", ["seg.nii.gz", "seg.json", "seg_confidence.nii.gz"])
    def test_output_file_exists(self, taken: str, run: Path, scan: Path, tmp_path: Path) -> None:
        (tmp_path / taken).write_text("kept")
        with pytest.raises(FileExistsError, match=rf"{taken} exists already: choose another"):
            predict_volumes(run, scan, tmp_path / "seg.nii.gz", confidence=True)
        assert written(tmp_path) == ["a.nii", taken]

    def test_what_is_not_asked_for_may_exist(self, run: Path, scan: Path, tmp_path: Path) -> None:
        (tmp_path / "seg_confidence.nii").write_text("kept")
        predict_volumes(run, scan, tmp_path / "seg.nii")
        assert (tmp_path / "seg_confidence.nii").read_text() == "kept"

    def test_scan_is_not_overwritten(self, run: Path, scan: Path) -> None:
        with pytest.raises(FileExistsError, match=r"a.nii exists already"):
            predict_volumes(run, scan, scan)

    def test_several_scans_to_one_file(self, run: Path, scan: Path, tmp_path: Path) -> None:
        other = save(tmp_path / "b.nii", SMALL)
        with pytest.raises(ValueError, match=r"Of 2 scans, the outputs need a folder"):
            predict_volumes(run, [scan, other], tmp_path / "seg.nii")

    def test_a_dataset_with_its_labels(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "dataset.json").touch()
        with pytest.raises(
            ValueError, match=r"is a dataset, labels and all: .* such as .*imagesTr"
        ):
            predict_volumes(run, tmp_path, tmp_path / "out")

    def test_output_directory_in_use(self, run: Path, scan: Path, tmp_path: Path) -> None:
        with pytest.raises(FileExistsError, match=r"is in use"):
            predict_volumes(run, scan, tmp_path)

    def test_output_named_like_an_image(self, run: Path, scan: Path, tmp_path: Path) -> None:
        message = r"need a folder, such as .*/seg, or of one input a file in \.nii\.gz\. "
        with pytest.raises(ValueError, match=message):
            predict_volumes(run, scan, tmp_path / "seg.png")
        assert written(tmp_path) == ["a.nii"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [("none.nii", r"There is no scan .*none.nii"), ("empty", r"empty holds no scan: .* .nii")],
    )
    def test_absent_scans(self, name: str, message: str, run: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match=message):
            predict_volumes(run, tmp_path / name, tmp_path / "out")

    def test_run_on_images(self, scan: Path, tmp_path: Path) -> None:
        recipe = Recipe(data=Data(source="busi"))
        write_json(tmp_path / "recipe.json", {"recipe": recipe.to_dict()})
        with pytest.raises(ValueError, match=r"Scans need a run on volumes"):
            predict_volumes(tmp_path, scan, tmp_path / "out")

    @pytest.mark.parametrize("arguments", [{"num_classes": 2}, {"channels": 2}])
    def test_other_networks(self, arguments: dict, scan: Path, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", **arguments)
        message = r"from windows of shape \(32, 32, 32, 1\), .* to 3 classes"
        with pytest.raises(ValueError, match=message):
            predict_volumes(run, scan, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_network_of_nan(self, scan: Path, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", fill=float("nan"))
        with pytest.raises(ValueError, match=r"returns numbers that are not finite"):
            predict_volumes(run, scan, tmp_path / "out")

    def test_overlap(self, run: Path, scan: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"overlap must be in \[0, 1\)"):
            predict_volumes(run, scan, tmp_path / "out", overlap=1.0)


class TestCommand:
    def call(self, *arguments: object) -> click.testing.Result:
        return click.testing.CliRunner().invoke(lgms_predict, list(map(str, arguments)))

    @pytest.fixture(autouse=True)
    def _backend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        monkeypatch.setattr(keras.config, "disable_traceback_filtering", lambda: None)

    def test_one_scan(self, run: Path, tmp_path: Path) -> None:
        output = tmp_path / "seg.nii.gz"
        scan = save(tmp_path / "a.nii", SMALL, np.diag([2, 2, 2, 1]))
        result = self.call(run, scan, "-o", output)
        assert result.exit_code == 0, result.output
        assert result.stdout.endswith(
            f"{scan}: organ 0.480 ml, tumour 0.000 ml\n"
            f"1 of 1 volume predicted, 0 flagged: {output}\n"
        )
        assert (read(output) == 1).all()

    def test_an_unreadable_scan(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "a.nii").write_text("no volume")
        result = self.call(run, tmp_path / "a.nii", "-o", tmp_path / "seg.nii.gz")
        assert result.exit_code == 1
        assert "Not predicted:" in result.stderr
        assert written(tmp_path) == ["a.nii"]

    @pytest.mark.parametrize("option", ["--tiles", "--probabilities"])
    def test_options_for_images(self, option: str, run: Path, tmp_path: Path) -> None:
        result = self.call(run, "a.nii", "-o", tmp_path / "out", option)
        assert result.exit_code == 1
        assert result.stderr == (f"Error: {option} is for images, and {run} is a run on volumes.\n")
