"""The frozen numbers in `fixtures/lgmsnet_reference.json`, and the inputs they belong to.

Weights, images and masks follow from formulas, so the file holds only parameter shapes and
results. It was computed by the plain-PyTorch network (`python -m tests.fixtures.generate`) in
float64. Arrays here are channels last; weights are in torch layout.

    <rank>d: parameters      name → shape
             stages          name → shape, mean, std and samples of its output, in inference mode
    training_2d: losses          of six steps of `TRAINING`, in training mode
                 gradient_norms  name → L2 norm at the first step
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PATH = Path(__file__).parents[1] / "fixtures" / "lgmsnet_reference.json"

IMAGE_SHAPES = {2: (3, 64, 64, 3), 3: (1, 32, 32, 32, 1)}
NUM_CLASSES = {2: 1, 3: 14}
# At this rate float32 stays within 5e-4 of these losses; at larger ones it drifts away.
# The published loop: the rate of step k > 0 is learning_rate * (1 - (k - 1) / total_steps) ** 0.9.
TRAINING = {
    "steps": 6,
    "total_steps": 60,
    "learning_rate": 0.001,
    "momentum": 0.9,
    "weight_decay": 1e-4,
}


def load() -> dict[str, Any]:
    return json.loads(PATH.read_text())


def reference_state_dict(rank: int) -> dict[str, np.ndarray]:
    """Return float32 weights of the published network of that rank, under the published names."""
    return draw_state_dict(load()[f"{rank}d"]["parameters"])


def draw_state_dict(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Draw every tensor from a generator seeded by its name, at a scale that suits its role."""
    return {name: _draw(name, tuple(shape)) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith(("running_mean", "bias")):
        low, high = -0.2, 0.2
    elif len(shape) == 1:  # scales and variances of norms
        low, high = 0.6, 1.4
    else:  # kernels keep the variance of their input
        high = np.sqrt(3 / np.prod(shape[1:]))
        low = -high
    return generator.uniform(low, high, shape).astype("float32")


def reference_images(rank: int) -> np.ndarray:
    return np.random.RandomState(rank).uniform(0, 1, IMAGE_SHAPES[rank]).astype("float32")


def reference_segmentation_masks() -> np.ndarray:
    """Return one box per 2D image, larger from image to image."""
    masks = np.zeros((*IMAGE_SHAPES[2][:-1], 1), "float32")
    for index, mask in enumerate(masks):
        mask[5 + 3 * index : 30 + 8 * index, 20 - 4 * index : 50] = 1
    return masks


def summarise(output: np.ndarray) -> dict[str, Any]:
    """Return what the file keeps of a stage's channels-last output: 16 samples spread evenly."""
    positions = np.linspace(0, output.size - 1, 16).astype(int)
    return {
        "shape": list(output.shape),
        "mean": float(output.mean()),
        "std": float(output.std()),
        "samples": output.ravel()[positions].tolist(),
    }
