"""Networks that differ in one argument, as in the paper's Table 6 and Figure 7."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_lgmsnet.comparison.contestants import Contestant
from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import AnyRecipe


@dataclass(frozen=True)
class Change:
    """A label whose network differs from another's in one argument, and in nothing else.

    Args:
        label: The label.
        base: The first label, in their order, that it so differs from.
        argument: The name of the argument.
        value: Its value.
        base_value: That of the base.
    """

    label: str
    base: str
    argument: str
    value: Any
    base_value: Any


def find_changes(contestants: Sequence[Contestant]) -> list[Change]:
    """Return the labels that differ from an earlier one in one argument of the network only.

    All else in their recipes is the same, but for the splits, and so are the datasets that both
    were trained on, one at least.

    Raises:
        ValueError: If a network has no such argument as a recipe gives it.
    """
    described = {each.label: (_arguments(each), _all_else(each)) for each in contestants}
    changes = []
    for number, each in enumerate(contestants):
        arguments, all_else = described[each.label]
        for base in contestants[:number]:
            base_arguments, base_else = described[base.label]
            shared = all_else.keys() & base_else.keys()
            if not shared or any(all_else[key] != base_else[key] for key in shared):
                continue
            if (
                len(changed := [key for key in arguments if arguments[key] != base_arguments[key]])
                == 1
            ):
                (name,) = changed
                changes.append(
                    Change(each.label, base.label, name, arguments[name], base_arguments[name])
                )
                break
    return changes


def _arguments(contestant: Contestant) -> dict[str, Any]:
    """Return the arguments of a label's network, defaults too."""
    recipe = contestant.runs[0].recipe
    return registry.find(recipe.model.network, recipe.rank).complete(recipe.model.arguments)


def _all_else(contestant: Contestant) -> Mapping[str, Any]:
    """Return by dataset the recipe without the split and the network's arguments."""
    return {run.dataset: _stripped(run.recipe) for run in reversed(contestant.runs)}


def _stripped(recipe: AnyRecipe) -> dict[str, Any]:
    values = recipe.to_dict()
    data = {
        key: value for key, value in values["data"].items() if key not in ("split_seed", "fold")
    }
    model = {key: values["model"].get(key) for key in ("network", "num_classes")}
    return {**values, "data": data, "model": model}
