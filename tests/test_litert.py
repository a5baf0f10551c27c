"""LiteRT models of the deploy form: the same logits, and nothing that a phone would stumble on."""

from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_lgmsnet.export.litert import GPU_OPERATORS, inspect_tflite, to_tflite
from keras_lgmsnet.export.promises import PRECISIONS
from keras_lgmsnet.inference.windows import sigmoid
from tests.helpers import litert

pytestmark = pytest.mark.tensorflow


UNETS = ("unet", "unet_lms", "unet_gms")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("litert")
    litert.main(folder)
    return folder


def logits_of(content: bytes, images: np.ndarray) -> np.ndarray:
    # This interpreter knows builtin operators only.
    serve = Interpreter(model_content=content).get_signature_runner("serving_default")
    return np.concatenate([serve(image=image[None])["logits"] for image in images])


@pytest.mark.parametrize(
    ("name", "inputs", "tolerance"),
    [
        ("float32", "images", 1e-4),
        ("float16", "images", 0.01),
        ("dynamic", "images", 0.2),
        ("int8", "images", 0.2),
        ("volumes", "volumes", 1e-3),
        ("silent", "silent", 0.1),
        *((name, "images", 1e-4) for name in UNETS),
        ("unet_int8", "images", 0.2),
    ],
)
def test_models_are_the_network(name, inputs, tolerance, folder) -> None:
    known = np.load(folder / "logits.npz")
    logits = logits_of((folder / f"{name}.tflite").read_bytes(), known[inputs])
    of = name.removesuffix("_int8") if name.startswith("unet") else inputs
    expected = known[f"{of}_logits"]
    assert expected.std() > 0.3
    np.testing.assert_allclose(sigmoid(logits), sigmoid(expected), atol=tolerance)
    assert np.abs(sigmoid(logits) - sigmoid(expected)).mean() < tolerance / 5


@pytest.mark.parametrize("name", [*PRECISIONS, *UNETS, "unet_int8"])
def test_images_stay_on_the_fast_kernels(name, folder) -> None:
    inspection = inspect_tflite((folder / f"{name}.tflite").read_bytes())
    assert inspection.max_axes == 4
    assert inspection.delegated_share == 1
    assert not inspection.not_delegated
    assert not inspection.not_on_gpu


def test_volumes_are_computed_by_image_operators(folder) -> None:
    inspection = inspect_tflite((folder / "volumes.tflite").read_bytes())
    assert {name for name, _ in inspection.operators} <= GPU_OPERATORS
    assert inspection.delegated_share == 1
    assert inspection.max_axes == 5
    # The input and the logits are volumes, and nothing between.
    assert inspection.not_on_gpu == {"RESHAPE": 2}


def test_int8_convolves_in_int8_and_attends_in_float(folder) -> None:
    operators = inspect_tflite((folder / "int8.tflite").read_bytes()).operators
    assert operators["CONV_2D", "INT8"] > 50
    assert operators["DEPTHWISE_CONV_2D", "INT8"] > 0
    assert operators["CONV_2D", "FLOAT32"] == operators["DEPTHWISE_CONV_2D", "FLOAT32"] == 0
    for name in ("BATCH_MATMUL", "GELU", "MEAN", "RSQRT", "SOFTMAX", "SUB"):
        assert operators[name, "FLOAT32"] > 0
        assert operators[name, "INT8"] == 0


def test_int8_weights_have_a_scale_per_channel(folder) -> None:
    model = schema.Model.GetRootAs((folder / "int8.tflite").read_bytes(), 0)
    graph = schema.ModelT.InitFromObj(model).subgraphs[0]
    kernels = [
        tensor
        for tensor in graph.tensors
        if tensor.type == schema.TensorType.INT8
        and tensor.shape is not None
        and tensor.quantization.scale is not None
        and len(tensor.quantization.scale) > 1
    ]
    assert len(kernels) > 50


def test_weights_are_aligned(folder) -> None:
    content = (folder / "float32.tflite").read_bytes()
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    whole = np.frombuffer(content, "uint8").__array_interface__["data"][0]
    starts = [
        buffer.DataAsNumpy().__array_interface__["data"][0] - whole
        for buffer in buffers
        if buffer.DataLength()
    ]
    assert len(starts) > 50
    assert not any(start % 16 for start in starts)


def test_smaller_precisions_are_smaller(folder) -> None:
    sizes = [(folder / f"{name}.tflite").stat().st_size for name in PRECISIONS]
    float32, float16, dynamic, int8 = sizes
    assert float32 > float16 > max(dynamic, int8)


def network() -> keras.Model:
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Conv2D(1, 3)(image))


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"float32, float16, dynamic, int8. Received: .*'int4'"):
        to_tflite(network(), "int4")


@pytest.mark.parametrize("images", [None, np.zeros((0, 8, 8, 3)), np.zeros((4, 8, 8, 1))])
def test_int8_without_fitting_images_is_refused(images) -> None:
    with pytest.raises(ValueError, match=r"shape \(images, 8, 8, 3\).*Received: "):
        to_tflite(network(), "int8", images)
