"""What a recipe holds, and what its values may be.

A recipe file is a Python file that defines `recipe = Recipe(...)`. Recipes are frozen dataclasses
all the way down; every field is checked when it is set, whether in a file, by `override` or from
JSON. Nothing here imports Keras: the command line reads a recipe before it chooses a backend.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

from keras_lgmsnet.kinds import IMAGES, VOLUMES, Kind
from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.checking import Interval, Section, build
from keras_lgmsnet.recipe.model import Model

Count: TypeAlias = Annotated[int, Interval(ge=1)]
Seed: TypeAlias = Annotated[int, Interval(ge=0, le=2**32 - 1)]
# A share of which something, or everything, is left.
Part: TypeAlias = Annotated[float, Interval(ge=0, lt=1)]
Pixels: TypeAlias = Annotated[int, Interval(gt=0, unit="pixels")]
Voxels: TypeAlias = Annotated[int, Interval(gt=0, unit="voxels")]
Millimetres: TypeAlias = Annotated[float, Interval(gt=0, unit="mm")]
Rate: TypeAlias = Annotated[float, Interval(gt=0)]
Decay: TypeAlias = Annotated[float, Interval(ge=0)]


@dataclass(frozen=True, kw_only=True)
class _Data(Section):
    """What images and volumes have in common: where they are from and how they are split."""

    KEY = "data"
    KIND: ClassVar[Kind]

    source: str
    validation_fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.3
    validation_ids: tuple[str, ...] = ()
    test_fraction: Part = 0.0
    split_seed: Seed = 41
    num_folds: Annotated[int, Interval(ge=2)] | None = None
    fold: Annotated[int, Interval(ge=0)] = 0
    allow_incomplete: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("source", self.source != "", "not be empty")
        self.require("fold", self.fold < (self.num_folds or 1), "lie below data.num_folds")
        self.require(
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
        image_size: `(height, width)` in pixels that images and masks are resized to, which the
            network must take: LGMSNet takes multiples of 32.
        interpolation: How images are resized, `"linear"` or `"lanczos"`; masks always to the
            nearest pixel.
        validation_fraction: Share of the images held out for validation. Where
            the dataset tells patients, videos or cases, this and the following go by those.
        validation_ids: Ids of the images to validate on, in place of a random share.
        test_fraction: Share of the images set aside beforehand, neither trained on nor validated
            on.
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
        mask_threshold: Above which value of 255 a mask of more than two values is foreground; only
            for `source="image_folder"`. By default such a mask is refused.
        allow_incomplete: Whether to go on with an archive short of its published count.
    """

    KIND = IMAGES

    image_size: tuple[Pixels, Pixels] = (256, 256)
    interpolation: Literal["linear", "lanczos"] = "linear"
    preprocessing: Literal["imagenet", "published"] = "imagenet"
    augmentation: Literal["rotate_flip", "kvasir"] | dict[str, dict] | None = "rotate_flip"
    num_images: Annotated[int, Interval(ge=2)] | None = None
    mask_threshold: Annotated[int, Interval(ge=0, le=254)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "synthetic":
            self.require(
                "num_images", self.num_images is not None, "be at least 2 for synthetic images"
            )
        else:
            self.require(
                "num_images",
                self.num_images is None,
                "be None: only synthetic images are generated in any number",
            )
        if self.source != "image_folder":
            self.require(
                "mask_threshold",
                self.mask_threshold is None,
                "be None: only masks of your own, image_folder, are read by a threshold",
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
        patch_size: Sides in voxels of what the network sees at once, which it must take: LGMSNet
            takes multiples of 32.
        patches_per_volume: Patches drawn from a volume in an epoch.
        positive_fraction: Share of the patches with a labelled voxel at the centre;
            the others have one of the background there.
        augmentation: `"flip_rotate_intensity"` (flips along each axis, rotations by multiples of
            90°, intensities scaled and shifted), or `None`.
        overlap: Share of a window's side that it has in common with the next, where a whole volume
            is segmented.
        validation_fraction: Share of the volumes held out for validation. Where
            the dataset tells patients or cases, this and the following go by those.
        validation_ids: Ids of the volumes to validate on, in place of a random share.
        test_fraction: Share of the volumes set aside beforehand, neither trained on nor validated
            on.
        split_seed: Seed of the random split.
        num_folds: Number of folds of a cross-validation, whose share replaces
            `validation_fraction`; `None` for a random split.
        fold: Which fold to validate on, from 0 to `num_folds - 1`.
        allow_incomplete: Whether to go on with an archive short of its published count.
    """

    KIND = VOLUMES

    spacing: tuple[Millimetres, Millimetres, Millimetres] | None = None
    normalization: Literal["window", "z_score"] | None = None
    intensity_window: tuple[float, float] | None = None
    crop_foreground: bool = True
    patch_size: tuple[Voxels, Voxels, Voxels] = (96, 96, 96)
    patches_per_volume: Count = 4
    positive_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.5
    augmentation: Literal["flip_rotate_intensity"] | None = "flip_rotate_intensity"
    overlap: Part = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.intensity_window is not None:
            low, high = self.intensity_window
            ascends = -math.inf < low < high < math.inf
            self.require("intensity_window", ascends, "have a low end below its high end")
            self.require(
                "intensity_window",
                self.normalization != "z_score",
                "be None where data.normalization is 'z_score'",
            )


@dataclass(frozen=True, kw_only=True)
class _Training(Section):
    """What the optimisation of both kinds has in common."""

    KEY = "training"

    epochs: Count
    batch_size: Count
    learning_rate: Rate
    weight_decay: Decay
    seed: Seed = 0
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    num_devices: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(
            "num_devices",
            self.batch_size % self.num_devices == 0,
            f"divide training.batch_size, {self.batch_size}",
        )


@dataclass(frozen=True, kw_only=True)
class Training(_Training):
    """The optimisation of images: gradient descent with a polynomially decaying rate.

    Args:
        epochs: Passes over the training images; the learning rate reaches 0 after the last.
        batch_size: Images per step.
        learning_rate: Rate of the first step.
        momentum: Momentum of the descent.
        weight_decay: L2 penalty on every trainable tensor, as in `torch.optim.SGD`.
        seed: Seed of the initial weights, the image order and the augmentation.
        precision: Keras dtype policy of the network; losses and metrics are float32 under each.
        num_devices: GPUs of this host (where there is none: the backend's CPU devices) that share
            each batch, in equal parts; more than 1 on JAX and TensorFlow only.
    """

    epochs: Count = 500
    batch_size: Count = 16
    learning_rate: Rate = 0.02
    momentum: Part = 0.9
    weight_decay: Decay = 1e-4


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

    epochs: Count = 5000
    batch_size: Count = 1
    learning_rate: Rate = 1e-3
    warmup_epochs: Annotated[int, Interval(ge=0)] = 50
    weight_decay: Decay = 1e-5
    validate_every: Count = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(
            "warmup_epochs",
            self.warmup_epochs < self.epochs,
            f"be below training.epochs, {self.epochs}: set both",
        )


DataT = TypeVar("DataT", Data, VolumeData)
TrainingT = TypeVar("TrainingT", Training, VolumeTraining)


def _as_data_call_for() -> Any:
    """Stand for the default of `training` until `data` is known."""
    return None


@dataclass(frozen=True, kw_only=True)
class Recipe(Generic[DataT, TrainingT]):
    """Everything that decides a training run. The defaults are the published settings.

    Args:
        data: `Data` for images, `VolumeData` for volumes.
        model: The network, which must take such data.
        training: `Training` for images, `VolumeTraining` for volumes; by default the one that
            `data` calls for.

    Raises:
        ValueError: If the sections do not fit one another.

    Example:
    ```python
    recipe = Recipe(data=Data(source="isic2018_task1"), training=Training(epochs=50))
    recipe.kind.name, Recipe(data=VolumeData(source="btcv")).kind.name  # "images", "volumes"
    ```
    """

    data: DataT
    model: Model = field(default_factory=Model)
    training: TrainingT = field(default_factory=_as_data_call_for)

    def __post_init__(self) -> None:
        if not isinstance(self.data, Data | VolumeData):
            raise ValueError(f"data must be a Data or a VolumeData. Received: {self.data!r}")
        if not isinstance(self.model, Model):
            raise ValueError(f"model must be a Model. Received: {self.model!r}")
        expected = sections(self.kind)["training"]
        if self.training is None:
            object.__setattr__(self, "training", expected())
        if type(self.training) is not expected:
            raise ValueError(
                f"training must be a {expected.__name__} where data is a "
                f"{type(self.data).__name__}. Received: {self.training!r}"
            )
        size_field = self.kind.size_field
        registry.find(self.model.network, self.rank).check_sides(
            getattr(self.data, size_field), self.model.arguments, f"data.{size_field}"
        )
        num_classes = self.model.num_classes
        if self.kind.classes_exclude_each_other:
            self.model.require(
                "num_classes",
                num_classes is None or num_classes >= 2,
                f"be None or at least 2 for {self.kind.name}, whose background is a class",
            )
        elif num_classes is None:
            object.__setattr__(self, "model", dataclasses.replace(self.model, num_classes=1))

    @property
    def kind(self) -> Kind:
        """Whether it is of images or of volumes."""
        return self.data.KIND

    @property
    def rank(self) -> int:
        """The number of axes in space: 2 for images, 3 for volumes."""
        return self.kind.rank

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return nested dictionaries of plain values, ready for JSON.

        The arguments of the network stand beside the other fields of `model`.
        """
        values = dataclasses.asdict(self)
        arguments = values["model"].pop("arguments")
        return values | {"model": values["model"] | arguments}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Return the recipe that `to_dict` described, also after a round trip through JSON.

        It is of volumes where its data have their `size_field`, which `to_dict` always writes.

        Raises:
            ValueError: If a key is unknown or missing, or a value is not allowed.
        """
        data = values.get("data") if isinstance(values, dict) else None
        told = data if isinstance(data, dict) else {}
        kind = VOLUMES if VOLUMES.size_field in told else IMAGES
        return build(cls, values, sections=sections(kind))


ImageRecipe: TypeAlias = Recipe[Data, Training]
VolumeRecipe: TypeAlias = Recipe[VolumeData, VolumeTraining]
# One of them, where it is not known which; `kind` tells.
AnyRecipe: TypeAlias = Recipe[Any, Any]


def sections(kind: Kind) -> dict[str, type[Section]]:
    """Return the dataclasses of a recipe's sections, by their names."""
    return {
        "data": kind.choose(images=Data, volumes=VolumeData),
        "model": Model,
        "training": kind.choose(images=Training, volumes=VolumeTraining),
    }
