"""What the networks of runs cost: parameters, multiply-adds, and images a second."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras

from keras_lgmsnet.comparison.contestants import Contestant, ScoredRun
from keras_lgmsnet.models import registry
from keras_lgmsnet.models.complexity import count
from keras_lgmsnet.run_directory import read_json

Sizes = dict[str, tuple[int, int]]

_COLUMNS = (
    *("network", "backend", "device", "input_shape", "parameters"),
    "forward_images_per_second",
)


def count_sizes(contestants: Sequence[Contestant]) -> Sizes:
    """Return the parameters of each label's network, and its multiply-adds for one image.

    They are counted at the sides that the first of its runs saw, once for networks that are alike,
    and without their weights.

    Raises:
        ValueError: If a network cannot be built from its recipe.
        FileNotFoundError: If a run on volumes has no fingerprint.
    """
    counted: dict[str, tuple[int, int]] = {}
    sizes = {}
    for contestant in contestants:
        run = contestant.runs[0]
        arguments = dict(run.recipe.model.arguments)
        arguments.pop("encoder_weights", None)  # a file, which need not be there any more
        shape, num_classes = _shape_and_classes(run)
        network = run.recipe.model.network
        key = repr((network, sorted(arguments.items()), shape, num_classes))
        if key not in counted:
            keras.utils.clear_session(free_memory=True)  # of what the last network left
            model = registry.create(
                network, input_shape=shape, num_classes=num_classes, dtype="float32", **arguments
            )
            parameters, multiply_adds = count(model)
            counted[key] = parameters, multiply_adds
        sizes[contestant.label] = counted[key]
    return sizes


def read_speeds(
    path: str | Path, contestants: Sequence[Contestant], sizes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, float], str]:
    """Return images a second by label, and a sentence that tells how they were timed.

    A label's are those of the network of its name and parameters; where there is none, it has none.

    Args:
        path: A CSV file of `lgms-benchmark --networks`.
        contestants: The runs by label.
        sizes: What `count_sizes` returned.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another file, or has a network more than once.
    """
    timed: dict[tuple[str, int], dict[str, str]] = {}
    for line in _read_lines(Path(path)):
        if not line["forward_images_per_second"]:
            continue  # it was left out
        key = line["network"], int(line["parameters"])
        if key in timed:
            raise ValueError(
                f"{path} has {line['network']} with {line['parameters']} parameters more than "
                "once: time the networks with one --backend. Received: "
                f"{timed[key]['backend']} and {line['backend']}"
            )
        timed[key] = line
    speeds: dict[str, float] = {}
    circumstances: dict[str, None] = {}
    for contestant in contestants:
        key = contestant.runs[0].recipe.model.network, sizes[contestant.label][0]
        if key in timed:
            line = timed[key]
            speeds[contestant.label] = float(line["forward_images_per_second"])
            shape = line["input_shape"].replace(" ", " × ")
            circumstances[f"{shape} with {line['backend']} on {line['device']}"] = None
    kind = contestants[0].runs[0].kind
    unmatched = [each.label for each in contestants if each.label not in speeds]
    note = ""
    if speeds:
        note = (
            f"{kind.name.capitalize()} a second are of forward passes of one {kind.example} of "
            f"{' and of '.join(circumstances)}. "
        )
    if unmatched:
        note += (
            f"{Path(path).name} has no network of the same name and parameters as that of "
            f"{', '.join(unmatched)}."
        )
    return speeds, note.strip()


def _shape_and_classes(run: ScoredRun) -> tuple[tuple[int, ...], int]:
    """Return sides and channels of what a run's network takes, and its classes."""
    if not run.kind.classes_exclude_each_other:
        num_classes = run.recipe.model.num_classes
        assert num_classes is not None  # of images a recipe always tells it
        return (*run.sides, 3), num_classes
    fingerprint = read_json(run.directory, "fingerprint.json", "channels", "labels")
    return (*run.sides, len(fingerprint["channels"])), len(fingerprint["labels"])


def _read_lines(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            lines = list(csv.DictReader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    for number, line in enumerate(lines, start=2):
        for name in _COLUMNS:
            if line.get(name) is None:
                raise ValueError(
                    f"{path} must be what `lgms-benchmark --networks NAMES -o FILE.csv` writes; "
                    f"line {number} has no {name}."
                )
        try:
            if line["forward_images_per_second"]:
                int(line["parameters"]), float(line["forward_images_per_second"])
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: a number is none: {error}") from error
    return lines
