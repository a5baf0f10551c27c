"""Networks that are trained with further logits beside their own."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_lgmsnet import losses, metrics, optimizers
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.layers import ConvNormActivation, GroupedConv
from keras_lgmsnet.models import complexity, registry
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.network import Network, fixed
from tests.helpers.gradients import compiled

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 8, 8, 2)).astype("float32")
MASKS = (IMAGES[..., :1] > 0.5).astype("float32")
WEIGHTS = np.array([0.5, 1, 2], "float32")


@keras.saving.register_keras_serializable(package="tests")
class Deep2D(SegmentationNetwork):
    """Two levels, of which the first has logits for training only."""

    rank = 2

    def __init__(self, input_shape=(8, 8, 2), num_classes=1, auxiliary_outputs=False, **kwargs):
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        first = ConvNormActivation(4, 3, dtype=dtype, name="first")(image)
        second = ConvNormActivation(4, 3, dtype=dtype, name="second")(first)
        logits = GroupedConv(num_classes, 1, dtype="float32", name="logits")(second)
        auxiliary = []
        if auxiliary_outputs:
            head = GroupedConv(num_classes, 1, dtype="float32", name="auxiliary")
            auxiliary = [head(first), -head(first)]
        super().__init__(image, logits, num_classes, dtype, auxiliary, **kwargs)
        self.auxiliary_outputs = auxiliary_outputs

    def get_config(self):
        return super().get_config() | {"auxiliary_outputs": self.auxiliary_outputs}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(
        name="deep",
        rank=2,
        title="Deep",
        module=__name__,
        class_name="Deep2D",
        stages=("first", "second"),
        sides=fixed(),
        paper=None,
        program=None,
    )
    monkeypatch.setattr(registry, "NETWORKS", (*registry.NETWORKS, network))


def _create(auxiliary_outputs: bool = True, **arguments) -> Deep2D:
    keras.utils.set_random_seed(0)
    return Deep2D(auxiliary_outputs=auxiliary_outputs, **arguments)


def _predict(network: keras.Model) -> np.ndarray:
    return network.predict_on_batch(IMAGES)


def test_its_layers_are_known_once_each() -> None:
    network, plain = _create(), _create(auxiliary_outputs=False)
    assert network.output_shape == (None, 8, 8, 1)
    names = [layer.name for layer in network.layers]
    assert names == [*(layer.name for layer in plain.layers), "auxiliary"]
    counts = [complexity.count(each) for each in (network, plain)]
    assert counts[0].parameters == counts[1].parameters + 4 + 1
    assert counts[0].multiply_adds == counts[1].multiply_adds + 8 * 8 * 4
    plain.set_weights(network.get_weights()[:-2])
    assert len(network.weights) == len(plain.weights) + 2
    np.testing.assert_allclose(_predict(network), _predict(plain), atol=1e-6)


def test_the_losses_of_all_logits_are_added_up() -> None:
    network = _create()
    optimizer = optimizers.TorchSGD(0.1, momentum=0.9)
    network.compile(optimizer, losses.BCEDiceLoss(), weighted_metrics=[metrics.ImageIoU()])
    values = [[w.value for w in group] for group in _weights(network)]
    all_logits = compiled(lambda: network.stateless_call(*values, IMAGES, training=True)[0])()
    logits, *auxiliary = map(ops.convert_to_numpy, all_logits)
    np.testing.assert_array_equal(auxiliary[1], -auxiliary[0])
    assert np.abs(logits - _predict(network)).max() > 0.01  # since the norms took the batch's
    loss = losses.BCEDiceLoss()
    expected = sum(float(loss(MASKS, part, WEIGHTS)) for part in (logits, *auxiliary))
    iou = float(metrics.ImageIoU()(MASKS, logits, WEIGHTS))
    start = ops.convert_to_numpy(network.get_layer("auxiliary").kernel).copy()
    results = network.train_on_batch(IMAGES, MASKS, WEIGHTS, return_dict=True)
    assert results == pytest.approx({"loss": expected, "iou": iou}, rel=1e-5)
    assert np.any(ops.convert_to_numpy(network.get_layer("auxiliary").kernel) != start)


def _weights(network: keras.Model) -> tuple[list, list]:
    return network.trainable_variables, network.non_trainable_variables


def test_files_hold_it_and_validation_is_of_its_own_logits(tmp_path: Path) -> None:
    network = _create()
    history = network.fit(IMAGES, MASKS, validation_data=(IMAGES, MASKS), verbose=0).history
    expected = float(losses.BCEDiceLoss()(MASKS, _predict(network)))
    assert history["val_loss"] == pytest.approx([expected], rel=1e-4)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert loaded.get_config() == network.get_config()
    assert [variable.path for variable in loaded.weights] == [
        variable.path for variable in network.weights
    ]
    for received, expected in zip(loaded.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    assert int(loaded.optimizer.iterations) == 1
    np.testing.assert_allclose(_predict(loaded), _predict(network), atol=1e-6)


@pytest.mark.no_backend
def test_the_deploy_form_knows_its_own_logits_only() -> None:
    network = _create()
    deployed = deploy(network)
    np.testing.assert_allclose(_predict(deployed), _predict(network), atol=1e-5)
    assert not any("auxiliary" in layer.name for layer in deployed.layers)


@pytest.mark.no_backend
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_it_trains_in_mixed_precision(policy: str) -> None:
    network = _create(dtype=policy)
    results = network.train_on_batch(IMAGES, MASKS, return_dict=True)
    assert np.isfinite(results["loss"])
    assert int(network.optimizer.iterations) == 1
