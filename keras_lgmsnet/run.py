"""A run read again: its recipe, what it held out, its best network."""

import functools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.keras_settings import require_channels_last
from keras_lgmsnet.kinds import Kind
from keras_lgmsnet.recipe.schema import AnyRecipe, ImageRecipe, VolumeRecipe
from keras_lgmsnet.run_directory import read_json, read_recipe, require_network


def load_network(run_directory: Path) -> keras.Model:
    """Return a run's best network, in float32, on the backend in use.

    Raises:
        FileNotFoundError: If the run has none yet.
        ValueError: If the file is damaged, or Keras is configured for `channels_first`.
    """
    path = require_network(run_directory)
    require_channels_last()
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


@dataclass(frozen=True)
class Run:
    """What is needed of a run directory to use its network: an `ImageRun` or a `VolumeRun`.

    Args:
        directory: The run directory.
        recipe: What it was trained by.
        dataset: Which copy of which dataset it was trained on, as `Examples.dataset` has it.
        train_ids: Ids of the images or volumes trained on.
        subset: `"test"`, or `"validation"` where none were set aside for a test.
        subset_ids: Ids of those held out.
        network: The best network, from preprocessed images, or patches of volumes, to logits.
    """

    directory: Path
    recipe: AnyRecipe
    dataset: str
    train_ids: Sequence[str]
    subset: str
    subset_ids: Sequence[str]
    network: keras.Model

    @property
    def kind(self) -> Kind:
        """What it was trained on."""
        return self.recipe.kind

    @staticmethod
    def read(directory: Path) -> "Run":
        """Return what a run directory holds.

        Raises:
            FileNotFoundError: If it is no run directory, or has no network yet.
            ValueError: If one of its files is damaged.

        Example:
        ```python
        run = Run.read(Path("runs/isic"))
        run.network.predict_on_batch(images)
        ```
        """
        recipe = read_recipe(directory)
        dataset = read_json(directory, "recipe.json", "dataset")["dataset"]
        splits = read_json(directory, "splits.json", "train", "validation")
        subset = "test" if "test" in splits else "validation"
        run_class = recipe.kind.choose(images=ImageRun, volumes=VolumeRun)
        return run_class(
            directory,
            recipe,
            dataset,
            splits["train"],
            subset,
            splits[subset],
            load_network(directory),
        )


@dataclass(frozen=True)
class ImageRun(Run):
    """A run on images."""

    recipe: ImageRecipe


@dataclass(frozen=True)
class VolumeRun(Run):
    """A run on volumes."""

    recipe: VolumeRecipe

    @functools.cached_property
    def fingerprint(self) -> VolumeFingerprint:
        """How volumes are read for the network.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged.
        """
        return VolumeFingerprint.read(self.directory)
