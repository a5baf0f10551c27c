"""What is known of a network before it is imported: its place, its sides, its published numbers."""

import dataclasses
import difflib
import importlib
import inspect
import math
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
        slices: Into how many slices of equal size the pixels of each level must fall. The sides of
            the first level are half as long as the input's, those of each next one half of these.
    """

    divisor: int = 1
    least: int = 1
    most: int | None = None
    may_be_unknown: bool = True
    slices: tuple[int, ...] = ()

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

    def nearest_together(self, sides: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return sides that are legal beside one another: the given ones, if they are.

        Each is the nearest, or where `slices` do not allow these, the nearest multiple of a number
        by which they do.
        """
        # The last one always does; smaller ones are tried first.
        for factor in (*range(1, 65), math.lcm(*self.slices)):
            coarser = dataclasses.replace(self, divisor=factor * self.divisor)
            nearest = tuple(map(coarser.nearest, sides))
            if self._fall_into_slices(nearest):
                break
        return nearest

    def _fall_into_slices(self, sides: tuple[int | None, ...]) -> bool:
        return not any(
            math.prod(side // 2**level for side in sides if side is not None) % number
            for level, number in enumerate(self.slices, start=1)
        )

    def describe(self) -> str:
        """Return what is legal in words that may follow "sides"."""
        rules = []
        if self.least == self.most:
            rules.append(f"of {self.least}")
        else:
            rules += [f"divisible by {self.divisor}"] if self.divisor > 1 else []
            rules += [f"of {self.least} at least"] if self.least > self.divisor else []
            rules += [f"of {self.most} at most"] if self.most is not None else []
        if self.slices:
            ways = ", ".join(str(2**level) for level in range(1, len(self.slices) + 1))
            rules.append(
                f"such that {', '.join(map(str, self.slices))} divide the numbers of pixels of the "
                f"levels, which have sides {ways} times as small,"
            )
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
        differs: In what the network, as its program, is another than its paper describes; `None`
            where nothing is known to differ.
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
    differs: str | None = None
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
        nearest = legal.nearest_together(sides)
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
                    f"{suggest(name, [*known, 'network', 'num_classes'])}"
                )
        return known | dict(arguments)


# What every network's constructor has, and a recipe gives elsewhere.
_COMMON = ("input_shape", "num_classes", "name", "dtype")


def suggest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Return the end of a sentence: which names may have been meant, else all that are known."""
    near = difflib.get_close_matches(name, known, cutoff=0.75)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."


# Stages of networks with five levels, as U-Net has them.
U_STAGES = (
    *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
    *("decoder5", "decoder4", "decoder3", "decoder2"),
)


def fixed(**rules: Any) -> Callable[[Mapping[str, Any]], Sides]:
    """Return the sides of a network that takes the same ones whatever its arguments are.

    Args:
        **rules: Those of `Sides`.
    """
    return lambda arguments: Sides(**rules)


def sliced(
    argument: str, default: tuple[int, ...], **rules: Any
) -> Callable[[Mapping[str, Any]], Sides]:
    """Return the sides of a network that cuts the pixels of its levels into slices.

    Args:
        argument: That of the constructor with their numbers.
        default: These by default.
        **rules: Those of `Sides`.
    """

    def sides(arguments: Mapping[str, Any]) -> Sides:
        numbers = arguments.get(argument, default)
        # What are no such numbers the constructor refuses, in its own words.
        legal = isinstance(numbers, list | tuple) and all(
            isinstance(number, int) and number > 0 for number in numbers
        )
        return Sides(**rules, slices=tuple(numbers) if legal else ())

    return sides


def halved(argument: str, default: int, bottom: int = 1) -> Callable[[Mapping[str, Any]], Sides]:
    """Return the sides of a network that halves its input once between the widths it is given.

    Args:
        argument: That of the constructor with the widths.
        default: How many there are by default.
        bottom: The smallest side that the deepest level may have.
    """

    def sides(arguments: Mapping[str, Any]) -> Sides:
        widths = arguments.get(argument)
        # What is no sequence the constructor refuses, in its own words.
        levels = len(widths) if isinstance(widths, list | tuple) and widths else default
        divisor = 2 ** (levels - 1)
        return Sides(divisor=divisor, least=bottom * divisor)

    return sides
