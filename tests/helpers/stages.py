"""The outputs of a network's stages, wherever in it they arise."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_lgmsnet.models.published_names import named_parts


def stage_outputs(
    network: keras.Model, images: np.ndarray, layers: Mapping[str, keras.layers.Layer]
) -> dict[str, np.ndarray]:
    """Return what layers of a network, or within its layers, put out in inference mode.

    Of a layer that is called several times that is the first output, and of one with several
    outputs the first of them; `logits` is the network's. Auxiliary logits are computed, too.
    """
    outputs: dict[str, Any] = {}
    call = keras.layers.Layer.__call__

    def recorded_call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        result = call(layer, *args, **kwargs)
        for stage, wanted in layers.items():
            if wanted is layer:
                outputs.setdefault(stage, tree.flatten(result)[0])
        return result

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(keras.layers.Layer, "__call__", recorded_call)
        outputs["logits"] = network(images, training=False)
        if network.supervised is not None:
            network.supervised(images, training=False)
    return {stage: ops.convert_to_numpy(output) for stage, output in outputs.items()}


def layers_of(
    network: keras.Model, stages: Iterable[str], named: Mapping[str, str]
) -> dict[str, keras.layers.Layer]:
    """Return our layers whose outputs are those of modules of the published program.

    A module of which the network knows a layer by name is that layer. Any other module is a
    container: its output is that of the layer with the last parameter in it, norm and activation
    included, and so of the largest layer all of whose parameters lie in the module.

    Args:
        network: A network with published names.
        stages: Modules' names.
        named: Module → name of our layer, of those for which that does not hold.
    """
    parts = dict(named_parts(network))
    names = {id(part): name for name, part in parts.items()}

    def layer_of(stage: str) -> keras.layers.Layer:
        if stage in named:
            return network.get_layer(named[stage])
        if stage in parts:
            return parts[stage]
        within = [name for name in names.values() if name.startswith(f"{stage}.")]
        if not within:
            raise KeyError(f"No parameter of {network.name} lies in {stage}.")
        candidates = []
        for layer in network._flatten_layers(include_self=False):
            held = {names.get(id(weight)) for weight in layer.weights}
            if held <= set(within) and within[-1] in held:
                candidates.append(layer)
        return max(candidates, key=lambda layer: len(layer.weights))

    return {stage: layer_of(stage) for stage in stages if stage != "logits"}
