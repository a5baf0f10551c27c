"""The networks: the published numbers, their interface, their files."""

import os
import subprocess
import sys
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

SMALL = {"dims": (4, 4, 8, 8, 8), "kernel_sizes": (3, 5)}
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


def _small(rank: int, **kwargs) -> keras.Model:
    shape = (32,) * rank + (3 if rank == 2 else 1,)
    return NETWORKS[rank](shape, num_classes=1 if rank == 2 else 3, **(SMALL | kwargs))


def _batch(rank: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.random((2,) + (32,) * rank + (3 if rank == 2 else 1,)).astype("float32")
    labels = generator.integers(0, rank, (2,) + (32,) * rank + (1,)).astype("float32")
    return images, labels


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


@pytest.mark.parametrize("rank", [2, 3])
def test_files_and_configs_round_trip(rank: int, tmp_path) -> None:
    model = _small(rank, transformer_ratio=0.5, activation="silu")
    images, labels = _batch(rank)
    model.train_on_batch(images, labels)  # so that every weight has left its initial value
    expected = model.predict(images, verbose=0)

    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(model)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-6)
    assert int(loaded.optimizer.iterations) == 1

    assert type(model).from_config(model.get_config()).get_config() == model.get_config()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(clone.predict(images, verbose=0), expected, atol=1e-6)


def test_a_file_of_another_backend_gives_the_same_outputs(tmp_path) -> None:
    backends = ("tensorflow", "jax", "torch")
    other = backends[backends.index(keras.backend.backend()) - 1]
    program = f"""
import keras, numpy as np
import keras_lgmsnet as kl
model = kl.LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4), kernel_sizes=(3, 5), transformer_ratio=0.5)
assert keras.backend.backend() == {other!r}
model.save("model.keras")
np.save("logits.npy", model.predict_on_batch(np.load("images.npy")))
"""
    images = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    _run_in_fresh_process(program, tmp_path, KERAS_BACKEND=other)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    logits = loaded.predict_on_batch(images)
    np.testing.assert_allclose(logits, np.load(tmp_path / "logits.npy"), atol=1e-5)


def test_networks_need_keras_numpy_and_a_backend_only(tmp_path) -> None:
    """Also: importing the package after Keras is all it takes to load a saved network."""
    _small(2).save(tmp_path / "images.keras")
    _small(3).save(tmp_path / "volumes.keras")
    _run_in_fresh_process(
        """
import sys
for name in ("click", "cv2", "jinja2", "matplotlib", "sklearn", "tensorflow_datasets", "tqdm"):
    sys.modules[name] = None
import keras
import keras_lgmsnet
assert type(keras.saving.load_model("images.keras")) is keras_lgmsnet.LGMSNet2D
assert type(keras.saving.load_model("volumes.keras")) is keras_lgmsnet.LGMSNet3D
""",
        tmp_path,
    )


def test_a_run_reads_where_nothing_else_was_imported(tmp_path) -> None:
    """As in the commands, which import the package before Keras, and so register no network."""
    run = Path(__file__).parent / "fixtures" / "version_0_1" / "run"
    _run_in_fresh_process(
        f"""
from keras_lgmsnet.run import Run
from pathlib import Path
assert Run.read(Path({str(run)!r})).network.count_params()
""",
        tmp_path,
    )


def _run_in_fresh_process(program: str, folder: Path, **environment: str) -> None:
    """Run a program in a folder, with the package on its path."""
    package = {"PYTHONPATH": str(Path(kl.__file__).parents[1])}
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | package | environment,
        check=True,
    )


def test_an_untrained_model_loads_without_a_warning(tmp_path) -> None:
    _small(2).save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("rank", [2, 3])
def test_unknown_sides_compute_what_known_ones_do(rank: int) -> None:
    known = _small(rank)
    channels = known.input_shape[-1]
    free = NETWORKS[rank]((None,) * rank + (channels,), num_classes=known.num_classes, **SMALL)
    free.set_weights(known.get_weights())
    images, _ = _batch(rank)
    expected = known.predict(images, verbose=0)
    np.testing.assert_allclose(free.predict(images, verbose=0), expected, atol=2e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("rank", [2, 3])
def test_mixed_precision_trains(rank: int, policy: str) -> None:
    model = _small(rank, dtype=policy)
    assert model.output.dtype == "float32"
    assert model.get_layer("encoder1").output.dtype == policy.removeprefix("mixed_")
    images, labels = _batch(rank)
    _assert_trains(model, images, labels)


def test_float16_survives_the_sums_of_a_256_pixel_image() -> None:
    model = kl.LGMSNet2D((256, 256, 3), dtype="mixed_float16", dims=(4,) * 5, kernel_sizes=(3, 3))
    images = np.random.default_rng(0).uniform(2, 3, (1, 256, 256, 3)).astype("float32")
    _assert_trains(model, images, np.ones((1, 256, 256, 1), "float32"))


def _assert_trains(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> None:
    """One step with finite loss, metrics and gradients."""
    results = model.train_on_batch(images, labels, return_dict=True)
    assert all(np.isfinite(value) for value in results.values())
    # Under float16 an optimizer skips, silently, a step whose gradients are not finite.
    assert int(model.optimizer.iterations) == 1
    for variable in model.trainable_variables:
        assert np.isfinite(ops.convert_to_numpy(variable)).all(), variable.path


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: kl.LGMSNet2D((100, 96, 3)), r"pad or resize to \(96, 96\), the nearest"),
        (lambda: kl.LGMSNet2D((96, 96)), "height, width, channels"),
        (lambda: kl.LGMSNet3D((96, 96, 3)), "depth, height, width, channels"),
        (lambda: kl.LGMSNet2D((96, 96, None)), "channels last and static"),
        (lambda: kl.LGMSNet2D(num_classes=0), "positive integer.*num_classes=0"),
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


def test_an_image_of_unsupported_sides_is_refused_when_it_comes() -> None:
    model = kl.LGMSNet2D((None, None, 3), **SMALL)
    with pytest.raises(ValueError, match=r"pad or resize to \(32, 32\)"):
        model(np.zeros((1, 40, 32, 3), "float32"))
