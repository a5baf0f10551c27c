"""What the stages of a network make of images."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
from tqdm.auto import tqdm

from keras_lgmsnet.data.images import Rows, preprocess
from keras_lgmsnet.run import Run

# The stages of `LGMSNet2D` that hold its blocks, in the order of the data.
STAGES = (
    *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
    *("decoder5", "decoder4", "decoder3", "decoder2"),
)


def stage_features(
    run: Run, images: np.ndarray | Rows, stages: Sequence[str] = STAGES
) -> Iterator[dict[str, np.ndarray]]:
    """Yield what the stages of a run's network make of each image, one image at a time.

    Args:
        run: The run; its recipe's preprocessing is applied.
        images: 8-bit RGB, shape `(images, height, width, 3)`.
        stages: Names of layers of the network.

    Yields:
        For each stage its output, shape `(height, width, channels)` at the stage's resolution.

    Raises:
        ValueError: If the network has no such layer.
    """
    require_stages(run, stages)
    network = run.network
    outputs = {stage: network.get_layer(stage).output for stage in stages}
    extractor = keras.Model(network.input, outputs)
    for image in tqdm(images, desc="Looking into the network", unit="image", disable=None):
        batch = preprocess(image[None], run.recipe.data.preprocessing)
        features = extractor.predict_on_batch(batch)
        yield {stage: np.asarray(features[stage])[0] for stage in stages}


def require_stages(run: Run, stages: Sequence[str]) -> None:
    """Raise `ValueError` unless the stages are layers of a run's network, one at least."""
    layers = [layer.name for layer in run.network.layers]
    if not stages:
        raise ValueError(f"There must be at least one stage. Received: {stages!r}")
    if unknown := [stage for stage in stages if stage not in layers]:
        raise ValueError(
            f"Stages must be layers of the network in {run.directory}: {', '.join(layers)}. "
            f"Received: {', '.join(unknown)}"
        )
