"""An export that is made in a moment, for the page that shows it."""

from pathlib import Path

import numpy as np

from keras_lgmsnet.export.model_card import describe_input, describe_output
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.kinds import IMAGES
from keras_lgmsnet.recipe.schema import Data


def write_export(
    folder: Path,
    models: dict[str, bytes],
    *,
    image_size: tuple[int, int] = (48, 64),
    interpolation: str = "linear",
    classes: tuple[str, ...] = ("lesion",),
) -> Path:
    """Write what the page reads of an export; return the folder.

    Args:
        folder: Where to write; made.
        models: TFLite models by precision.
        image_size: Height and width.
        interpolation: As in a recipe.
        classes: Names.
    """
    folder.mkdir(parents=True)
    data = Data(
        source="synthetic", num_images=2, image_size=image_size, interpolation=interpolation
    )
    files = {}
    for precision, content in models.items():
        name = f"model_{precision}.tflite"
        (folder / name).write_bytes(content)
        files[name] = {"format": "tflite", "precision": precision}
    write_json(
        folder / "export.json",
        {
            "classes": list(classes),
            "input": describe_input(data),
            "output": describe_output(IMAGES, (None, *image_size, len(classes)), "none"),
            "files": files,
        },
    )
    return folder


def contrast_model(image_size: tuple[int, int], color: str) -> bytes:
    """Return a TFLite model, from 8-bit RGB to the logits of how red, or blue, an image is where.

    Args:
        image_size: Height and width.
        color: `"red"` or `"blue"`.
    """
    import tensorflow as tf  # which takes seconds

    kernel = np.zeros((5, 5, 3, 1), "float32")
    kernel[..., 0] = [1, -0.5, 0] if color == "red" else [0, -0.5, 1]

    @tf.function(input_signature=[tf.TensorSpec((1, *image_size, 3), tf.uint8, "image")])
    def network(image: tf.Tensor) -> dict[str, tf.Tensor]:
        contrast = tf.nn.conv2d(tf.cast(image, tf.float32) / 255, kernel, 1, "SAME")
        return {"logits": contrast - 2}

    module = tf.Module()
    module.network = network
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [network.get_concrete_function()], module
    ).convert()
