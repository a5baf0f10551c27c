"""U-Net's own tests; `test_networks` has those that every network passes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from keras import ops

import keras_lgmsnet as kl
from keras_lgmsnet.benchmark import peers
from tests.fixtures import generate
from tests.helpers import frozen
from tests.helpers.stages import layers_of


@st.composite
def _configurations(draw) -> dict:
    rank = draw(st.sampled_from([2, 3]))
    levels = draw(st.integers(2, 4))
    block = draw(st.sampled_from([None, "lms", "gms"])) if rank == 2 else None
    # A volume's are even; blocks need four groups, and more than the few channels of which a layer
    # norm amplifies round-off.
    step = 2 if block is None else 8
    widths = st.integers(1, 3).map(lambda width: step * width)
    most = 3 if rank == 2 else 2
    return {
        "rank": rank,
        "arguments": {"filters": draw(st.tuples(*[widths] * levels))}
        | ({"block": block} if rank == 2 else {}),
        "sides": draw(
            st.tuples(*[st.integers(1, most).map(lambda s: s * 2 ** (levels - 1))] * rank)
        ),
        "channels": draw(st.integers(1, 4)),
        "num_classes": draw(st.integers(1, 4)),
    }


# Once: every backend compares one configuration with plain PyTorch in `test_networks`.
@pytest.mark.no_backend
@settings(deadline=None, max_examples=25, derandomize=True)
@given(_configurations())
def test_any_configuration_equals_plain_pytorch(configuration: dict) -> None:
    rank, sides, channels = (configuration[key] for key in ("rank", "sides", "channels"))
    num_classes, arguments = configuration["num_classes"], configuration["arguments"]
    model = kl.models.create(
        "unet", input_shape=(*sides, channels), num_classes=num_classes, **arguments
    )
    assert model.output_shape == (None, *sides, num_classes)
    assert type(model).from_config(model.get_config()).get_config() == model.get_config()

    peer = peers.create("unet", rank, channels, num_classes, **arguments).eval().double()
    weights = frozen.draw_weights(generate.shapes(peer))
    peer.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    kl.checkpoints.load_torch_state_dict(model, weights)
    images = np.random.default_rng(0).random((2, *sides, channels))
    with torch.inference_mode():
        expected = np.moveaxis(peer(torch.from_numpy(np.moveaxis(images, -1, 1))).numpy(), 1, -1)
    logits = ops.convert_to_numpy(model(images.astype("float32"), training=False))
    assert logits.shape == expected.shape
    assert np.linalg.norm(logits - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("stage", "layer"),
    [
        ("Conv1", "encoder1"),
        ("Conv2.0", "encoder2_lms"),
        ("Conv2", "encoder2"),
        ("Conv4.0", "encoder4_gms"),
        ("Conv4.0.conv2", "project"),
        ("Conv4.0.conv2.0", "convolution"),
        ("Conv4.0.conv_spilt", "depthwise"),
        ("Conv4.0.transformer.layers.0.0", "attention_output"),
        ("Up5", "up5"),
        ("Up5.up.2", "norm"),
        ("Up_conv2", "decoder2"),
    ],
)
def test_modules_of_the_published_program_are_found(stage: str, layer: str) -> None:
    """It is for the frozen numbers, and U-Net has an example of everything."""
    network = kl.models.create(
        "unet", input_shape=(16, 16, 3), num_classes=1, filters=(4, 4, 8, 8, 8), block="gms"
    )
    assert layers_of(network, [stage], {})[stage].name == layer
    assert layers_of(network, [stage], {stage: "logits"})[stage].name == "logits"
    with pytest.raises(KeyError, match="lies in Conv9"):
        layers_of(network, ["Conv9"], {})
