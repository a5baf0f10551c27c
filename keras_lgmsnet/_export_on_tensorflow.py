"""The child process of `keras_lgmsnet.export`: writes and tries the formats on TensorFlow.

    KERAS_BACKEND=tensorflow python -m keras_lgmsnet._export_on_tensorflow RUN OUTPUT FORMAT ...

What goes wrong is told in one line on standard output; everything else goes to standard error.
"""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import keras_lgmsnet.models  # which registers them, to be loaded
from keras_lgmsnet._litert import SIGNATURE, to_tflite, trace
from keras_lgmsnet.data.images import preprocess
from keras_lgmsnet.data.synthetic import generate
from keras_lgmsnet.deployment import deploy
from keras_lgmsnet.recipe import Data
from keras_lgmsnet.run_directory import read_recipe, write_json

NUM_IMAGES = 8

# From one image, shape (1, height, width, 3), to its logits.
Predict = Callable[[np.ndarray], np.ndarray]


def write_formats(run_directory: Path, output_directory: Path, formats: list[str]) -> None:
    """Write the formats and `export.json`, which tells how far each is from the Keras network."""
    data = read_recipe(run_directory).data
    network = keras.saving.load_model(run_directory / "model.keras", compile=False)
    images = preprocess(generate(NUM_IMAGES, data.image_size).images, data.preprocessing)
    logits = _predict_each(lambda image: network(image, training=False).numpy(), images)

    output_directory.mkdir()
    results = {}
    for name in formats:
        path, predict = WRITERS[name](network, output_directory)
        results[name] = {
            "path": path.name,
            "bytes": _size(path),
            **_compare(logits, _predict_each(predict, images)),
        }
    values = {
        "notice": "For research use only. Not a medical device.",
        "input": _describe_input(data),
        "output": {
            "name": "logits",
            "shape": network.output_shape,
            "dtype": "float32",
            "activation": "sigmoid",
            "threshold": 0.5,
        },
        "formats": results,
        "compared_on": f"{NUM_IMAGES} images of keras_lgmsnet.data.synthetic.generate",
        "versions": {
            "keras-lgmsnet": keras_lgmsnet.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }
    write_json(output_directory / "export.json", values)


def _write_saved_model(network: keras.Model, output_directory: Path) -> tuple[Path, Predict]:
    path = output_directory / "saved_model"
    function, variables = trace(network, batch_size=None)
    tf.saved_model.save(variables, str(path), signatures={SIGNATURE: function})
    serve = tf.saved_model.load(str(path)).signatures[SIGNATURE]
    return path, lambda image: serve(image=tf.constant(image))["logits"].numpy()


def _write_tflite(network: keras.Model, output_directory: Path) -> tuple[Path, Predict]:
    path = output_directory / "model.tflite"
    path.write_bytes(to_tflite(deploy(network)))
    serve = Interpreter(str(path)).get_signature_runner(SIGNATURE)
    return path, lambda image: serve(image=image)["logits"]


WRITERS = {"saved_model": _write_saved_model, "tflite": _write_tflite}


def _predict_each(predict: Predict, images: np.ndarray) -> np.ndarray:
    return np.concatenate([predict(image[None]) for image in images])


def _compare(logits: np.ndarray, exported_logits: np.ndarray) -> dict[str, float]:
    # A sigmoid for several classes too: the masks of a 2D network may overlap.
    probabilities, exported_probabilities = (
        (1 + np.tanh(values.astype("float64") / 2)) / 2 for values in (logits, exported_logits)
    )
    return {
        "max_probability_difference": float(np.abs(probabilities - exported_probabilities).max()),
        "max_logit_difference": float(np.abs(logits - exported_logits).max()),
        "changed_pixels": float(np.mean((logits > 0) != (exported_logits > 0))),
    }


def _describe_input(data: Data) -> dict[str, Any]:
    """Tell how to feed the exported network from an 8-bit image."""
    black, white = preprocess(np.array([[0] * 3, [255] * 3], dtype="uint8"), data.preprocessing)
    return {
        "name": "image",
        "shape": [None, *data.image_size, 3],
        "dtype": "float32",
        "resize": data.interpolation,
        "channel_order": "BGR" if data.preprocessing == "published" else "RGB",
        "formula": "(pixel - mean) / std by channel, for pixel values from 0 to 255",
        "mean": (-255 * black / (white - black)).tolist(),
        "std": (255 / (white - black)).tolist(),
    }


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    run_directory, output_directory, *formats = sys.argv[1:]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            write_formats(Path(run_directory), Path(output_directory), formats)
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0])
        raise
