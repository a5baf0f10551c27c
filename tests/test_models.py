"""LGMSNet's own tests; `test_networks` has those that every network passes."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from keras import ops

import keras_lgmsnet as kl
from keras_lgmsnet.benchmark.peers import lgmsnet as plain_pytorch
from keras_lgmsnet.models.published_names import named_variables
from tests.fixtures import generate
from tests.helpers import reference
from tests.helpers.processes import run_in_fresh_process

NETWORKS = {2: kl.LGMSNet2D, 3: kl.LGMSNet3D}
# The fixture has the published program's names for the stages.
STAGES = {
    **{stage: stage for stage in ("stem", *(f"encoder{level}" for level in range(1, 6)))},
    **{f"Up{level}": f"up{level}" for level in range(2, 6)},
    **{f"Up_conv{level}": f"decoder{level}" for level in range(2, 6)},
    "Conv_1x1": "logits",
}


def _reference_network(rank: int) -> keras.Model:
    shape = reference.IMAGE_SHAPES[rank][1:]
    model = NETWORKS[rank](shape, num_classes=reference.NUM_CLASSES[rank])
    kl.checkpoints.load_torch_state_dict(model, reference.reference_state_dict(rank))
    return model


@pytest.mark.optimized
@pytest.mark.parametrize("rank", [2, 3])
def test_every_stage_has_the_frozen_numbers(rank: int) -> None:
    model = _reference_network(rank)
    parameters = {2: 2_321_393, 3: 6_193_742}[rank]
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == parameters
    expected = reference.load()[f"{rank}d"]["stages"]
    assert expected.keys() == STAGES.keys()
    stages = keras.Model(
        model.input, {name: model.get_layer(layer).output for name, layer in STAGES.items()}
    )
    outputs = stages.predict(reference.reference_images(rank), verbose=0)
    for name, stage in expected.items():
        received = reference.summarise(np.asarray(outputs[name]))
        assert received["shape"] == stage["shape"]
        tolerance = 1e-4 * stage["std"] + 1e-5
        np.testing.assert_allclose(
            received["samples"], stage["samples"], rtol=0, atol=tolerance, err_msg=name
        )


@pytest.mark.optimized
def test_training_has_the_frozen_gradients_and_losses() -> None:
    """In one test, since nothing here takes longer to compile than this network's step."""
    model = _reference_network(2)
    training = reference.TRAINING
    schedule = kl.optimizers.LaggedPolynomialDecay(
        training["learning_rate"], training["total_steps"]
    )
    optimizer = kl.optimizers.TorchSGD(schedule, training["momentum"], training["weight_decay"])
    model.compile(optimizer=optimizer, loss=kl.losses.BCEDiceLoss())
    images, masks = reference.reference_images(2), reference.reference_segmentation_masks()
    start = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    losses = []
    for step in range(training["steps"]):
        model.reset_metrics()  # else Keras returns the mean so far
        losses.append(model.train_on_batch(images, masks, return_dict=True)["loss"])
        if step == 0:
            # The momentum is the gradient of the loss and of the weight decay so far.
            gradients = {
                variable.path: ops.convert_to_numpy(momentum) - training["weight_decay"] * weight
                for variable, momentum, weight in zip(
                    model.trainable_variables, optimizer.momentums, start, strict=True
                )
            }
    expected = reference.load()["training_2d"]
    variables = dict(named_variables(model))
    for name, norm in expected["gradient_norms"].items():
        received = np.linalg.norm(gradients[variables[name].path])
        np.testing.assert_allclose(received, norm, rtol=0.05, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(losses[0], expected["losses"][0], rtol=1e-6)
    np.testing.assert_allclose(losses, expected["losses"], rtol=5e-4)


@st.composite
def _configurations(draw) -> dict:
    kernel_sizes = draw(st.sampled_from([(3,), (5, 3), (3, 5, 7, 9)]))
    widths = st.integers(1, 2).map(lambda width: 4 * width)
    return {
        "rank": (rank := draw(st.sampled_from([2, 3]))),
        "sides": draw(st.tuples(*[st.sampled_from([32, 64])] * 2)) + (32,) * (rank - 2),
        "channels": draw(st.integers(1, 4)),
        "num_classes": draw(st.integers(1, 3)),
        # A layer norm over one or two channels would amplify round-off three hundredfold.
        "dims": (*draw(st.tuples(widths, widths, widths)), 8, 8),
        "kernel_sizes": kernel_sizes,
        "transformer_ratio": draw(st.sampled_from([0, 0.5, 1])),
        "activation": draw(st.sampled_from(["gelu", "silu"])),
    }


# JAX compiles a whole network for a quarter of a minute: one will do, as its layers have their own.
@settings(
    deadline=None, max_examples=1 if keras.backend.backend() == "jax" else 6, derandomize=True
)
@given(_configurations())
def test_any_configuration_equals_plain_pytorch(configuration: dict) -> None:
    rank, sides = configuration.pop("rank"), configuration.pop("sides")
    channels, num_classes = configuration.pop("channels"), configuration.pop("num_classes")
    peer = plain_pytorch.LGMSNet(rank, channels, num_classes, **configuration).eval()
    weights = reference.draw_state_dict(generate.shapes(peer))
    peer.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    model = NETWORKS[rank]((*sides, channels), num_classes, **configuration)
    kl.checkpoints.load_torch_state_dict(model, weights)
    images = np.random.default_rng(0).random((1, *sides, channels)).astype("float32")
    with torch.inference_mode():
        expected = peer.double()(torch.from_numpy(np.moveaxis(images, -1, 1).astype("float64")))
    errors = (
        np.moveaxis(ops.convert_to_numpy(model(images, training=False)), -1, 1) - expected.numpy()
    )
    # Of the whole, since a norm over the 8 voxels of the deepest stage amplifies round-off in one.
    assert np.linalg.norm(errors) < 1e-4 * np.linalg.norm(expected)


def test_a_run_reads_where_nothing_else_was_imported(tmp_path) -> None:
    """As in the commands, which import the package before Keras, and so register no network."""
    run = Path(__file__).parent / "fixtures" / "version_0_1" / "run"
    run_in_fresh_process(
        f"""
from keras_lgmsnet.run import Run
from pathlib import Path
assert Run.read(Path({str(run)!r})).network.count_params()
""",
        tmp_path,
    )


def test_float16_survives_the_sums_of_a_256_pixel_image() -> None:
    model = kl.LGMSNet2D((256, 256, 3), dtype="mixed_float16", dims=(4,) * 5, kernel_sizes=(3, 3))
    images = np.random.default_rng(0).uniform(2, 3, (1, 256, 256, 3)).astype("float32")
    masks = np.ones((1, 256, 256, 1), "float32")
    results = model.train_on_batch(images, masks, return_dict=True)
    assert all(np.isfinite(value) for value in results.values())
    # Under float16 an optimizer skips, silently, a step whose gradients are not finite.
    assert int(model.optimizer.iterations) == 1
    for variable in model.trainable_variables:
        assert np.isfinite(ops.convert_to_numpy(variable)).all(), variable.path


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: kl.LGMSNet2D(dims=16), r"dims must be integers such as .*dims=16"),
        (lambda: kl.LGMSNet2D(dims=(16, 3.5)), r"dims must be a positive integer.*3.5"),
        (lambda: kl.LGMSNet2D(transformer_ratio="half"), r"from 0 to 1.*'half'"),
        (lambda: kl.LGMSNet2D(dims=(16, 32)), r"five encoder stages.*\(16, 32\)"),
        (lambda: kl.LGMSNet2D(dims=(6,) * 5), "divisible by the 4 kernel sizes"),
        (lambda: kl.LGMSNet2D(kernel_sizes=(2,)), "must be odd"),
        (lambda: kl.LGMSNet2D(transformer_ratio=2), "from 0 to 1"),
        (lambda: kl.LGMSNet2D(normalization="none"), "'batch', 'instance' or None"),
    ],
)
def test_bad_arguments_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
