"""The networks by name: where each is written, which sizes it takes, what was published of it.

Nothing here imports Keras: recipes are checked, and networks listed, before a backend is chosen.

To add a network:

1. Write it in a file of its own beside this one, as `unet.py` is: a class that inherits from
   `keras_lgmsnet.models.base.SegmentationNetwork`, whose docstring says what else it needs.
2. Describe it by a `Network` in `image_networks.py`, `attention_networks.py` or
   `volume_networks.py`; one for images and one for volumes may share a name.
3. Add a row to `ROWS` in `tests/test_networks.py`, with arguments that make it tiny, and
   `has_published_names=False` where its parameters have none. Where numbers of a published program
   are known, freeze them in `tests/fixtures/networks/` as the docstring of that test says. Then
   `KERAS_BACKEND=torch python -m pytest tests/test_networks.py`, and so on the other backends.

Recipes, commands, exports, benchmarks and figures then know it by its name, and
`keras.saving.load_model` finds it; nothing else has to be told of it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_lgmsnet.kinds import kind_of_rank
from keras_lgmsnet.models import attention_networks, image_networks, volume_networks
from keras_lgmsnet.models.network import Network, suggest

if TYPE_CHECKING:
    import keras

NETWORKS = (
    *image_networks.NETWORKS,
    *attention_networks.NETWORKS,
    *volume_networks.NETWORKS,
)


def names(rank: int | None = None) -> tuple[str, ...]:
    """Return the names of the networks, in alphabetical order.

    Args:
        rank: 2 for those that take images, 3 for those that take volumes, `None` for all.

    Example:
    ```python
    kl.models.names(rank=3)  # ("lgmsnet", "unet")
    ```
    """
    return tuple(sorted({network.name for network in NETWORKS if rank in (None, network.rank)}))


def find(name: str, rank: int | None = None) -> Network:
    """Return the network of a name: the one for a rank, or else the first.

    Raises:
        ValueError: If there is none.
    """
    by_rank = {network.rank: network for network in NETWORKS if network.name == name}
    if not by_rank:
        raise ValueError(f"There is no network {name!r}; {suggest(name, names())}")
    if rank is None:
        return next(iter(by_rank.values()))
    if rank not in by_rank:
        taken = " and ".join(f"{kind_of_rank(known).name} (rank {known})" for known in by_rank)
        raise ValueError(f"The network {name!r} takes {taken} only. Received: rank {rank}")
    return by_rank[rank]


def network_of(cls: type) -> Network:
    """Return the network whose class it is, or inherits from.

    Raises:
        TypeError: If there is none.
    """
    for base in cls.__mro__:
        for network in NETWORKS:
            if (network.module, network.class_name) == (base.__module__, base.__qualname__):
                return network
    raise TypeError(
        f"{cls.__name__} is no network of keras_lgmsnet.models.registry: describe it there."
    )


def create(
    name: str,
    *,
    input_shape: Sequence[int | None],
    num_classes: int,
    dtype: Any = None,
    **arguments: Any,
) -> "keras.Model":
    """Return a network by its name, with random weights, compiled with the paper's training.

    Args:
        name: One of `names()`.
        input_shape: `(height, width, channels)` for images, `(depth, height, width, channels)`
            for volumes.
        num_classes: Number of classes, one logit each.
        dtype: A policy such as `"mixed_float16"`; by default Keras's.
        **arguments: Those of the network's class, which `lgms-networks NAME` lists.

    Raises:
        ValueError: If there is no such network, it has no such argument, or a value is not
            allowed.

    Example:
    ```python
    model = kl.models.create("unet", input_shape=(256, 256, 3), num_classes=1, block="lms")
    ```
    """
    if isinstance(input_shape, int):
        raise ValueError(
            "input_shape must be sides and channels, such as (256, 256, 3). "
            f"Received: input_shape={input_shape}"
        )
    network = find(name, len(input_shape) - 1)
    network.complete(arguments)
    return network.load_class()(
        input_shape=input_shape, num_classes=num_classes, dtype=dtype, **arguments
    )
