"""What the documentation's code computes; that it runs, `docs.py` tries."""

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_lgmsnet.models import registry
from tests.helpers.demos import contrast_model

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"


def _python_block(page: str, part: str) -> str:
    """The one example of a page that has this in it."""
    blocks = re.findall(r"```python\n(.*?)```", (HOW_TO / page).read_text(), flags=re.DOTALL)
    (block,) = (block for block in blocks if part in block)
    return block


def test_a_network_is_created_by_name() -> None:
    namespace: dict = {}
    code = _python_block("extend.md", "models.create")
    exec(code.replace("256, 256, 3", "32, 32, 3"), namespace)
    numbers, *_ = registry.find("unet", rank=2).published
    count = sum(math.prod(variable.shape) for variable in namespace["model"].trainable_variables)
    assert count == numbers.parameters


@pytest.mark.untraced  # U-Net's blocks, which are these, are traced in `test_networks`
def test_the_blocks_train_in_another_network() -> None:
    namespace: dict = {}
    exec(_python_block("extend.md", "def u_net"), namespace)
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
    exec(_python_block("export.md", "ai_edge_litert"), {})
    mask = cv2.imread("mask.png", cv2.IMREAD_GRAYSCALE)
    assert mask.shape == (90, 120)
    assert mask[40, 55] == 255
    assert mask[80, 110] == 0
