"""Lets Keras find the classes of saved networks, whose modules are imported on demand.

Keras looks a class up by the name that it was registered under, and imports no module for it. Until
the class's module is imported, and registers the class itself, a stand-in has that name.
"""

import importlib
from typing import Any

from keras_lgmsnet.models import registry

PACKAGE = "keras_lgmsnet"

# The names in saved files, by the module that registers them; the networks' are in the registry.
CLASSES = {
    "keras_lgmsnet.layers": (
        "AtrousPyramidPooling",
        "AxialAttention",
        "AxialShift",
        "BatchNormalization",
        "CausalDepthwiseConv",
        "ChannelwiseFeedForward",
        "ConvNormActivation",
        "CubicUpsampling",
        "DepthwiseConv",
        "DepthwiseResidual",
        "FanInUniform",
        "FusionBlock",
        "GMSBlock",
        "GhostBatchNormalization",
        "GlobalResponseNormalization",
        "GroupNormalization",
        "GroupedConv",
        "LMSBlock",
        "LayerScale",
        "LinearUpsampling",
        "LogUniformSteps",
        "MaxPooling",
        "MultiHeadAttention",
        "NearestUpsampling",
        "ParallelDepthwiseConv",
        "PatchEmbedding",
        "PatchExpansion",
        "PatchFold",
        "PatchMerging",
        "PatchUnfold",
        "PositionEmbedding",
        "ResidualBlock",
        "SelectiveScan",
        "SparseTransformer",
        "SqueezeExcitation",
        "StandardizedConv",
        "ThreeOrderMamba",
        "TransposedConv",
        "TransposedDepthwiseConv",
        "TransposedPointwiseConv",
        "WindowAttention",
    ),
    "keras_lgmsnet.losses": ("BCEDiceLoss", "DiceCELoss"),
    "keras_lgmsnet.metrics": (
        "ClassDice",
        "ImageAccuracy",
        "ImageF1",
        "ImageIoU",
        "ImagePrecision",
        "ImageSensitivity",
        "ImageSpecificity",
    ),
    "keras_lgmsnet.optimizers": ("PolynomialDecay", "SGD"),
}


def register(keras_module: Any) -> None:
    """Give Keras a stand-in for every class, so that `keras.saving.load_model` needs no imports."""
    classes = [(network.module, network.class_name) for network in registry.NETWORKS]
    classes += [(module, name) for module, names in CLASSES.items() for name in names]
    for module, name in classes:
        registered = keras_module.saving.register_keras_serializable(PACKAGE, name)
        registered(_stand_in(module, name))


def _stand_in(module: str, name: str) -> type:
    class StandIn:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            import keras

            importlib.import_module(module)
            # Not `get_registered_object`, which finds the stand-in as long as a file is read.
            return keras.saving.get_custom_objects()[f"{PACKAGE}>{name}"].from_config(config)

        def get_config(self) -> dict[str, Any]:  # Keras registers no class without it
            raise NotImplementedError

    return StandIn
