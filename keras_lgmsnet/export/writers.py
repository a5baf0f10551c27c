"""The formats of exports: how each is written, and how its user opens it.

It runs on the TensorFlow backend only, so in the child process of `keras_lgmsnet.export.parent`.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from keras_lgmsnet.data.images import preprocess
from keras_lgmsnet.export.litert import SIGNATURE, to_tflite, trace

# Where every format carries what is known of the network, as JSON.
METADATA = "metadata.json"
OPSET = 18

# From what an export takes, `(examples, *sides, channels)`, to what it returns for it.
Predict = Callable[[np.ndarray], np.ndarray]


def with_activation(network: keras.Model, activation: str) -> keras.Model:
    """Return a network of the same function followed by an activation.

    Args:
        network: To logits.
        activation: `"none"`; `"sigmoid"`, for the probability of each class; `"softmax"`, for those
            of classes that exclude one another.
    """
    if activation == "none":
        return network
    activate, outputs = keras.activations.get(activation), network.output
    if len(outputs.shape) == 4:
        return keras.Model(network.input, activate(outputs))
    slices = ops.reshape(outputs, (-1, *outputs.shape[2:]))  # four axes, as fast kernels have them
    return keras.Model(network.input, ops.reshape(activate(slices), (-1, *outputs.shape[1:])))


def with_preprocessing(network: keras.Model, preprocessing: str) -> keras.Model:
    """Return a model of the same function that takes 8-bit RGB images as they are.

    Args:
        network: From preprocessed images.
        preprocessing: `"imagenet"` or `"published"`, see `keras_lgmsnet.data.images.preprocess`.

    Returns:
        A model from `uint8`, shape `(batch, height, width, 3)`, to what `network` returns.
    """
    # Each channel that the network sees is an affine map of one channel of the image.
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype="uint8")
    black, *primaries = preprocess(colors, preprocessing).astype("float64")
    normalize = keras.layers.Conv2D(3, 1, dtype="float32", name="preprocess")

    image = keras.Input(network.input_shape[1:], dtype="uint8", name="image")
    outputs = network(normalize(ops.cast(image, "float32")))
    normalize.set_weights([(np.array(primaries) - black)[None, None] / 255, black])
    return keras.Model(image, outputs)


def write(
    network: keras.Model,
    directory: Path,
    format_: str,
    precision: str,
    metadata: dict[str, Any],
    representative_images: np.ndarray | None = None,
) -> str:
    """Write a network in a format, and its metadata within.

    Args:
        network: As `with_preprocessing` returns it.
        directory: Where to write.
        format_: `"saved_model"`, `"tflite"` or `"onnx"`.
        precision: One that the format has, see `keras_lgmsnet.export.FORMATS`.
        metadata: What JSON can say; its "output" has a "name", the signature's.
        representative_images: As for `to_tflite`, `uint8`.

    Returns:
        The name of the file or folder in `directory`.
    """
    output = metadata["output"]["name"]
    text = json.dumps(metadata, indent=2)
    if format_ == "saved_model":
        name = "saved_model"
        _write_saved_model(network, directory / name, output, text)
    elif format_ == "tflite":
        name = f"model_{precision}.tflite"
        content = to_tflite(network, precision, representative_images, output)
        _write_tflite(content, directory / name, text)
    else:
        name = f"model_{precision}.onnx"
        _write_onnx(network, directory / name, output, text)
    return name


def open_(path: Path, format_: str, output: str) -> Predict:
    """Load a file as its users would: all of them on the CPU, TFLite with XNNPACK.

    Args:
        path: Of what `write` wrote.
        format_: Its format.
        output: What its signature calls the output.
    """
    if format_ == "saved_model":
        serve = tf.saved_model.load(str(path)).signatures[SIGNATURE]
        return lambda images: serve(image=tf.constant(images))[output].numpy()
    if format_ == "tflite":
        run = Interpreter(str(path)).get_signature_runner(SIGNATURE)
        return lambda images: np.concatenate([run(image=image[None])[output] for image in images])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([output], {"image": images})[0]


def _write_saved_model(network: keras.Model, path: Path, output: str, metadata: str) -> None:
    function, variables = trace(network, batch_size=None, output=output)
    tf.saved_model.save(variables, str(path), signatures={SIGNATURE: function})
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / METADATA).write_text(metadata, encoding="utf-8")


def _write_tflite(content: bytes, path: Path, metadata: str) -> None:
    path.write_bytes(content)
    # Behind the model, where LiteRT does not look and any zip tool does.
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA, metadata)


def _write_onnx(network: keras.Model, path: Path, output: str, metadata: str) -> None:
    signature = [tf.TensorSpec((None, *network.input_shape[1:]), network.input.dtype, name="image")]
    model, _ = tf2onnx.convert.from_function(
        tf.function(
            lambda image: {output: network(image, training=False)},
            input_signature=signature,
            autograph=False,
        ),
        input_signature=signature,
        opset=OPSET,
        custom_op_handlers={"Erfc": (_gelu_by_erf, [])},
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, {METADATA: metadata})
    onnx.save(model, path)


def _gelu_by_erf(context: Any, erfc: Any, name: str, arguments: list[Any]) -> None:
    """Turn TensorFlow's exact GELU, `x / 2 * erfc(-x * √½)`, into `x / 2 * (1 + erf(x / √2))`.

    ONNX has no `Erfc`, and the latter form ONNX Runtime computes in one go.
    """
    (product,) = erfc.inputs
    negation = product.inputs[0] if product.inputs else product
    if (product.type, negation.type) != ("Mul", "Neg"):
        raise ValueError(
            "Erfc becomes ONNX where it is that of TensorFlow's GELU, of a product with a negation "
            f"first. Received: {name}, of {product.type} of {negation.type}"
        )
    like = {
        "dtypes": [context.get_dtype(erfc.output[0])],
        "shapes": [context.get_shape(erfc.output[0])],
    }
    root = context.make_const(f"{name}_root", np.float32(np.sqrt(2)))
    one = context.make_const(f"{name}_one", np.float32(1))
    (outputs,) = erfc.output
    context.remove_node(name)
    scaled = context.make_node("Div", [negation.input[0], root.output[0]], **like)
    erf = context.make_node("Erf", [scaled.output[0]], **like)
    context.make_node("Add", [erf.output[0], one.output[0]], name=name, outputs=[outputs], **like)
