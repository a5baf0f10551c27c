"""Exports of a run on volumes: what differs from images, which `test_export` has."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
import scipy.special
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_lgmsnet import demo, models
from keras_lgmsnet.data.patches import PreparedVolume, cut_patch, prepare_volumes
from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.data.volumes import load_volumes
from keras_lgmsnet.export import examples as export_examples
from keras_lgmsnet.export.parent import export
from keras_lgmsnet.export.promises import VOLUME_PROMISES
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.recipe.schema import Model, Recipe, VolumeData
from keras_lgmsnet.run import Run
from tests.helpers.runs import scatter
from tests.helpers.volumes import write_msd_folder

# Once: the backend that trains is none of what differs.
pytestmark = [pytest.mark.no_backend, pytest.mark.untraced]

PATCH_SIZE = (32, 32, 32)
# Of few layers, since what an export takes is tracing them for each file.
UNET = Model(network="unet", filters=(4, 8))
CLASSES = ["background", "organ", "tumour"]
RECIPE = Recipe(
    data=VolumeData(
        source="msd_folder",
        patch_size=PATCH_SIZE,
        spacing=(0.4, 0.4, 0.4),  # so fine that volumes are larger than a patch
        intensity_window=(-60.0, 300.0),
    ),
    model=UNET,
)
HELD_OUT = ["case_002", "case_003"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("volumes")
    return {"manual_dir": write_msd_folder(folder / "Task", 4), "data_dir": folder / "prepared"}


@pytest.fixture(scope="module", autouse=True)
def _untrained_networks_may_be_exported() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for precision, promise in VOLUME_PROMISES.items():
            untrained = dataclasses.replace(promise, least_iou=0.0)
            monkeypatch.setitem(VOLUME_PROMISES, precision, untrained)
        yield


def create(channels: int = 1) -> keras.Model:
    shapes = {"input_shape": (*PATCH_SIZE, channels), "num_classes": len(CLASSES)}
    return scatter(models.create(UNET.network, **shapes, **UNET.arguments))


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return create()


@pytest.fixture(scope="module")
def run_directory(folders, network, tmp_path_factory) -> Path:
    """A finished run on volumes, without the training."""
    folder = tmp_path_factory.mktemp("runs") / "volumes"
    folder.mkdir()
    source = load_volumes("msd_folder", **folders, progress=False)
    values = {"recipe": RECIPE.to_dict(), "dataset": source.dataset, "backend": "jax"}
    write_json(folder / "recipe.json", {**values, "versions": {"keras": "3.15"}})
    splits = {"train": ["case_000", "case_001"], "validation": HELD_OUT}
    write_json(folder / "splits.json", splits)
    metrics = {"means": {"dice": 0.625, "hd95": None}, "volumes": 2, "convention": "Each."}
    write_json(folder / "metrics.json", metrics | {"caution": None, "summary": {}})
    fingerprint = VolumeFingerprint.of_volumes(source, splits["train"], RECIPE.data, progress=False)
    fingerprint.write(folder)
    network.save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def patches(run_directory, folders) -> np.ndarray:
    """What the exports are fed with, cut here once more."""
    source = load_volumes("msd_folder", **folders, progress=False)
    fingerprint = VolumeFingerprint.read(run_directory)
    volumes = prepare_volumes(source, HELD_OUT, fingerprint, progress=False)
    middles = [np.argwhere(volumes[id_].segmentation_mask).mean(0).astype(int) for id_ in HELD_OUT]
    return np.stack(
        [
            cut_patch(volumes[id_], middle, PATCH_SIZE)[0]
            for id_, middle in zip(HELD_OUT, middles, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def output_directory(run_directory, folders, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("output") / "exported"
    precisions = ["float32", "float16", "dynamic"]
    exported = export(run_directory, folder, activation="softmax", precisions=precisions, **folders)
    assert exported == json.loads((folder / "export.json").read_text())
    return folder


def run_saved_model(folder: Path, images: np.ndarray) -> np.ndarray:
    serve = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    return serve(image=tf.constant(images))["probabilities"].numpy()


def run_tflite(folder: Path, images: np.ndarray) -> np.ndarray:
    # This interpreter knows builtin operators only.
    serve = Interpreter(str(folder / "model_float32.tflite")).get_signature_runner()
    return np.concatenate([serve(image=image[None])["probabilities"] for image in images])


def run_onnx(folder: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "model_float32.onnx")
    return session.run(["probabilities"], {"image": images})[0]


@pytest.mark.parametrize("run", [run_saved_model, run_tflite, run_onnx])
def test_export_is_the_network(run, output_directory, network, patches) -> None:
    expected = scipy.special.softmax(network.predict_on_batch(patches), axis=-1)
    assert expected.std() > 0.03  # so that networks would be told apart
    np.testing.assert_allclose(run(output_directory, patches), expected, atol=1e-3)


def test_export_tells_how_it_was_made_and_tried(output_directory, folders) -> None:
    exported = json.loads((output_directory / "export.json").read_text())
    tflite = {f"model_{precision}.tflite" for precision in ("float32", "float16", "dynamic")}
    assert exported["files"].keys() == {"saved_model", "model_float32.onnx", *tflite}
    for name, file in exported["files"].items():
        assert VOLUME_PROMISES[file["precision"]].is_kept(file["agreement"])
        if name in tflite:
            assert file["litert"]["delegated_share"] == 1
            assert file["litert"]["not_on_gpu"] == {"RESHAPE": 2}  # the input and the output
    assert exported["network"] == "U-Net"
    assert exported["rank"] == 3
    assert exported["classes"] == CLASSES
    assert exported["compared_on"] == {"subset": "validation", "examples": 2, "of": 2}
    assert exported["metrics"]["count"] == 2
    described = exported["input"]
    assert described["shape"] == [None, *PATCH_SIZE, 1]
    assert (described["dtype"], described["channels"]) == ("float32", ["CT"])
    assert described["spacing"] == [0.4, 0.4, 0.4]
    assert described["normalization"]["intensity_windows"] == [[-60, 300]]
    assert exported["output"]["shape"] == [None, *PATCH_SIZE, 3]
    card = (output_directory / "model_card.md").read_text()
    for words in (
        "Research on segmenting organ, tumour in scans",
        "0.4 × 0.4 × 0.4 mm",
        "Scale CT from -60 to 300, to 0 to 1, and clip",
        "overlaps the next by 50 %",
        "shape (batch, 32, 32, 32, 1)",
        "classes background, organ, tumour.\n   A voxel belongs to its most probable class",
        "Then crop it to the box",
        "one patch each of 2 of the\n2 validation volumes of msd_folder",
        "voxels changed, %",
        "| dice   | 0.6250 |\n| hd95   | –      |",
        "The run's own, on 2 validation volumes",
        VOLUME_PROMISES["float32"].words,
    ):
        assert words in card
    with pytest.raises(ValueError, match=r"2D RGB images.*\(None, 32, 32, 32, 1\)"):
        demo.write_demo(output_directory, output_directory.parent / "demo")


def test_masks_are_of_the_outputs_channels(run_directory, folders, patches) -> None:
    examples = export_examples.read_export_examples(
        Run.read(run_directory), *map(str, folders.values()), calibrate=False
    )
    np.testing.assert_array_equal(examples.inputs, patches)
    np.testing.assert_array_equal(examples.segmentation_masks.sum(-1), 1)
    counts = examples.segmentation_masks[0].sum((0, 1, 2))
    assert counts[1] > counts[2] > 0


def test_patches_lie_in_the_middle_of_what_is_labelled() -> None:
    labels = np.zeros((100, 40, 40), "uint8")
    labels[80:90, 0:10, 20] = 1
    volume = PreparedVolume(labels[..., None], labels, np.flatnonzero(labels))
    assert export_examples._middle(volume) == (84, 4, 20)
    unlabelled = dataclasses.replace(volume, labelled=np.flatnonzero(np.zeros_like(labels)))
    assert export_examples._middle(unlabelled) == (50, 20, 20)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"activation": "sigmoid"}, r"volumes, .* none or softmax. Received: .*='sigmoid'"),
        ({"precisions": ["float32", "int8"]}, r"float32, float16, dynamic only, .*='int8'"),
    ],
)
def test_what_volumes_have_not_is_refused(arguments, words, run_directory, tmp_path) -> None:
    with pytest.raises(ValueError, match=words):
        export(run_directory, tmp_path / "exported", **arguments)
    assert not list(tmp_path.iterdir())


def test_the_demo_refuses_volumes_before_the_export() -> None:
    with pytest.raises(ValueError, match=r"2D images. Received: a run on volumes"):
        demo.require_showable(RECIPE)


def test_other_networks_and_other_data_are_refused(run_directory, folders, tmp_path) -> None:
    run = Run.read(run_directory)
    other = dataclasses.replace(run, network=create(channels=2))
    with pytest.raises(ValueError, match=r"for volumes of shape \(32, 32, 32, 1\).* Received: "):
        export_examples.read_export_examples(other, None, None, calibrate=False)
    with pytest.raises(FileNotFoundError, match=r"held-out volumes are needed .*--manual-dir"):
        export_examples.read_export_examples(
            run, str(tmp_path / "none"), str(tmp_path), calibrate=False
        )
    data = write_msd_folder(tmp_path / "Task", 3)
    with pytest.raises(ValueError, match=r"volumes of msd_folder.* are not those that"):
        export_examples.read_export_examples(run, str(data), str(tmp_path), calibrate=False)
