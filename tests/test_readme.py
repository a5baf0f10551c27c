"""What the README shows runs as printed."""

import math
import re
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from keras_lgmsnet.models import registry
from tests.helpers.demos import contrast_model

README = (Path(__file__).parents[1] / "README.md").read_text()


def _python_block(part: str) -> str:
    """The one example that has this in it."""
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (block,) = (block for block in blocks if part in block)
    return block


def test_the_python_use_runs() -> None:
    three_lines = _python_block("LGMSNet2D").replace("256, 256, 3", "32, 32, 3")
    images, masks = np.zeros((1, 32, 32, 3)), np.zeros((1, 32, 32, 1))
    namespace = {"dataset": _OneBatch(images, masks)}
    exec(three_lines, namespace)
    assert namespace["model"].optimizer.iterations == 1


def test_a_network_is_created_by_name() -> None:
    namespace: dict = {}
    exec(_python_block("models.create").replace("256, 256, 3", "32, 32, 3"), namespace)
    numbers, *_ = registry.find("unet", rank=2).published
    count = sum(math.prod(variable.shape) for variable in namespace["model"].trainable_variables)
    assert count == numbers.parameters


def test_the_blocks_train_in_another_network() -> None:
    namespace: dict = {}
    exec(_python_block("def u_net"), namespace)
    network = namespace["network"]
    images = np.random.default_rng(0).normal(0, 0.1, (2, 64, 64, 3))
    images[:, 20:40, 10:30] += 1
    masks = np.zeros((2, 64, 64, 1))
    masks[:, 20:40, 10:30] = 1
    losses = network.fit(images, masks, epochs=6, batch_size=2, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.no_backend
def test_the_tflite_model_segments_a_photo(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "exports/quickstart/model_float32.tflite"
    model.parent.mkdir(parents=True)
    model.write_bytes(contrast_model((32, 64), "red"))
    picture = np.zeros((90, 120, 3), "uint8")
    picture[20:60, 30:80, 2] = 255  # red, in OpenCV's order
    cv2.imwrite("photo.jpg", picture)
    exec(_python_block("ai_edge_litert"), {})
    mask = cv2.imread("mask.png", cv2.IMREAD_GRAYSCALE)
    assert mask.shape == (90, 120)
    assert mask[40, 55] == 255
    assert mask[80, 110] == 0


class _OneBatch(keras.utils.PyDataset):
    def __init__(self, images: np.ndarray, masks: np.ndarray) -> None:
        super().__init__()
        self.batch = images, masks

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batch
