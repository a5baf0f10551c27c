"""What the training loop asks of a run's kind: the base of `ImageTask` and `VolumeTask`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import keras

from keras_lgmsnet.data.batches import Batches
from keras_lgmsnet.data.sources import describe_source
from keras_lgmsnet.data.splits import require_separate_groups, split_ids
from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.run_directory import read_json
from keras_lgmsnet.training.distribution import DivisibleBatches

# The scores after one epoch; `None` is one that was skipped in it.
EpochScores: TypeAlias = dict[str, float | None]


class Task(ABC):
    """The part of a training run that depends on its kind, images or volumes.

    Made of a recipe, the scope of its devices and the folders of the data, which it reads and
    splits; nothing is written yet. Then `prepare`, and from there on the batches are known.

    Attributes:
        recipe: What to train.
        manual_dir: The folder that the data were read from, if it was named.
        dataset: Which copy of which dataset the data are of, as `recipe.json` keeps it.
        splits: The ids of every part: `"train"`, `"validation"` and, if any, `"test"`.
        model: The network to train, of the recipe's precision.
        float32_network: The same in float32: one saved under mixed precision would load as mixed
            wherever it is used.
        batches: What `fit` trains on, with the method `set_epoch`; known once `prepare` was called.
        validation_data: What `fit` validates on, or `None` where `validate` does it.
    """

    recipe: AnyRecipe
    manual_dir: str | Path | None
    dataset: str
    splits: dict[str, list[str]]
    model: keras.Model
    float32_network: keras.Model
    batches: Batches | DivisibleBatches
    validation_data: Batches | DivisibleBatches | None = None

    @property
    def title(self) -> str:
        """The heading of the report."""
        network = registry.find(self.recipe.model.network, self.recipe.rank)
        return f"{network.title} on {describe_source(self.recipe.data.source, self.manual_dir)}"

    @abstractmethod
    def prepare(self, run_directory: Path) -> None:
        """Write the fingerprint, unless it is there, and do what it takes to train."""

    @abstractmethod
    def compile(self, network: keras.Model) -> None:
        """Give a network its loss, its optimizer and its metrics."""

    def validate(self, epoch: int) -> EpochScores:
        """Return the scores after an epoch, counted from 1, that `fit` has not computed itself."""
        return {}

    @abstractmethod
    def evaluate(self, run_directory: Path, best_epoch: int, history: list[EpochScores]) -> None:
        """Score `float32_network`, the best, on what was held out, and write the report.

        That is the test's part or, where there is none, the validation's.
        """

    def _split(self, ids: Sequence[str], groups: Sequence[str]) -> dict[str, list[str]]:
        data = self.recipe.data
        group_of = dict(zip(ids, groups, strict=True))
        splits = split_ids(
            ids,
            validation_fraction=data.validation_fraction,
            validation_ids=data.validation_ids,
            test_fraction=data.test_fraction,
            seed=data.split_seed,
            num_folds=data.num_folds,
            fold=data.fold,
            groups=group_of,
        )
        require_separate_groups(splits, group_of)
        return splits

    def _share(self, batches: Batches) -> Batches | DivisibleBatches:
        """Return the batches as the recipe's devices are served them."""
        num_devices = self.recipe.training.num_devices
        return batches if num_devices == 1 else DivisibleBatches(batches, num_devices)

    @staticmethod
    def _environment(run_directory: Path) -> dict[str, str]:
        """Return the backend and the versions that the run began with."""
        begun = read_json(run_directory, "recipe.json")
        return {"backend": begun["backend"], **begun["versions"]}
