"""What a recipe says of its network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.checking import Interval, Section, annotations, conform, conform_argument

# Constructors' arguments that another field of the recipe tells.
_ARGUMENTS_FROM_ELSEWHERE = {
    "input_shape": "data.image_size or data.patch_size",
    "dtype": "training.precision",
    "name": "model.network",
}


@dataclass(frozen=True, init=False)
class Model(Section):
    """The network, by its name, and the arguments of its constructor.

    `lgms-networks` lists the names, `lgms-networks NAME` the arguments. Whether a network has an
    argument is checked where it is built, since that needs Keras.

    Args:
        network: Name of a network.
        num_classes: Number of classes. By default images have one; volumes have those of the
            dataset, its background included.
        arguments: Those of the constructor, by name: numbers, texts, truth values, `None`, and
            tuples of such.
        **further: The same, each by itself.

    Raises:
        ValueError: If there is no such network, or a value is not allowed.

    Example:
    ```python
    Model(network="unet", filters=(32, 64, 128, 256, 512)).arguments["filters"]
    ```
    """

    KEY = "model"
    IS_OPEN = True

    network: str = "lgmsnet"
    num_classes: Annotated[int, Interval(ge=1)] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        *,
        network: str = "lgmsnet",
        num_classes: int | None = None,
        arguments: Mapping[str, Any] | None = None,
        **further: Any,
    ) -> None:
        if not isinstance(arguments, Mapping | None):
            raise ValueError(
                "model.arguments must be a mapping such as {'filters': (16, 32)}. "
                f"Received: {arguments!r}"
            )
        named = dict(arguments or {})
        if twice := named.keys() & further.keys():
            raise ValueError(f"model.{min(twice)} must be given once, not in arguments as well.")
        named |= further
        for name, value in named.items():
            if name in _ARGUMENTS_FROM_ELSEWHERE:
                raise ValueError(
                    f"model.{name} must be left out: {_ARGUMENTS_FROM_ELSEWHERE[name]} tells it. "
                    f"Received: {value!r}"
                )
            named[name] = conform_argument(value, f"model.{name}")
        registry.find(conform(network, str, "model.network"))
        object.__setattr__(self, "network", network)
        allowed = annotations(type(self))["num_classes"]
        object.__setattr__(self, "num_classes", conform(num_classes, allowed, "model.num_classes"))
        object.__setattr__(self, "arguments", named)
