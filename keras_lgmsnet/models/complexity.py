"""Parameters and multiply-adds of a network."""

import math
from typing import NamedTuple

import keras

from keras_lgmsnet.layers import (
    DepthwiseConv,
    GroupedConv,
    GroupNormalization,
    LinearUpsampling,
    SparseTransformer,
)
from keras_lgmsnet.layers.gms import NUM_HEADS

# Layers that apply every weight of their kernel once at every output position.
_KERNEL_LAYERS = (
    DepthwiseConv,
    GroupedConv,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
)


class Complexity(NamedTuple):
    """Trainable parameters, and multiply-adds for one image."""

    parameters: int
    multiply_adds: int


def count(model: keras.layers.Layer) -> Complexity:
    """Count the parameters of a network and its multiply-adds for one image of its input size.

    The rule is that of the PyTorch tool thop, which gives the paper's 4.89 G for `LGMSNet2D` at
    256 × 256: a multiply-add for every weight a kernel applies at every position, 4 operations a
    value for batch and layer normalization and 2 for instance normalization, 3 a value for the
    softmax of the attention, and 11 a value for bilinear upsampling. Biases, activations, group
    normalization, trilinear upsampling and, the largest omission, the two products of the
    attention (0.30 G of `LGMSNet2D`) do not count. A layer that is called several times counts
    once.

    Args:
        model: A built model or layer, with static sides.

    Returns:
        Trainable parameters and multiply-adds.

    Raises:
        ValueError: When the model's sides are not static, or it has a layer with weights that the
            rule does not know.

    Example:
    ```python
    count(LGMSNet2D(input_shape=(256, 256, 3)))
    # Complexity(parameters=2321393, multiply_adds=4892515328)
    ```
    """
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return Complexity(parameters, _multiply_adds(model, 1))


def _multiply_adds(layer: keras.layers.Layer, batch_size: int) -> int:
    """Count those of a layer and of the layers within it, which were built with any batch size."""
    total = 0
    if isinstance(layer, SparseTransformer):
        batch_size *= 2**layer.rank
        tokens = math.prod(_input_shape(layer)[1:-1]) // 2**layer.rank
        total += batch_size * NUM_HEADS * tokens * (3 * tokens - 1)
    elif isinstance(layer, _KERNEL_LAYERS):
        positions = layer.compute_output_shape(_input_shape(layer))[1:-1]
        total += batch_size * math.prod(positions) * math.prod(layer.kernel.shape)
    elif isinstance(layer, keras.layers.BatchNormalization | keras.layers.LayerNormalization):
        total += 4 * batch_size * math.prod(_input_shape(layer)[1:])
    elif isinstance(layer, GroupNormalization) and layer.groups == -1:
        total += 2 * batch_size * math.prod(_input_shape(layer)[1:])
    elif isinstance(layer, LinearUpsampling) and layer.rank == 2:
        total += 11 * 4 * math.prod(_input_shape(layer)[1:])  # 4 outputs a value of the input
    elif layer._trainable_variables and not isinstance(layer, GroupNormalization):
        raise ValueError(
            "The multiply-adds of this layer have no rule here. "
            f"Received: {layer.name}, a {type(layer).__name__}"
        )
    sublayers = layer._flatten_layers(include_self=False, recursive=False)
    return total + sum(_multiply_adds(sublayer, batch_size) for sublayer in sublayers)


def _input_shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    """Return the shape that a layer was built with, whose sides must be known."""
    shape = layer.get_build_config()["input_shape"]
    if None in shape[1:]:
        raise ValueError(
            "Multiply-adds depend on the size of the image: build the model with static sides. "
            f"Received: {layer.name} with input shape {tuple(shape)}"
        )
    return tuple(shape)
