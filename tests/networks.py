"""Full-size networks, and exports of tiny ones: `python -m tests --networks`.

Beside the default suite because of what it takes: the frozen numbers of U-Net alone a minute on
TensorFlow and PyTorch, two on JAX, on two busy cores.
"""

import math
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lgmsnet as kl
from keras_lgmsnet.data.images import preprocess
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.export.promises import FORMATS, terms_for
from keras_lgmsnet.export.writers import open_, with_preprocessing, write
from keras_lgmsnet.models import registry
from tests.helpers import frozen
from tests.helpers.stages import layers_of, stage_outputs
from tests.test_networks import (
    ROWS,
    Row,
    once,
    predict,
    row_by_row,
    scattered,
    train_a_step,
)

CASES = [
    pytest.param(row, number, id=f"{row}-{number}")
    for row in ROWS
    if row.frozen
    for number in range(len(frozen.load(row.frozen)["cases"]))
]
PUBLISHED = [
    pytest.param(entry, published, id=f"{entry.name}-{entry.rank}d-{published.parameters}")
    for entry in registry.NETWORKS
    for published in entry.published
]


@pytest.mark.parametrize(("row", "number"), CASES)
def test_every_stage_has_the_frozen_numbers(row: Row, number: int) -> None:
    file = frozen.load(row.frozen or "")
    case = file["cases"][number]
    stages = case["stages"]
    network = kl.models.create(
        row.name,
        input_shape=case["input_shape"][1:],
        num_classes=stages["logits"]["shape"][-1],
        **file["arguments"],
    )
    shapes = file["parameters"] | case.get("parameters", {})
    weights = frozen.draw_weights(shapes, case["salt"], case.get("factors"))
    kl.checkpoints.load_torch_state_dict(network, weights)
    images = frozen.draw_images(case["input_shape"], case["input_seed"])
    outputs = stage_outputs(network, images, layers_of(network, stages, row.frozen_layers))
    assert outputs.keys() == stages.keys()
    for name, stage in stages.items():
        frozen.assert_stage_is(outputs[name], stage, case.get("float32_floor", 0.0), name)


if keras.backend.backend() == "jax":  # elsewhere it is quick, and in the default suite

    @row_by_row
    def test_float16_trains_on_jax(row: Row) -> None:
        train_a_step(row, "mixed_float16")


@once
@pytest.mark.parametrize(("entry", "published"), PUBLISHED)
def test_published_configurations_have_the_numbers_of_the_registry(
    entry: registry.Network, published: registry.Published
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
        assert published.parameters_in_program == published.parameters + idle


@once
@row_by_row
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
        for precision in terms_for(row.kind).promises.keys() & precisions:
            metadata = {"output": {"name": "logits"}}
            name = write(exported, tmp_path, format_, precision, metadata, inputs)
            received = open_(tmp_path / name, format_, "logits")(inputs)
            # Not IoU, as in the gate: random weights find nothing that could be lost.
            error = np.sqrt(np.mean(np.square(received - logits))) / logits.std()
            assert error < row.export_errors.get(precision, row.rounding), (name, error)
