"""What the stages of a network make of images."""

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np

from keras_lgmsnet.data.images import Rows, preprocess
from keras_lgmsnet.models import registry
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.run import Run


def stage_features(
    run: Run, images: np.ndarray | Rows, stages: Sequence[str] = ()
) -> Iterator[dict[str, np.ndarray]]:
    """Yield what the stages of a run's network make of each image, one image at a time.

    Args:
        run: The run; its recipe's preprocessing is applied.
        images: 8-bit RGB, shape `(images, height, width, 3)`.
        stages: Names of layers of the network; by default those that the registry lists.

    Yields:
        For each stage its output, shape `(height, width, channels)` at the stage's resolution.

    Raises:
        ValueError: If the network has no such layer.
    """
    (stages,) = choose_stages([run], stages)
    network = run.network
    outputs = {stage: network.get_layer(stage).output for stage in stages}
    extractor = keras.Model(network.input, outputs)
    for image in track(images, label="Looking into the network", unit="image"):
        batch = preprocess(image[None], run.recipe.data.preprocessing)
        features = extractor.predict_on_batch(batch)
        yield {stage: np.asarray(features[stage])[0] for stage in stages}


def choose_stages(runs: Sequence[Run], stages: Sequence[str] = ()) -> list[list[str]]:
    """Return for each run those of the stages that its network has.

    Args:
        runs: One or more; their networks may differ.
        stages: Names of layers; by default, of each network, those that
            `keras_lgmsnet.models.registry` lists.

    Raises:
        ValueError: If none of the networks has a stage, or a network has none of them.
    """
    chosen = []
    for run in runs:
        asked = stages or registry.find(run.recipe.model.network, run.recipe.rank).stages
        has = [stage for stage in asked if stage in _layers(run)]
        if not has:
            raise _unknown_stages([run], asked)
        chosen.append(has)
    if unknown := [stage for stage in stages if not any(stage in has for has in chosen)]:
        raise _unknown_stages(runs, unknown)
    return chosen


def merge_stages(stages_of_runs: Iterable[Sequence[str]]) -> list[str]:
    """Return all stages, each once, in the order that the runs have them.

    A stage that a former run has not stands behind the one that it follows; where they have none
    in common, behind all.
    """
    merged: list[str] = []
    for stages in stages_of_runs:
        position = 0 if set(stages) & set(merged) else len(merged)
        for stage in stages:
            if stage not in merged:
                merged.insert(position, stage)
            position = merged.index(stage) + 1
    return merged


def _layers(run: Run) -> list[str]:
    return [layer.name for layer in run.network.layers]


def _unknown_stages(runs: Sequence[Run], stages: Sequence[str]) -> ValueError:
    where = " or ".join(str(run.directory) for run in runs)
    return ValueError(
        f"Stages must be layers of the network in {where}: "
        f"{', '.join(merge_stages(map(_layers, runs)))}. Received: {', '.join(stages)}"
    )
