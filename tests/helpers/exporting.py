"""From a network's name to its exports, the whole way, on data made for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_lgmsnet.export.parent import export
from keras_lgmsnet.kinds import kind_of_rank
from keras_lgmsnet.recipe.schema import (
    AnyRecipe,
    Data,
    Model,
    Recipe,
    Training,
    VolumeData,
    VolumeTraining,
)
from keras_lgmsnet.training.loop import train
from tests.helpers.volumes import write_msd_folder

PRECISIONS = ("float32", "float16")


def train_and_export(
    name: str, sides: Sequence[int], arguments: Mapping[str, Any], folder: Path, epochs: int = 2
) -> dict[str, Any]:
    """Train a network for a moment in a folder, export it, and return what `export` returns.

    The export fails unless every file, opened by its users' runtime, agrees with the network as is
    promised. What is promised of 8-bit files, little loss of IoU, means nothing here: a network
    trained for a moment has hardly any.
    """
    kind = kind_of_rank(len(sides))
    model = Model(network=name, arguments=arguments)
    recipe, sources = kind.choose(images=_of_images, volumes=_of_volumes)(
        tuple(sides), model, epochs, folder
    )
    train(recipe, folder / "run", **sources)
    return export(folder / "run", folder / "exported", precisions=PRECISIONS, **sources)


def _of_images(
    sides: tuple[int, int], model: Model, epochs: int, folder: Path
) -> tuple[AnyRecipe, dict[str, Path]]:
    data = Data(source="synthetic", num_images=8, image_size=sides)
    return Recipe(data=data, model=model, training=Training(epochs=epochs, batch_size=2)), {}


def _of_volumes(
    sides: tuple[int, int, int], model: Model, epochs: int, folder: Path
) -> tuple[AnyRecipe, dict[str, Path]]:
    data = VolumeData(
        source="msd_folder",
        patch_size=sides,
        spacing=(1.0, 1.0, 1.0),
        intensity_window=(-60.0, 300.0),
        patches_per_volume=1,
    )
    training = VolumeTraining(epochs=epochs, warmup_epochs=0, validate_every=1)
    sources = {
        "manual_dir": write_msd_folder(folder / "Task", 4),
        "data_dir": folder / "prepared",
    }
    return Recipe(data=data, model=model, training=training), sources
