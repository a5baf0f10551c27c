"""Exports of a run, opened as their users would open them."""

import csv
import dataclasses
import json
import os
import pkgutil
import resource
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import tfds_builders
from keras_lgmsnet import models
from keras_lgmsnet.data import synthetic
from keras_lgmsnet.data.images import preprocess
from keras_lgmsnet.export import child, parent
from keras_lgmsnet.export.agreement import compare, summarize
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.export.examples import read_export_examples, sample
from keras_lgmsnet.export.model_card import (
    describe_input,
    describe_training_data,
    read_classes,
    render_card,
)
from keras_lgmsnet.export.parent import export
from keras_lgmsnet.export.promises import IMAGE_PROMISES, PRECISIONS, Promise
from keras_lgmsnet.export.writers import _gelu_by_erf, open_, with_preprocessing, write
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.inference.windows import sigmoid
from keras_lgmsnet.layers import GroupedConv
from keras_lgmsnet.recipe.schema import Data, Model, Recipe
from keras_lgmsnet.run import Run
from tests.helpers.runs import scatter

SIDES = (32, 64)
# Of few layers, since what an export takes is tracing them for each file; and so wide that
# `dynamic` has kernels to make smaller.
UNET = Model(network="unet", filters=(8, 16))
NUM_IMAGES = 20
NUM_HELD_OUT = 9
EVERY_FILE = {
    "saved_model",
    "model_float32.tflite",
    "model_float16.tflite",
    "model_dynamic.tflite",
    "model_int8.tflite",
    "model_float32.onnx",
}

# What is exported is traced, in a process of its own; here is what it is compared with.
pytestmark = pytest.mark.untraced

# As they are, before the fixture below.
PROMISES = dict(IMAGE_PROMISES)


@pytest.fixture(scope="module", autouse=True)
def _untrained_networks_may_be_exported() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for precision, promise in PROMISES.items():
            untrained = dataclasses.replace(promise, least_iou=0.0)
            monkeypatch.setitem(IMAGE_PROMISES, precision, untrained)
        yield


def create(model: Model, sides: tuple[int | None, int | None] = SIDES) -> keras.Model:
    shapes = {"input_shape": (*sides, 3), "num_classes": 1}
    return scatter(models.create(model.network, **shapes, **model.arguments))


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return create(UNET)


@pytest.fixture(scope="module")
def run_directory(network, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "imagenet"
    write_run(folder)
    network.save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def output_directory(run_directory, tmp_path_factory) -> Path:
    """Every format in every precision, after the first backend one file only."""
    folder = tmp_path_factory.mktemp("output") / "new" / "exported"
    if os.environ.get("LGMSNET_TEST_BACKENDS_DONE"):
        exported = export(run_directory, folder, ["tflite"])
    else:
        exported = export(run_directory, folder, precisions=PRECISIONS)
    assert exported == read(folder)
    return folder


@pytest.fixture(scope="module")
def published(network, tmp_path_factory) -> Path:
    """Of a run with the published preprocessing, with probabilities, not finished."""
    folder = tmp_path_factory.mktemp("runs") / "published"
    write_run(folder, preprocessing="published")
    (folder / "metrics.json").unlink()
    network.save(folder / "model.keras")
    output_directory = folder.parent / "exported"
    export(
        folder,
        output_directory,
        ["tflite"],
        precisions=PRECISIONS,
        activation="sigmoid",
    )
    return output_directory


def write_run(folder: Path, *, model: Model = UNET, **data) -> None:
    """Write all of a run but its network."""
    data = {"source": "synthetic", "num_images": NUM_IMAGES, "image_size": SIDES, **data}
    recipe = Recipe(data=Data(**data), model=model)
    ids = [f"synthetic_{index:05d}" for index in range(NUM_IMAGES)]
    folder.mkdir()
    values = {"recipe": recipe.to_dict(), "dataset": "synthetic/0", "backend": "jax"}
    write_json(folder / "recipe.json", {**values, "versions": {"keras": "3.15"}})
    write_json(
        folder / "splits.json", {"train": ids[NUM_HELD_OUT:], "validation": ids[:NUM_HELD_OUT]}
    )
    metrics = {
        "means": {"iou": 0.625},
        "images": NUM_HELD_OUT,
        "convention": "Alone.",
        "caution": None,
    }
    write_json(folder / "metrics.json", metrics)


def read(folder: Path) -> dict:
    return json.loads((folder / "export.json").read_text())


def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, *SIDES, 3), dtype="uint8")


def run_saved_model(folder: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    serve = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    return {name: value.numpy() for name, value in serve(image=tf.constant(images)).items()}


def run_tflite(folder: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    # This interpreter knows builtin operators only.
    serve = Interpreter(str(folder / "model_float32.tflite")).get_signature_runner()
    outputs = [serve(image=image[None]) for image in images]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def run_onnx(folder: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(folder / "model_float32.onnx")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


# Always written by TensorFlow: another backend's network is read from its file as any other.
RUNTIMES = [
    pytest.param(run_saved_model, marks=pytest.mark.no_backend),
    run_tflite,
    pytest.param(run_onnx, marks=pytest.mark.no_backend),
]


@pytest.mark.parametrize("run", RUNTIMES)
def test_export_is_the_network(run, output_directory, network) -> None:
    logits = network.predict_on_batch(preprocess(pixels()))
    assert sigmoid(logits).std() > 0.05  # so that networks would be told apart
    outputs = run(output_directory, pixels())
    assert outputs.keys() == {"logits"}
    np.testing.assert_allclose(sigmoid(outputs["logits"]), sigmoid(logits), atol=1e-4)


@pytest.mark.no_backend
def test_lgmsnet_is_exported_as_well(tmp_path) -> None:
    """In one format: `test_litert` has its LiteRT models, `test_export_benchmark` its ONNX."""
    run_directory, output_directory = tmp_path / "run", tmp_path / "exported"
    model = Model(dims=(4, 4, 4, 4, 4), kernel_sizes=(3,))
    write_run(run_directory, model=model)
    network = create(model)
    network.save(run_directory / "model.keras")
    exported = export(run_directory, output_directory, ["saved_model"])

    (file,) = exported["files"].values()
    assert IMAGE_PROMISES["float32"].is_kept(file["agreement"])
    assert "the same LGMSNet with its" in (output_directory / "model_card.md").read_text()
    expected = sigmoid(network.predict_on_batch(preprocess(pixels())))
    assert expected.std() > 0.05
    outputs = run_saved_model(output_directory, pixels())
    np.testing.assert_allclose(sigmoid(outputs["logits"]), expected, atol=1e-4)


@pytest.mark.no_backend
def test_published_preprocessing_and_activation_are_inside(published, network) -> None:
    logits = network.predict_on_batch(preprocess(pixels(), "published"))
    outputs = run_tflite(published, pixels())
    assert outputs.keys() == {"probabilities"}
    np.testing.assert_allclose(outputs["probabilities"], sigmoid(logits), atol=1e-4)
    swapped = run_tflite(published, pixels()[..., ::-1])["probabilities"]
    assert np.abs(swapped - outputs["probabilities"]).max() > 1e-4


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("precision", "share"), [("float16", 0.01), ("dynamic", 0.2), ("int8", 0.2)]
)
def test_smaller_precisions_stand_the_published_preprocessing(
    precision, share, published, network
) -> None:
    # Which makes values 255 times as small.
    expected = sigmoid(network.predict_on_batch(preprocess(pixels(), "published")))
    serve = Interpreter(str(published / f"model_{precision}.tflite")).get_signature_runner()
    outputs = np.concatenate([serve(image=image[None])["probabilities"] for image in pixels()])
    assert 0 < np.abs(outputs - expected).mean() < share * expected.std()


@pytest.mark.parametrize("preprocessing", ["imagenet", "published"])
def test_preprocessing_inside_is_the_one_outside(preprocessing) -> None:
    image = keras.Input((*SIDES, 3))
    identity = keras.Model(image, keras.layers.Identity()(image))
    inside = with_preprocessing(identity, preprocessing).predict_on_batch(pixels())
    outside = preprocess(pixels(), preprocessing)
    np.testing.assert_allclose(inside, outside, atol=1e-6 * np.abs(outside).max())


@pytest.mark.tensorflow
@pytest.mark.parametrize("sides", [(1, 1), (1, 2), (2, 1)])
def test_onnx_has_layer_norms_of_a_row_and_of_one_pixel(sides, tmp_path) -> None:
    image = keras.Input((*sides, 3), name="image")
    x = keras.layers.LayerNormalization()(GroupedConv(5, 3)(image))
    y = keras.layers.Dense(5)(keras.layers.LayerNormalization()(x))
    x = keras.layers.LayerNormalization()(keras.layers.Add()([x, y]))
    network = scatter(keras.Model(image, GroupedConv(1, 3)(x)))
    images = np.random.default_rng(0).standard_normal((2, *sides, 3)).astype("float32")
    name = write(deploy(network), tmp_path, "onnx", "float32", {"output": {"name": "logits"}})
    received = open_(tmp_path / name, "onnx", "logits")(images)
    expected = network.predict_on_batch(images)
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4 * expected.std())


@pytest.mark.no_backend
def test_directory_holds_the_files_and_what_is_known_of_them(output_directory) -> None:
    exported = read(output_directory)
    names = {path.name for path in output_directory.iterdir()}
    assert names == EVERY_FILE | {"export.json", "model_card.md", "agreement.csv"}
    assert [path.name for path in output_directory.parent.iterdir()] == ["exported"]
    assert output_directory.stat().st_mode == output_directory.parent.stat().st_mode
    assert exported["files"].keys() == EVERY_FILE
    for name, file in exported["files"].items():
        assert IMAGE_PROMISES[file["precision"]].is_kept(file["agreement"])
        if (path := output_directory / name).is_file():
            assert file["bytes"] == path.stat().st_size
        assert ("litert" in file) == name.endswith(".tflite")
    assert exported["compared_on"] == {"subset": "validation", "examples": 9, "of": 9}
    assert exported["calibrated_on"] == NUM_IMAGES - NUM_HELD_OUT


@pytest.mark.no_backend
def test_who_computes_a_tflite_model_is_told(output_directory, published) -> None:
    for folder in (output_directory, published):
        files = [file for file in read(folder)["files"].values() if file["format"] == "tflite"]
        assert len(files) == len(PRECISIONS)
        for file in files:
            assert file["litert"]["not_delegated"].keys() <= {"CAST"}  # of 8 bits
            assert file["litert"]["max_axes"] == 4
            assert file["litert"]["not_on_gpu"] == {}
    card = (output_directory / "model_card.md").read_text()
    assert "most axes" in card
    described = read(published) | {"files": {}}
    assert "In LiteRT" not in render_card(described)


@pytest.mark.no_backend
def test_agreement_is_told_image_by_image(output_directory) -> None:
    exported = read(output_directory)
    with open(output_directory / "agreement.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in EVERY_FILE:
        own = [row for row in rows if row["file"] == name]
        assert [row["id"] for row in own] == synthetic.generate(NUM_HELD_OUT, SIDES).ids
        mean = np.mean([float(row["iou"]) for row in own])
        assert mean == pytest.approx(exported["files"][name]["agreement"]["iou"])


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("precision", "held"),
    [("float32", None), ("float16", np.float16), ("dynamic", np.int8), ("int8", np.int8)],
)
def test_tflite_models_hold_their_precision(precision, held, output_directory) -> None:
    interpreter = Interpreter(str(output_directory / f"model_{precision}.tflite"))
    types = {detail["dtype"] for detail in interpreter.get_tensor_details()}
    assert types & {np.float16, np.int8} == ({held} if held else set())
    # One of each, since the examples for phones name neither.
    (taken,) = interpreter.get_input_details()
    assert taken["dtype"] is np.uint8
    assert taken["shape"].tolist() == [1, *SIDES, 3]
    (returned,) = interpreter.get_output_details()
    assert returned["dtype"] is np.float32
    assert returned["shape"].tolist() == [1, *SIDES, 1]


@pytest.mark.no_backend
def test_metadata_is_inside_every_file(output_directory) -> None:
    inside = [
        (output_directory / "saved_model/assets.extra/metadata.json").read_text(),
        onnx.load(output_directory / "model_float32.onnx").metadata_props[0].value,
    ]
    for path in output_directory.glob("*.tflite"):
        with zipfile.ZipFile(path) as archive:
            inside.append(archive.read("metadata.json").decode())
    assert len(inside) == len(EVERY_FILE)
    assert len(set(inside)) == 1
    metadata = json.loads(inside[0])
    assert metadata.items() <= read(output_directory).items()
    assert metadata["classes"] == ["lesion"]
    assert metadata["input"]["shape"] == [None, *SIDES, 3]
    assert metadata["provenance"]["dataset"] == "synthetic/0"
    assert metadata["provenance"]["trained_on"]["backend"] == "jax"
    assert metadata["metrics"]["means"] == {"iou": 0.625}


@pytest.mark.no_backend
def test_model_card_tells_what_a_user_must_know(output_directory, published) -> None:
    card = (output_directory / "model_card.md").read_text()
    for words in (
        "Not a medical device",
        "Licence: none needed",
        "9 of the\n9 validation images of synthetic/0, beside",
        "Resize it to 32 × 64 pixels",
        "the same U-Net with its",
        "| iou    | 0.6250 |",
        *EVERY_FILE,
        *(promise.words for promise in IMAGE_PROMISES.values()),
    ):
        assert words in card
    card = (published / "model_card.md").read_text()
    assert "The run is not finished" in card
    assert "where its probability is above 0.5" in card


@pytest.mark.no_backend
def test_model_card_promises_what_the_gate_asks_for(output_directory) -> None:
    card = (output_directory / "model_card.md").read_text()
    section = card.partition("## Agreement")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("|")]
    promised = {file.strip(): promise.strip() for file, *_, promise in rows[2:]}
    files = read(output_directory)["files"]
    assert promised == {
        name: IMAGE_PROMISES[file["precision"]].words for name, file in files.items()
    }


@pytest.mark.no_backend
def test_saved_model_holds_the_deploy_form_only(output_directory, network) -> None:
    reader = tf.train.load_checkpoint(str(output_directory / "saved_model/variables/variables"))
    shapes = reader.get_variable_to_shape_map().values()
    held = sum(np.prod(shape) for shape in shapes if shape)
    assert held == deploy(network).count_params() + 3 * 3 + 3  # and the preprocessing's


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("precision", "limit"), [("float32", 0.0), ("float16", -1.0), ("int8", -1.0)]
)
def test_export_that_disagrees_is_not_written(
    precision, limit, run_directory, output_directory, tmp_path, monkeypatch
) -> None:
    def write_again(*, output_directory: str, source: Path = output_directory, **_) -> None:
        shutil.copytree(source, output_directory, dirs_exist_ok=True)

    monkeypatch.setattr(parent, "_write_in_child", write_again)
    promise = IMAGE_PROMISES[precision]
    impossible = Promise(promise.measure, limit, promise.words)
    monkeypatch.setitem(IMAGE_PROMISES, precision, impossible)
    with pytest.raises(ValueError, match=r"not agree .* as promised, .* nothing was written"):
        export(run_directory, tmp_path / "exported", precisions=PRECISIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.no_backend
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_network_that_finds_nothing_has_nothing_to_lose(precision, monkeypatch) -> None:
    monkeypatch.setitem(IMAGE_PROMISES, precision, PROMISES[precision])
    measures = dict.fromkeys(("max_probability_difference", "changed_pixels", "iou_loss"), 0.0)

    def require(network_iou: float) -> None:
        agreement = measures | {"network_iou": network_iou, "examples": 9}
        file = {"precision": precision, "agreement": agreement}
        parent._require_agreement({"rank": 2, "files": {"file": file}})

    require(0.1)
    if precision in ("dynamic", "int8"):
        with pytest.raises(ValueError, match=r"train it further, .* Received: IoU 0.099 over 9"):
            require(0.099)
    else:
        require(0.0)


@pytest.mark.no_backend
@pytest.mark.parametrize("precision", PRECISIONS)
def test_promises_hold_at_their_limit_and_never_of_nan(precision) -> None:
    promise = IMAGE_PROMISES[precision]
    values = dict.fromkeys(("max_probability_difference", "changed_pixels", "iou_loss"), 0.0)
    assert promise.is_kept(values | {promise.measure: promise.limit})
    assert not promise.is_kept(values | {promise.measure: 1.01 * promise.limit})
    assert not promise.is_kept(values | {"max_probability_difference": float("nan")})


def test_comparison_of_hand_computed_probabilities() -> None:
    masks = np.float32([[1, 1, 0, 0], [0, 0, 0, 0]]).reshape(2, 1, 4, 1)
    expected = np.float32([[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]]).reshape(2, 1, 4, 1)
    exported = np.float32([[0.9, 0.4, 0.1, 0.1], [0.1, 0.1, 0.1, 0.3]]).reshape(2, 1, 4, 1)
    first, second = compare(["a", "b"], masks, expected, exported)
    assert (first["id"], second["id"]) == ("a", "b")
    assert first["max_probability_difference"] == pytest.approx(0.5)
    assert (first["changed_pixels"], first["network_iou"], first["iou"]) == (0.25, 1, 0.5)
    assert (first["network_f1"], first["f1"]) == (1, pytest.approx(2 / 3))
    assert (second["changed_pixels"], second["iou"]) == (0, 1)
    summary = summarize([first, second])
    assert summary["examples"] == 2
    assert summary["max_probability_difference"] == pytest.approx(0.5)
    assert (summary["changed_pixels"], summary["iou_loss"]) == (0.125, 0.25)


def test_comparison_of_classes_that_exclude_one_another() -> None:
    # One example of four voxels; background, a class, one that is absent. The export finds class 1
    # in a voxel of two, and leaves the background's winner in doubt but in place.
    labels = np.array([[0, 0, 1, 1]])
    masks = labels[..., None] == np.arange(3)
    expected = np.where(masks, 0.8, 0.1)
    exported = expected.copy()
    exported[0, 0] = 0.4, 0.3, 0.3
    exported[0, 3] = 0.6, 0.3, 0.1
    (row,) = compare(["a"], masks, expected, exported, exclusive=True)
    assert row["max_probability_difference"] == pytest.approx(0.5)
    assert (row["changed_pixels"], row["network_iou"], row["iou"]) == (0.25, 1, 0.5)
    assert (row["network_f1"], row["f1"]) == (1, pytest.approx(2 / 3))
    # The absent class counts as soon as one of the two finds it.
    exported[0, 1] = 0.1, 0.1, 0.8
    (row,) = compare(["a"], masks, expected, exported, exclusive=True)
    assert (row["network_iou"], row["iou"]) == (1, 0.25)


def test_a_comparison_with_nan_is_nan() -> None:
    ones = np.ones((2, 1, 1, 1), "float32")
    rows = compare(["a", "b"], ones, ones, np.float32([np.nan, 1]).reshape(ones.shape))
    assert np.isnan(summarize(rows)["max_probability_difference"])


@pytest.mark.no_backend
def test_every_dataset_tells_its_licence_and_classes() -> None:
    builders = [
        module.name for module in pkgutil.iter_modules(tfds_builders.__path__) if module.ispkg
    ]
    for name in builders:
        assert len(describe_training_data(name)["licence"]) > 5
    described = describe_training_data("busi/all")
    assert read_classes("busi/all") == read_classes("synthetic") == ["lesion"]
    assert "CC BY 4.0" in described["licence"]
    assert described["citation"].startswith("@article{aldhabyani2020dataset")


@pytest.mark.no_backend
def test_resize_rule_is_the_recipes() -> None:
    described = describe_input(Data(source="busi", image_size=(32, 96), interpolation="lanczos"))
    assert "32 × 96 pixels" in described["resize"]["rule"]
    assert "INTER_LANCZOS4" in described["resize"]["rule"]


@pytest.mark.no_backend
def test_samples_are_drawn_once_and_for_all() -> None:
    ids = [str(number) for number in range(50)]
    assert sample(ids, 50) == ids
    drawn = sample(ids, 20)
    assert len(set(drawn)) == 20
    assert drawn == sorted(drawn, key=int) == sample(ids, 20)


def test_absent_images_are_asked_for(run_directory, tmp_path) -> None:
    write_run(tmp_path / "run", source="busi", num_images=None)
    shutil.copy(run_directory / "model.keras", tmp_path / "run")
    with pytest.raises(
        FileNotFoundError, match=r"--manual-dir .*--data-dir .* busi is neither prepared"
    ):
        child.write_exports(
            tmp_path / "run", tmp_path / "new", [], "none", None, str(tmp_path / "data")
        )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("sides", [(None, None), (32, 32)])
def test_networks_for_other_images_are_refused(sides, run_directory, tmp_path) -> None:
    run = tmp_path / "run"
    write_run(run)
    create(UNET, sides).save(run / "model.keras")
    with pytest.raises(ValueError, match=r"for images of shape \(32, 64, 3\).* Received: "):
        read_export_examples(Run.read(run), None, None, calibrate=False)


@pytest.mark.no_backend
def test_a_failing_child_is_told_in_one_sentence(tmp_path) -> None:
    run_directory = tmp_path / "run"
    write_run(run_directory)
    with zipfile.ZipFile(run_directory / "model.keras", "w") as archive:
        archive.writestr("readme.txt", "no network")
    with pytest.raises(ChildProcessError, match=r"not be exported: .*model.keras is dam") as caught:
        export(run_directory, tmp_path / "exported")
    assert "\n" not in str(caught.value)
    assert "Traceback" in caught.value.__notes__[0]
    assert list(tmp_path.iterdir()) == [run_directory]


@pytest.mark.no_backend
def test_errors_become_one_sentence() -> None:
    sentence = child._sentence
    assert sentence(OSError(28, "No space left on device")) == "No space left on device"
    assert sentence(OSError(28, "No space", "a/b")) == "No space: a/b"
    assert sentence(ValueError("one\ntwo")) == "one two"
    assert sentence(RuntimeError("one\ntwo")) == "RuntimeError: one"


@pytest.mark.no_backend
def test_an_erfc_of_another_kind_is_refused() -> None:
    placeholder = SimpleNamespace(type="Placeholder", inputs=[])
    with pytest.raises(ValueError, match=r"TensorFlow's GELU.* Received: erfc, of Placeholder"):
        _gelu_by_erf(None, SimpleNamespace(inputs=[placeholder]), "erfc", [])


@pytest.mark.no_backend
def test_full_disk_leaves_nothing(run_directory, tmp_path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the child inherits it
    try:
        with pytest.raises(ChildProcessError, match=r"could not be exported: File too large"):
            export(run_directory, tmp_path / "exported", ["tflite"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.no_backend
@pytest.mark.parametrize("formats", [(), ["onnx5"], ["tflite", "TFLITE"], "tflite"])
def test_unknown_formats_are_refused(formats, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"one or more of saved_model, tflite, onnx. Received: "):
        export(tmp_path, tmp_path / "exported", formats)


@pytest.mark.no_backend
def test_unknown_precisions_and_activations_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"of float32, float16, dynamic, int8. Received: "):
        export(tmp_path, tmp_path / "exported", precisions=["int4"])
    with pytest.raises(ValueError, match=r"of none, sigmoid, softmax. Received: activation='tanh'"):
        export(tmp_path, tmp_path / "exported", activation="tanh")
    write_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"images.* none or sigmoid. Received: .*='softmax'"):
        export(tmp_path / "run", tmp_path / "exported", activation="softmax")


@pytest.mark.no_backend
def test_formats_are_written_in_the_precisions_they_have(tmp_path) -> None:
    files = parent._choose_files(["onnx", "tflite", "onnx"], ["int8", "float32"])
    assert files == [("onnx", "float32"), ("tflite", "float32"), ("tflite", "int8")]
    with pytest.raises(ValueError, match=r"saved_model is written in float32 only: .* Received: "):
        export(tmp_path, tmp_path / "exported", precisions=["int8"])


@pytest.mark.no_backend
def test_directories_without_a_network_are_refused(tmp_path) -> None:
    run_directory, output_directory = tmp_path / "run", tmp_path / "exported"
    with pytest.raises(FileNotFoundError, match=r"run is not a run directory"):
        export(run_directory, output_directory)
    write_run(run_directory)
    with pytest.raises(FileNotFoundError, match=r"run has no trained network yet"):
        export(run_directory, output_directory)
    (run_directory / "model.keras").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=r"model.keras is damaged"):
        export(run_directory, output_directory)
    assert not output_directory.exists()


@pytest.mark.no_backend
def test_outputs_are_never_overwritten(tmp_path) -> None:
    run = tmp_path / "run"
    write_run(run)
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        archive.writestr("readme.txt", "no network")
    with pytest.raises(FileExistsError, match=r"is in use: choose another"):
        export(run, run)
    with pytest.raises(FileExistsError, match=r"model.keras is in use"):
        export(run, run / "model.keras")


@pytest.mark.no_backend
def test_missing_packages_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"pip install 'keras-lgmsnet\[export\]'"
    ) as caught:
        export(tmp_path, tmp_path / "exported")
    assert caught.value.name == "tensorflow"
