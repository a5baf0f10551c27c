"""Full-size networks, and exports of tiny ones: `python -m tests --networks`.

Beside the default suite because of what it takes: the frozen numbers of U-Net alone a minute on
TensorFlow and PyTorch, two on JAX, on two busy cores.
"""

import math
from pathlib import Path

import pytest

import keras_lgmsnet as kl
from keras_lgmsnet.models import registry
from tests.helpers import frozen
from tests.helpers.exporting import train_and_export
from tests.helpers.stages import layers_of, stage_outputs
from tests.test_networks import ROWS, Row, once, row_by_row

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
def test_exports_pass_the_gate(row: Row, tmp_path: Path) -> None:
    train_and_export(row.name, row.input_shape[:-1], row.arguments, tmp_path)
