"""The frozen numbers in `fixtures/networks/`, and the weights and images that they belong to.

A file is of one published program, run in float64 and inference mode. Weights and images follow
from formulas (`draw_weights`, `draw_images`), so it holds only

    arguments   of our network's constructor
    parameters  name → shape in PyTorch's layout, running statistics and idle parameters included
    cases       a list of
                    input_shape, input_seed    of the images, channels last
                    salt, factors              of the weights; no factors are left out
                    arguments                  further ones of our network's constructor, if any
                    parameters                 those of another shape for these sides, if any
                    float32_floor              how far the program's own logits or stages in float32
                                               lie from those in float64, if it is known
                    dtype                      that our network is to compute in, if float32 has
                                               too few digits for the case
                    stages                     name → shape, std and samples of a module's output,
                                               channels last; `logits` is the program's

`python -m tests.fixtures.freeze` writes such a file.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "fixtures" / "networks"


def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def draw_weights(
    shapes: Mapping[str, Sequence[int]],
    salt: int = 0,
    factors: Mapping[str, float] | None = None,
) -> dict[str, np.ndarray]:
    """Return float32 weights of a published program, which follow from their names and shapes.

    Each comes from a generator seeded by the CRC-32 of its name, plus the salt, modulo 2^32. Of
    standard normal numbers n, or uniform ones, the last part of the name makes: of `running_var`
    uniform from 0.5 to 1.5; of `running_mean` and `bias` n / 10; of another vector 1 + n / 10; of
    anything else n / √(product of all sizes but the first), so that a kernel keeps the size of its
    input. A value whose name ends with a key of `factors` is multiplied by the factor. Then all is
    rounded to float32. Buffers that a program computes are not drawn.

    Args:
        shapes: Name → shape, in PyTorch's layout.
        salt: Makes other weights of the same names.
        factors: End of names → factor.
    """
    weights = {}
    for name, shape in shapes.items():
        generator = np.random.RandomState((zlib.crc32(name.encode()) + salt) % 2**32)
        role = name.rpartition(".")[-1]
        if role == "running_var":
            values = generator.uniform(0.5, 1.5, shape)
        elif role in ("running_mean", "bias"):
            values = 0.1 * generator.standard_normal(shape)
        elif len(shape) == 1:
            values = 1 + 0.1 * generator.standard_normal(shape)
        else:
            values = generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        for end, factor in (factors or {}).items():
            if name.endswith(end):
                values = values * factor
        weights[name] = np.asarray(values, "float32")
    return weights


def draw_images(input_shape: Sequence[int], seed: int) -> np.ndarray:
    """Return float32 images or volumes from 0 to 1, channels last."""
    return np.random.RandomState(seed).rand(*input_shape).astype("float32")


def positions(size: int) -> np.ndarray:
    """Return where the eight samples of a flattened array of so many values lie.

    They are eight, spread evenly, of 32 that are spread evenly, fractions cut off.
    """
    return np.linspace(0, size - 1, 32).astype(int)[np.linspace(0, 31, 8).astype(int)]


def assert_stage_is(output: np.ndarray, case: Mapping[str, Any], name: str) -> None:
    """Check a stage's output, channels last, against its frozen numbers.

    The standard deviation and the samples, which may all be zero after a ReLU, may differ by 1e-4
    of the standard deviation and 30 times the program's own difference in float32; in float64 by
    1e-9 of the standard deviation and half of the tenth decimal, to which files are rounded. Tokens
    of the program, `(batch, tokens, channels)`, may have sides here.
    """
    stage = case["stages"][name]
    batch, *sides, channels = output.shape
    shape = list(output.shape)
    if len(stage["shape"]) == 3:
        shape = [batch, int(np.prod(sides)), channels]
    assert shape == stage["shape"], name
    received = [output.std(dtype="float64"), *output.ravel()[positions(output.size)]]
    tolerance = 1e-4 * stage["std"] + 30 * case.get("float32_floor", 0.0)
    if "dtype" in case:
        assert output.dtype == case["dtype"], name
        tolerance = 1e-9 * stage["std"] + 0.5e-10
    np.testing.assert_allclose(
        received, [stage["std"], *stage["samples"]], rtol=0, atol=tolerance, err_msg=name
    )
