"""The blocks of Swin Transformer (Liu et al., ICCV 2021), for images and for volumes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.layers import WindowAttention
from keras_lgmsnet.layers.base import positive_integers, require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON
from keras_lgmsnet.models.base import SegmentationNetwork

# From how many numbers add up to one output of a dense layer to its initializers, as arguments.
Initializers = Callable[[int], dict[str, Any]]


def check_levels(
    filters: Sequence[int], depths: Sequence[int], num_heads: Sequence[int], window: int
) -> tuple[tuple[int, ...], ...]:
    """Return `filters`, `depths` and `num_heads` as tuples.

    Raises:
        ValueError: If they are not the four levels', `num_heads` divides `filters` with a
            remainder, or `window` is less than 2.
    """
    filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
    num_heads = positive_integers(num_heads=num_heads)
    if {len(filters), len(depths), len(num_heads)} != {4}:
        raise ValueError(
            "filters, depths and num_heads are the four levels'. "
            f"Received: filters={filters}, depths={depths}, num_heads={num_heads}"
        )
    if any(width % heads for width, heads in zip(filters, num_heads, strict=True)):
        raise ValueError(
            "filters must be divisible by their level's num_heads. "
            f"Received: filters={filters}, num_heads={num_heads}"
        )
    require_positive(window=window)
    if window < 2:
        raise ValueError(f"window must be 2 at least. Received: window={window}")
    return filters, depths, num_heads


def transform(
    x: Any,
    stage: str,
    num_heads: int,
    window: int,
    initializers: Initializers,
    dtype: Any,
    rates: Sequence[float],
) -> Any:
    """Return the features of blocks, of which every second one attends within shifted windows.

    Args:
        x: Images or volumes, channels last.
        stage: What the last layer is called; the others' names begin so.
        num_heads: Number of heads.
        window: Side of the windows.
        initializers: Of the dense layers.
        dtype: The layers' dtype policy.
        rates: For each block how often it is left out in training.
    """
    outputs = [f"{stage}_{number}" for number in range(len(rates) - 1)] + [stage]
    width = x.shape[-1]

    def normalize(x: Any, name: str) -> Any:
        return keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype, name=name)(x)

    def dense(x: Any, units: int, name: str) -> Any:
        start = initializers(x.shape[-1])
        return keras.layers.Dense(units, **start, dtype=dtype, name=name)(x)

    def add(x: Any, branch: Any, rate: float, name: str, add_name: str) -> Any:
        if rate > 0:
            one_an_image = (None, *[1] * (len(branch.shape) - 1))
            drop = keras.layers.Dropout(rate, one_an_image, dtype=dtype, name=f"{name}_drop")
            branch = drop(branch)
        return keras.layers.Add(dtype=dtype, name=add_name)([x, branch])

    for number, (rate, output) in enumerate(zip(rates, outputs, strict=True)):
        name = f"{stage}_{number}"
        y = normalize(x, f"{name}_attention_norm")
        y = WindowAttention(
            num_heads,
            window,
            window // 2 if number % 2 else 0,
            **initializers(width),
            dtype=dtype,
            name=f"{name}_attention",
        )(y)
        x = add(x, y, rate, f"{name}_attention", f"{name}_attention_add")
        y = normalize(x, f"{name}_norm")
        y = dense(y, 4 * width, f"{name}_widen")
        y = keras.layers.Activation("gelu", dtype=dtype, name=f"{name}_gelu")(y)
        y = dense(y, width, f"{name}_narrow")
        x = add(x, y, rate, name, output)
    return x


def normal(fan_in: int) -> dict[str, Any]:
    """Return Swin Transformer's initializers: kernels normal, of deviation 0.02, biases 0."""
    # An object draws the same numbers for the same shape: each kernel has its own. The program
    # cuts the distribution at 100 deviations.
    return {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.02)}


def uniform(fan_in: int) -> dict[str, Any]:
    """Return PyTorch's initializers of dense layers: uniform within ±1/√fan_in."""
    return {
        "kernel_initializer": FanInUniform(),
        "bias_initializer": FanInUniform(fan_in=fan_in),
    }


def stage_parts(
    network: SegmentationNetwork,
    theirs: str,
    stage: str,
    depth: int,
    dense: tuple[str, str] = ("fc1", "fc2"),
) -> list[tuple[str, Any]]:
    """Return the published names of what `transform` made as `stage`.

    Args:
        network: The network.
        theirs: What the program calls the stage.
        stage: What it is called here.
        depth: How many blocks it has.
        dense: The program's names of the two dense layers after the attention.
    """
    return [
        (f"{theirs}.blocks.{number}.{part}", network.get_layer(f"{stage}_{number}_{ours}"))
        for number in range(depth)
        for part, ours in (
            ("norm1", "attention_norm"),
            ("attn", "attention"),
            ("norm2", "norm"),
            (f"mlp.{dense[0]}", "widen"),
            (f"mlp.{dense[1]}", "narrow"),
        )
    ]


def attentions(
    network: SegmentationNetwork, theirs: str, stage: str, depth: int
) -> Mapping[str, WindowAttention]:
    """Return the attention of each block that `transform` made as `stage`, by the block's name."""
    return {
        f"{theirs}.blocks.{number}": network.get_layer(f"{stage}_{number}_attention")
        for number in range(depth)
    }


def position_indices(blocks: Mapping[str, WindowAttention]) -> dict[str, np.ndarray]:
    """Return the program's buffers of which row of the tables each two pixels of a window have."""
    return {
        f"{name}.attn.relative_position_index": attention.position_index
        for name, attention in blocks.items()
    }
