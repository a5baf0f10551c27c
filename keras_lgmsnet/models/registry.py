"""The networks by name: where each is written, which sizes it takes, what was published of it.

Nothing here imports Keras: recipes are checked, and networks listed, before a backend is chosen.

To add a network:

1. Write it in a file of its own beside this one, as `unet.py` is: a class that inherits from
   `keras_lgmsnet.models.base.SegmentationNetwork`, whose docstring says what else it needs.
2. Describe it by a `Network` in `NETWORKS` below; one for images and one for volumes may share a
   name.
3. Add a row to `ROWS` in `tests/test_networks.py`, with arguments that make it tiny, and
   `has_published_names=False` where its parameters have none. Where numbers of a published program
   are known, freeze them in `tests/fixtures/networks/` as the docstring of that test says. Then
   `KERAS_BACKEND=torch python -m pytest tests/test_networks.py`, and so on the other backends.

Recipes, commands, exports, benchmarks and figures then know it by its name, and
`keras.saving.load_model` finds it; nothing else has to be told of it.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_lgmsnet.kinds import kind_of_rank

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class Published:
    """A configuration of a network that was published, and the numbers it is recognized by.

    Args:
        arguments: Of the constructor, where they are not the defaults.
        input_shape: Sides and channels of an image or volume.
        num_classes: Classes of the logits.
        parameters: Trainable parameters of the network here.
        parameters_in_program: Those of the published program, with any that it never uses; `None`
            where no program was published.
        parameters_counted: Those that the paper's own way of counting finds: LGMSNet's counts by
            the tool thop, which knows no group norms; `None` where it is unknown.
        multiply_adds: What `keras_lgmsnet.models.complexity.count` finds at `input_shape`.
        printed: What papers print of it, and where.
        remark: What else must be known to compare the numbers.
    """

    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    num_classes: int
    parameters: int
    parameters_in_program: int | None
    parameters_counted: int | None
    multiply_adds: int
    printed: str
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Which sides of images or volumes a network takes.

    Args:
        divisor: What a side must be divisible by.
        least: The smallest side.
        most: The largest side; the same as `least` where it takes one only.
        may_be_unknown: Whether a side may be `None` when the network is built.
    """

    divisor: int = 1
    least: int = 1
    most: int | None = None
    may_be_unknown: bool = True

    def nearest(self, side: int | None) -> int | None:
        """Return the legal side that is nearest: the given one, if it is legal."""
        if side is None and self.may_be_unknown:
            return None
        smallest = -(-self.least // self.divisor)
        steps = (
            smallest if side is None else max(smallest, (side + self.divisor // 2) // self.divisor)
        )
        if self.most is not None:
            steps = min(steps, self.most // self.divisor)
        return steps * self.divisor

    def describe(self) -> str:
        """Return what is legal in words that may follow "sides"."""
        rules = []
        if self.least == self.most:
            rules.append(f"of {self.least}")
        else:
            rules += [f"divisible by {self.divisor}"] if self.divisor > 1 else []
            rules += [f"of {self.least} at least"] if self.least > self.divisor else []
            rules += [f"of {self.most} at most"] if self.most is not None else []
        if not self.may_be_unknown:
            rules.append("known beforehand")
        return " and ".join(rules or ["above 0"])


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network for images or for volumes.

    Args:
        name: What recipes and commands call it.
        rank: The number of axes in space: 2 for images, 3 for volumes.
        title: What people call it.
        module: The module that it is written in.
        class_name: Its class.
        stages: The layers that figures look into, in the order of the data: the last one of every
            stage, whose output has channels and sides that divide the input's.
        sides: From the constructor's arguments, so far as they are given, to the sides it takes.
        paper: Where it was described; `None` where it was not.
        program: Where the program is that it equals; `None` where none was published.
        published: Its published configurations.
    """

    name: str
    rank: int
    title: str
    module: str
    class_name: str
    stages: tuple[str, ...]
    sides: Callable[[Mapping[str, Any]], "Sides"]
    paper: str | None
    program: str | None
    published: tuple[Published, ...] = ()

    def load_class(self) -> "type[keras.Model]":
        """Import and return the class, a `SegmentationNetwork`."""
        return getattr(importlib.import_module(self.module), self.class_name)

    def check_sides(
        self,
        sides: Sequence[int | None],
        arguments: Mapping[str, Any],
        key: str = "input_shape",
    ) -> None:
        """Raise `ValueError`, with the nearest sides that are legal, unless all of these are.

        Args:
            sides: Height and width, of volumes depth, height and width; `None` if not known yet.
            arguments: Those of the constructor, so far as they are given.
            key: What the user calls what has these sides.
        """
        legal = self.sides(arguments)
        nearest = tuple(map(legal.nearest, sides))
        if nearest != tuple(sides):
            raise ValueError(
                f"{key} must have sides {legal.describe()} for this {self.title}: pad or resize to "
                f"{nearest}, the nearest. Received: {tuple(sides)}"
            )

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's own arguments and their defaults; it imports Keras.

        Those of every network are left out: `input_shape`, `num_classes`, `name` and `dtype`.
        """
        parameters = inspect.signature(self.load_class()).parameters.values()
        return {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.kind is not parameter.VAR_KEYWORD and parameter.name not in _COMMON
        }

    def complete(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments of the constructor with the defaults of the others; it imports Keras.

        Raises:
            ValueError: If the constructor has no such argument.
        """
        known = self.arguments()
        for name in arguments:
            if name not in known:
                raise ValueError(
                    f"{self.title} for {kind_of_rank(self.rank).name} has no argument {name!r}; "
                    f"{_suggest(name, [*known, 'network', 'num_classes'])}"
                )
        return known | dict(arguments)


# What every network's constructor has, and a recipe gives elsewhere.
_COMMON = ("input_shape", "num_classes", "name", "dtype")


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
        raise ValueError(f"There is no network {name!r}; {_suggest(name, names())}")
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


def register(keras_module: Any) -> None:
    """Let `keras.saving.load_model` find the layers, and the networks, which are imported on demand.

    Keras looks a saved class up by the name that it was registered under, else in the module that
    it was in when it was saved; layers have moved since version 0.1. Until a network's module is
    imported, and registers the class itself, a stand-in has that name.
    """
    importlib.import_module("keras_lgmsnet.layers")
    for network in NETWORKS:
        registered = keras_module.saving.register_keras_serializable(
            package="keras_lgmsnet", name=network.class_name
        )
        registered(_stand_in(network))


def _stand_in(network: Network) -> type:
    class StandIn:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> "keras.Model":
            return network.load_class().from_config(config)

        def get_config(self) -> dict[str, Any]:  # Keras registers no class without it
            raise NotImplementedError

    return StandIn


def _suggest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."


def _halved(argument: str, default: int) -> Callable[[Mapping[str, Any]], Sides]:
    """Return the sides of a network that halves its input once between the widths it is given.

    Args:
        argument: That of the constructor with the widths.
        default: How many there are by default.
    """

    def sides(arguments: Mapping[str, Any]) -> Sides:
        widths = arguments.get(argument)
        # What is no sequence the constructor refuses, in its own words.
        levels = len(widths) if isinstance(widths, list | tuple) and widths else default
        return Sides(divisor=2 ** (levels - 1))

    return sides


def _lgmsnet_sides(arguments: Mapping[str, Any]) -> Sides:
    return Sides(divisor=32)  # four poolings, and 2-wide patches in the deepest block


_U_STAGES = (
    *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
    *("decoder5", "decoder4", "decoder3", "decoder2"),
)

# What its networks for images and for volumes have in common.
_LGMSNET: dict[str, Any] = {
    "name": "lgmsnet",
    "title": "LGMSNet",
    "module": "keras_lgmsnet.models.lgmsnet",
    "stages": _U_STAGES,
    "sides": _lgmsnet_sides,
    "paper": "Thinning a medical image segmentation model via dual-level multiscale fusion, 2025",
    "program": "https://github.com/cq-dong/LGMSNet",
}

NETWORKS = (
    Network(
        **_LGMSNET,
        rank=2,
        class_name="LGMSNet2D",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=2_321_393,
                parameters_in_program=2_321_393,
                parameters_counted=2_321_265,
                multiply_adds=4_892_515_328,
                printed="2.32 M, 4.89 G (Table 1)",
            ),
        ),
    ),
    Network(
        **_LGMSNET,
        rank=3,
        class_name="LGMSNet3D",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=6_193_742,
                parameters_in_program=6_193_742,
                parameters_counted=6_193_614,
                multiply_adds=67_779_707_904,
                printed="9.86 M (Table 3)",
                remark="Another configuration than the published program's, whose count this is.",
            ),
        ),
    ),
    Network(
        name="unet",
        rank=2,
        title="U-Net",
        module="keras_lgmsnet.models.unet",
        class_name="UNet2D",
        stages=_U_STAGES,
        sides=_halved("filters", 5),
        paper="Ronneberger et al., U-Net, MICCAI 2015, in the form that LGMSNet's paper compares",
        program="https://github.com/FengheTan9/Medical-Image-Segmentation-Benchmarks",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=34_527_041,
                parameters_in_program=34_527_041,
                parameters_counted=34_527_041,
                multiply_adds=65_522_368_512,
                printed="34.52 M, 65.52 G (LGMSNet's Table 1)",
            ),
            Published(
                arguments={"block": "lms"},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=17_330_081,
                parameters_in_program=None,
                parameters_counted=17_328_161,
                multiply_adds=52_309_524_480,
                printed="17.33 M (LGMSNet's Table 6)",
                remark="The wiring is not published; it follows LGMSNet's own encoder stages.",
            ),
            Published(
                arguments={"block": "gms"},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=19_182_113,
                parameters_in_program=None,
                parameters_counted=19_180_705,
                multiply_adds=54_211_768_320,
                printed="19.18 M (LGMSNet's Table 6)",
                remark="The wiring is not published, and this one a proposal: others have as many "
                "parameters.",
            ),
        ),
    ),
    Network(
        name="unet",
        rank=3,
        title="U-Net",
        module="keras_lgmsnet.models.unet",
        class_name="UNet3D",
        stages=("encoder1", "encoder2", "encoder3", "encoder4", "decoder4", "decoder3", "decoder2"),
        sides=_halved("filters", 4),
        paper="Çiçek et al., 3D U-Net, MICCAI 2016",
        program=None,
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=19_073_614,
                parameters_in_program=None,
                parameters_counted=19_068_942,
                multiply_adds=826_016_071_680,
                printed="19,069,955 with three channels and three classes (its paper)",
                remark="Its paper does not count the batch norms, and pads nothing.",
            ),
        ),
    ),
)
