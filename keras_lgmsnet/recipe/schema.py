"""What a recipe is, how it is found, overridden and stored.

A recipe file is a Python file that defines `recipe = Recipe(...)`. Recipes are frozen dataclasses
all the way down; every field is checked when it is set, whether in a file, by `override` or from
JSON. Nothing here imports Keras: the command line reads a recipe before it chooses a backend.
"""

import ast
import contextlib
import dataclasses
import difflib
import json
import math
import runpy
import traceback
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self


@dataclass(frozen=True, kw_only=True)
class _Data:
    """What images and volumes have in common: where they are from and how they are split."""

    source: str
    validation_fraction: float = 0.3
    validation_ids: tuple[str, ...] = ()
    test_fraction: float = 0.0
    split_seed: int = 41
    num_folds: int | None = None
    fold: int = 0
    allow_incomplete: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self, "source", self.source != "", "not be empty")
        _require(
            self, "validation_fraction", 0 < self.validation_fraction < 1, "lie between 0 and 1"
        )
        _require(self, "test_fraction", 0 <= self.test_fraction < 1, "lie in [0, 1)")
        _require(self, "split_seed", 0 <= self.split_seed < 2**32, "lie in [0, 2**32)")
        _require(self, "num_folds", self.num_folds is None or self.num_folds >= 2, "be at least 2")
        _require(self, "fold", 0 <= self.fold < (self.num_folds or 1), "lie below data.num_folds")
        _require(
            self,
            "num_folds",
            self.num_folds is None or not self.validation_ids,
            "be None where data.validation_ids names what to validate on",
        )


@dataclass(frozen=True, kw_only=True)
class Data(_Data):
    """The images and what is done to them before the network.

    Args:
        source: Name of a TFDS builder, such as `"isic2018_task1"` or `"busi/all"`, or
            `"synthetic"` for generated ultrasound-like images.
        image_size: `(height, width)` in pixels that images and masks are resized to; both
            divisible by 32.
        interpolation: How images are resized, `"linear"` or `"lanczos"`; masks always to the
            nearest pixel.
        validation_fraction: Share of the images held out for validation, between 0 and 1. Where
            the dataset tells patients, videos or cases, this and the following go by those.
        validation_ids: Ids of the images to validate on, in place of a random share.
        test_fraction: Share of the images set aside beforehand, neither trained on nor validated
            on, from 0 to below 1.
        split_seed: Seed of the random split; the paper's splits 1, 2 and 3 are 41, 64 and 1337.
        num_folds: Number of folds of a cross-validation, whose share replaces
            `validation_fraction`; `None` for a random split.
        fold: Which fold to validate on, from 0 to `num_folds - 1`.
        preprocessing: `"imagenet"` normalises RGB once with ImageNet's mean and deviation;
            `"published"` is the published program's literal arithmetic, for reproduction.
        augmentation: `"rotate_flip"` (random rotations by multiples of 90° and flips),
            `"kvasir"` (flips, colour jitter, affine and elastic changes), `None`, or keras-cv's
            layers and their arguments, such as `{"RandomFlip": {}, "RandomRotation": {"factor":
            0.05}}`: see `keras_lgmsnet.data.keras_cv_augmentation`.
        num_images: How many images to generate; only for `source="synthetic"`.
        allow_incomplete: Whether to go on with an archive short of its published count.
    """

    image_size: tuple[int, int] = (256, 256)
    interpolation: Literal["linear", "lanczos"] = "linear"
    preprocessing: Literal["imagenet", "published"] = "imagenet"
    augmentation: Literal["rotate_flip", "kvasir"] | dict[str, dict] | None = "rotate_flip"
    num_images: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self, "image_size", min(self.image_size) > 0, "have sides above 0")
        if self.source == "synthetic":
            _require(
                self,
                "num_images",
                self.num_images is not None and self.num_images >= 2,
                "be at least 2 for synthetic images",
            )
        else:
            _require(
                self,
                "num_images",
                self.num_images is None,
                "be None: only synthetic images are generated in any number",
            )


@dataclass(frozen=True, kw_only=True)
class VolumeData(_Data):
    """The volumes, CT or MR, and what is done to them before the network.

    What is `None` by default is proposed from the volumes trained on; `fingerprint.json` keeps
    what was chosen.

    Args:
        source: Name of a TFDS builder of volumes, such as `"btcv"`, or `"msd_folder"` for a folder
            of your own.
        spacing: Distance of the voxels in mm along the axes to the right, to the front and up (x,
            y, z of RAS) that volumes are resampled to.
        normalization: `"window"` scales `intensity_window` to 0 … 1 and clips what lies outside,
            as suits CT; `"z_score"` subtracts a volume's mean and divides by its deviation.
        intensity_window: Low and high end for `"window"`, in the volumes' own unit: Hounsfield
            units for CT.
        crop_foreground: Whether to train on what surrounds the foreground of a volume only. What is
            labelled outside it counts in the final scores, not in those while training.
        patch_size: Sides in voxels of what the network sees at once; each divisible by 32.
        patches_per_volume: Patches drawn from a volume in an epoch.
        positive_fraction: Share of the patches, from 0 to 1, with a labelled voxel at the centre;
            the others have one of the background there.
        augmentation: `"flip_rotate_intensity"` (flips along each axis, rotations by multiples of
            90°, intensities scaled and shifted), or `None`.
        overlap: Share of a window's side that it has in common with the next, in [0, 1), where a
            whole volume is segmented.
        validation_fraction: Share of the volumes held out for validation, between 0 and 1. Where
            the dataset tells patients or cases, this and the following go by those.
        validation_ids: Ids of the volumes to validate on, in place of a random share.
        test_fraction: Share of the volumes set aside beforehand, neither trained on nor validated
            on, from 0 to below 1.
        split_seed: Seed of the random split.
        num_folds: Number of folds of a cross-validation, whose share replaces
            `validation_fraction`; `None` for a random split.
        fold: Which fold to validate on, from 0 to `num_folds - 1`.
        allow_incomplete: Whether to go on with an archive short of its published count.
    """

    spacing: tuple[float, float, float] | None = None
    normalization: Literal["window", "z_score"] | None = None
    intensity_window: tuple[float, float] | None = None
    crop_foreground: bool = True
    patch_size: tuple[int, int, int] = (96, 96, 96)
    patches_per_volume: int = 4
    positive_fraction: float = 0.5
    augmentation: Literal["flip_rotate_intensity"] | None = "flip_rotate_intensity"
    overlap: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            self,
            "spacing",
            self.spacing is None or all(0 < side < math.inf for side in self.spacing),
            "be above 0 mm",
        )
        if self.intensity_window is not None:
            low, high = self.intensity_window
            ascends = -math.inf < low < high < math.inf
            _require(self, "intensity_window", ascends, "have a low end below its high end")
            _require(
                self,
                "intensity_window",
                self.normalization != "z_score",
                "be None where data.normalization is 'z_score'",
            )
        _require(
            self,
            "patch_size",
            all(side > 0 and side % 32 == 0 for side in self.patch_size),
            "have sides divisible by 32",
        )
        _require(self, "patches_per_volume", self.patches_per_volume >= 1, "be at least 1")
        _require(self, "positive_fraction", 0 <= self.positive_fraction <= 1, "lie in [0, 1]")
        _require(self, "overlap", 0 <= self.overlap < 1, "lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The arguments of `keras_lgmsnet.LGMSNet2D` or `LGMSNet3D`, where they are documented.

    Without `num_classes`, images have one class; volumes have those of the dataset, its background
    included.
    """

    num_classes: int | None = None
    dims: tuple[int, ...] = (16, 32, 64, 128, 128)
    kernel_sizes: tuple[int, ...] = (3, 5, 7, 9)
    transformer_ratio: float = 0.75
    activation: str = "gelu"

    def __post_init__(self) -> None:
        _check_types(self)


@dataclass(frozen=True, kw_only=True)
class _Training:
    """What the optimisation of both kinds has in common."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int = 0
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    num_devices: int = 1

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self, "epochs", self.epochs >= 1, "be at least 1")
        _require(self, "batch_size", self.batch_size >= 1, "be at least 1")
        _require(self, "learning_rate", 0 < self.learning_rate < math.inf, "be above 0")
        _require(self, "weight_decay", 0 <= self.weight_decay < math.inf, "not be negative")
        _require(self, "seed", 0 <= self.seed < 2**32, "lie in [0, 2**32)")
        _require(
            self,
            "num_devices",
            self.num_devices >= 1 and self.batch_size % self.num_devices == 0,
            "be at least 1 and divide training.batch_size",
        )


@dataclass(frozen=True, kw_only=True)
class Training(_Training):
    """The optimisation of images: gradient descent with a polynomially decaying rate.

    Args:
        epochs: Passes over the training images; the learning rate reaches 0 after the last.
        batch_size: Images per step.
        learning_rate: Rate of the first step.
        momentum: Momentum, in [0, 1).
        weight_decay: L2 penalty on every trainable tensor, as in `torch.optim.SGD`.
        seed: Seed of the initial weights, the image order and the augmentation.
        precision: Keras dtype policy of the network; losses and metrics are float32 under each.
        num_devices: GPUs of this host (where there is none: the backend's CPU devices) that share
            each batch, in equal parts; more than 1 on JAX and TensorFlow only.
    """

    epochs: int = 500
    batch_size: int = 16
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self, "momentum", 0 <= self.momentum < 1, "lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class VolumeTraining(_Training):
    """The optimisation of volumes: AdamW, whose rate rises in a warm-up and falls as a cosine.

    Args:
        epochs: Passes over the training volumes; the learning rate reaches 0 after the last.
        batch_size: Volumes per step, each with its `data.patches_per_volume` patches.
        learning_rate: Highest rate, that of the warm-up's end.
        warmup_epochs: Epochs in which the rate rises from 0; fewer than `epochs`.
        weight_decay: Decoupled decay of every trainable tensor.
        validate_every: Epochs from one validation to the next, in which whole volumes are
            segmented; the last epoch always ends in one. Of those epochs, the best is kept.
        seed: Seed of the initial weights, the order, the patches and the augmentation.
        precision: Keras dtype policy of the network; the loss and the scores are float32 under
            each.
        num_devices: GPUs of this host (where there is none: the backend's CPU devices) that share
            each batch, in equal parts; more than 1 on JAX and TensorFlow only.
    """

    epochs: int = 5000
    batch_size: int = 1
    learning_rate: float = 1e-3
    warmup_epochs: int = 50
    weight_decay: float = 1e-5
    validate_every: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            self,
            "warmup_epochs",
            0 <= self.warmup_epochs < self.epochs,
            f"be at least 0 and below training.epochs, {self.epochs}: set both",
        )
        _require(self, "validate_every", self.validate_every >= 1, "be at least 1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run. The defaults are the published settings.

    Args:
        data: `Data` for images, `VolumeData` for volumes.
        model: The network; its rank is that of the data.
        training: `Training` for images, `VolumeTraining` for volumes; by default the one that
            `data` calls for.

    Example:
    ```python
    recipe = Recipe(data=Data(source="isic2018_task1"), training=Training(epochs=50))
    recipe.rank, Recipe(data=VolumeData(source="btcv")).rank  # 2, 3
    ```
    """

    data: Data | VolumeData
    model: Model = field(default_factory=Model)
    training: Training | VolumeTraining = None  # replaced when `data` is known

    def __post_init__(self) -> None:
        expected = _SECTIONS[self.rank]["training"]
        if self.training is None:
            object.__setattr__(self, "training", expected())
        _check_types(self)
        _require(
            self,
            "training",
            type(self.training) is expected,
            f"be a {expected.__name__} where data is a {type(self.data).__name__}",
        )
        num_classes = self.model.num_classes
        if self.rank == 2 and num_classes is None:
            object.__setattr__(self, "model", dataclasses.replace(self.model, num_classes=1))
        elif self.rank == 3:
            _require(
                self.model,
                "num_classes",
                num_classes is None or num_classes >= 2,
                "be None or at least 2 for volumes, whose background is a class",
            )

    @property
    def rank(self) -> int:
        """The number of axes in space: 2 for images, 3 for volumes."""
        return 3 if isinstance(self.data, VolumeData) else 2

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the recipe that `to_dict` described, also after a round trip through JSON.

        It is of volumes where its data have a `patch_size`, as volumes' always have.

        Raises:
            ValueError: If a key is unknown or missing, or a value is not allowed.
        """
        data = values.get("data") if isinstance(values, dict) else None
        rank = 3 if isinstance(data, dict) and "patch_size" in data else 2
        return _build(cls, values, prefix="", sections=_SECTIONS[rank])


_SECTIONS: dict[int, dict[str, type]] = {
    2: {"data": Data, "model": Model, "training": Training},
    3: {"data": VolumeData, "model": Model, "training": VolumeTraining},
}


def load_recipe(path_or_name: str | Path) -> Recipe:
    """Return the `recipe` that a Python file defines.

    The file is executed, and no other: name only files you trust.

    Args:
        path_or_name: A path that ends in `.py`; where no such file exists, the name of a bundled
            recipe, with or without `recipes/` before and `.py` behind it.

    Raises:
        FileNotFoundError: If there is neither such a file nor such a bundled recipe.
        ValueError: If the file fails, or defines no `recipe`.
    """
    path = Path(path_or_name)
    if not (path.suffix == ".py" and path.is_file()):
        path = _bundled_recipe(path)
    try:
        recipe = runpy.run_path(str(path)).get("recipe")
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f"{path}, line {lines[-1]}" if lines else path
        raise ValueError(f"Recipe {where}: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"A recipe file must define `recipe = Recipe(...)`. Received: {path}, "
            f"where `recipe` is {recipe!r}"
        )
    return recipe


def override(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """Return the recipe with fields replaced, as `--set` does.

    Args:
        recipe: The recipe to start from.
        assignments: Texts `"section.field=value"`, such as `"training.epochs=5"`,
            `"data.image_size=128,128"` or `"data.augmentation=none"`.

    Raises:
        ValueError: If a text has another form, names no field or gives a value of another type.
    """
    values = recipe.to_dict()
    known = {
        f"{section}.{name}": annotation
        for section, section_type in _SECTIONS[recipe.rank].items()
        for name, annotation in typing.get_type_hints(section_type).items()
    }
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise ValueError(
                f"An override must read KEY=VALUE, such as training.epochs=5. "
                f"Received: {assignment!r}"
            )
        if key not in known:
            raise ValueError(_unknown_key(key, list(known)))
        section, name = key.split(".")
        values[section][name] = _conform(_parse(text, known[key]), known[key], key)
    return Recipe.from_dict(values)


def _bundled_recipe(name: Path) -> Path:
    package = Path(__file__).parent
    # The wheel maps recipes/ into the package; in a checkout it lies beside the package.
    folder = next(
        folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()
    )
    bundled = {path.stem: path for path in sorted(folder.glob("*.py"))}
    stem = name.as_posix().removeprefix("recipes/").removesuffix(".py")
    if stem in bundled:
        return bundled[stem]
    raise FileNotFoundError(
        f"There is no recipe file {name}; bundled recipes are: {', '.join(bundled)}."
    )


def _build(cls: type, values: Any, prefix: str, sections: Mapping[str, type]) -> Any:
    """Return the dataclass `cls` of nested `values`.

    `prefix` is its key with a dot; `sections` are the dataclasses of those of its fields that
    have their own.
    """
    if not isinstance(values, dict):
        raise ValueError(
            f"{prefix.rstrip('.') or 'A recipe'} must be a mapping. Received: {values!r}"
        )
    known = [field.name for field in dataclasses.fields(cls)]
    arguments = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(_unknown_key(prefix + name, [prefix + name for name in known]))
        if name in sections:
            value = _build(sections[name], value, f"{prefix}{name}.", sections={})
        arguments[name] = value
    for section in dataclasses.fields(cls):
        required = section.default is section.default_factory is dataclasses.MISSING
        if required and section.name not in arguments:
            raise ValueError(f"The recipe gives no {prefix}{section.name}.")
    return cls(**arguments)


def _unknown_key(key: str, known: list[str]) -> str:
    # Compared as a whole and by the last part alone, so that `epochs` finds `training.epochs`.
    near = difflib.get_close_matches(key, known) or [
        candidate
        for candidate in known
        if difflib.get_close_matches(key.rpartition(".")[2], [candidate.rpartition(".")[2]])
    ]
    if near:
        return f"Unknown recipe key {key!r}; did you mean {' or '.join(near)}?"
    return f"Unknown recipe key {key!r}; known are {', '.join(known)}."


def _parse(text: str, annotation: Any) -> Any:
    """Return the value a command line's text stands for."""
    alternatives = _alternatives(annotation)
    if text.lower() == "none" and types.NoneType in alternatives:
        return None
    if tuple[str, ...] in alternatives and not text.startswith(("(", "[")):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    is_mapping = text.startswith("{") and any(
        typing.get_origin(alternative) is dict for alternative in alternatives
    )
    if not is_mapping and any(
        alternative is str or typing.get_origin(alternative) is Literal
        for alternative in alternatives
    ):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _check_types(section: Any) -> None:
    """Check every field of a frozen dataclass against its annotation, converting exact matches."""
    for name, annotation in typing.get_type_hints(type(section)).items():
        key = _key(section, name)
        object.__setattr__(section, name, _conform(getattr(section, name), annotation, key))


def _conform(value: Any, annotation: Any, key: str) -> Any:
    """Return the value as the annotated type: an int may be a float, a list a tuple."""
    for alternative in _alternatives(annotation):
        origin, arguments = typing.get_origin(alternative), typing.get_args(alternative)
        if origin is Literal:
            if value in arguments:
                return value
        elif origin is tuple:
            if isinstance(value, list | tuple):
                length = len(value) if arguments[-1] is Ellipsis else len(arguments)
                if len(value) == length:
                    with contextlib.suppress(ValueError):
                        return tuple(_conform(item, arguments[0], key) for item in value)
        elif origin is dict:
            if isinstance(value, dict) and all(isinstance(item, dict) for item in value.values()):
                # As JSON has it, so that a stored recipe equals the one it was made of.
                with contextlib.suppress(TypeError, ValueError):
                    return json.loads(json.dumps(value, allow_nan=False))
        elif alternative is float:
            if type(value) in (int, float):
                return float(value)
        elif type(value) is alternative:  # not isinstance: True is no integer
            return value
    raise ValueError(f"{key} must be {_describe(annotation)}. Received: {value!r}")


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _describe(annotation: Any) -> str:
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    words[types.NoneType] = "None"
    described = []
    for alternative in _alternatives(annotation):
        origin, arguments = typing.get_origin(alternative), typing.get_args(alternative)
        if origin is Literal:
            described += [repr(argument) for argument in arguments]
        elif origin is tuple:
            described.append(_describe_tuple(*arguments))
        elif origin is dict:
            described.append("a mapping such as {'RandomFlip': {'rate': 0.5}}")
        else:
            described.append(words.get(alternative) or f"a {alternative.__name__}")
    return " or ".join(described)


def _describe_tuple(item: type, *others: Any) -> str:
    if others == (...,):
        return {int: "integers such as (3, 5, 7)", str: "texts such as ('a', 'b')"}[item]
    count = {2: "two", 3: "three"}[1 + len(others)]
    return f"{count} {'integers' if item is int else 'numbers'}"


def _require(section: Any, name: str, condition: bool, rule: str) -> None:
    if not condition:
        raise ValueError(f"{_key(section, name)} must {rule}. Received: {getattr(section, name)!r}")


def _key(section: Any, name: str) -> str:
    """Return the key that `--set` gives a field, such as `training.epochs`."""
    if isinstance(section, Recipe):
        return name
    return f"{type(section).__name__.removeprefix('Volume').lower()}.{name}"
