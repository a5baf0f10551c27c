"""Full-size networks, and exports of tiny ones: `python -m tests --networks`.

Beside the default suite because of what it takes: the frozen numbers of U-Net alone a minute on
TensorFlow and PyTorch, two on JAX, on two busy cores.
"""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend.common import dtypes

import keras_lgmsnet as kl
from keras_lgmsnet.data.images import preprocess
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.export.promises import FORMATS, terms_for
from keras_lgmsnet.export.writers import open_, with_preprocessing, write
from keras_lgmsnet.layers import forms
from keras_lgmsnet.models import registry
from keras_lgmsnet.models.network import Network, Published
from keras_lgmsnet.models.published_names import named_variables
from tests.helpers import frozen, reference
from tests.helpers.gradients import compiled, gradients
from tests.helpers.processes import run_in_fresh_process
from tests.helpers.stages import layers_of, stage_outputs
from tests.test_forms import network_of_all_forms
from tests.test_networks import (
    ONE_OF_EACH,
    ROWS,
    Row,
    once,
    predict,
    scattered,
    train_a_step,
)

CHECKOUT = Path(__file__).parents[1]
# LGMSNet's frozen numbers are older than the rows' and have the published program's names.
LGMSNET_STAGES = {
    **{stage: stage for stage in ("stem", *(f"encoder{level}" for level in range(1, 6)))},
    **{f"Up{level}": f"up{level}" for level in range(2, 6)},
    **{f"Up_conv{level}": f"decoder{level}" for level in range(2, 6)},
    "Conv_1x1": "logits",
}


def _case_numbers(file: str) -> list[int]:
    """Return the cases of frozen numbers to try; JAX compiles for long, so its quickest."""
    cases = frozen.load(file)["cases"]
    if keras.backend.backend() != "jax":
        return list(range(len(cases)))
    quickest = min(cases, key=lambda case: ("dtype" in case, math.prod(case["input_shape"])))
    return [cases.index(quickest)]


CASES = [
    pytest.param(row, number, id=f"{row}-{number}")
    for row in ROWS
    if row.frozen
    for number in _case_numbers(row.frozen)
]
PUBLISHED = [
    pytest.param(entry, published, id=f"{entry.name}-{entry.rank}d-{published.parameters}")
    for entry in registry.NETWORKS
    for published in entry.published
]


@pytest.mark.parametrize(("row", "number"), CASES)
def test_every_stage_has_the_frozen_numbers(
    row: Row, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = frozen.load(row.frozen or "")["cases"][number]
    if "dtype" not in case or keras.backend.backend() != "jax":
        assert_every_stage_is(row, number, monkeypatch)
        return
    # JAX computes in float64 where it was told to from the start only.
    program = f"""
import pytest
from tests import networks
row = next(row for row in networks.ROWS if str(row) == "{row}")
networks.assert_every_stage_is(row, {number}, pytest.MonkeyPatch())
"""
    run_in_fresh_process(program, tmp_path, JAX_ENABLE_X64="1")


def assert_every_stage_is(row: Row, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the full-size network's stages with a case of the frozen numbers."""
    file = frozen.load(row.frozen or "")
    case = file["cases"][number]
    stages = case["stages"]
    if "dtype" in case:
        _allow_float64(monkeypatch)
    network = kl.models.create(
        row.name,
        input_shape=case["input_shape"][1:],
        num_classes=stages["logits"]["shape"][-1],
        dtype=case.get("dtype"),
        **file["arguments"] | case.get("arguments", {}),
    )
    shapes = file["parameters"] | case.get("parameters", {})
    weights = frozen.draw_weights(shapes, case["salt"], case.get("factors"))
    kl.checkpoints.load_torch_state_dict(network, weights)
    images = frozen.draw_images(case["input_shape"], case["input_seed"])
    outputs = stage_outputs(network, images, layers_of(network, stages, row.frozen_layers))
    assert outputs.keys() == stages.keys()
    for name, output in outputs.items():
        frozen.assert_stage_is(output, case, name)


def _allow_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mend what has float32's digits only, whatever it is given."""
    # Keras, on JAX and PyTorch.
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def gelu(x: Any, approximate: bool) -> Any:  # TensorFlow rounds √2
            assert not approximate
            return x * (1 + tf.math.erf(x * math.sqrt(0.5))) / 2

        monkeypatch.setattr(tf.nn, "gelu", gelu)


def _reference_network(rank: int) -> keras.Model:
    shape, num_classes = reference.IMAGE_SHAPES[rank][1:], reference.NUM_CLASSES[rank]
    model = kl.models.create("lgmsnet", input_shape=shape, num_classes=num_classes)
    kl.checkpoints.load_torch_state_dict(model, reference.reference_state_dict(rank))
    return model


@pytest.mark.fused
@pytest.mark.parametrize("rank", [2, 3])
def test_every_stage_of_lgmsnet_has_the_frozen_numbers(rank: int) -> None:
    model = _reference_network(rank)
    parameters = {2: 2_321_393, 3: 6_193_742}[rank]
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == parameters
    expected = reference.load()[f"{rank}d"]["stages"]
    assert expected.keys() == LGMSNET_STAGES.keys()
    stages = keras.Model(
        model.input, {name: model.get_layer(layer).output for name, layer in LGMSNET_STAGES.items()}
    )
    outputs = stages.predict(reference.reference_images(rank), verbose=0)
    for name, stage in expected.items():
        received = reference.summarise(np.asarray(outputs[name]))
        assert received["shape"] == stage["shape"]
        tolerance = 1e-4 * stage["std"] + 1e-5
        np.testing.assert_allclose(
            received["samples"], stage["samples"], rtol=0, atol=tolerance, err_msg=name
        )


@pytest.mark.fused
def test_training_of_lgmsnet_has_the_frozen_gradients_and_losses() -> None:
    """In one test, since nothing here takes longer to compile than this network's step."""
    model = _reference_network(2)
    training = reference.TRAINING
    schedule = kl.optimizers.LaggedPolynomialDecay(
        training["learning_rate"], training["total_steps"]
    )
    optimizer = kl.optimizers.TorchSGD(schedule, training["momentum"], training["weight_decay"])
    model.compile(optimizer=optimizer, loss=kl.losses.BCEDiceLoss())
    optimizer.build(model.trainable_variables)  # else TensorFlow traces the step twice
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


if keras.backend.backend() != "torch":  # where it is quick, and in the default suite
    # The default suite has every row in bfloat16, which TensorFlow computes there untraced, and
    # JAX only traces.
    @pytest.mark.parametrize("row", ROWS[:2], ids=str)
    def test_float16_trains_in_a_compiled_program(row: Row) -> None:
        train_a_step(row, "mixed_float16")

    def test_bfloat16_trains_in_a_compiled_program() -> None:
        train_a_step(ROWS[0], "mixed_bfloat16")


@once
@pytest.mark.parametrize(("entry", "published"), PUBLISHED)
def test_published_configurations_have_the_numbers_of_the_registry(
    entry: Network, published: Published
) -> None:
    network = kl.models.create(
        entry.name,
        input_shape=published.input_shape,
        num_classes=published.num_classes,
        **published.arguments,
    )
    counted = kl.models.complexity.count(network)
    assert counted == (published.parameters, published.multiply_adds)
    if published.parameters_in_program is not None:
        idle = sum(
            math.prod(shape)
            for name, shape in network.idle_parameters().items()
            if not name.endswith(("running_mean", "running_var"))
        )
        # What a program only compares with a number has no gradient in it and is not trained here.
        untrained = sum(
            math.prod(weight.shape)
            for weight in network.non_trainable_weights
            if not weight.name.startswith("moving_")
        )
        assert published.parameters_in_program == published.parameters + untrained + idle


@pytest.mark.tensorflow
@pytest.mark.parametrize("row", ONE_OF_EACH, ids=str)
def test_exports_agree_as_is_promised(row: Row, tmp_path: Path) -> None:
    """What the gate of `kl.export.export` does, but for the run, of which there is none."""
    network = scattered(row)
    exported, inputs = deploy(network), row.batch()[0]
    images = inputs
    if row.kind.rank == 2:
        inputs = np.floor(255 * images).astype("uint8")
        images = preprocess(inputs, "imagenet")
        exported = with_preprocessing(exported, "imagenet")
    logits = predict(network, images)
    for format_, precisions in FORMATS.items():
        promised = terms_for(row.kind).promises.keys() & precisions
        if row not in ROWS[:2]:  # of the same graph as in float32, with rounded weights
            promised -= {"float16", "dynamic"}
        for precision in promised:
            metadata = {"output": {"name": "logits"}}
            name = write(exported, tmp_path, format_, precision, metadata, inputs)
            received = open_(tmp_path / name, format_, "logits")(inputs)
            # Not IoU, as in the gate: random weights find nothing that could be lost.
            error = np.sqrt(np.mean(np.square(received - logits))) / logits.std()
            assert error < row.export_errors.get(precision, row.rounding), (name, error)


if keras.backend.backend() == "torch":  # the others compile for many minutes

    def test_the_report_on_a_gpu_runs_dry(tmp_path: Path) -> None:
        """Of LGMSNet, in processes; `test_gpu_report.py` has a network that trains faster."""
        command = [sys.executable, "-m", "keras_lgmsnet.cli.benchmark", "--gpu-report", "--quick"]
        options = [
            "--backend",
            keras.backend.backend(),
            "--minutes",
            "60",
            "-o",
            tmp_path / "report",
        ]
        result = subprocess.run([*command, *options], capture_output=True, text=True, cwd=CHECKOUT)
        assert result.returncode == 0, result.stderr
        report = json.loads((tmp_path / "report").read_text())
        assert [row for row in report["rows"] + report["forms"] if row["failure"]] == []
        assert "The losses of all" in report["conclusions"][0], report["conclusions"]
        assert "| attention | " in result.stdout


@pytest.mark.parametrize("rank", [2, 3])
def test_a_gpus_forms_compute_what_a_cpus_do(rank: int, tmp_path: Path) -> None:
    x = _draw_for_all_forms(rank)
    keras.utils.set_random_seed(0)
    of_cpu = network_of_all_forms(rank)
    of_cpu.save(tmp_path / "network.keras")
    with forms.forced_device("gpu"):
        of_gpu = keras.saving.load_model(tmp_path / "network.keras", compile=False)
    configs = [[layer.get_config() for layer in model.layers] for model in (of_cpu, of_gpu)]
    assert configs[0] == configs[1]
    expected, received = _trained(of_cpu, x), _trained(of_gpu, x)
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        # The round-off of seven norms in a row.
        np.testing.assert_allclose(
            received[name], values, rtol=0, atol=1e-3 * (1 + np.std(values)), err_msg=name
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_gpus_forms_compute_in_half_precision(policy: str, monkeypatch) -> None:
    if keras.backend.backend() == "jax" and policy == "mixed_float16":
        # XLA refuses JAX's own attention in float16 on a CPU ("F16_F16_F32 is not supported").
        attention = forms.OPERATIONS["attention"]
        monkeypatch.setitem(attention, "native", attention["at once"])
    x = _draw_for_all_forms(2)
    with forms.forced_device("gpu"):
        models = []
        for dtype in ("float32", policy):
            keras.utils.set_random_seed(0)
            models.append(network_of_all_forms(2, dtype))
    expected, outputs = (compiled(model)(x) for model in models)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    expected, outputs = (ops.convert_to_numpy(ops.cast(y, "float32")) for y in (expected, outputs))
    assert np.abs(outputs - expected).max() < 0.3 * expected.std()


def _draw_for_all_forms(rank: int) -> np.ndarray:
    shape = (2, *(4, 6, 8)[:rank], 4)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def _trained(model: keras.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return a network's outputs, its moved statistics, and the gradients of its weights."""
    weights, others = (
        [ops.convert_to_numpy(variable) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    # Squares of what was normalized add up to the same whatever the weights.
    factors = np.random.default_rng(1).random(model.compute_output_shape(x.shape), "float32")

    def call(training: bool, *weights: Any) -> tuple[Any, list[Any]]:
        return model.stateless_call(weights, others, x, training=training)

    def outputs(*weights: Any) -> list[Any]:
        trained, moved = call(True, *weights)
        return [call(False, *weights)[0], trained, *moved]

    def loss(*weights: Any) -> Any:
        return ops.multiply(call(True, *weights)[0], factors)

    names = [
        *("inference", "training"),
        *(variable.path for variable in model.non_trainable_variables),
        *(f"gradient of {variable.path}" for variable in model.trainable_variables),
    ]
    values = [
        *(ops.convert_to_numpy(value) for value in compiled(outputs)(*weights)),
        *gradients(loss, *weights),
    ]
    return dict(zip(names, values, strict=True))
