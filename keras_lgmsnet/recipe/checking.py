"""Checks the values of a recipe against its fields' annotations, and parses those of `--set`.

A small type system: integers, numbers, texts, truth values, `None`, literals, tuples of one type
of item, mappings of mappings, and unions of these; of integers and numbers, also intervals.
"""

import ast
import contextlib
import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """The finite numbers that a field takes: `Annotated[float, Interval(ge=0, lt=1)]`.

    Args:
        ge: The least of them.
        gt: What all are above.
        le: The greatest of them.
        lt: What all are below.
        unit: What they count, such as `"mm"`.
    """

    ge: float = -math.inf
    gt: float = -math.inf
    le: float = math.inf
    lt: float = math.inf
    unit: str = ""

    def __contains__(self, number: float) -> bool:
        above = number >= self.ge and number > self.gt
        return above and number <= self.le and number < self.lt

    def __str__(self) -> str:
        """Return what may follow "must be": `"at least 1"`."""
        low, high = max(self.ge, self.gt), min(self.le, self.lt)
        if math.isinf(high):
            words = f"at least {low}" if self.ge == low else f"above {low}"
        elif self.le == high:
            words = f"from {low} to {high}"
        else:
            words = f"in [{low}, {high})" if self.ge == low else f"between {low} and {high}"
        return f"{words} {self.unit}".rstrip()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Base of the dataclasses that a recipe is made of: every field is checked when it is set.

    Raises:
        ValueError: If a value is not of the annotated type.
    """

    # What precedes a field's name in `--set` and in messages, such as "training".
    KEY: ClassVar[str]
    # Whether names that it has no field for are taken, too: as arguments of something else.
    IS_OPEN: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, annotation in annotations(type(self)).items():
            value = conform(getattr(self, name), annotation, f"{self.KEY}.{name}")
            object.__setattr__(self, name, value)

    def require(self, name: str, condition: bool, rule: str) -> None:
        """Raise `ValueError` unless a condition on a field holds.

        Args:
            name: The field's.
            condition: Whether all is well.
            rule: What follows "must", such as `"be at least 1"`.
        """
        if not condition:
            received = getattr(self, name)
            raise ValueError(f"{self.KEY}.{name} must {rule}. Received: {received!r}")


def annotations(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields, by their names."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def build(cls: type, values: Any, key: str = "", sections: Mapping[str, type] | None = None) -> Any:
    """Return the dataclass `cls` of nested values, as JSON has them.

    Args:
        cls: The dataclass.
        values: A mapping from the names of its fields.
        key: What the values are called; nothing for a whole recipe.
        sections: The dataclasses of those of its fields that have their own.

    Raises:
        ValueError: If a name is unknown or missing, or a value is not allowed.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{key or 'A recipe'} must be a mapping. Received: {values!r}")
    prefix = f"{key}." if key else ""
    known = [field.name for field in dataclasses.fields(cls)]
    arguments = {}
    for name, value in values.items():
        if name not in known and not (issubclass(cls, Section) and cls.IS_OPEN):
            raise unknown_key(prefix + name, [prefix + name for name in known])
        if sections is not None and name in sections:
            value = build(sections[name], value, prefix + name)
        arguments[name] = value
    for field in dataclasses.fields(cls):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in arguments:
            raise ValueError(f"The recipe gives no {prefix}{field.name}.")
    return cls(**arguments)


def unknown_key(key: str, known: Sequence[str]) -> ValueError:
    """Return the error that a key is unknown, with the near ones among those that are known."""
    # Compared as a whole and by the last part alone, so that `epochs` finds `training.epochs`.
    near = difflib.get_close_matches(key, known) or [
        candidate
        for candidate in known
        if difflib.get_close_matches(key.rpartition(".")[2], [candidate.rpartition(".")[2]])
    ]
    if near:
        return ValueError(f"Unknown recipe key {key!r}; did you mean {' or '.join(near)}?")
    return ValueError(f"Unknown recipe key {key!r}; known are {', '.join(known)}.")


def parse(text: str, annotation: Any) -> Any:
    """Return the value that a command line's text stands for; whether it conforms is not said."""
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


def split_assignment(assignment: str, name: str, example: str) -> tuple[str, str]:
    """Return the key and the value of a text `KEY=VALUE`.

    Args:
        assignment: The text.
        name: What it is called in the message.
        example: One that would do.

    Raises:
        ValueError: If it reads otherwise.
    """
    key, equals, text = (part.strip() for part in assignment.partition("="))
    if not (key and equals):
        raise ValueError(f"{name} must read KEY=VALUE, such as {example}. Received: {assignment!r}")
    return key, text


def parse_argument(text: str) -> Any:
    """Return the value that a command line's text stands for, where its type is not known.

    `1,2` is a tuple, `none`, `true` and `false` are themselves; what is no number is a text.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        pass
    if "," in text and not text.startswith(("(", "[")):
        return tuple(parse_argument(part.strip()) for part in text.split(",") if part.strip())
    return {"none": None, "true": True, "false": False}.get(text.lower(), text)


def conform_argument(value: Any, key: str) -> Any:
    """Return a value that JSON can hold, lists as tuples.

    Args:
        value: A number, a text, a truth value, `None`, or a sequence of such.
        key: What it is called in the message.

    Raises:
        ValueError: If it is another one.
    """
    if isinstance(value, list | tuple):
        return tuple(conform_argument(item, key) for item in value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(
        f"{key} must be a number, a text, true or false, None, or several of them. "
        f"Received: {value!r}"
    )


def conform(value: Any, annotation: Any, key: str) -> Any:
    """Return a value as the annotated type: an integer may be a number, a list a tuple.

    Args:
        value: The value.
        annotation: Its type.
        key: What it is called in the message.

    Raises:
        ValueError: If it is none of that type.
    """
    for alternative in _alternatives(annotation):
        try:
            return _as_type(value, alternative)
        except _MismatchError:
            pass
        except _OutsideError as error:
            raise ValueError(f"{key} must be {error}. Received: {value!r}") from error
    raise ValueError(f"{key} must be {describe(annotation)}. Received: {value!r}")


def describe(annotation: Any) -> str:
    """Return a type in words that may follow "must be"; of an interval, see `interval_of`."""
    words: dict[Any, str] = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a text",
        types.NoneType: "None",
    }
    described: list[str] = []
    for alternative in map(_plain, _alternatives(annotation)):
        origin, arguments = typing.get_origin(alternative), typing.get_args(alternative)
        if origin is Literal:
            described += [repr(argument) for argument in arguments]
        elif origin is tuple:
            described.append(_describe_tuple(*map(_plain, arguments)))
        elif origin is dict:
            described.append("a mapping such as {'RandomFlip': {'rate': 0.5}}")
        else:
            described.append(words[alternative])
    return " or ".join(described)


def interval_of(annotation: Any) -> Interval | None:
    """Return the interval that a type's numbers, or the items of its tuples, lie in."""
    if isinstance(annotation, Interval):
        return annotation
    return next(filter(None, map(interval_of, typing.get_args(annotation))), None)


class _MismatchError(Exception):
    """A value is not of a type."""


class _OutsideError(Exception):
    """A number is outside of the interval that it must be in."""


def _as_type(value: Any, type_: Any) -> Any:
    """Return a value as a type that is no union, or raise one of the errors above."""
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is Annotated:
        number, interval = _as_type(value, arguments[0]), arguments[1]
        if number not in interval:
            raise _OutsideError(interval)
        return number
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        any_length = arguments[-1] is Ellipsis
        item_types = arguments[:1] * len(value) if any_length else arguments
        if len(value) == len(item_types):
            return tuple(map(_as_type, value, item_types))
    if origin is dict and isinstance(value, dict):
        # As JSON has it, so that a stored recipe equals the one it was made of.
        with contextlib.suppress(TypeError, ValueError):
            if all(isinstance(item, dict) for item in value.values()):
                return json.loads(json.dumps(value, allow_nan=False))
    if type_ is float and type(value) in (int, float):
        return float(value)
    if type(value) is type_:  # not isinstance: True is no integer
        return value
    raise _MismatchError


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _plain(annotation: Any) -> Any:
    """Return a type without its interval."""
    annotated = typing.get_origin(annotation) is Annotated
    return typing.get_args(annotation)[0] if annotated else annotation


def _describe_tuple(item: type, *others: Any) -> str:
    if others == (...,):
        return {int: "integers such as (3, 5, 7)", str: "texts such as ('a', 'b')"}[item]
    count = {2: "two", 3: "three"}[1 + len(others)]
    return f"{count} {'integers' if item is int else 'numbers'}"
