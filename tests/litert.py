"""Writes what `test_litert.py` opens; TensorFlow only: `python -m tests.litert FOLDER`."""

import sys
from pathlib import Path

import numpy as np

from keras_lgmsnet import LGMSNet2D, LGMSNet3D
from keras_lgmsnet._litert import to_tflite
from keras_lgmsnet.deployment import deploy
from keras_lgmsnet.export import PRECISIONS
from tests.runs import scatter


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

    volumes = rng.normal(size=(1, 32, 32, 32, 1)).astype("float32")
    network = scatter(LGMSNet3D((32, 32, 32, 1), num_classes=2, dims=(4, 4, 8, 8, 8)))
    logits |= {"volumes": volumes, "volumes_logits": network(volumes, training=False)}
    (folder / "volumes.tflite").write_bytes(to_tflite(deploy(network)))
    np.savez(folder / "logits.npz", **logits)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
