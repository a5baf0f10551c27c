"""Writes what `test_litert.py` opens, on TensorFlow."""

from pathlib import Path

import keras
import numpy as np

from keras_lgmsnet import LGMSNet2D, LGMSNet3D
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.export.litert import to_tflite
from keras_lgmsnet.export.promises import PRECISIONS
from keras_lgmsnet.models.unet import UNet2D
from tests.helpers.runs import scatter


def main(folder: Path) -> None:
    """Write `NAME.tflite` for each precision and for volumes, and the networks' own logits."""
    rng = np.random.default_rng(2)
    images = rng.normal(size=(8, 64, 64, 3)).astype("float32")
    network = scatter(LGMSNet2D((64, 64, 3), dims=(8, 8, 16, 16, 16)))
    logits = {"images": images, "images_logits": network(images, training=False)}
    deployed = deploy(network)
    for precision in PRECISIONS:
        representative_images = images[:4] if precision == "int8" else None
        content = to_tflite(deployed, precision, representative_images)
        (folder / f"{precision}.tflite").write_bytes(content)

    keras.utils.set_random_seed(1)  # of some initial weights the logits hardly vary
    network = with_silent_layers((16, 16, 3))
    crops = images[:, :16, :16]
    logits["silent_logits"] = network(crops, training=False)
    logits["silent"] = crops
    (folder / "silent.tflite").write_bytes(to_tflite(network, "int8", crops))

    volumes = rng.normal(size=(1, 32, 32, 32, 1)).astype("float32")
    shape, dims = (32, 32, 32, 1), (4, 4, 8, 8, 8)
    network = scatter(LGMSNet3D(shape, num_classes=2, dims=dims, kernel_sizes=(3, 9)))
    logits |= {"volumes": volumes, "volumes_logits": network(volumes, training=False)}
    (folder / "volumes.tflite").write_bytes(to_tflite(deploy(network)))

    for name, block in (("unet", None), ("unet_lms", "lms"), ("unet_gms", "gms")):
        network = scatter(UNet2D((64, 64, 3), filters=(8, 8, 16), block=block))
        logits[f"{name}_logits"] = network(images, training=False)
        deployed = deploy(network)
        (folder / f"{name}.tflite").write_bytes(to_tflite(deployed))
        if block is None:
            content = to_tflite(deployed, "int8", images[:4])
            (folder / f"{name}_int8.tflite").write_bytes(content)
    np.savez(folder / "logits.npz", **logits)


def with_silent_layers(input_shape: tuple[int, int, int]) -> keras.Model:
    """Return a network of which parts are 0 whatever the image."""
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    silent = [
        keras.layers.Conv2D(
            4, 1, activation="relu", bias_initializer=keras.initializers.Constant(bias)
        )(x)
        for bias in (-10, -1e4)  # the latter too large for the convolution, so added after it
    ]
    x = keras.layers.Concatenate()([x, *silent, silent[0] * x])
    return keras.Model(image, keras.layers.Conv2D(1, 1)(x))
