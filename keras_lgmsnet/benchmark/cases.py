"""What the benchmarks time: a network or a layer, its input, and whether it trains.

Importing this module imports neither Keras nor PyTorch: the calling process needs neither.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lgmsnet.benchmark import peers
from keras_lgmsnet.kinds import IMAGES, Kind, kind_of_rank
from keras_lgmsnet.models import registry
from keras_lgmsnet.models.network import Network

if TYPE_CHECKING:
    import keras
    import torch


@dataclass(frozen=True)
class Case:
    """What to time: a network or a depthwise layer, its input, and whether it trains.

    Args:
        input_shape: Sides and channels of one image or volume.
        batch_size: Images in a step.
        training: Time a training step; otherwise a forward pass.
        num_classes: Classes of the network's output.
        network: The network, by its name.
        arguments: Those of its constructor.
        depthwise: Odd kernel size of a 3D depthwise layer to time instead of a network. Its
            reference is `keras.layers.Conv3D` with a group for each channel, on the same backend.
            A pointwise dense layer precedes either, so that a training step needs the gradient
            of the layer's input too.

    Raises:
        ValueError: If there is no such network, a side is none that it takes, or a number is not
            positive. Whether it has such arguments is found where it is built, since that needs
            Keras.
    """

    input_shape: tuple[int, ...]
    batch_size: int = 1
    training: bool = False
    num_classes: int = 1
    network: str = "lgmsnet"
    # Equal cases have equal hashes all the same.
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    depthwise: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be positive. Received: {self.batch_size}")
        if self.depthwise is None:
            self.entry.check_sides(self.input_shape[:-1], self.arguments)

    @property
    def kind(self) -> Kind:
        """Images or volumes, by the number of sides."""
        return kind_of_rank(len(self.input_shape) - 1)

    @property
    def entry(self) -> Network:
        """What the registry knows of the network."""
        return registry.find(self.network, len(self.input_shape) - 1)

    @property
    def has_masks(self) -> bool:
        """Whether it trains on a mask for each class; otherwise on labels, one a voxel."""
        return self.kind is IMAGES or self.num_classes == 1

    def require_arguments(self) -> None:
        """Raise `ValueError` unless the network has such arguments; it imports Keras."""
        self.entry.complete(self.arguments)

    def draw_batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Return noise, channels last, with targets as the loss takes them."""
        generator = np.random.default_rng(0)
        images = generator.random((self.batch_size, *self.input_shape), "float32")
        if self.depthwise is not None:
            return images, images
        sides = self.batch_size, *self.input_shape[:-1]
        if self.has_masks:
            return images, generator.integers(0, 2, (*sides, self.num_classes)).astype("float32")
        return images, generator.integers(0, self.num_classes, sides, "int32")

    def create_network(self) -> "keras.Model":
        """Return the network, with random weights.

        Raises:
            ValueError: If it has no such argument, or a value is not allowed.
        """
        self.require_arguments()
        return registry.create(
            self.network,
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            **self.arguments,
        )

    def keras_step(self, model: "keras.Model") -> Callable[[], Any]:
        """Return what computes a step of a network, from NumPy arrays to NumPy results."""
        images, targets = self.draw_batch()
        if self.training:
            return lambda: model.train_on_batch(images, targets)
        return lambda: model.predict_on_batch(images)

    def create_peer(self) -> "torch.nn.Module":
        """Return the network in plain PyTorch, with random weights.

        Raises:
            ValueError: If it has no such argument.
        """
        return peers.create(
            self.network,
            self.kind.rank,
            self.input_shape[-1],
            self.num_classes,
            **self.arguments,
        )


def network_cases(
    network: str = "lgmsnet",
    arguments: Mapping[str, Any] | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
) -> dict[str, Case]:
    """Return a forward pass and a training step of a network: for images, for volumes, or both.

    Args:
        network: Its name.
        arguments: Those of its constructor; by default as it was first published.
        input_shape: Sides and channels of one image or volume; by default both as published.
        num_classes: Classes of the output; by default as published.
        batch_size: Images in a step; by default 1, and 8 where a network trains on images.

    Returns:
        Cases by name: `"forward-2d"`, `"training-2d"`, `"forward-3d"`, `"training-3d"`, those of
        them that there are.

    Raises:
        ValueError: If there is no such network, a side is none that it takes, a number is not
            positive, or `input_shape` is not given and nothing published.

    Example:
    ```python
    cases = network_cases("unet", {"block": "lms"}, input_shape=(256, 256, 3), batch_size=2)
    print(format_table(benchmark(["jax"], cases)))
    ```
    """
    cases = {}
    for entry in _find_entries(network, input_shape):
        if entry.published:
            first = entry.published[0]
            shape, classes, published = first.input_shape, first.num_classes, first.arguments
        elif input_shape is not None:
            shape, classes, published = input_shape, 1, {}
        else:
            raise ValueError(
                f"Nothing was published of {entry.title}: give an input shape, such as 256,256,3."
            )
        forward = Case(
            input_shape or shape,
            1 if batch_size is None else batch_size,
            num_classes=classes if num_classes is None else num_classes,
            network=network,
            arguments={**published, **(arguments or {})},
        )
        usual_batch = kind_of_rank(entry.rank).choose(images=8, volumes=1)
        cases[f"forward-{entry.rank}d"] = forward
        cases[f"training-{entry.rank}d"] = replace(
            forward,
            training=True,
            batch_size=usual_batch if batch_size is None else batch_size,
        )
    return cases


def _find_entries(network: str, input_shape: tuple[int, ...] | None) -> list[Network]:
    """Return what the registry knows of a network: of the kind of an input, or of all kinds."""
    if input_shape is not None:
        return [registry.find(network, len(input_shape) - 1)]
    name = registry.find(network).name
    return [entry for entry in registry.NETWORKS if entry.name == name]


# What the networks' benchmark can time, by name.
CASES = {
    "depthwise-3d": Case((48, 48, 48, 4), training=True, depthwise=9),
    **network_cases("lgmsnet"),
}
# What it times unless told otherwise: a training step of the 3D network takes minutes on a CPU.
DEFAULT_CASES = {name: case for name, case in CASES.items() if name != "training-3d"}


def channels_first(batch: np.ndarray) -> np.ndarray:
    """Return a batch whose channels are last as PyTorch takes it."""
    return np.ascontiguousarray(np.moveaxis(batch, -1, 1))
