"""Keras finds every class of a saved network, though nothing but the package was imported."""

import importlib
import pkgutil
from pathlib import Path

import keras
import pytest

import keras_lgmsnet
from keras_lgmsnet import layers, losses, optimizers
from keras_lgmsnet.models import registry
from keras_lgmsnet.serialization import CLASSES
from tests.helpers.processes import run_in_fresh_process


@pytest.mark.no_backend
def test_every_registered_class_is_known() -> None:
    package = keras_lgmsnet.__path__
    modules = {
        *(module.name for module in pkgutil.iter_modules(package, "keras_lgmsnet.")),
        *(
            module.name
            for module in pkgutil.walk_packages(layers.__path__, "keras_lgmsnet.layers.")
        ),
        *(network.module for network in registry.NETWORKS),
    }
    for module in modules:
        importlib.import_module(module)
    prefix = "keras_lgmsnet>"
    registered = {
        name.removeprefix(prefix): cls.__name__
        for name, cls in keras.saving.get_custom_objects().items()
        if name.startswith(prefix)
        and cls.__module__.startswith("keras_lgmsnet.")
        # A function is named within the config of a layer, whose stand-in imports it first.
        and isinstance(cls, type)
    }
    assert "StandIn" not in registered.values()
    classes = {network.class_name for network in registry.NETWORKS}
    assert set(registered) == classes.union(*CLASSES.values())


def test_a_users_own_network_loads(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 4))
    x = layers.ConvNormActivation(4, 3)(image)
    x = layers.LMSBlock((3, 5))(x)
    network = keras.Model(image, layers.GroupedConv(1, 1, kernel_initializer="zeros")(x))
    network.compile(optimizers.TorchSGD(0.1), losses.BCEDiceLoss(), run_eagerly=True)
    network.save(tmp_path / "network.keras")
    run_in_fresh_process(
        """
import keras, keras_lgmsnet
network = keras.saving.load_model("network.keras")
assert type(network.layers[2]) is keras_lgmsnet.layers.LMSBlock
assert type(network.optimizer) is keras_lgmsnet.optimizers.TorchSGD
assert type(network.loss) is keras_lgmsnet.losses.BCEDiceLoss
network.predict_on_batch(keras.ops.ones((1, 8, 8, 4)))
""",
        tmp_path,
    )
