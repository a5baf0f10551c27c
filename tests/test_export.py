"""Exports of a run, opened as their users would open them."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_lgmsnet import LGMSNet2D, export
from keras_lgmsnet._export_on_tensorflow import _compare, _describe_input
from keras_lgmsnet.data.images import preprocess
from keras_lgmsnet.recipe import Data, Model, Recipe

RECIPE = Recipe(
    data=Data(source="isic2018_task1", image_size=(32, 64)),
    model=Model(num_classes=2, dims=(4, 4, 4, 4, 4), kernel_sizes=(3,)),
)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A network with every weight and statistic away from where it starts."""
    network = LGMSNet2D(
        input_shape=(32, 64, 3), num_classes=2, dims=(4, 4, 4, 4, 4), kernel_sizes=(3,)
    )
    rng = np.random.default_rng(0)
    for variable in network.weights:
        start = 1 if variable.name in ("gamma", "moving_variance") else 0
        # Kernels keep the variance of their input.
        width = np.sqrt(3 / np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.4
        variable.assign((start + rng.uniform(-width, width, variable.shape)).astype("float32"))
    return network


@pytest.fixture(scope="module")
def run_directory(network, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    network.save(folder / "model.keras")
    write_recipe(folder)
    return folder


@pytest.fixture(scope="module")
def output_directory(run_directory, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("output") / "new" / "exported"
    assert export.export(run_directory, folder) == json.loads((folder / "export.json").read_text())
    return folder


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 256, (3, 32, 64, 3), dtype="uint8")
    return preprocess(noise)


@pytest.fixture(scope="module")
def probabilities(network, images) -> np.ndarray:
    return sigmoid(network.predict_on_batch(images))


def write_recipe(run_directory: Path) -> None:
    (run_directory / "recipe.json").write_text(json.dumps({"recipe": RECIPE.to_dict()}))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def test_the_network_tells_exports_apart(probabilities) -> None:
    assert probabilities.std() > 0.05


def test_saved_model_is_the_network(output_directory, images, probabilities) -> None:
    serve = tf.saved_model.load(str(output_directory / "saved_model")).signatures["serving_default"]
    logits = serve(image=tf.constant(images))["logits"].numpy()
    np.testing.assert_allclose(sigmoid(logits), probabilities, atol=1e-4)


def test_tflite_is_the_network(output_directory, images, probabilities) -> None:
    # This interpreter knows builtin operators only.
    serve = Interpreter(str(output_directory / "model.tflite")).get_signature_runner()
    assert serve.get_input_details()["image"]["shape"].tolist() == [1, 32, 64, 3]
    logits = np.concatenate([serve(image=image[None])["logits"] for image in images])
    np.testing.assert_allclose(sigmoid(logits), probabilities, atol=1e-4)


def test_directory_holds_the_exports_and_what_is_known_of_them(output_directory) -> None:
    exported = json.loads((output_directory / "export.json").read_text())
    names = {path.name for path in output_directory.iterdir()}
    assert names == {"export.json", "saved_model", "model.tflite"}
    assert [path.name for path in output_directory.parent.iterdir()] == ["exported"]
    assert output_directory.stat().st_mode == output_directory.parent.stat().st_mode
    assert exported["formats"].keys() == {"saved_model", "tflite"}
    for result in exported["formats"].values():
        assert 0 <= result["max_probability_difference"] <= 1e-4
        assert result["changed_pixels"] <= 1e-3
    tflite = exported["formats"]["tflite"]
    assert tflite["bytes"] == (output_directory / tflite["path"]).stat().st_size
    assert exported["input"]["shape"] == [None, 32, 64, 3]
    assert exported["output"]["shape"] == [None, 32, 64, 2]


def test_saved_model_holds_no_optimizer(output_directory, network) -> None:
    reader = tf.train.load_checkpoint(str(output_directory / "saved_model/variables/variables"))
    shapes = reader.get_variable_to_shape_map().values()
    assert sum(np.prod(shape) for shape in shapes if shape) == network.count_params()


@pytest.mark.parametrize(("tolerance", "difference"), [(0, None), (1e-4, float("nan"))])
def test_export_that_disagrees_is_not_written(
    tolerance, difference, run_directory, output_directory, tmp_path, monkeypatch
) -> None:
    def write_again(_, folder: Path, formats) -> None:
        shutil.copytree(output_directory, folder)
        if difference is not None:
            exported = json.loads((folder / "export.json").read_text())
            exported["formats"]["tflite"]["max_probability_difference"] = difference
            (folder / "export.json").write_text(json.dumps(exported))

    monkeypatch.setattr(export, "_write_formats", write_again)
    with pytest.raises(ValueError, match=r"export differ .* nothing was written"):
        export.export(run_directory, tmp_path / "exported", tolerance=tolerance)
    assert not list(tmp_path.iterdir())


@pytest.mark.no_backend
def test_comparison_of_hand_computed_logits() -> None:
    compared = _compare(np.float32([0, np.log(3), -1, -50]), np.float32([0, 0, 1, -60]))
    assert compared["max_probability_difference"] == pytest.approx(sigmoid(1) - sigmoid(-1))
    assert compared["max_logit_difference"] == 10
    assert compared["changed_pixels"] == 0.5


@pytest.mark.no_backend
def test_a_comparison_with_nan_is_nan() -> None:
    compared = _compare(np.float32([0, 0]), np.float32([0, np.nan]))
    assert np.isnan(compared["max_probability_difference"])


@pytest.mark.no_backend
@pytest.mark.parametrize("preprocessing", ["imagenet", "published"])
def test_described_input_is_the_training_input(preprocessing) -> None:
    described = _describe_input(Data(source="isic2018_task1", preprocessing=preprocessing))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype="uint8")
    ordered = pixels if described["channel_order"] == "RGB" else pixels[..., ::-1]
    by_formula = (ordered - np.array(described["mean"])) / described["std"]
    np.testing.assert_allclose(by_formula, preprocess(pixels, preprocessing), rtol=1e-3, atol=1e-6)


@pytest.mark.no_backend
def test_a_failing_child_is_told_in_one_sentence(tmp_path) -> None:
    run_directory = tmp_path / "run"
    run_directory.mkdir()
    write_recipe(run_directory)
    with zipfile.ZipFile(run_directory / "model.keras", "w") as archive:
        archive.writestr("readme.txt", "no network")
    with pytest.raises(ChildProcessError, match=r"run could not be exported: .*Error: ") as caught:
        export.export(run_directory, tmp_path / "exported")
    assert "\n" not in str(caught.value)
    assert "Traceback" in caught.value.__notes__[0]
    assert list(tmp_path.iterdir()) == [run_directory]


@pytest.mark.no_backend
@pytest.mark.parametrize("formats", [(), ["onnx"], ["tflite", "TFLITE"], "tflite"])
def test_unknown_formats_are_refused(formats, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"one or more of saved_model, tflite. Received: "):
        export.export(tmp_path, tmp_path / "exported", formats)


@pytest.mark.no_backend
def test_directories_without_a_network_are_refused(tmp_path) -> None:
    run_directory, output_directory = tmp_path / "run", tmp_path / "exported"
    with pytest.raises(FileNotFoundError, match=r"run is not a run directory"):
        export.export(run_directory, output_directory)
    run_directory.mkdir()
    write_recipe(run_directory)
    with pytest.raises(FileNotFoundError, match=r"run has no trained network yet"):
        export.export(run_directory, output_directory)
    (run_directory / "model.keras").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=r"model.keras is damaged"):
        export.export(run_directory, output_directory)
    assert not output_directory.exists()


@pytest.mark.no_backend
def test_outputs_are_never_overwritten(tmp_path) -> None:
    write_recipe(tmp_path)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("readme.txt", "no network")
    with pytest.raises(FileExistsError, match=r"is in use: choose another"):
        export.export(tmp_path, tmp_path)
    with pytest.raises(FileExistsError, match=r"model.keras is in use"):
        export.export(tmp_path, tmp_path / "model.keras")


@pytest.mark.no_backend
def test_missing_packages_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"pip install 'keras-lgmsnet\[export\]'"
    ) as caught:
        export.export(tmp_path, tmp_path / "exported")
    assert caught.value.name == "tensorflow"
