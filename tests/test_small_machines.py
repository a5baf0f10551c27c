"""Machines that lack packages, room on a disk, or letters; and the format of prepared copies."""

import csv
import dataclasses
import errno
import importlib.util
import io
import json
import os
import re
import resource
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import keras
import nibabel
import numpy as np
import pytest

from keras_lgmsnet.data import builders
from keras_lgmsnet.data.decoded import load_examples
from keras_lgmsnet.files.writing import atomic_directory, atomic_write, write_text
from keras_lgmsnet.inference.images import predict_images
from keras_lgmsnet.inference.volumes import predict_volumes
from keras_lgmsnet.recipe.loading import load_recipe
from keras_lgmsnet.recipe.schema import Model
from keras_lgmsnet.run import load_network
from keras_lgmsnet.training import train
from keras_lgmsnet.training.finished_epochs import _TensorBoard
from tests import test_figures, test_image_prediction, test_volume_prediction
from tests.helpers.refusals import refused
from tfds_builders.isic2018_task1.isic2018_task1_dataset_builder import Builder

CHECKOUT = Path(__file__).parents[1]

_PREDICT = """
import sys
for name in {blocked}:
    sys.modules[name] = None
from keras_lgmsnet.cli.predict import predict
predict(["volumes", "ł.nii", "-o", "seg.nii"], standalone_mode=False)
predict(["images", "Ł 病.png", "é.png", "-o", "out"])
"""


def modules_of(extra: str) -> set[str]:
    """Return the modules that an extra names, but for those that Keras itself needs."""
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", line)[0] for line in extras["optional-dependencies"][extra]}
    modules = {name.replace("-", "_") for name in names - {"h5py", "keras-lgmsnet"}}
    return {{"scikit_learn": "sklearn"}.get(module, module) for module in modules}


@pytest.mark.no_backend
def test_predict_needs_its_extra_only(tmp_path: Path) -> None:
    """Whatever the terminal can show, and whatever a `keras.json` asks for."""
    test_figures.write_run(
        tmp_path / "images", model=Model(network="unet", arguments={"filters": (4, 8)})
    )
    test_volume_prediction.write_run(tmp_path / "volumes")
    cv2.imwrite(tmp_path / "Ł 病.png", np.full((40, 50, 3), 200, "uint8"))
    (tmp_path / "é.png").write_text("no image")
    affine = np.diag([*test_volume_prediction.FINGERPRINT.spacing, 1])
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 4, 3), "int16"), affine), tmp_path / "ł.nii")
    settings = {"image_data_format": "channels_first", "floatx": "float16"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))

    blocked = modules_of("train") - modules_of("predict")
    assert all(map(importlib.util.find_spec, blocked))  # so they are called this
    assert {"array_record", "sklearn", "tensorflow_datasets"} <= blocked
    child = subprocess.run(
        [sys.executable, "-c", _PREDICT.format(blocked=sorted(blocked))],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONIOENCODING": "cp1252",
            "KERAS_HOME": str(tmp_path),
            "KERAS_BACKEND": keras.backend.backend(),
        },
        capture_output=True,
        encoding="cp1252",
    )
    assert child.returncode == 1, child.stderr  # as of any image that is not predicted
    assert "\\u0142.nii: organ 0.000 ml, tumour 0.000 ml\n" in child.stdout
    assert re.search(r"\\u0141 \\u75c5.png: (lesion|no lesion)", child.stdout)
    assert "1 of 2 images predicted" in child.stdout
    assert "Not predicted: é.png cannot be read" in child.stderr
    assert nibabel.load(tmp_path / "seg.nii").shape == (5, 4, 3)
    assert (tmp_path / "out/masks/Ł 病.png").exists()


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "environment",
    [
        *({"PYTHONIOENCODING": encoding} for encoding in ("cp437", "cp1251", "ascii")),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda environment: next(iter(environment.values())),
)
def test_commands_print_on_any_terminal(environment: dict[str, str]) -> None:
    code = "from keras_lgmsnet.cli.networks import networks; networks()"
    child = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True
    )
    assert child.returncode == 0, child.stderr
    assert b"2,321,393" in child.stdout


@pytest.mark.no_backend
def test_training_prints_on_any_terminal(tmp_path: Path, monkeypatch) -> None:
    """In a program, too, where a volume's organs are printed before the first epoch."""
    (tmp_path / "used").touch()
    terminal = io.TextIOWrapper(io.BytesIO(), "cp1251")
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(FileExistsError):
        train(load_recipe("kits23"), tmp_path)
    fingerprint = dataclasses.replace(
        test_volume_prediction.FINGERPRINT, labels=("background", "Leber × 2", "Łąkotka")
    )
    print(fingerprint.describe(), *fingerprint.labels, flush=True)
    assert rb"\u0141" in terminal.buffer.getvalue()


def test_channels_first_is_no_damaged_model(tmp_path: Path) -> None:
    run = test_image_prediction.write_run(tmp_path / "run")
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"channels-last.*keras\.json.*'channels_first'"):
            load_network(run)
    finally:
        keras.config.set_image_data_format("channels_last")


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Have the system refuse longer files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _write_text(path: Path) -> None:
    write_text(path, 2000 * "x")


def _write_network(path: Path) -> None:
    network = keras.Sequential([keras.Input((8,)), keras.layers.Dense(400)])
    with atomic_write(path) as temporary:
        network.save(temporary)


def _write_folder(path: Path) -> None:
    with atomic_directory(path) as unfinished:
        (unfinished / "figure.png").write_bytes(bytes(2000))


@pytest.mark.no_backend
@pytest.mark.parametrize("write", [_write_text, _write_network, _write_folder])
def test_what_does_not_fit_is_named(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "out.keras"
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large") as raised:
        write(path)
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []  # nothing half written


@pytest.mark.no_backend
def test_curves_that_do_not_fit_are_named(tmp_path: Path, monkeypatch) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with _TensorBoard(tmp_path / "tensorboard") as curves:
        monkeypatch.setattr(curves.training, "flush", fail)
        with pytest.raises(OSError, match="No space left on device") as raised:
            curves.write(1, {"loss": 1.0})
        monkeypatch.undo()
    assert raised.value.filename == str(tmp_path / "tensorboard")


def statuses(output: Path) -> list[tuple[str, str]]:
    with open(output / "results.csv", newline="", encoding="utf-8") as file:
        return [(row["status"], row["flags"]) for row in csv.DictReader(file)]


def test_what_cannot_be_written_stops_no_other_scan(tmp_path: Path) -> None:
    run = test_volume_prediction.write_run(tmp_path / "run")
    affine = np.diag([*test_volume_prediction.FINGERPRINT.spacing, 1])
    rng = np.random.default_rng(0)
    for name, shape in (("a", (40, 40, 40)), ("b", (8, 8, 8))):
        image = rng.integers(0, 400, shape).astype("int16")  # so are the labels, hence long
        nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / f"{name}.nii")
    output = tmp_path / "out"
    with files_of_at_most(6000):
        long, short = predict_volumes(run, [tmp_path / "a.nii", tmp_path / "b.nii"], output)
    assert long.error == f"File too large: {output / 'segmentations/a.nii.gz'}"
    assert short.error is None
    assert short.volumes["organ"] > 0
    assert [status for status, _ in statuses(output)] == ["failed", "predicted"]
    left = sorted(path.name for path in (output / "segmentations").iterdir())
    assert left == ["b.json", "b.nii.gz"]  # nothing half written


def test_what_cannot_be_written_stops_no_other_image(tmp_path: Path) -> None:
    run = test_image_prediction.write_run(tmp_path / "run")
    rng = np.random.default_rng(0)
    for name, side in (("a", 200), ("b", 16)):
        cv2.imwrite(tmp_path / f"{name}.png", rng.integers(0, 256, (side, side, 3), "uint8"))
    output = tmp_path / "out"
    with files_of_at_most(10_000):
        long, short = predict_images(run, [tmp_path / "a.png", tmp_path / "b.png"], output)
    assert long.error == f"File too large: {output / 'overlays/a.png'}"
    assert short.error is None
    assert statuses(output) == [("failed", ""), ("predicted", "not checked")]


@pytest.mark.no_backend
@pytest.mark.parametrize("error", [RuntimeError, OSError])  # array_record's, and Parquet's
def test_a_copy_without_room(error: type[Exception], tmp_path: Path, monkeypatch) -> None:
    def fail(*arguments, **options) -> None:
        raise error("Failed to write: [Errno 28] No space left on device; at byte 98304")

    monkeypatch.setattr(Builder, "download_and_prepare", fail)
    (tmp_path / "manual" / "archive").mkdir(parents=True)
    with refused(f"{tmp_path / 'data'} has no room for isic2018_task1: .*--data-dir"):
        load_examples("isic2018_task1", (4, 4), tmp_path / "manual", tmp_path / "data")


@pytest.mark.no_backend
def test_parquet_holds_what_array_record_holds(tmp_path: Path, monkeypatch) -> None:
    """More than two hundred examples, of which TensorFlow Datasets alone loses some."""
    for part in ("images", "masks"):
        (tmp_path / "folder" / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(230):
        mask = np.zeros((4, 4), "uint8")
        mask[:2] = 255
        cv2.imwrite(
            tmp_path / f"folder/images/{number}.png", rng.integers(0, 256, (4, 4, 3), "uint8")
        )
        cv2.imwrite(tmp_path / f"folder/masks/{number}.png", mask)
    read = {}
    for file_format in ("array_record", "parquet"):
        monkeypatch.setattr(builders, "FILE_FORMAT", file_format)
        read[file_format] = load_examples(
            "image_folder", (4, 4), tmp_path / "folder", tmp_path / file_format, progress=False
        )
        assert list((tmp_path / file_format).rglob(f"*.{file_format}-*"))
    first, second = read.values()
    assert second.ids == first.ids
    assert len(first.ids) == 230
    np.testing.assert_array_equal(second.images, first.images)
    np.testing.assert_array_equal(second.segmentation_masks, first.segmentation_masks)
    with pytest.raises(ValueError, match=r"in the parquet format .* in the array_record format"):
        load_examples(
            "image_folder", (4, 4), tmp_path / "folder", tmp_path / "array_record", progress=False
        )
